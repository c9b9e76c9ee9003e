"""Ctrl-C and SIGTERM: when they raise, what they wait for, and which processes they spare."""

# ruff: noqa: PT012  what counts is where in a block a signal does

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daskalt.compute import signals
from daskalt.compute.signals import Terminated, held, patient, sheltered, stop_here, terminable

ROOT = Path(__file__).parents[2]
KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


def send(number):
    os.kill(os.getpid(), number)


def wait_for_ever():
    while True:
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _handlers_are_put_back():
    before = [signal.getsignal(number) for number in KINDS], sys.unraisablehook
    yield
    assert ([signal.getsignal(number) for number in KINDS], sys.unraisablehook) == before
    assert signals._told.number is None
    assert signals._told.holds == 0
    assert signals._told.watch is None


@pytest.mark.parametrize("number", KINDS)
def test_a_signal_raises(number):
    with pytest.raises(KINDS[number]) as stopped, terminable():
        send(number)
        wait_for_ever()
    assert type(stopped.value) is KINDS[number]


@pytest.mark.parametrize("number", KINDS)
def test_what_is_held_comes_to_its_end(number):
    done = []
    with pytest.raises(KINDS[number]), terminable():
        with held():
            send(number)
            send(number)
            with held(drop=True):  # of an outer hold nothing is dropped
                pass
            done.append(1)
        done.append("too much")
    assert done == [1]


def test_what_comes_too_late_is_dropped():
    with terminable():
        with held(drop=True):
            send(signal.SIGINT)
        with held():
            pass


def test_an_error_in_what_is_held_is_what_counts():
    with pytest.raises(ValueError, match="first"), terminable(), held():
        send(signal.SIGINT)
        raise ValueError("first")


@pytest.mark.parametrize("number", KINDS)
def test_a_patient_program_stops_where_it_stands(number, capsys, monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 1000)
    done = []
    with pytest.raises(KINDS[number]), patient():
        stop_here()
        send(number)
        done.append(1)
        with held():
            pass
        done.append(2)
        stop_here()
        done.append("too much")
    assert done == [1, 2]
    assert capsys.readouterr().err.strip() == f"daskalt: {signals.STOPPING}"


def test_a_patient_program_that_never_comes_to_rest_is_stopped(monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 0.01)
    with pytest.raises(Terminated), patient():
        send(signal.SIGTERM)
        wait_for_ever()


def test_a_second_signal_stops_at_once_but_for_what_is_held(monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 1000)
    done = []
    with pytest.raises(KeyboardInterrupt) as stopped, patient():
        send(signal.SIGINT)
        with held():
            send(signal.SIGTERM)
            done.append(1)
        done.append("too much")
    assert done == [1]
    assert type(stopped.value) is KeyboardInterrupt  # the first that came


def test_a_signal_after_the_last_rest_counts_at_the_end(monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 1000)
    with pytest.raises(KeyboardInterrupt), patient():
        send(signal.SIGINT)


@pytest.mark.parametrize("number", KINDS)
def test_a_program_that_handles_a_signal_keeps_its_handler(number):
    seen = []
    before = signal.signal(number, lambda *_: seen.append(1))
    try:
        with terminable(), patient(), held():
            send(number)
            stop_here()
    finally:
        signal.signal(number, before)
    assert seen == [1]


def test_a_signal_whose_exception_is_lost_is_sent_again():
    class Swallows:
        def __del__(self):
            send(signal.SIGINT)
            for _ in range(1000):  # the handler raises in here
                pass

    with pytest.raises(KeyboardInterrupt), terminable():
        Swallows()
        wait_for_ever()


def run(code):
    """What a Python process prints."""
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return child.returncode, child.stdout + child.stderr


MASK = "import signal; print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))))"


def test_processes_that_are_started_sheltered_are_out_of_reach():
    assert run(MASK) == (0, "[]\n")
    with sheltered():
        blocked = run(MASK)
    assert blocked == (0, f"[{int(signal.SIGINT)}, {int(signal.SIGTERM)}]\n")
    assert run(MASK) == (0, "[]\n")


def test_a_worker_leaves_the_terminal_and_can_be_told_to_end():
    """What came before that was not for it."""
    code = """
import os, signal
from daskalt.compute.shelter import dask_setup
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGINT)
dask_setup(None)
dask_setup(None)
print(os.getsid(0) == os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("still here")
"""
    with sheltered():
        assert run(code) == (-signal.SIGTERM, "True\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_among_the_imports_ends_the_process_without_a_word_too_many(number, code):
    """Also one that an import would turn into another error."""
    script = f"""
import os, sys
from daskalt import __main__

class Finder:
    def find_spec(self, name, *_):
        if name == "numba":
            try:
                os.kill(os.getpid(), {int(number)})
            except BaseException as error:
                raise ImportError("numba is broken") from error

sys.meta_path.insert(0, Finder())
sys.argv = ["daskalt", "evaluate", "a", "b"]
__main__.main()
"""
    assert run(script) == (code, "daskalt: interrupted\n")
