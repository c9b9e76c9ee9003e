"""The first day: from a CSV with text, gaps and an id column to predictions joined by the id.

`python -m pipelines.first_day` writes customers of a made-up company to CSV files, then does what
a newcomer would, command by command: ingest, plan, fit, predict for customers who are new,
evaluate. It joins the predictions to the customers by their id and sets their accuracy beside that
of the same pipeline in scikit-learn (median imputation, standardising, one-hot categories, a
network of the same width).
"""

import argparse
import shlex
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from daskalt.runs import cli

REGIONS = np.array(["north", "south", "east", "west", "Île-de-France", "abroad"])
PLANS = np.array(["basic", "plus", "family, two lines", "business"])  # a comma, to be quoted
ROWS, NEW_ROWS, WIDTH = 40_000, 20_000, 64
MARGIN = 0.005  # of accuracy, to scikit-learn's


def customers(count: int, rng: np.random.Generator, first: int) -> pd.DataFrame:
    """Return made-up customers, and whether each of them stays, leaves or upgrades.

    One value in twenty is missing. Ids are text with leading zeros.
    """
    region, plan = rng.integers(len(REGIONS), size=count), rng.integers(len(PLANS), size=count)
    age = rng.integers(18, 90, count).astype(float)
    bill = np.exp(rng.normal(3.5, 0.8, count))
    calls = rng.poisson(2 + plan, count)
    old, dear = (age - 50) / 20, np.log(bill) - 3.5
    pull = np.stack(
        [
            1.0 + 0.6 * old + 0.3 * np.cos(2.0 * region),
            0.4 * calls * (dear > 0) + np.sin(2.0 * old) + 0.8 * (region == 3) - 0.2 * plan,
            1.2 * dear * (plan < 2) + 1.5 * np.cos(3.0 * old) - 0.4,
        ]
    )
    outcome = np.argmax(1.5 * pull + rng.gumbel(size=pull.shape), axis=0)
    frame = pd.DataFrame(
        {
            "customer": [f"{number:08d}" for number in range(first, first + count)],
            "age": age,
            "region": REGIONS[region],
            "plan": PLANS[plan],
            "monthly bill": bill.round(2),
            "calls": calls.astype(float),
            "outcome": np.array(["stays", "leaves", "upgrades"])[outcome],
        }
    )
    for column in ("age", "region", "plan", "monthly bill", "calls"):
        frame.loc[rng.random(count) < 0.05, column] = None
    return frame


def daskalt(*words: str, folder: Path) -> None:
    """Run a command as if it were typed in ``folder``, and show it."""
    print(f"\n$ {shlex.join(['daskalt', *words])}", flush=True)
    with chdir(folder):
        code = cli.main(words)
    if code:
        raise SystemExit(code)


def accuracy_of_sklearn(train: pd.DataFrame, new: pd.DataFrame, width: int) -> float:
    """Return the accuracy on new customers of the same pipeline in scikit-learn."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    network = MLPClassifier((width,), early_stopping=True, random_state=0)
    features = train.columns.drop(["customer", "outcome"])
    model = make_pipeline(columns, network).fit(train[features], train["outcome"])
    return float(model.score(new[features], new["outcome"]))


def walk(folder: Path, rows: int, new_rows: int, width: int) -> tuple[float, float]:
    """Run the whole day in ``folder``; return the accuracy on new customers, and scikit-learn's."""
    rng = np.random.default_rng(0)
    train, new = customers(rows, rng, 1), customers(new_rows, rng, rows + 1)
    new.loc[:9, "region"] = "moon"  # which no customer before came from
    (folder / "data").mkdir()
    for number, part in enumerate(np.array_split(np.arange(rows), 3)):
        train.iloc[part].to_csv(folder / "data" / f"customers-{number}.csv", index=False)
    new.drop(columns="outcome").to_csv(folder / "new.csv", index=False)
    new.to_csv(folder / "new-with-outcome.csv", index=False)

    files = sorted(str(file.relative_to(folder)) for file in folder.glob("data/*.csv"))
    daskalt(
        "ingest", *files, "train.zarr", "--target", "outcome", "--id", "customer", folder=folder
    )
    options = ("--target", "outcome", "--output", "runs/mine", "--hidden", str(width))
    daskalt("plan", "train.zarr", *options[:2], *options[4:], folder=folder)
    daskalt("fit", "train.zarr", *options, folder=folder)
    daskalt("predict", "runs/mine", "new.csv", "--output", "predictions.csv", folder=folder)
    daskalt("evaluate", "runs/mine", "new-with-outcome.csv", folder=folder)

    predictions = pd.read_csv(folder / "predictions.csv", dtype={"customer": str})
    if predictions["customer"].tolist() != new["customer"].tolist():
        raise SystemExit("The predictions are not in the order of the customers.")
    joined = new.merge(predictions, on="customer", suffixes=("", " predicted"))
    ours = float((joined["outcome"] == joined["outcome predicted"]).mean())
    return ours, accuracy_of_sklearn(train, new, width)


def main(arguments=None) -> int:
    """Run the whole day; return 1 if scikit-learn is better by more than half a point."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.first_day",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, help="where the files go, and stay")
    parser.add_argument("--quick", action="store_true", help="fewer rows, and no judgement")
    options = parser.parse_args(arguments)
    rows, new_rows, width = (2_000, 1_000, 16) if options.quick else (ROWS, NEW_ROWS, WIDTH)
    with tempfile.TemporaryDirectory(prefix="daskalt-day-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        ours, sklearns = walk(folder, rows, new_rows, width)
    print(
        f"\naccuracy on {new_rows:,} new customers: daskalt {ours:.4f}, scikit-learn {sklearns:.4f}"
    )
    return 0 if options.quick or ours >= sklearns - MARGIN else 1


if __name__ == "__main__":
    sys.exit(main())
