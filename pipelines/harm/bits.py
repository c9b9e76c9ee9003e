"""The same fit of the same rows, wherever they lie and wherever it runs: one digest a solver."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
import zarr
from distributed import Client, LocalCluster

import daskalt
from daskalt.runs.clusters import NO_PROFILER, local_workers
from daskalt.solvers import SOLVERS
from pipelines.benchmark.tables import Table, Target
from pipelines.harm.fits import digest

ROWS, FEATURES, CHUNK_ROWS = 700, 6, 128
ROOT = Path(__file__).parents[2]


def check_bits(options):
    """Every solver on every kind of rows, in every place, with every number of cores."""
    solvers = ["altmin", "batch-altmin"] if options.quick else list(SOLVERS)
    forms = ["NumPy", "Zarr"] if options.quick else list(FORMS)
    counts = ((1, 1), (2, 4)) if options.quick else ((1, 1), (2, 2), (2, 4))
    table = Table("bits", "digests of fits and partial fits to the same rows")
    with tempfile.TemporaryDirectory(prefix="daskalt-harm-") as name:
        found = {}
        for place, run in places():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for form in forms:
                    for solver in solvers:
                        digests = run(partial(fitted, solver, form, name))
                        found.setdefault(solver, {})[f"{form} on {place}"] = digests
            print(f"  {place}", file=sys.stderr, flush=True)
        for cores, blas in counts:
            for solver, digests in on_cores(cores, blas, solvers).items():
                found.setdefault(solver, {})[f"{cores} cores, {blas} BLAS threads"] = digests
    for solver, digests in found.items():
        expected = next(iter(digests.values()))
        others = [where for where, each in digests.items() if each != expected]
        table.add(
            Target("one digest", not others),
            solver=solver,
            fits=len(digests),
            digests=len({tuple(each) for each in digests.values()}),
            fit=expected[0],
            partial_fit=expected[1],
            others="; ".join(others[:3]),
        )
    return table


# ---------------------------------------------------------------------------------- rows


def rows():
    """Features, labels in their order, and weights of the rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(np.int64)
    order = np.argsort(y, kind="stable")
    return X[order], y[order], rng.uniform(0.5, 2, ROWS)


def _stored(folder):
    path = Path(folder) / "rows.zarr"
    if not path.exists():
        group = zarr.create_group(str(path))
        for name, values in zip(("X", "y", "sample_weight"), rows(), strict=True):
            chunks = (CHUNK_ROWS, *values.shape[1:])
            whole = {"write_empty_chunks": True}
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, chunks=chunks, config=whole
            )
            array[:] = values
    return str(path)


def _stored_columns(folder):
    """The same rows with an array of its own for each feature, as xarray writes them."""
    path = Path(folder) / "columns.zarr"
    if not path.exists():
        _dataset().chunk({"row": CHUNK_ROWS}).to_zarr(path, consolidated=False)
    return zarr.open_group(path, mode="r")


def _dataset():
    X, y, weight = rows()
    columns = {f"x{k}": ("row", X[:, k]) for k in range(FEATURES)}
    return xr.Dataset(columns | {"y": ("row", y), "sample_weight": ("row", weight)})


def _dask(values):
    return da.from_array(values, chunks=(100, *values.shape[1:]))


def _from_zarr(folder):
    names = ("X", "y", "sample_weight")
    return tuple(da.from_zarr(_stored(folder), component=name) for name in names)


FORMS = {
    "NumPy": lambda folder: rows(),
    "pandas": lambda folder: (pd.DataFrame(rows()[0]), *map(pd.Series, rows()[1:])),
    "Dask over NumPy": lambda folder: tuple(map(_dask, rows())),
    "Dask, computed": lambda folder: tuple(_dask(values) + 0 for values in rows()),
    "Zarr": lambda folder: (_stored(folder), None, None),
    "Dask over Zarr": _from_zarr,
    "xarray": lambda folder: tuple(map(xr.DataArray, rows())),
    "an xarray Dataset": lambda folder: (_dataset(), "y", "sample_weight"),
    "Zarr, an array a feature": lambda folder: (_stored_columns(folder), "y", "sample_weight"),
}


# ---------------------------------------------------------------------------------- fits


def network(solver, **options):
    """An unfitted network that a solver can train."""
    hidden = () if solver == "newton" else (5,)
    passes = 6 if solver in ("gd", "cg", "lbfgs", "newton") else 2  # of which each is a trial
    options = {"max_iter": passes, "random_state": 0, "batch_size": 200} | options
    return daskalt.MLPClassifier(hidden, solver=solver, **options)


def fitted(solver, form, folder):
    """Digests of a fit with rows held out, and of a partial fit."""
    X, y, weight = FORMS[form](folder)
    whole = network(solver, early_stopping=True).fit(X, y, weight)
    if isinstance(X, str):
        X, y, weight = (zarr.open_array(X, path=name) for name in ("X", "y", "sample_weight"))
    part = network(solver).partial_fit(X, y, classes=[0, 1], sample_weight=weight)
    return [f"{digest(model)} {_curve(model)}" for model in (whole, part)]


def _curve(model):
    losses = [[record.get("loss"), record.get("validation_loss")] for record in model.history_]
    return hashlib.blake2b(json.dumps(losses).encode(), digest_size=4).hexdigest()


# ---------------------------------------------------------------------------------- places


def places():
    """Where a fit can run: names, each with a function that calls another there."""
    yield "threads", _call
    with dask.config.set(scheduler="sync"):
        yield "the synchronous scheduler", _call
    with local_workers(1) as client:
        yield "one worker", _call
        yield "a task of a worker", lambda call: client.submit(call, pure=False).result(timeout=120)
        client.cluster.scale(2)
        client.wait_for_workers(2)
        yield "two workers", _call
    with (
        dask.config.set(NO_PROFILER),
        LocalCluster(
            2, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        yield "a cluster in this process", _call
    yield "a second thread", _call_in_a_thread


def _call(call):
    return call()


def _call_in_a_thread(call):
    """Call in a thread that has never set a limit, while the first has."""
    daskalt.compute.threads.hold_blas_threads(2)
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


# ---------------------------------------------------------------------------------- cores


def on_cores(cores, blas, solvers):
    """Digests of fits by a process on some of the cores, which begins with some BLAS threads."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    names = ("OPENBLAS", "MKL", "OMP", "BLIS")
    environment = os.environ | {f"{name}_NUM_THREADS": str(blas) for name in names}
    code = "from pipelines.harm.bits import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(allowed), *solvers],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Print the digests of fits by this process, on the cores given to it."""
    os.sched_setaffinity(0, json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {name: fitted(name, "NumPy", folder) for name in sys.argv[2:]}
        print(json.dumps(found | {"a wide start": [wide_start()] * 2}))


def wide_start():
    """A digest of a fit whose initial weights are products too large for one BLAS thread."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 50)).astype(np.float32)
    model = daskalt.MLPRegressor((64,), max_iter=1, random_state=0).fit(X, X[:, 0] * X[:, 1])
    predicted = hashlib.blake2b(model.predict(X).tobytes(), digest_size=4).hexdigest()
    return f"{digest(model)} {predicted}"
