"""The ``daskalt`` command: plan, fit, predict, evaluate, ingest.

Errors in what the user gave are one line on stderr and exit code 2; anything unforeseen keeps its
traceback and exits with 1; an interrupt with 130, SIGTERM with 143.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from daskalt import __version__
from daskalt.errors import DaskaltError
from daskalt.signals import Terminated, leaving, terminable

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command line; by default the process's own.
    """
    with leaving():
        options = _options(arguments)
        from daskalt.runs.commands import (
            COMMANDS,
            describe,
        )  # with the libraries

        try:
            with terminable():
                COMMANDS[options.command](options)
            sys.stdout.flush()
        except DaskaltError as error:
            if options.debug:
                raise
            words = describe(error, options.command)
            print(f"daskalt {options.command}: {words}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as interrupt:
            print(f"daskalt {options.command}: {_stopped(options)}", file=sys.stderr)
            return 143 if isinstance(interrupt, Terminated) else 130
        except BrokenPipeError:  # who reads our output has seen enough: `daskalt predict | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("fit", "plan"):
        parser.error(f"unrecognised arguments: {' '.join(rest)}")
    options.overrides = rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "daskalt", description="Neural networks on data larger than memory.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"daskalt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fit = _command(commands, "fit", "train as a YAML file says, and leave a run folder")
    fit.usage = "daskalt fit CONF [--key value ...] [--output FOLDER] [--overwrite] [--resume]"
    fit.epilog = (
        "Any key of the configuration can be given, before what the file says: "
        "--parameters.max_iter 5 --parameters.solver.damping 2 --data.seed 1 --workers 2 "
        "--scheduler tcp://host:8786"
    )
    fit.add_argument("config", metavar="CONF", help="YAML file; see the folder conf")
    fit.add_argument("--output", metavar="FOLDER", help="run folder, instead of the file's")
    fit.add_argument("--overwrite", action="store_true", help="replace a finished run")
    fit.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint of a run that was cut short, to the same result",
    )

    plan = _command(commands, "plan", "say what a fit would take, without reading X")
    plan.usage = "daskalt plan CONF [--key value ...] [--json]"
    plan.epilog = "Exits with 2 where the fit would take more memory than there may be."
    plan.add_argument("config", metavar="CONF", help="YAML file, as for fit")
    plan.add_argument("--json", action="store_true", help="print JSON, not a table")

    predict = _command(commands, "predict", "write the predictions of a fitted model")
    predict.add_argument("model", metavar="MODEL", help="run folder or saved model")
    predict.add_argument(
        "X",
        help="CSV or Parquet files, a folder or (quoted) pattern of them; or path or URL of a Zarr "
        "array, or of a group with an array X",
    )
    predict.add_argument(
        "--output",
        metavar="PATH",
        help="a .csv, .parquet or .npy file, or a .zarr group; by default CSV on stdout",
    )
    predict.add_argument("--proba", action="store_true", help="with class probabilities")
    predict.add_argument("--id", dest="ident", metavar="COLUMN", help="column to call the rows by")
    _add_encoding(predict, ["median", "error"])
    predict.add_argument("--overwrite", action="store_true", help="replace what is at PATH")
    predict.add_argument(
        "--stored-order",
        action="store_true",
        help="predict in the order of a store that was shuffled when it was ingested",
    )

    evaluate = _command(commands, "evaluate", "print loss and accuracy or R² as JSON")
    evaluate.add_argument("model", metavar="MODEL", help="run folder or saved model")
    evaluate.add_argument(
        "data", metavar="DATA", help="Zarr group with arrays X and y; or CSV or Parquet files"
    )
    evaluate.add_argument("--target", metavar="NAME", help="column of CSV or Parquet")
    _add_encoding(evaluate, ["median", "drop", "error"])

    ingest = _command(commands, "ingest", "convert files to shuffled Zarr")
    ingest.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="CSV, Parquet, .npy or .npz files, globs or folders of them, or a Zarr group",
    )
    ingest.add_argument("destination", metavar="DESTINATION", help="new Zarr group")
    for name, words in (("target", "the targets"), ("features", "the features")):
        ingest.add_argument(
            f"--{name}",
            metavar="NAME",
            action="append",
            help=f"column or array of {words}; repeat it for several",
        )
    ingest.add_argument(
        "--exclude",
        metavar="NAME",
        action="append",
        help="columns to leave out: names and patterns, with commas between",
    )
    ingest.add_argument("--weight", metavar="NAME", help="column or array of the row weights")
    ingest.add_argument("--id", dest="ident", metavar="COLUMN", help="column to call rows by later")
    ingest.add_argument(
        "--categorical",
        choices=["auto", "error"],
        help="text: a feature of zeros and ones for each (auto), or an error",
    )
    ingest.add_argument(
        "--max-categories", type=int, metavar="N", help="most texts in a column (256)"
    )
    _add_encoding(ingest, ["median", "drop", "error"])
    ingest.add_argument(
        "--recipe", metavar="PATH", help="encode as this store, run or model: for rows to test on"
    )
    ingest.add_argument("--dtype", metavar="TYPE", help="type of features from CSV or Parquet")
    ingest.add_argument(
        "--no-shuffle",
        dest="shuffle",
        action="store_false",
        help="keep the order, as rows without a target always do",
    )
    ingest.add_argument("--seed", type=int, default=0, help="seed of the shuffle (0)")
    ingest.add_argument("--chunk-rows", type=int, metavar="N", help="rows of a Zarr chunk")
    ingest.add_argument("--overwrite", action="store_true", help="replace DESTINATION")
    return parser


def _add_encoding(parser: argparse.ArgumentParser, missing: list[str]) -> None:
    parser.add_argument(
        "--missing",
        choices=missing,
        help="missing values: the column's median, rows left out (drop), or an error",
    )
    parser.add_argument(
        "--unknown",
        choices=["own", "error"],
        help="categories that training never met: one of their own, or an error",
    )


def _command(commands: Any, name: str, words: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
    parser.add_argument("--debug", action="store_true", help="show the traceback of any error")
    return parser


def _stopped(options: argparse.Namespace) -> str:
    """What to tell of a command that was stopped: how to go on, where it can."""
    if options.command != "fit":
        return "interrupted"
    words = ["daskalt", "fit", options.config]
    if options.output is not None:
        words += ["--output", options.output]
    if options.overwrite:
        words.append("--overwrite")
    return f"stopped. Go on with:\n{shlex.join([*words, *options.overrides, '--resume'])}"


if __name__ == "__main__":
    sys.exit(main())
