"""The checks `memory` and `batch-memory`: peaks of fits, and the bytes they move."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import zarr

from pipelines.benchmark.tables import Table, Target, at_most

BUDGET_GB = 1.5
BYTES = 1.05  # of the least that has to be moved
GROWTH = 1.05  # of the peak when the rows double: what the allocator's noise may add
COLUMNS, CLASSES, CHUNK_ROWS = 784, 10, 1_000
HOW_MEASURED = (
    "Resident memory of the process and its children, sampled every 20 ms, and not less than the "
    "kernel's own high-water mark of the process. Before fit: after imports. Sizes are those of "
    "the arrays in memory (10⁹ bytes)."
)
REPOSITORY = Path(__file__).resolve().parents[2]


def check_memory(setting, gigabytes=8.0, dtype="float32"):
    """Peak resident memory of fits on `gigabytes` and on twice as much, each in a fresh process."""
    gigabytes = 0.02 if setting.quick else gigabytes
    table = Table("memory", f"peak memory of a fit on {dtype} Zarr under {BUDGET_GB} GB")
    runs = {}
    for size in (gigabytes, 2 * gigabytes):
        run = runs[size] = fit_generated(setting, size, dtype, "altmin", 1)
        table.add(
            at_most(run["peak"], BUDGET_GB, " GB"),
            store_gb=size,
            peak_gb=run["peak"],
            before_fit_gb=run["before"],
            fit_seconds=run["seconds"],
            gb_per_second=size / run["seconds"],
        )
    add_growth(table, runs, GROWTH)
    table.notes.append(f"{HOW_MEASURED} One pass.")
    return table


def check_batch_memory(setting, gigabytes=1.0):
    """Peak memory and bytes moved by full-batch fits on `gigabytes` and on twice as much."""
    gigabytes, passes = (0.02 if setting.quick else gigabytes), setting.passes(3)
    table = Table("batch-memory", f"{passes} iterations of batch-altmin on float32 Zarr")
    runs = {}
    for size in (gigabytes, 2 * gigabytes):
        run = runs[size] = fit_generated(setting, size, "float32", "batch-altmin", passes)
        least = least_bytes(setting, run["rows"], passes)
        table.add(
            at_most(run["moved"] / least, BYTES, " ×"),
            store_gb=size,
            peak_gb=run["peak"],
            before_fit_gb=run["before"],
            fit_seconds=run["seconds"],
            moved_gb=run["moved"] / 1e9,
            charged_gb=run["charged"] / 1e9,
            least_gb=least / 1e9,
        )
    add_growth(table, runs, GROWTH)
    table.notes.append(
        f"{HOW_MEASURED} Moved: what the kernel counted of the process's reads and writes. Least: "
        "X and y once an iteration, z written in each and read in all but the first."
    )
    return table


def least_bytes(setting, rows, passes):
    """Bytes that full-batch iterations have to move."""
    data = rows * (COLUMNS * 4 + 8)
    z = rows * 4 * (sum(setting.hidden) + CLASSES)
    return passes * data + (2 * passes - 1) * z


def fit_generated(setting, gigabytes, dtype, solver, passes):
    """The account of a fit on a generated store of some size."""
    with tempfile.TemporaryDirectory(prefix="daskalt-benchmark-") as folder:
        store = write_generated(Path(folder) / "large.zarr", gigabytes, dtype)
        rows = zarr.open_array(f"{store}/y", mode="r").shape[0]
        return fit_in_subprocess(store, setting, solver, passes) | {"rows": rows}


def add_growth(table, runs, limit):
    """Add the line of how the peak grows when the rows double."""
    first, second = (run["peak"] for run in runs.values())
    grown = second / first
    table.add(
        Target(f"≤ {limit} ×", grown <= limit),
        **{name.replace(" ", "_"): "" for name in table.rows[0].cells}
        | {"store_gb": "rows doubled", "peak_gb": f"{grown:.3f} ×"},
    )


def write_generated(path, gigabytes, dtype):
    """Write a Zarr group of noisy class pictures, chunk by chunk; its path."""
    row_bytes = COLUMNS * np.dtype(dtype).itemsize
    rows = int(gigabytes * 1e9 / row_bytes) // CHUNK_ROWS * CHUNK_ROWS
    group = zarr.create_group(str(path))
    # Floats stay uncompressed, as large float stores usually are: noise does not shrink.
    codecs = {"compressors": None} if np.dtype(dtype).kind == "f" else {}
    shape, chunks = (rows, COLUMNS), (CHUNK_ROWS, COLUMNS)
    features = group.create_array("X", shape=shape, chunks=chunks, dtype=dtype, **codecs)
    targets = group.create_array("y", shape=(rows,), chunks=(CHUNK_ROWS,), dtype=np.int64)
    for start, (block, labels) in zip(range(0, rows, CHUNK_ROWS), blocks(dtype), strict=False):
        features[start : start + CHUNK_ROWS] = block
        targets[start : start + CHUNK_ROWS] = labels
    return str(path)


def blocks(dtype, seed=0):
    """Endless chunks of (rows, labels); the noise is one chunk rolled about, to be quick."""
    rng = np.random.default_rng(seed)
    prototypes = rng.uniform(0, 255, (CLASSES, COLUMNS)).astype(np.float32)
    noise = rng.normal(0, 60, (CHUNK_ROWS, COLUMNS)).astype(np.float32)
    while True:
        labels = rng.integers(CLASSES, size=CHUNK_ROWS)
        block = prototypes[labels] + np.roll(noise, int(rng.integers(COLUMNS)), axis=1)
        yield np.clip(block, 0, 255, out=block).astype(dtype), labels


def fit_in_subprocess(store, setting, solver, passes):
    """Fit `store` in a fresh process; its account, in GB and seconds."""
    command = [sys.executable, "-m", "pipelines.benchmark.memory_fit", store]
    command += [str(setting.seeds[0]), solver, str(passes), *map(str, setting.hidden)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        peak = watch(child)
        output = child.stdout.read()
    if child.returncode:
        raise RuntimeError(f"the fit in a process of its own failed, exit code {child.returncode}")
    run = json.loads(output.splitlines()[-1])
    return run | {"peak": max(peak, run["peak"])}


def watch(child, interval=0.02):
    """Highest resident memory (GB) of `child` and its children until it ends."""
    process, peak = psutil.Process(child.pid), 0
    while child.poll() is None:
        peak = max(peak, resident(process))
        time.sleep(interval)
    return peak / 1e9


def resident(process):
    """Resident bytes of a process and its children; zero for those that have just ended."""
    total = 0
    try:
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total
