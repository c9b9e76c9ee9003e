"""The commands and their options, as ``--help`` shows them, and their values."""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import typer
from typer import Argument, Option

from daskalt import __version__

__all__ = ["Request", "parse"]


class Request(NamedTuple):
    """A command and its options by name, for `daskalt.runs.commands` to carry out."""

    command: str
    options: dict[str, Any]


def parse(words: Sequence[str]) -> Request | None:
    """Return the request of a command line; None where it asked for help, which was printed.

    Raises
    ------
    typer.TyperException
        When the words are no command.
    """
    command = typer.main.get_command(app)
    asked = command.main(list(words) or ["--help"], "daskalt", standalone_mode=False)
    return asked if isinstance(asked, Request) else None


app = typer.Typer(
    help="Neural networks on data larger than memory.",
    epilog="Start with: daskalt fit train.csv --target COLUMN",
)

NETWORK, DATA, PLACE = "Network and training", "Data", "Where it runs and writes"


def _option(words: str, panel: str | None = None, show: str | None = None, *names: str) -> Any:
    return Option(*names, help=words, rich_help_panel=panel, metavar=show, show_default=False)


def _flag(words: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    return Option(*names, help=words, rich_help_panel=panel, metavar=" ", **more)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"daskalt {__version__}")
        raise typer.Exit


@app.callback()
def _daskalt(
    version: Annotated[
        bool, _flag("Show the version.", "--version", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Take the options that belong to no command."""


Debug = Annotated[bool, _flag("Show the traceback of any error.", "--debug")]
Overwrite = Annotated[bool, _flag("Replace what is there.", "--overwrite")]
Model = Annotated[str, Argument(metavar="MODEL", help="Run folder or saved model.")]


# ------------------------------------------------------------------------------- fit and plan

Words = Annotated[
    list[str] | None,
    Argument(
        metavar="CONF|DATA",
        show_default=False,
        help="A configuration (.yaml, .yml; see the folder conf); or data: a Zarr group, or "
        "CSV or Parquet files, folders and quoted patterns, which are ingested first.",
    ),
]
EarlyStopping = Annotated[
    bool | None,
    _flag(
        "Hold out rows of the training data, and stop when their loss rises.",
        "--early-stopping",
        panel=NETWORK,
    ),
]
Estimator = Annotated[
    str | None,
    _option("MLPClassifier or MLPRegressor; else the target decides.", NETWORK, "NAME"),
]
Hidden = Annotated[
    str | None,
    _option("Units of the hidden layers, as in 256,128 (100).", NETWORK, "WIDTHS"),
]
Passes = Annotated[
    int | None,
    _option("Most passes over the rows; else their number decides.", NETWORK, "N"),
]
Scheduler = Annotated[
    str | None,
    _option("Train on a Dask cluster, as in tcp://host:8786.", PLACE, "ADDRESS"),
]


def _run(
    words: Words = None,
    target: Annotated[
        list[str] | None,
        _option("Column or array to predict; repeat it for several.", DATA, "NAME"),
    ] = None,
    features: Annotated[
        list[str] | None,
        _option("Columns to predict from; all others by default. Repeatable.", DATA, "NAMES"),
    ] = None,
    exclude: Annotated[
        list[str] | None, _option("Columns to leave out. Repeatable.", DATA, "NAMES")
    ] = None,
    id: Annotated[
        str | None, _option("Column that names the rows, no feature.", DATA, "NAME")
    ] = None,
    test: Annotated[
        list[str] | None,
        _option("Rows to evaluate on, as DATA is given. Repeatable.", DATA, "PLACE"),
    ] = None,
    held_out: Annotated[
        float | None,
        _option("Share of the rows to evaluate on (0.1 without --test).", DATA, "SHARE"),
    ] = None,
    estimator: Estimator = None,
    hidden: Hidden = None,
    solver: Annotated[
        str | None, _option("Training method, such as adam or lbfgs (altmin).", NETWORK, "NAME")
    ] = None,
    passes: Passes = None,
    early_stopping: EarlyStopping = None,
    seed: Annotated[
        int | None, _option("Seed of weights and of the order of rows (0).", NETWORK, "N")
    ] = None,
    workers: Annotated[
        int | None, _option("Train on N worker processes, not on threads.", PLACE, "N")
    ] = None,
    scheduler: Scheduler = None,
    dashboard: Annotated[
        int | None,
        _option("Port of the dashboard of --workers (0: any that is free).", PLACE, "PORT"),
    ] = None,
    output: Annotated[
        str | None, _option("Run folder (runs/ and the name of DATA).", PLACE, "FOLDER")
    ] = None,
    debug: Debug = False,
) -> None:
    """Declare the options that fit and plan share."""


def _sharing(command: Callable) -> Callable:
    """Give a command the options of `_run` before its own."""
    shared, own = (inspect.signature(each).parameters for each in (_run, command))
    named = [each for each in own.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    together = inspect.Signature([*shared.values(), *named])
    command.__signature__ = together  # type: ignore[attr-defined]
    return command


KEYS = (
    "Any parameter of the estimator can be given as --parameters.NAME VALUE, of its solver as "
    "--parameters.solver.NAME, any key of the data as --data.NAME; they override the "
    "configuration."
)


@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog=f"{KEYS}\n\nExamples:\n\n"
    "daskalt fit train.csv --target label --hidden 256,128 --passes 20 --output runs/mine\n\n"
    "daskalt fit conf/zarr.yaml --data.train train.zarr --parameters.solver.damping 2 --workers 4",
)
@_sharing
def fit(
    overwrite: Annotated[
        bool, _flag("Replace a finished run.", "--overwrite", panel=PLACE)
    ] = False,
    resume: Annotated[
        bool,
        _flag("Resume a run that was interrupted, to the same result.", "--resume", panel=PLACE),
    ] = False,
    **shared: Any,
) -> Request:
    """Train a network and leave a run folder: model, metrics, report and configuration."""
    return Request("fit", {**shared, "overwrite": overwrite, "resume": resume})


@app.command(
    context_settings={"ignore_unknown_options": True},
    epilog=f"{KEYS}\n\nExits with 2 where the fit would take more memory than there may be.",
)
@_sharing
def plan(
    json: Annotated[bool, _flag("Print JSON, not a table.", "--json")] = False, **shared: Any
) -> Request:
    """Print what a fit would take, without reading X; files are ingested all the same."""
    return Request("plan", {**shared, "json": json})


# ------------------------------------------------------------------------------- the others


Missing = Annotated[
    Literal["median", "drop", "error"] | None,
    _option(
        "Missing values of files: filled by the column's median, rows left out (drop), or an "
        "error; else as in the recipe.",
        show="median|drop|error",
    ),
]
Unknown = Annotated[
    Literal["own", "error"] | None,
    _option(
        "Categories that training never met: one of their own, or an error; else as the recipe "
        "has it.",
        show="own|error",
    ),
]


@app.command()
def predict(
    model: Model,
    X: Annotated[
        str,
        Argument(
            metavar="X",
            help="CSV or Parquet files, a folder or (quoted) pattern of them; or a Zarr array, or "
            "group with an array X.",
        ),
    ],
    output: Annotated[
        str | None,
        _option(
            "A .csv, .parquet or .npy file, or a .zarr group; by default CSV on stdout.",
            show="PATH",
        ),
    ] = None,
    proba: Annotated[bool, _flag("Write class probabilities, too.", "--proba")] = False,
    ident: Annotated[
        str | None, _option("Column to call the rows by.", None, "COLUMN", "--id")
    ] = None,
    missing: Annotated[
        Literal["median", "error"] | None,
        _option(
            "Missing values of files: filled by the median that training learnt, or an error; else "
            "as in the recipe.",
            show="median|error",
        ),
    ] = None,
    unknown: Unknown = None,
    overwrite: Overwrite = False,
    stored_order: Annotated[
        bool,
        _flag(
            "Predict in the order of a store that was shuffled when it was ingested.",
            "--stored-order",
        ),
    ] = False,
    debug: Debug = False,
) -> Request:
    """Write the predictions of a fitted model, a line for each row, in order."""
    return Request("predict", locals())


@app.command()
def evaluate(
    model: Model,
    data: Annotated[
        str, Argument(metavar="DATA", help="Zarr group with X and y; or CSV or Parquet files.")
    ],
    target: Annotated[str | None, _option("Column of the targets in files.", show="NAME")] = None,
    missing: Missing = None,
    unknown: Unknown = None,
    debug: Debug = False,
) -> Request:
    """Print loss and accuracy or R² as JSON."""
    return Request("evaluate", locals())


Files = Annotated[
    list[str],
    Argument(
        metavar="INPUT",
        help="CSV, Parquet, .npy or .npz files, patterns or folders of them, or a Zarr group.",
    ),
]
Shuffle = Annotated[
    bool,
    Option(
        "--shuffle/--no-shuffle",
        help="Put rows in random order; those without a target always keep theirs.",
        metavar=" ",
    ),
]


@app.command()
def ingest(
    inputs: Files,
    destination: Annotated[str, Argument(metavar="DESTINATION", help="New Zarr group.")],
    target: Annotated[
        list[str] | None,
        _option("Column or array of the targets; repeat it for several.", show="NAME"),
    ] = None,
    features: Annotated[
        list[str] | None,
        _option("Columns or array of the features; names, patterns, with commas.", show="NAMES"),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        _option("Columns to leave out: names, patterns, with commas.", show="NAMES"),
    ] = None,
    ident: Annotated[
        str | None, _option("Column to call rows by later, no feature.", None, "COLUMN", "--id")
    ] = None,
    weight: Annotated[
        str | None, _option("Column or array of the row weights.", show="NAME")
    ] = None,
    categorical: Annotated[
        Literal["auto", "error"] | None,
        _option("Text: zeros and ones for each (auto), or an error.", show="auto|error"),
    ] = None,
    max_categories: Annotated[
        int | None, _option("Most distinct texts of a column (256).", show="N")
    ] = None,
    missing: Missing = None,
    unknown: Unknown = None,
    recipe: Annotated[
        str | None,
        _option("Encode as this store, run or model does: for rows to test on.", show="PATH"),
    ] = None,
    dtype: Annotated[
        str | None, _option("Type of features from CSV or Parquet.", show="TYPE")
    ] = None,
    shuffle: Shuffle = True,
    seed: Annotated[int, Option(help="Seed of the shuffle.", metavar="N")] = 0,
    chunk_rows: Annotated[int | None, _option("Rows of a Zarr chunk.", show="N")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> Request:
    """Convert files to shuffled Zarr, text and missing values by a recipe that is kept."""
    return Request("ingest", locals())
