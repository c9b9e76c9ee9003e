"""What a user would pick instead of daskalt, each trained one pass at a time.

A peer that is not installed is skipped with the command that installs it.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state

from pipelines.benchmark.curves import Curve, accuracy_of, cross_entropy_of, in_blocks


@dataclass(frozen=True)
class Peer:
    """A method to compare with.

    Attributes
    ----------
    name : str
    trainer : callable
        (setting, seed) -> an object with `train_pass()` and `probabilities(rows)`.
    passes : int
        The most passes it is given to reach the accuracy asked for.
    requires : tuple of (module, requirement), optional
        The package it needs, and what `pip install` calls it.
    """

    name: str
    trainer: Callable
    passes: int
    requires: tuple | None = None

    @property
    def skipped(self):
        """A line saying how to install it when it is missing, else an empty string."""
        return skipped(self.name, self.requires)


def skipped(name, requires):
    """A line saying how to install what the method `name` requires, empty if it is there."""
    if requires is None or find_spec(requires[0]):
        return ""
    return f"{name} skipped: pip install {requires[1]}"


def run_peer(peer, setting, seed, *, passes=None, enough=2.0):
    """The `Curve` of `peer`: only `train_pass` is timed.

    It ends after `passes` passes (the peer's own number when left out), or sooner when
    the test accuracy has reached `enough`, but not before the third pass.
    """
    images = setting.images
    trainer = peer.trainer(setting, seed)
    seconds, accuracy, loss = [], [], []
    for number in range(1, setting.passes(passes or peer.passes) + 1):
        start = time.perf_counter()
        trainer.train_pass()
        seconds.append(time.perf_counter() - start)
        test = in_blocks(trainer.probabilities, images.scaled_test)
        train = in_blocks(trainer.probabilities, images.scaled_train)
        accuracy.append(accuracy_of(test, images.y_test))
        loss.append(cross_entropy_of(train, images.y_train))
        if number >= 3 and accuracy[-1] >= enough:
            break
    return Curve(peer.name, seed, tuple(seconds), tuple(accuracy), tuple(loss))


def sklearn_network(setting, seed):
    """scikit-learn's network with its defaults: Adam, batches of 200 rows.

    It gets a generator, not a number: `partial_fit` would restart a number in every
    pass and see the rows in the same order each time.
    """
    return MLPClassifier(setting.hidden, batch_size=200, random_state=check_random_state(seed))


class SklearnTrainer:
    """scikit-learn's `MLPClassifier`, one epoch a `partial_fit`."""

    def __init__(self, setting, seed):
        # The scaled rows are made on first use: here, where no clock runs yet.
        self.rows, self.labels = setting.images.scaled_train, setting.images.y_train
        self.network = sklearn_network(setting, seed)
        self.classes = np.arange(setting.images.n_classes)

    def train_pass(self):
        """Train one epoch."""
        self.network.partial_fit(self.rows, self.labels, classes=self.classes)

    def probabilities(self, rows):
        """Class probabilities (rows, classes)."""
        return self.network.predict_proba(rows)


class DaskMLTrainer:
    """dask-ml's `Incremental` over scikit-learn's network, row block after row block from Zarr."""

    def __init__(self, setting, seed):
        import dask.array as da
        from dask_ml.wrappers import Incremental

        self.rows = da.from_zarr(setting.store, component="X").astype(np.float32) / np.float32(255)
        self.labels = da.from_zarr(setting.store, component="y")
        # One generator for both, so that the order of the blocks changes from pass to pass.
        self.network = Incremental(
            sklearn_network(setting, seed), random_state=check_random_state(seed)
        )
        self.classes = np.arange(setting.images.n_classes)

    def train_pass(self):
        """Train once on every block."""
        self.network.partial_fit(self.rows, self.labels, classes=self.classes)

    def probabilities(self, rows):
        """Class probabilities (rows, classes)."""
        return self.network.estimator_.predict_proba(rows)


class TorchTrainer:
    """A PyTorch network of linear and ReLU layers, trained by Adam on shuffled batches.

    Parameters
    ----------
    rows : array (rows, features) of float32
    targets : array (rows,)
        Class codes 0, 1, ... for cross-entropy, or floating point for the squared error.
    hidden : tuple of int
        Widths of the hidden layers.
    seed : int
    rate : float
        Learning rate; the highest one of the schedule when there is a schedule.
    batch : int
        Rows a step.
    cycle : int, optional
        Passes of a one-cycle schedule; constant rate when left out.
    fused : bool
        Adam in one kernel instead of PyTorch's default chain of them: the same numbers, sooner.
    """

    def __init__(self, rows, targets, hidden, seed, *, rate, batch, cycle=None, fused=False):
        import torch

        # Its own default leaves out the second thread of a core.
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(seed)
        self.torch, self.batch = torch, batch
        self.rows, self.targets = torch.from_numpy(rows), torch.from_numpy(targets)
        if np.issubdtype(targets.dtype, np.floating):
            self.targets, outputs = self.targets.to(torch.float32)[:, None], 1
            self.loss = torch.nn.functional.mse_loss
        else:
            outputs, self.loss = int(targets.max()) + 1, torch.nn.functional.cross_entropy
        self.network = torch.nn.Sequential(*self.layers([rows.shape[1], *hidden, outputs]))
        self.rule = torch.optim.Adam(
            self.network.parameters(), lr=rate, **({"fused": True} if fused else {})
        )
        self.schedule = cycle and torch.optim.lr_scheduler.OneCycleLR(
            self.rule, rate, epochs=cycle, steps_per_epoch=-(-len(self.rows) // batch)
        )

    def layers(self, sizes):
        """The layers from features to outputs."""
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            if layer:
                yield self.torch.nn.ReLU()
            yield self.torch.nn.Linear(fan_in, fan_out)

    def train_pass(self):
        """Train one epoch."""
        for rows in self.torch.randperm(len(self.rows)).split(self.batch):
            self.rule.zero_grad()
            self.loss(self.network(self.rows[rows]), self.targets[rows]).backward()
            self.rule.step()
            if self.schedule:
                self.schedule.step()

    def outputs(self, rows):
        """Class scores (rows, classes), or predictions (rows, 1)."""
        with self.torch.no_grad():
            return self.network(self.torch.from_numpy(rows))

    def probabilities(self, rows):
        """Class probabilities (rows, classes)."""
        return self.outputs(rows).softmax(dim=1).numpy()


TORCH = ("torch", "torch==2.13.0")


def torch_peer(name, passes, **parameters):
    """A peer that trains with PyTorch."""

    def trainer(setting, seed):
        images = setting.images
        rows, labels = images.scaled_train, images.y_train
        return TorchTrainer(rows, labels, setting.hidden, seed, **parameters)

    return Peer(name, trainer, passes, TORCH)


SKLEARN = Peer("scikit-learn MLPClassifier", SklearnTrainer, 15)
DASK_ML = Peer(
    "dask-ml Incremental(MLPClassifier)", DaskMLTrainer, 15, ("dask_ml", "dask-ml==2025.1.0")
)
TORCH_EXPERT = torch_peer("PyTorch OneCycle", 4, rate=4e-3, batch=256, cycle=4)
TORCH_EXPERT_FUSED = torch_peer(
    "PyTorch OneCycle, fused Adam", 4, rate=4e-3, batch=256, cycle=4, fused=True
)
TORCH_ADAM = torch_peer("PyTorch Adam 1e-3", 20, rate=1e-3, batch=200)
TORCH_LARGE_STEPS = torch_peer("PyTorch OneCycle 1e-2", 3, rate=1e-2, batch=5_000, cycle=3)
