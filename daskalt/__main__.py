"""``python -m daskalt`` is the ``daskalt`` command."""

import os
import sys
from contextlib import ExitStack

from daskalt.signals import KINDS, leaving

__all__ = ["main"]

_WHOLE_PROCESS = ExitStack()  # never left


def main() -> int:
    """Run the command; stopped by a signal, end without waiting for what still computes."""
    _WHOLE_PROCESS.enter_context(leaving())
    from daskalt import cli

    code = cli.main()
    if code in {128 + number for number in KINDS}:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
