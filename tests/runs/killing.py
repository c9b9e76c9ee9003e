"""Runs that end themselves where a function is called a certain time.

They are forked from a process that has made the imports once; this module makes none of its own.
"""

import importlib
import multiprocessing
import os
import signal

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["daskalt.runs.running", "daskalt.runs.commands"])


def killed(where, *words):
    """Run a command in a process of its own that is killed at ``module:path:time``."""
    process = FORKS.Process(target=_run, args=(where, words))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def _run(where, words):
    module, path, time = where.split(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    function, calls = getattr(owner, name), iter(range(1, int(time) + 1))

    def dying(*arguments, **options):
        if next(calls) == int(time):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(owner, name, dying)
    importlib.import_module("daskalt.runs.cli").main(list(words))
