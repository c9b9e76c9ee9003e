"""Ctrl-C and SIGTERM on a terminal at random moments: the run ends soon, quietly, and resumes."""

import errno
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import psutil
import yaml

import daskalt
from pipelines.benchmark.tables import Table, Target
from pipelines.harm.fits import digest, files, network, write_rows

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES, MOMENTS, SOLVERS = (
    ("threads", "workers", "scheduler"),
    ("start", "middle", "end"),
    ("altmin", "batch-altmin"),
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TRIALS, SECONDS, PATIENCE = 20, 10.0, 60.0
LINES = 3  # that it stops, that it has, and the command that resumes it
MARK = "DASKALT_TRIAL"  # in the environment of all processes of a trial
ALMOST_DONE = 2.0  # seconds in which a run that is told may have ended anyway
# Random seconds after the process starts, after its first checkpoint, after its last.
WINDOWS = {"start": (0.15, 8.0), "middle": (0.0, 1.5), "end": (0.0, 1.5)}
PASSES = {"threads": 1.0, "workers": 0.15, "scheduler": 0.15}  # which take some seconds
QUICK = 0.5  # of these passes, where trials run side by side
SCHEDULER = """
import dask
from daskalt.runs.clusters import NO_PROFILER
from distributed import LocalCluster
if __name__ == "__main__":
    options = dict(dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0")
    with (
        dask.config.set(NO_PROFILER),
        LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster,
    ):
        print(cluster.scheduler_address, flush=True)
        input()
"""


@dataclass(frozen=True)
class Trial:
    """Where a run is told to stop, by what, and how many seconds after which moment."""

    place: str
    told: signal.Signals
    moment: str
    wait: float
    solver: str
    passes: float

    def outcome(self, folder, store, address):
        """The account of the trial, which uses a folder of its own."""
        folder.mkdir()
        config = write_config(self, folder, store, address)
        return stop_and_resume(config, folder, self)


def check_interrupts(options):
    """`daskalt fit` on a terminal, stopped once by a signal to its process group, and resumed."""
    rows = 3_000 if options.quick else 20_000
    trials = chosen(options.quick, np.random.default_rng(options.seed))
    seconds = PATIENCE if options.quick else SECONDS
    table = Table("interrupts", f"{len(trials)} runs on a terminal stopped by a signal")
    wanted = f"≤ {seconds:.0f} s, ≤ {LINES} lines, same bits, nothing left"
    met = 0
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or the runs would inherit it
    with (
        tempfile.TemporaryDirectory(prefix="daskalt-harm-") as name,
        schedulers(trials) as address,
        ThreadPoolExecutor(len(trials) if options.quick else 1) as pool,
    ):
        store = write_rows(Path(name) / "rows.zarr", rows)
        folders = [Path(name) / f"trial{number}" for number in range(len(trials))]
        outcomes = pool.map(lambda t, folder: t.outcome(folder, store, address), trials, folders)
        for trial, outcome in zip(trials, outcomes, strict=True):
            expected = digest(network(trial.solver, trial.passes).fit(store))
            outcome["same_bits"] = outcome.pop("digest") == expected
            good = fine(outcome, seconds, trial.moment)
            met += good
            table.add(
                Target(wanted, good),
                place=trial.place,
                signal=trial.told.name,
                moment=trial.moment,
                solver=trial.solver,
                **outcome,
            )
    table.notes.append(f"{met} of {len(trials)} as wanted. A run may finish before it is told.")
    return table


def chosen(quick, rng):
    """The trials: places, signals and moments in turn, a random while after each moment."""
    every = list(product(PLACES, SIGNALS, MOMENTS))
    if quick:
        every = [("workers", signal.SIGINT, "middle"), ("threads", signal.SIGTERM, "end")]
    trials = []
    for number in range(len(every) if quick else TRIALS):
        place, told, moment = every[number % len(every)]
        wait = rng.uniform(*WINDOWS[moment])
        solver = SOLVERS[number % len(SOLVERS)]
        passes = PASSES[place] * (QUICK if quick else 1)
        trials.append(Trial(place, told, moment, wait, solver, passes))
    return trials


def fine(outcome, seconds, moment):
    """Whether a trial ended as it should: at the end the run may have been complete."""
    code = outcome["code"]
    # A run whose folder is just being moved into place is done, and says so.
    done = moment == "end" or not outcome["told"] or outcome["ended_seconds"] < ALMOST_DONE
    codes = (130, 143, 0, -15) if done else (130, 143)
    ended = outcome["ended_seconds"] <= seconds and code in codes
    quiet = not outcome["traceback"] and outcome["lines"] <= LINES
    return ended and quiet and outcome["same_bits"] and not outcome["left"]


def write_config(trial, folder, store, address):
    """Write the YAML file of a trial."""
    parameters = network(trial.solver, trial.passes).get_params(deep=False)
    wanted = ("solver", "max_iter", "tol", "n_iter_no_change", "batch_size", "random_state")
    run = {
        "estimator": "MLPClassifier",
        "parameters": {name: parameters[name] for name in wanted}
        | {"hidden_layer_sizes": list(parameters["hidden_layer_sizes"])},
        "data": {"train": store},
        "output": str(folder / "run"),
    }
    run |= {"workers": 2} if trial.place == "workers" else {}
    run |= {"scheduler": address} if trial.place == "scheduler" else {}
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(run), encoding="utf-8")
    return path


def stop_and_resume(config, folder, trial):
    """The account of a run that is told to stop, and of the one that resumes it."""
    with terminal([sys.executable, "-m", "daskalt", "fit", str(config)]) as run:
        if trial.moment != "start":
            wait_for_checkpoint(run, folder / "run" / "checkpoint", last=trial.moment == "end")
        time.sleep(trial.wait)
        began = time.monotonic()
        reached = run.tell(trial.told)
        code = run.wait(PATIENCE)
        ended = time.monotonic() - began
    left = run.left()
    resume(run, config, folder)
    model = daskalt.load(folder / "run" / "model")
    orphans = [path for path in files(folder) if path.endswith(".partial") or "/." in path]
    return {
        "told": reached,
        "ended_seconds": ended,
        "code": code,
        "lines": said(run.text) - 2 * (code == 0),
        "traceback": "Traceback" in run.text or "Error" in run.text,
        "left": len(left) + len(orphans),
        "digest": digest(model),
    }


def said(text):
    """Lines on the terminal but that which says at the start where the dashboard is."""
    lines = [line.strip() for line in text.splitlines()]
    return sum(bool(line) and not line.startswith("Dashboard: ") for line in lines)


def resume(run, config, folder):
    """Resume as the run says, to its end."""
    report = folder / "run" / "report.json"
    if report.is_file() and json.loads(report.read_text())["status"] == "complete":
        return
    last = run.text.strip().splitlines()[-1:] or [""]
    words = shlex.split(last[0])[1:] if last[0].endswith("--resume") else ["fit", str(config)]
    command = [sys.executable, "-m", "daskalt", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr}")


class Terminal:
    """A process on a terminal of its own, and what it wrote there."""

    def __init__(self, command):
        self.mark = uuid.uuid4().hex
        self.master, slave = pty.openpty()
        # setsid: the terminal's signals go to the whole process group that this makes.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=REPOSITORY,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {MARK: self.mark},
        )
        os.close(slave)
        self.written = bytearray()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            try:
                part = os.read(self.master, 1 << 16)
            except OSError as error:  # the last process has closed it
                if error.errno != errno.EIO:
                    raise
                return
            if not part:
                return
            self.written += part

    @property
    def text(self):
        return self.written.decode(errors="replace").replace("^C", "")

    def tell(self, told):
        """Press Ctrl-C, or send SIGTERM to the process group; say whether the run was there."""
        if self.process.poll() is not None:
            return False
        if told == signal.SIGINT:
            os.write(self.master, b"\x03")
        else:
            os.killpg(self.process.pid, told)
        return True

    def wait(self, seconds):
        """The exit code; None if the process had to be killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def left(self, seconds=3.0):
        """Processes of this run that are still there some seconds after it."""
        end = time.monotonic() + seconds
        while (left := self._others()) and time.monotonic() < end:
            time.sleep(0.1)
        for process in left:
            process.kill()
        self.reader.join(seconds)
        os.close(self.master)
        return left

    def _others(self):
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


@contextmanager
def terminal(command):
    """A command on a terminal, which is gone afterwards."""
    run = Terminal(command)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def wait_for_checkpoint(run, folder, *, last):
    """Wait for a first checkpoint, or for the last, after which the report is written."""
    while run.process.poll() is None:
        records = sorted(folder.glob("checkpoint-*.json"))
        if records and (not last or finished(records[-1])):
            return
        time.sleep(0.005)


def finished(record):
    """Whether a checkpoint is of a fit that is over."""
    try:
        return json.loads(record.read_text())["record"]["finished"]
    except (OSError, ValueError):  # replaced meanwhile
        return False


@contextmanager
def schedulers(trials):
    """The address of a scheduler with two workers of its own, where a trial needs one."""
    if not any(trial.place == "scheduler" for trial in trials):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "scheduler.py"
        script.write_text(SCHEDULER)
        with subprocess.Popen(
            [sys.executable, str(script)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        ) as process:
            yield process.stdout.readline().strip()
            process.communicate("\n")
