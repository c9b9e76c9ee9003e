"""Bits flipped in every kind of file that daskalt writes: each is found, or no number changed."""

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np

import daskalt
from daskalt.errors import CheckpointWarning, DaskaltError
from daskalt.ingest.ingest import ingest
from pipelines.benchmark.tables import Table, Target
from pipelines.harm.fits import digest, network, write_rows

SOLVER = "batch-altmin"


class Stop(BaseException):
    """Ends a fit in the middle, so that something is left to resume."""


def check_flips(options):
    """Single bits, in random files of each kind, at random places."""
    flips = 3 if options.quick else 25
    rng = np.random.default_rng(options.seed)
    table = Table("flips", f"{flips} flipped bits in each kind of file")
    with tempfile.TemporaryDirectory(prefix="daskalt-harm-") as name:
        folder = Path(name)
        kinds = {**stored_rows(folder), **cut_fit(folder), **saved_model(folder)}
        for kind, (files, use, expected) in kinds.items():
            found = harmless = 0
            for _ in range(flips):
                outcome = flipped(files, use, rng)
                found += outcome == "found"
                harmless += outcome == expected
            table.add(
                Target("none trained on", found + harmless == flips),
                file=kind,
                flips=flips,
                found=found,
                without_effect=harmless,
                trained_on=flips - found - harmless,
            )
    table.notes.append(
        "Without effect: the result has the bits of that from whole files, as where a space of a "
        "JSON file changes, or the older of two checkpoints."
    )
    return table


def flipped(files, use, rng):
    """The result of using files, one of which has a bit flipped."""
    path = files[int(rng.integers(len(files)))]
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", CheckpointWarning)
            return use()
    except (DaskaltError, CheckpointWarning):
        return "found"
    finally:
        path.write_bytes(whole)


def stored_rows(folder):
    """The files of an ingested data set, and a fit on it."""
    source, place = write_rows(folder / "rows.zarr", 2_000), folder / "ingested.zarr"
    ingest([source], place)

    def use():
        return digest(network("altmin", 0.05).fit(str(place)))

    expected = use()
    chunks = {name: sorted((place / name / "c").rglob("*")) for name in ("X", "y")}
    return {
        f"chunks of {name}": ([path for path in paths if path.is_file()], use, expected)
        for name, paths in chunks.items()
    } | {
        f"metadata of {name}": ([place / name / "zarr.json"], use, expected) for name in ("X", "y")
    }


def cut_fit(folder):
    """The files of an interrupted fit, and the result of resuming it."""
    store, points = write_rows(folder / "more.zarr", 2_000), folder / "points"

    def model():
        return network(SOLVER, 0.5, checkpoint=daskalt.Checkpoints(str(points), keep=1))

    save, count = daskalt.Checkpoints.save, iter(range(3))

    def stopping(self, *arguments, **options):
        save(self, *arguments, **options)
        if next(count, None) is None:
            raise Stop

    with patch.object(daskalt.Checkpoints, "save", stopping), suppress(Stop):
        model().fit(store)
    kept = {path: path.read_bytes() for path in points.rglob("*") if path.is_file()}

    def use():
        try:
            return digest(model().fit(store, resume=True))
        finally:
            restore(points, kept)

    expected = use()
    # The generation that is resumed from; of the other nothing is read again.
    z = [path for path in kept if "even" in path.parts and path.name != "zarr.json"]
    metadata = [path for path in kept if path.name == "zarr.json" and "even" in path.parts]
    named = {
        suffix: [path for path in kept if path.match(f"checkpoint-*.{suffix}")]
        for suffix in ("json", "npz")
    }
    return {
        "chunks of z": (z, use, expected),
        "metadata of z": (metadata, use, expected),
        "checkpoint's record": (named["json"], use, expected),
        "checkpoint's arrays": (named["npz"], use, expected),
    }


def restore(folder, kept):
    """Restore files, and remove new ones; the one with the flipped bit stays."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()
    for path, content in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def saved_model(folder):
    """The files of a model, and its predictions."""
    X = np.random.default_rng(0).standard_normal((50, 20)).astype(np.float32)
    model = network("altmin", 0.05).fit(X, np.arange(50) % 4)
    daskalt.save(model, folder / "model")

    def use():
        return daskalt.load(folder / "model").predict_proba(X).tobytes()

    return {
        f"model's {name}": ([folder / "model" / name], use, use())
        for name in ("model.json", "weights.npz")
    }
