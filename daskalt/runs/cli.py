"""The ``daskalt`` command: plan, fit, predict, evaluate, ingest.

Errors in what the user gave are one line on stderr and exit code 2; anything unforeseen keeps its
traceback and exits with 1; an interrupt with 130, SIGTERM with 143.
"""

import os
import shlex
import sys
from collections.abc import Sequence

from typer import TyperException

from daskalt.compute.signals import Terminated, leaving, terminable
from daskalt.errors import DaskaltError
from daskalt.runs.options import Request, parse

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command line; by default the process's own.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with leaving():
        try:
            request = parse(words)
        except TyperException as error:
            command = " ".join(words[:1])
            told = error.format_message().replace("Value error, ", "")
            print(f"daskalt {command}: {told}", file=sys.stderr)
            return 2
        return 0 if request is None else _carry_out(request, words)


def _carry_out(request: Request, words: list[str]) -> int:
    from daskalt.runs.commands import describe, ready

    command, options = request
    debug = options.pop("debug")
    carry_out = ready(command)  # some libraries turn a signal among their imports into an error
    try:
        with terminable():
            carry_out(**options)
        sys.stdout.flush()
    except DaskaltError as error:
        if debug:
            raise
        print(f"daskalt {command}: {describe(error, command)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"daskalt {command}: {_stopped(command, words)}", file=sys.stderr)
        return 143 if isinstance(interrupt, Terminated) else 130
    except BrokenPipeError:  # the reader of our output has closed it: `daskalt predict | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _stopped(command: str, words: list[str]) -> str:
    """The message for a command that was stopped: how to continue, where it can."""
    if command != "fit":
        return "interrupted"
    again = [*(word for word in words if word != "--resume"), "--resume"]
    return f"stopped. Continue with:\n{shlex.join(['daskalt', *again])}"


if __name__ == "__main__":
    sys.exit(main())
