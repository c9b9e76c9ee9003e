"""Planned and measured peak memory of every process of a fit, over some configurations."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr

from daskalt.runs.clusters import local_workers
from pipelines.benchmark.memory_fit import high_water
from pipelines.benchmark.tables import Table, Target

REPOSITORY = Path(__file__).resolve().parents[2]
SLACK = 1.3
CLASSES = 10


class Case(NamedTuple):
    """One fit: the rows, the network, the solver and where it runs."""

    megabytes: int
    features: int
    dtype: str
    chunk_rows: int
    solver: str
    hidden: tuple[int, ...]
    passes: int = 2
    batch_size: int | str = "auto"
    threads: int = 2
    workers: int = 0
    compressed: bool = False
    loaded: bool = False  # whether the rows are read into memory before


CASES = (
    Case(200, 784, "uint8", 1000, "altmin", (256,), compressed=True),
    Case(400, 784, "float32", 1000, "altmin", (512,), 1, threads=1),
    Case(200, 100, "float32", 4000, "altmin", (64,) * 6, batch_size=20_000),
    Case(300, 500, "float64", 1000, "altmin", (1000,), 1, batch_size=5_000),
    Case(200, 200, "float32", 5000, "adam", (128, 64), 1, batch_size=2_000),
    Case(400, 2000, "float32", 500, "adam", (1500,), 1, batch_size=2_000),
    Case(100, 50, "uint8", 20_000, "adam", (32,), 1, batch_size=200, threads=1),
    Case(150, 300, "float32", 1000, "batch-altmin", (128, 64)),
    Case(200, 784, "float32", 1000, "lbfgs", (400,), 3),
    Case(100, 200, "float64", 2000, "admm", (64,)),
    Case(200, 784, "float32", 1000, "altmin", (256,), 1, batch_size=4_000, workers=2, threads=1),
    Case(150, 300, "float32", 1000, "batch-altmin", (128,), workers=2, threads=1),
    Case(55, 784, "uint8", 1000, "altmin", (256,), compressed=True),
    Case(10, 8, "uint8", 20_000, "adam", (32,), 1, batch_size=500),
    Case(300, 30, "float32", 4000, "altmin", (64,), 1, batch_size=2000, loaded=True),
)


def write_rows(path, case):
    """Write a Zarr group of noise with labels, chunk by chunk."""
    dtype = np.dtype(case.dtype)
    rows = case.megabytes * 10**6 // (case.features * dtype.itemsize)
    rows -= rows % case.chunk_rows
    group = zarr.create_group(str(path))
    codecs = {} if case.compressed else {"compressors": None}
    shape, chunks = (rows, case.features), (case.chunk_rows, case.features)
    X = group.create_array("X", shape=shape, chunks=chunks, dtype=dtype, **codecs)
    rng = np.random.default_rng(0)
    y = rng.integers(CLASSES, size=rows)
    noise = rng.normal(100, 30, chunks).clip(0, 255)
    for start in range(0, rows, case.chunk_rows):
        labels = y[start : start + case.chunk_rows]
        X[start : start + case.chunk_rows] = (noise + 10 * labels[:, None]).astype(dtype)
        rng.shuffle(noise)
    group.create_array("y", data=y, chunks=(case.chunk_rows,))


def fit(store, case):
    """Plan and fit in this process; print both accounts as JSON."""
    import dask

    import daskalt

    rows = (store,)
    if case.loaded:
        rows = tuple(zarr.open_array(store, path=name, mode="r")[:] for name in ("X", "y"))
    model = daskalt.MLPClassifier(
        case.hidden,
        solver=case.solver,
        max_iter=case.passes,
        batch_size=case.batch_size,
        tol=0,
        random_state=0,
    )
    planned = []

    def keep(project, plan):
        planned.append(plan)

    daskalt.memory.planning.Project.check = keep  # the plan that the fit makes itself
    peaks = [0]
    if case.workers:
        with local_workers(case.workers) as client:
            model.fit(*rows)
            peaks = list(client.run(high_water).values())
    else:
        with dask.config.set(num_workers=case.threads):
            model.fit(*rows)
    (plan,) = planned
    account = {
        "client": high_water() * 1e9,
        "worker": max(peaks) * 1e9,
        "planned_client": plan.client_bytes,
        "planned_worker": plan.worker_bytes or 0,
        "parts": plan.parts,
        "worker_parts": plan.worker_parts,
        "seconds": model.cost_["seconds"],
    }
    print(json.dumps(account))


def check(case):
    """The account of a case, made in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="daskalt-plan-check-") as folder:
        store = f"{folder}/rows.zarr"
        write_rows(store, case)
        command = [sys.executable, "-m", "pipelines.harm.plans", store]
        command.append(json.dumps(case))
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the fit in a process of its own failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def check_plans(options):
    """Planned and measured peaks over all configurations."""
    table = Table(
        "plans", f"measured peak ≤ planned ≤ {SLACK} × measured, {len(CASES)} configurations"
    )
    cases = CASES[:1] if options.quick else CASES
    for number, case in enumerate(cases, start=1):
        account = check(case)
        where = f"{case.workers} workers" if case.workers else f"{case.threads} threads"
        words = (
            f"{case.solver} {case.features}-{'-'.join(map(str, case.hidden))}-{CLASSES}, "
            f"{case.megabytes} MB {case.dtype}, batch {case.batch_size}, {where}"
        )
        for process in ("client", "worker") if case.workers else ("client",):
            planned, measured = account[f"planned_{process}"], account[process]
            table.add(
                Target(f"1 to {SLACK}", measured <= planned <= SLACK * measured),
                number=number,
                configuration=words,
                process=process,
                planned_mb=planned / 1e6,
                measured_mb=measured / 1e6,
                ratio=planned / measured,
            )
    table.notes.append(
        "Peak resident memory of the client, and of the largest worker, by the kernel's own "
        "high-water mark; that of a worker is read just before the workers are told to stop."
    )
    return table


def read_case(text):
    values = json.loads(text)
    return Case(*(tuple(value) if isinstance(value, list) else value for value in values))


if __name__ == "__main__":
    fit(sys.argv[1], read_case(sys.argv[2]))
