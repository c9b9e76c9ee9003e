"""CSV larger than memory, ingested: rows a second and peak memory, beside `dask.dataframe`.

`python -m pipelines.benchmark_ingest --gigabytes 10 --folder FOLDER` makes CSV files of numbers,
text and gaps, then runs `daskalt ingest` and `dask.dataframe`'s `read_csv(...).to_parquet` on them
in turn, each in processes of its own, and says how fast they went and what all of their processes
took at most at a time. The files and what is made of them take three to four times the room.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow as pa
from pyarrow import csv

NUMBERS, PART_ROWS = 18, 250_000
WORDS = np.array(["north", "south", "east", "west", "none of these"])

PEER = """
import sys
import dask.dataframe as dd
dd.read_csv(sys.argv[1], assume_missing=True).to_parquet(sys.argv[2])
"""


class Cost(NamedTuple):
    """What a command took: seconds, and the most memory at a time of all its processes."""

    seconds: float
    bytes: int


def write_rows(folder: Path, gigabytes: float, part_rows: int = PART_ROWS) -> int:
    """Write CSV files of so many gigabytes in all; return their rows."""
    rows = written = 0
    while written < gigabytes * 1e9:
        file = folder / f"rows-{rows // part_rows:05d}.csv"
        csv.write_csv(_part(np.random.default_rng(rows), part_rows), file)
        written += file.stat().st_size
        rows += part_rows
    return rows


def _part(rng: np.random.Generator, count: int) -> pa.Table:
    """Rows of floats, counts and two texts; one number in fifty is missing."""
    columns: dict[str, pa.Array] = {}
    for number in range(NUMBERS):
        if number % 3:
            values = rng.normal(10.0 ** (number % 5), 1, count).round(4)
        else:
            values = rng.poisson(20, count).astype(float)
        columns[f"x{number}"] = pa.array(values, mask=rng.random(count) < 0.02)
    columns["where"] = pa.array(WORDS[rng.integers(len(WORDS), size=count)])
    columns["when"] = pa.array(WORDS[rng.integers(2, size=count)])
    columns["label"] = pa.array(rng.integers(3, size=count))
    return pa.table(columns)


def cost_of(words: list[str]) -> Cost:
    """Run a command and return what it took; memory is looked at twenty times a second."""
    began, most = time.perf_counter(), 0
    process = psutil.Popen(words, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, _resident(process))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{words[:4]} ended with {process.returncode}")
    return Cost(time.perf_counter() - began, most)


def _resident(process: psutil.Process) -> int:
    total = 0
    for each in (process, *_children(process)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def main(arguments=None) -> int:
    """Run both and print a table; with ``--out``, write it as JSON as well."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.benchmark_ingest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of CSV (default 1)")
    parser.add_argument("--part-rows", type=int, default=PART_ROWS, help="rows of each file")
    parser.add_argument("--folder", type=Path, help="on a disk with room")
    parser.add_argument("--out", type=Path, help="a JSON file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="daskalt-ingest-", dir=options.folder) as temporary:
        folder = Path(temporary)
        (folder / "csv").mkdir()
        rows = write_rows(folder / "csv", options.gigabytes, options.part_rows)
        pattern, python = str(folder / "csv" / "*.csv"), sys.executable
        ingest = [python, "-m", "daskalt", "ingest", pattern]
        commands = {
            "daskalt ingest": [*ingest, str(folder / "a.zarr"), "--target", "label"],
            "dask.dataframe read_csv(...).to_parquet": [
                python, "-c", PEER, pattern, str(folder / "c.parquet"),
            ],
        }  # fmt: skip
        costs = {}
        for name, words in commands.items():
            costs[name] = cost_of(words)
            for made in ("a.zarr", "c.parquet"):
                shutil.rmtree(folder / made, ignore_errors=True)
    print(f"{rows:,} rows, {options.gigabytes:g} GB of CSV\n")
    print("| | seconds | rows a second | peak memory, GB |\n| --- | ---: | ---: | ---: |")
    for name, cost in costs.items():
        speed, gigabytes = rows / cost.seconds, cost.bytes / 1e9
        print(f"| `{name}` | {cost.seconds:.1f} | {speed:,.0f} | {gigabytes:.2f} |")
    if options.out is not None:
        record = {"rows": rows, "gigabytes": options.gigabytes}
        record |= {name: cost._asdict() for name, cost in costs.items()}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
