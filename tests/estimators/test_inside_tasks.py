"""Fits that begin in a worker's task or in a second thread end, with the same bits."""

import threading

import dask.array as da
import dask.dataframe as dd
import joblib
import numpy as np
import pandas as pd
import pytest
from distributed import get_client, worker_client
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from daskalt import MLPClassifier
from daskalt.compute.threads import hold_blas_threads

X, Y = make_classification(300, 6, n_informative=4, random_state=0)
SECONDS = 60


def network(**options):
    return MLPClassifier((6,), max_iter=2, batch_size=50, random_state=0, **options)


def weights(model):
    return [*model.coefs_, *model.intercepts_]


def fit_here():
    return weights(network().fit(X, Y))


def fit_dask_arrays():
    model = network().fit(da.from_array(X, chunks=(70, -1)) + 0, da.from_array(Y, chunks=70) + 0)
    assert model.score(da.from_array(X, chunks=(70, -1)), da.from_array(Y, chunks=70)) > 0.75
    return weights(model)


def fit_a_frame():
    frame = dd.from_pandas(pd.DataFrame(X).rename(columns=str), npartitions=3)
    return weights(network().fit(frame, dd.from_pandas(pd.Series(Y), npartitions=3)))


def fit_on_the_cluster():
    return weights(network().fit(X, Y, client=get_client()))


def fit_in_a_worker_client():
    with worker_client() as client:
        return weights(network().fit(X, Y, client=client))


def fit_in_parts():
    return weights(network().partial_fit(X, Y, classes=[0, 1]))


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "call",
    [fit_here, fit_dask_arrays, fit_a_frame, fit_on_the_cluster, fit_in_a_worker_client],
)
def test_a_fit_inside_a_task_of_the_only_thread_ends(cluster, call):
    expected = fit_here()
    client = cluster(1)
    assert_same(client.submit(call, pure=False).result(timeout=SECONDS), expected)


def test_several_tasks_fit_at_once(cluster):
    client = cluster(2)
    calls = [client.submit(fit_here, pure=False) for _ in range(4)]
    for done in client.gather(calls):
        assert_same(done, fit_here())


def test_a_partial_fit_inside_a_task_ends(cluster):
    client = cluster(1)
    assert_same(client.submit(fit_in_parts, pure=False).result(timeout=SECONDS), fit_in_parts())


def test_a_grid_search_under_joblibs_dask_backend_ends(cluster):
    grid = {"alpha": [1e-4, 1.0]}
    here = GridSearchCV(network(), grid, cv=2).fit(X, Y)
    cluster(1)
    with joblib.parallel_config(backend="dask"):
        there = GridSearchCV(network(), grid, cv=2).fit(X, Y)
    np.testing.assert_array_equal(
        there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )


def test_a_second_thread_has_the_same_bits():
    """Where the first thread has set a limit, which is heeded from no other."""
    expected = fit_here()
    hold_blas_threads(2)
    fits = []
    threads = [threading.Thread(target=lambda: fits.append(fit_here())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fits) == 3
    for fit in fits:
        assert_same(fit, expected)
