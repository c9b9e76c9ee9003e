"""Stores that vanish or change at random moments of fits: errors that name them, nothing else."""

import shutil
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

import numpy as np
import zarr

import daskalt
from daskalt.data.readers import MemorySource
from daskalt.data.table import Table as Rows
from daskalt.data.writers import shuffle_to_zarr
from daskalt.runs.clusters import local_workers
from pipelines.benchmark.tables import Table, Target

# More than the 64 MiB that a process keeps decoded: every pass reads the store.
ROWS, FEATURES, CHUNK_ROWS = 180_000, 100, 2_000
AWAY = 3  # passes for which a moved store is away
TRIES = 6  # at doing the harm before the fit ends


def check_stores(options):
    """Fits whose store is harmed: each must end with an error that names the store."""
    trials = 7 if options.quick else 2 * len(list(product(HARMS, MAKERS)))
    table = Table("stores", f"{trials} fits whose store vanishes or changes at a random moment")
    rng = np.random.default_rng(options.seed)
    outcomes = Counter()
    with tempfile.TemporaryDirectory(prefix="daskalt-harm-") as name:
        folder = Path(name)
        for workers in (0,) if options.quick else (0, 2):
            with on_workers(workers) as client:
                for harm, maker in cases(options.quick):
                    outcome = one_trial(folder, maker, harm, client, options.quick, rng)
                    outcomes.update(named=outcome["named"], trained_on=outcome["trained_on"])
                    table.add(
                        Target("an error that names the store", outcome["named"]),
                        harm=harm,
                        store=maker,
                        workers=workers or "threads",
                        **outcome,
                    )
    table.notes.append(
        f"{outcomes['named']} of {trials} ended with an error that names the store; "
        f"{outcomes['trained_on']} were trained on."
    )
    return table


def cases(quick):
    """Every harm to every kind of store, or each harm once."""
    if quick:
        return [(harm, list(MAKERS)[i % len(MAKERS)]) for i, harm in enumerate(HARMS)]
    return list(product(HARMS, MAKERS))


def on_workers(count):
    """A client with that many worker processes; none for threads."""
    return local_workers(count) if count else nullcontext()


def one_trial(folder, maker, harm, client, quick, rng):
    """The result of a fit to a fresh copy of a store that is harmed meanwhile."""
    original, store = folder / maker, folder / "store"
    if not original.exists():
        MAKERS[maker](original)
    for left in (store, folder / "elsewhere"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(original, store)
    passes = 6 if quick else 15
    seconds = undisturbed(original, client, passes)
    moment = float(rng.uniform(0.15, 0.8) * seconds)
    away = AWAY * seconds / passes
    for _ in range(TRIES):
        with harmed(lambda: HARMS[harm](store, rng, away), moment) as begun:
            error = error_of(store, client, passes)
            in_time = begun.is_set()
        if in_time:
            break
        moment /= 2  # the fit was faster than the undisturbed one: the store is as it was
    return {
        "at_seconds": moment,
        "of_seconds": seconds,
        "in_time": in_time,
        "named": str(store) in str(error),
        "trained_on": error is None,
        "error": f"{type(error).__name__}: {str(error).replace(str(folder), '')[:160]}",
    }


_SECONDS = {}


def undisturbed(store, client, passes):
    """Seconds of a fit without harm."""
    key = (store.name, client is None, passes)
    if key not in _SECONDS:
        assert error_of(store, client, 2) is None  # compiles
        began = time.perf_counter()
        assert error_of(store, client, passes) is None
        _SECONDS[key] = time.perf_counter() - began
    return _SECONDS[key]


def error_of(store, client, passes):
    """The error that a fit ends with; None if it is fitted."""
    model = daskalt.MLPClassifier(
        (24,), max_iter=passes, tol=0, n_iter_no_change=passes, batch_size=2_000, random_state=0
    )
    try:
        model.fit(str(store), client=client)
    except Exception as error:
        return error
    return None


@contextmanager
def harmed(harm, moment):
    """Do harm so many seconds after the start; yields an event that is set once it begins."""
    begun = threading.Event()

    def act():
        begun.set()
        harm()

    timer = threading.Timer(moment, act)
    timer.start()
    try:
        yield begun
    finally:
        timer.cancel()
        timer.join()


# ------------------------------------------------------------------------------- stores


def _rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, FEATURES), dtype=np.float32)
    return X, np.argmax(X[:, :4], axis=1)


def _ours(place):
    X, y = _rows()
    table = Rows(MemorySource(X), MemorySource(y, "y"))
    shuffle_to_zarr(table, place, seed=0, chunk_rows=CHUNK_ROWS)


def _foreign(place, version, **options):
    X, y = _rows()
    group = zarr.create_group(str(place), zarr_format=version)
    group.create_array("X", data=X, chunks=(CHUNK_ROWS, FEATURES), **options)
    group.create_array("y", data=y, chunks=(CHUNK_ROWS,))


MAKERS = {
    "ours": _ours,
    "foreign, format 2": lambda place: _foreign(place, 2),
    "foreign, format 3, uncompressed": lambda place: _foreign(place, 3, compressors=None),
}


# --------------------------------------------------------------------------------- harm


def _delete(store, rng, away):
    shutil.rmtree(store)


def _truncate(store, rng, away):
    files = [path for path in (store / "X").rglob("*") if path.is_file()]
    chunks = [path for path in files if path.name not in ("zarr.json", ".zarray", ".zattrs")]
    chunk = chunks[int(rng.integers(len(chunks)))]
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


def _overwrite(store, rng, away):
    values = rng.standard_normal((ROWS // 2, FEATURES), dtype=np.float32)
    zarr.open_array(store / "X", mode="r+")[: ROWS // 2] = values


def _overwrite_with_nan(store, rng, away):
    row = int(rng.integers(ROWS))
    zarr.open_array(store / "X", mode="r+")[row : row + 1] = np.nan


def _reshape(store, rng, away):
    version = 3 if (store / "zarr.json").exists() else 2
    rows = np.zeros((2 * ROWS, FEATURES // 2), np.float32)
    zarr.create_array(
        str(store / "X"),
        data=rows,
        chunks=(2 * CHUNK_ROWS, FEATURES // 2),
        zarr_format=version,
        overwrite=True,
        config={"write_empty_chunks": True},
    )


def _move_away_and_back(store, rng, away):
    store.rename(store.with_name("elsewhere"))
    time.sleep(away)
    store.with_name("elsewhere").rename(store)


def _replace_by_an_empty_folder(store, rng, away):
    store.rename(store.with_name("elsewhere"))
    store.mkdir()


HARMS = {
    "deleted": _delete,
    "a chunk cut off": _truncate,
    "other values": _overwrite,
    "NaN": _overwrite_with_nan,
    "other shape": _reshape,
    "moved away and back": _move_away_and_back,
    "an empty folder instead": _replace_by_an_empty_folder,
}
