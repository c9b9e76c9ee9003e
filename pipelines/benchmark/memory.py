"""The check `memory`: peak memory of a fit on a store far larger than its budget."""

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
GROWTH = 1.05  # of the peak when the rows double: what the allocator's noise may add
COLUMNS, CLASSES, CHUNK_ROWS = 784, 10, 1_000
REPOSITORY = Path(__file__).resolve().parents[2]


def check_memory(setting, gigabytes=8.0, dtype="float32"):
    """Peak resident memory of fits on `gigabytes` and on twice as much, each in a fresh process."""
    gigabytes = 0.02 if setting.quick else gigabytes
    table = Table("memory", f"peak memory of a fit on {dtype} Zarr under {BUDGET_GB} GB")
    peaks = []
    for size in (gigabytes, 2 * gigabytes):
        with tempfile.TemporaryDirectory(prefix="daskalt-benchmark-") as folder:
            store = write_generated(Path(folder) / "large.zarr", size, dtype)
            run = fit_in_subprocess(store, setting)
        peaks.append(run["peak"])
        table.add(
            at_most(run["peak"], BUDGET_GB, " GB"),
            store_gb=size,
            peak_gb=run["peak"],
            before_fit_gb=run["before"],
            fit_seconds=run["seconds"],
            gb_per_second=size / run["seconds"],
        )
    doubled = peaks[1] / peaks[0]
    table.add(
        Target(f"≤ {GROWTH} ×", doubled <= GROWTH),
        **{name.replace(" ", "_"): "" for name in table.rows[0].cells}
        | {"store_gb": "rows doubled", "peak_gb": f"{doubled:.3f} ×"},
    )
    table.notes.append(
        "Resident memory of the process and its children, sampled every 20 ms, and not less than "
        "the kernel's own high-water mark of the process. Before fit: after imports. One pass; "
        "sizes are those of the arrays in memory (10⁹ bytes)."
    )
    return table


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


def fit_in_subprocess(store, setting):
    """Fit `store` in a fresh process: {"peak": GB, "before": GB, "seconds": s}."""
    command = [sys.executable, "-m", "pipelines.benchmark.memory_fit", store]
    command += [str(setting.seeds[0]), *map(str, setting.hidden)]
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
