"""Command lines of studies that are made of checks, of which some may be asked for by name."""

import argparse
from pathlib import Path


def parser_of(module, description, checks, out):
    """An argument parser with options for the checks to run and the folder of their results."""
    parser = argparse.ArgumentParser(
        prog=f"python -m pipelines.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=checks,
        default=list(checks),
        metavar="NAME",
        help=f"checks to run, among: {', '.join(checks)}",
    )
    parser.add_argument("--out", type=Path, default=Path(out), help="results folder")
    return parser
