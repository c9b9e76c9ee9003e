"""Do harm to fits on purpose, and see whether anything is lost.

`python -m pipelines.torture` kills workers and clients at random moments, presses Ctrl-C, fills a
disk, flips bits, takes stores away and changes them under fits, holds fits to their memory, and
compares the bits of fits in every place; every check prints a table of the results.
"""

import sys
import traceback

from pipelines.benchmark.tables import markdown, write
from pipelines.checks import parser_of
from pipelines.harm.bits import check_bits
from pipelines.harm.clients import check_clients
from pipelines.harm.disk import check_disk
from pipelines.harm.flips import check_flips
from pipelines.harm.interrupts import check_interrupts
from pipelines.harm.limits import check_limits
from pipelines.harm.plans import check_plans
from pipelines.harm.stores import check_stores
from pipelines.harm.workers import check_workers

CHECKS = {
    "workers": check_workers,
    "clients": check_clients,
    "interrupts": check_interrupts,
    "disk": check_disk,
    "flips": check_flips,
    "stores": check_stores,
    "limits": check_limits,
    "plans": check_plans,
    "bits": check_bits,
}


def parser():
    """The command's argument parser."""
    parser = parser_of("torture", __doc__, CHECKS, "runs/torture")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default 0)")
    parser.add_argument("--scratch", help="folder for the 25 GB that the check of limits writes")
    parser.add_argument("--quick", action="store_true", help="few and small fits")
    return parser


def main(arguments=None):
    """Run the checks asked for; the exit status, 1 if one fails."""
    options = parser().parse_args(arguments)
    failed = []
    for name in [name for name in CHECKS if name in options.only]:
        print(f"check {name}", file=sys.stderr, flush=True)
        try:
            table = CHECKS[name](options)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        print(markdown(table), flush=True)
        values = {key: str(value) for key, value in vars(options).items()}
        write(table, options.out, values, CHECKS)
        if any(row.target is not None and not row.target.met for row in table.rows):
            failed.append(name)
    for name in failed:
        print(f"check {name} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
