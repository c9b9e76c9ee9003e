"""``python -m daskalt`` is the ``daskalt`` command."""

import sys

from daskalt.cli import main

sys.exit(main())
