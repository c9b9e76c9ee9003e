"""Fixtures that several test modules share."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager

import dask
import numpy as np
import pytest
import zarr
from hypothesis import settings

from daskalt.runs.clusters import NO_PROFILER

# Of processes that tests start, and of this one.
os.environ["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "False"
dask.config.set(NO_PROFILER)

# The same examples in every run: a failure is of the change, never of the draw.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


def write_group(path, X, y=None, *, chunk_rows=16, weight=None):
    """A Zarr group with the arrays that are given, in chunks of whole rows; its path."""
    group = zarr.create_group(str(path))
    for name, array in (("X", X), ("y", y), ("sample_weight", weight)):
        if array is None:
            continue
        array = np.asarray(array)
        if array.dtype.kind == "U":
            array = array.astype(np.dtypes.StringDType())
        chunks = (chunk_rows, *array.shape[1:])
        whole = {"write_empty_chunks": True}  # those left out are warned of
        group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks, config=whole)[
            :
        ] = array
    return str(path)


@pytest.fixture
def store(tmp_path):
    """A function that writes X, y to a small Zarr group and returns its path."""
    count = iter(range(1000))

    def write(X, y=None, **options):
        return write_group(tmp_path / f"group{next(count)}.zarr", X, y, **options)

    return write


@contextmanager
def local_cluster(workers, *, processes=False, default=True):
    """A cluster on this machine, while the block lasts; its client, the default one or not."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=processes,
            dashboard_address="127.0.0.1:0",  # None is a port that others may hold
        ) as local,
        Client(local, set_as_default=default) as client,
    ):
        yield client


@pytest.fixture
def no_windows():
    """Have figures drawn in memory, and closed when the test ends."""
    from matplotlib import pyplot

    with pyplot.rc_context({"backend": "agg"}):
        yield
        pyplot.close("all")


@pytest.fixture
def cluster():
    """A function that starts a local cluster, in place of the last, and returns its client.

    It is closed when the test ends.
    """
    with ExitStack() as stack:

        def start(workers, *, processes=False):
            stack.close()
            return stack.enter_context(local_cluster(workers, processes=processes))

        yield start


@pytest.fixture(scope="session")
def _pool():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def processes(_pool):
    """Dask's processes scheduler, on a pool that is started once: its workers import for long."""
    with dask.config.set(scheduler="processes", pool=_pool):
        yield


@pytest.fixture
def no_compute():
    """A context in which any Dask computation is an error."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was computed")

    return lambda: dask.config.set(scheduler=refuse)
