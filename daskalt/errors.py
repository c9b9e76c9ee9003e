"""The errors and warnings that a user of daskalt can meet.

Every message names the argument or file, what is wrong with it, and the cure.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "CheckpointWarning",
    "ClusterError",
    "ConfigError",
    "DaskaltError",
    "DivergenceError",
    "DivergenceWarning",
    "InputError",
    "InputTypeError",
    "MissingChunksWarning",
    "ObjectiveWarning",
    "PlanError",
    "RefusalWarning",
    "StorageError",
    "UnshuffledWarning",
    "about",
]


class DaskaltError(Exception):
    """Base class of all errors that daskalt raises on purpose."""


class InputError(DaskaltError, ValueError):
    """The data or an argument cannot be trained on as given."""


class PlanError(InputError):
    """A fit would take more memory than a process may have."""


class InputTypeError(InputError, TypeError):
    """The data is of a type that cannot be trained on; a TypeError too, as in scikit-learn."""


class ConfigError(InputError):
    """A configuration file or command-line override is wrong."""


class StorageError(DaskaltError, OSError):
    """A store is missing, unreadable, damaged or full."""


class ClusterError(DaskaltError, RuntimeError):
    """Workers were lost again and again, or the scheduler is gone."""


class DivergenceError(DaskaltError, ArithmeticError):
    """Training produced non-finite numbers and could not recover."""


@contextmanager
def about(argument: str) -> Iterator[None]:
    """Prefix the errors inside with the name of the argument that they are about."""
    try:
        yield
    except (InputError, StorageError) as error:
        raise type(error)(f"{argument}: {error}") from error


class CheckpointWarning(UserWarning):
    """A fit is resumed from an older checkpoint, to a new end or with other libraries."""


class UnshuffledWarning(UserWarning):
    """The rows lie in an order that spoils stochastic steps, by label for instance."""


class MissingChunksWarning(UserWarning):
    """Chunks of a Zarr array are not in its store, and are read as its fill value."""


class DivergenceWarning(UserWarning):
    """A fit diverged and ended early with its best weights."""


class RefusalWarning(UserWarning):
    """Steps with non-finite numbers were left out of a fit that continued."""


class ObjectiveWarning(UserWarning):
    """The objective that a method lowers falls, but the loss of the network does not."""
