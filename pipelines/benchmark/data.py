"""The images every method of the benchmark is given, and the store that daskalt reads."""

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr

CHUNK_ROWS = 1_000
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Images:
    """Training and test rows: uint8 pixels (rows, pixels) and class codes 0, 1, ... (rows,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @cached_property
    def scaled_train(self):
        """Training pixels as float32 in [0, 1], which is what every peer is given."""
        return scaled(self.x_train)

    @cached_property
    def scaled_test(self):
        """Test pixels as float32 in [0, 1]."""
        return scaled(self.x_test)

    @property
    def n_classes(self):
        """Number of classes."""
        return int(self.y_train.max()) + 1

    def head(self, rows):
        """The same images cut to their first `rows` training and test rows."""
        return Images(*(getattr(self, part.name)[:rows] for part in fields(self)))


def scaled(pixels):
    """uint8 pixels as float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def load_images(source):
    """The images in the npz file `source`, or the stand-in when `source` is "synthetic".

    The validation rows are left alone: no method is tuned here, and every method
    trains on the same rows.

    Raises
    ------
    SystemExit
        If the file is missing or lacks one of its arrays.
    """
    if source == "synthetic":
        return synthetic_images()
    if not Path(source).is_file():
        raise SystemExit(f"--data {source}: no such file; give an .npz file, or 'synthetic'")
    with np.load(source) as arrays:
        missing = {f"{axis}_{part}" for axis in "xy" for part in PARTS} - set(arrays)
        if missing:
            raise SystemExit(f"--data {source}: it lacks the arrays {sorted(missing)}")
        return Images(
            *(
                flat(arrays[f"{axis}_{part}"], axis)
                for part in ("train", "test")
                for axis in ("x", "y")
            )
        )


def flat(array, axis):
    """`array` with one row of pixels an image, or its labels as int64."""
    return array.reshape(len(array), -1) if axis == "x" else array.astype(np.int64)


def synthetic_images(rows=4_000, test_rows=1_000, pixels=784, classes=10, seed=0):
    """Noisy copies of one random picture a class: a stand-in where MNIST is not at hand."""
    rng = np.random.default_rng(seed)
    prototypes = rng.uniform(0, 255, (classes, pixels)) * (rng.random((classes, pixels)) < 0.2)
    labels = rng.integers(classes, size=rows + test_rows)
    noisy = prototypes[labels] + rng.normal(0, 120, (rows + test_rows, pixels))
    images = np.clip(noisy, 0, 255).astype(np.uint8)
    return Images(images[:rows], labels[:rows], images[rows:], labels[rows:])


@dataclass(frozen=True)
class Setting:
    """What every check is given: the images, their store, and the size of the run.

    Attributes
    ----------
    images : Images
    store : str
        Zarr group with the uint8 training rows `X` and the labels `y`.
    seeds : tuple of int
    hidden : tuple of int
        Widths of the hidden layers.
    quick : bool
        A trial of the code: tiny networks and few passes, whose numbers mean nothing.
    """

    images: Images
    store: str
    seeds: tuple
    hidden: tuple = (1024,)
    quick: bool = False

    def width(self, units):
        """`units`, or a few when the run is quick."""
        return min(units, 32) if self.quick else units

    def passes(self, number):
        """`number` of passes, or at most two when the run is quick."""
        return min(number, 2) if self.quick else number

    @contextmanager
    def shortened(self, rows=2_000):
        """This setting with the first `rows` rows alone, in a store of their own."""
        with tempfile.TemporaryDirectory(prefix="daskalt-benchmark-") as folder:
            images = self.images.head(rows)
            yield replace(self, images=images, store=write_store(images, Path(folder) / "w.zarr"))


@contextmanager
def prepared(images, seeds, *, quick=False):
    """A `Setting` whose store is in a temporary folder that is removed at the end."""
    images = images.head(2_000) if quick else images
    with tempfile.TemporaryDirectory(prefix="daskalt-benchmark-") as folder:
        store = write_store(images, Path(folder) / "train.zarr")
        setting = Setting(images, store, tuple(seeds), quick=quick)
        yield replace(setting, hidden=(setting.width(1024),))


def write_store(images, path):
    """Write the training rows to a Zarr group with the library's default codecs; its path."""
    group = zarr.create_group(str(path))
    for name, array in (("X", images.x_train), ("y", images.y_train)):
        chunks = (min(CHUNK_ROWS, len(array)), *array.shape[1:])
        group.create_array(name, data=array, chunks=chunks)
    return str(path)
