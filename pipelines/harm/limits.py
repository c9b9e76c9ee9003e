"""A fit held to a limit of memory: its peak under plan and limit, its speed, growth with rows."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import zarr

from pipelines.benchmark.memory import watch, write_generated
from pipelines.benchmark.tables import Table, Target

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_GB, GROWTH, SPEED = 2.0, 1.05, 0.9
IN_MEMORY_GB = 0.5
CGROUP = Path("/sys/fs/cgroup/memory")


def check_limits(options):
    """Fits on 8 GB and 16 GB of Zarr under 2 GB, beside one on rows in memory."""
    sizes = (0.05, 0.1) if options.quick else (8.0, 16.0)
    table = Table("limits", f"one pass of 784-1024-10 on float32 Zarr under {LIMIT_GB} GB")
    with tempfile.TemporaryDirectory(prefix="daskalt-harm-", dir=options.scratch) as folder:
        small = write_generated(Path(folder) / "small.zarr", min(IN_MEMORY_GB, sizes[0]), "float32")
        memory = account("memory", small, limited=False)
        table.add(
            rows_in="memory",
            gb=memory["gb"],
            rows_per_second=memory["rows_per_second"],
            planned_gb="",
            peak_gb=memory["peak"],
            of_memory_speed="",
        )
        peaks = []
        for size in sizes:
            store = write_generated(Path(folder) / "large.zarr", size, "float32")
            run = account("zarr", store, limited=True)
            add_limited(table, run, run["rows_per_second"] / memory["rows_per_second"])
            peaks.append(run["peak"])
            subprocess.run(["rm", "-rf", store], check=True)
        grown = peaks[1] / peaks[0]
        table.add(
            Target(f"≤ {GROWTH} ×", grown <= GROWTH),
            rows_in="Zarr, rows doubled",
            gb="",
            rows_per_second="",
            planned_gb="",
            peak_gb=f"{grown:.3f} ×",
            of_memory_speed="",
        )
    table.notes.append(
        "Peak: resident memory of the process and its children, sampled, and the kernel's "
        "high-water mark. Speed: rows a second of the pass, the reading of a first pass included. "
        + (
            "The fits on Zarr ran in a control group with that limit, page cache included."
            if can_limit()
            else "No control group could be made: memory_limit was the parameter's alone."
        )
    )
    return table


def add_limited(table, run, speed):
    """Add a fit on Zarr under the limit, and whether it kept to plan, limit and speed."""
    bound = min(run["planned"], LIMIT_GB)
    table.add(
        Target(
            f"peak ≤ plan ≤ {LIMIT_GB} GB; speed ≥ {SPEED}",
            run["peak"] <= bound and run["planned"] <= LIMIT_GB and speed >= SPEED,
        ),
        rows_in="Zarr",
        gb=run["gb"],
        rows_per_second=run["rows_per_second"],
        planned_gb=run["planned"],
        peak_gb=run["peak"],
        of_memory_speed=speed,
    )


def account(kind, store, *, limited):
    """The account of a fit in a process of its own, in GB and seconds."""
    command = [sys.executable, "-m", "pipelines.harm.limits", kind, store]
    with (
        group() if limited else nothing() as join,
        subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, preexec_fn=join
        ) as child,
    ):
        peak = watch(child)
        output = child.stdout.read()
    if child.returncode:
        raise RuntimeError(f"the fit failed, exit code {child.returncode}")
    run = json.loads(output.splitlines()[-1])
    return run | {"peak": max(peak, run["peak"])}


def can_limit():
    """Whether control groups can be made here."""
    return (CGROUP / "memory.limit_in_bytes").exists() and os.access(CGROUP, os.W_OK)


@contextmanager
def group():
    """A control group of LIMIT_GB; yields what a child calls to join it."""
    if not can_limit():
        yield None
        return
    place = CGROUP / f"daskalt-{os.getpid()}"
    place.mkdir()
    try:
        (place / "memory.limit_in_bytes").write_text(str(int(LIMIT_GB * 1e9)))
        yield lambda: (place / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        place.rmdir()


@contextmanager
def nothing():
    """No control group."""
    yield None


def fit(kind, store):
    """Fit and print the account."""
    import daskalt
    from pipelines.benchmark.memory_fit import high_water

    group = zarr.open_group(store, mode="r")
    rows, columns = group["X"].shape
    data = (store, None) if kind == "zarr" else (group["X"][:], group["y"][:])
    options = {"memory_limit": "2GB"} if kind == "zarr" else {}
    model = daskalt.MLPClassifier((1024,), max_iter=1, random_state=0, **options)
    plan = model.plan(*data)
    model.fit(*data)
    print(
        json.dumps(
            {
                "gb": rows * columns * 4 / 1e9,
                "planned": plan.client_bytes / 1e9,
                "peak": high_water(),
                "rows_per_second": rows / model.history_[-1]["seconds"],
            }
        )
    )


if __name__ == "__main__":
    fit(*sys.argv[1:])
