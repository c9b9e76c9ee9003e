"""The fits that are harmed: one for each solver, their data, and what must come out of them."""

import hashlib
from pathlib import Path

import numpy as np
import zarr

import daskalt
from daskalt.solvers import SOLVERS

FEATURES, CLASSES, CHUNK_ROWS = 20, 4, 250

# Passes of each solver that take about as long.
PASSES = {
    "altmin": 60,
    "batch-altmin": 14,
    "admm": 14,
    "gd": 60,
    "cg": 60,
    "lbfgs": 60,
    "newton": 60,
}


def write_rows(path, rows, seed=0):
    """Write classes that a network can tell apart, in chunks; the path."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, FEATURES)).astype(np.float32)
    scores = X @ rng.standard_normal((FEATURES, CLASSES)) + np.abs(X[:, :CLASSES]) * 2
    group = zarr.create_group(str(path))
    group.create_array("X", data=X, chunks=(CHUNK_ROWS, FEATURES))
    group.create_array("y", data=np.argmax(scores, axis=1), chunks=(CHUNK_ROWS,))
    return str(path)


def network(solver, passes=1.0, **options):
    """An unfitted network for a solver, with a share of its usual passes."""
    count = max(2, round(PASSES.get(solver, 12) * passes))
    return daskalt.MLPClassifier(
        () if solver == "newton" else (24,),
        solver=solver,
        max_iter=count,
        tol=0,
        n_iter_no_change=count,
        batch_size=500,
        random_state=0,
        **options,
    )


def digest(model):
    """A digest of all weights of a fitted network: equal only when every bit is."""
    total = hashlib.blake2b()
    for array in (*model.coefs_, *model.intercepts_):
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def files(*folders):
    """The files and folders in some folders that exist, hidden ones too."""
    return sorted(str(path) for f in map(Path, folders) if f.exists() for path in f.rglob("*"))


def solvers(count):
    """That many names of solvers, all in turn."""
    return [list(SOLVERS)[i % len(SOLVERS)] for i in range(count)]
