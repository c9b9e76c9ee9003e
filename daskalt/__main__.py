"""``python -m daskalt`` is the ``daskalt`` command."""

import os
import signal
import sys

from daskalt.compute.signals import KINDS, leaving

__all__ = ["main"]


def main() -> int:
    """Run the command; stopped by a signal, end without waiting for what still computes."""
    with leaving():
        from daskalt.runs import cli

        code = cli.main()
        for number in KINDS:  # too late
            signal.signal(number, signal.SIG_IGN)
    if code in {128 + number for number in KINDS}:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
