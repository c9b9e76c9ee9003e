"""Networks on ordinary tables: daskalt beside scikit-learn, PyTorch and boosted trees.

`python -m pipelines.compare_tables FOLDER` fits each method to every npz file in the folder, with
one hidden layer, one after the other within each seed. It prints tables (test accuracy or R²,
seconds, ranks, differences), and writes them with all runs as JSON, and a picture.

A file holds x_train, y_train, x_test and y_test. Targets of integers, text or truth values are
classes; floating-point targets are classes if they are at most 20 distinct whole numbers, and
else numbers to predict. daskalt and the trees get the rows as they are, the other networks
standardised rows and, for numbers, standardised targets.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from pipelines.benchmark.alternate import alternate
from pipelines.benchmark.environment import environment_line
from pipelines.benchmark.tables import markdown, plain
from pipelines.studies.study import save
from pipelines.tabular.data import Setting, load_tables
from pipelines.tabular.methods import METHODS, absent, job
from pipelines.tabular.picture import drawing
from pipelines.tabular.summary import Results, summary


def main(arguments=None):
    """Run the comparison; the exit status, 1 if a fit broke down."""
    options = checked(parser().parse_args(arguments))
    tables = load_tables(options.folder, options.only)
    missing = absent(options.methods)
    for line in missing.values():
        print(line, file=sys.stderr)
    names = [name for name in options.methods if name not in missing]
    if not names:
        raise SystemExit("--methods: none of them is installed, see above")
    for path in (options.out, options.picture):
        path.parent.mkdir(parents=True, exist_ok=True)
    results = Results({}, [])
    for data in tables:
        print(f"{data.name}: {len(data.x_train):,} rows", file=sys.stderr, flush=True)
        setting = setting_of(data, options)
        results = added(results, setting, names)
        # After every table: the next may be interrupted.
        pages = summary(results, setting)
        pages[0].notes += missing.values()
        if options.quick:
            pages[0].notes.append("--quick: tiny sizes to try the code; these numbers mean nothing")
        write(pages, results, options)
    print(markdown(*pages))
    save(drawing(results), options.picture)
    return 1 if any(run.failure for run in results.runs) else 0


def parser():
    """The command's argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.compare_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of npz files")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default 5)")
    parser.add_argument("--hidden", type=int, default=256, help="hidden units (default 256)")
    parser.add_argument(
        "--passes", type=int, default=20, help="of daskalt-passes and torch (default 20)"
    )
    parser.add_argument(
        "--only", type=listed, default=[], metavar="NAME,NAME", help="tables to compare on"
    )
    parser.add_argument(
        "--methods",
        type=listed,
        default=list(METHODS),
        metavar="NAME,NAME",
        help=f"methods to compare, among: {', '.join(METHODS)}",
    )
    folder = Path("runs/tables")
    parser.add_argument("--out", type=Path, default=folder / "tables.json", metavar="FILE.json")
    parser.add_argument("--picture", type=Path, default=folder / "tables.png", metavar="FILE.png")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a trial of the code")
    return parser


def listed(text):
    """The names in `text`, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def checked(options):
    """The options, if each of them can be."""
    for name in ("seeds", "hidden", "passes"):
        if getattr(options, name) < 1:
            raise SystemExit(f"--{name}: give at least 1")
    unknown = [name for name in options.methods if name not in METHODS]
    if unknown:
        raise SystemExit(f"--methods: no method is called {unknown}; choose among {list(METHODS)}")
    return options


def setting_of(data, options):
    """What every method is given of one table."""
    setting = Setting(data, tuple(range(options.seeds)), options.hidden, options.passes)
    if not options.quick:
        return setting
    hidden = min(options.hidden, 16)
    return replace(setting, data=data.head(500), hidden=hidden, passes=2, quick=True)


def added(results, setting, names):
    """The results, and those of the methods `names` on one more table."""
    data = setting.data
    runs = alternate({name: job(name) for name in names}, setting)
    measure = "accuracy" if data.is_classification else "R²"
    return Results(
        results.measures | {data.name: measure},
        [*results.runs, *(run for name in names for run in runs[name])],
    )


def write(pages, results, options):
    """Write the tables and every run to the JSON file."""
    record = {
        "tables": [asdict(page) for page in pages],
        "runs": [asdict(run) for run in results.runs],
        "environment": environment_line(),
        "arguments": {name: str(value) for name, value in vars(options).items()},
    }
    text = json.dumps(plain(record), indent=1, ensure_ascii=False)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
