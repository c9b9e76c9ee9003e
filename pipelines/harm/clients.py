"""The process that trains killed at random moments: the run is resumed, to the same bits."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

import daskalt
from pipelines.benchmark.tables import Table, Target
from pipelines.harm.fits import digest, files, network, solvers, write_rows

REPOSITORY = Path(__file__).resolve().parents[2]


def check_clients(options):
    """`daskalt fit` killed again and again, and resumed until it is finished."""
    kills, rows = (2, 3_000) if options.quick else (20, 20_000)
    passes = 0.5 if options.quick else 2.0
    table = Table("clients", f"{kills} kills of the process that trains")
    rng = np.random.default_rng(options.seed)
    totals = Counter()
    with tempfile.TemporaryDirectory(prefix="daskalt-harm-") as name:
        folder = Path(name)
        store = write_rows(folder / "rows.zarr", rows)
        for solver in solvers(100):
            left = kills - totals["kills"]
            if left <= 0:
                break
            config = write_config(folder, solver, store, passes)
            account = kill_and_resume(config, folder / solver, min(left, 4), rng)
            model = daskalt.load(folder / solver / "model")
            expected = digest(network(solver, passes).fit(store))
            same = digest(model) == expected
            orphans = unwanted(folder, solver)
            totals.update(account, resumed=account["kills"] if same else 0, orphans=len(orphans))
            table.add(
                Target("same bits, no files left", same and not orphans),
                solver=solver,
                **account,
                same_bits=same,
                files_left=len(orphans),
            )
    table.notes.append(
        f"{totals['kills']} kills, {totals['resumed']} resumed to the same bits; "
        f"{totals['while_writing']} of them while a checkpoint was being written."
    )
    return table


def unwanted(folder, solver):
    """What a finished run should not have left: half-written files, z, hidden folders."""
    points = folder / f"{solver}.points"
    kept = {str(path) for path in points.glob("checkpoint-*.*") if path.suffix != ".partial"}
    hidden = [path for path in files(folder) if "/." in path.removeprefix(str(folder))]
    return hidden + [path for path in files(points) if path not in kept]


def write_config(folder, solver, store, passes):
    """Write the YAML file of a run."""
    parameters = network(solver, passes).get_params(deep=False)
    wanted = ("solver", "max_iter", "tol", "n_iter_no_change", "batch_size", "random_state")
    run = {
        "estimator": "MLPClassifier",
        "parameters": {name: parameters[name] for name in wanted}
        | {
            "hidden_layer_sizes": list(parameters["hidden_layer_sizes"]),
            "checkpoint": {
                "location": str(folder / f"{solver}.points"),
                "every_minutes": 0.005,
            },
        },
        "data": {"train": store},
        "output": str(folder / solver),
    }
    path = folder / f"{solver}.yaml"
    path.write_text(yaml.safe_dump(run), encoding="utf-8")
    return path


def kill_and_resume(config, output, kills, rng):
    """Run until the run is complete, killing the process some times; the account of it."""
    points = output.with_name(f"{output.name}.points")
    account = {"kills": 0, "while_writing": 0, "runs": 0}
    while not is_complete(output):
        account["runs"] += 1
        if account["runs"] > 10 * kills + 10:
            raise RuntimeError(f"{config} does not come to an end")
        command = [sys.executable, "-m", "daskalt", "fit", str(config), "--resume"]
        with subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as child:
            if account["kills"] < kills:
                writing = account["kills"] % 2 == 1
                if wait_for_moment(child, points, writing, rng):
                    os.kill(child.pid, signal.SIGKILL)
            error = child.communicate()[1]
        if child.returncode == -signal.SIGKILL:
            account["kills"] += 1
            account["while_writing"] += any(points.glob("*.partial"))
        elif child.returncode:
            raise RuntimeError(f"{config}: {error}")
    return account


def is_complete(output):
    """Whether a run says of itself that there is nothing more to do."""
    report = output / "report.json"
    return report.is_file() and json.loads(report.read_text())["status"] == "complete"


def wait_for_moment(child, points, writing, rng):
    """Wait until the fit is under way and then a random while, or for a half-written file."""
    before = newest(points)
    while child.poll() is None and newest(points) == before:
        time.sleep(0.002)
    end = time.monotonic() + rng.uniform(0.0, 0.5)
    while child.poll() is None:
        if writing and any(points.glob("*.partial")):
            return True
        if not writing and time.monotonic() > end:
            return True
        time.sleep(0.0002 if writing else 0.01)
    return False


def newest(points):
    """The name of the newest checkpoint, "" without any."""
    return max((path.name for path in points.glob("*.json")), default="")
