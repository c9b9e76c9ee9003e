"""A fitted estimator as a folder, without pickle: ``model.json`` beside ``weights.npz``."""

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskalt.data.scaling import Scaling
from daskalt.data.targets import (
    BinaryTargets,
    ClassTargets,
    MultilabelTargets,
    RealTargets,
    Targets,
)
from daskalt.errors import InputError, StorageError
from daskalt.estimators.classifier import MLPClassifier
from daskalt.estimators.fitted import Fitted
from daskalt.estimators.regressor import MLPRegressor
from daskalt.functions.activations import ACTIVATIONS, Activation
from daskalt.functions.loss import Loss
from daskalt.functions.losses import LOSSES
from daskalt.network.network import dense
from daskalt.network.problem import Problem
from daskalt.parameters import check_arguments, instance
from daskalt.rules import LINE_SEARCHES, RULES, SCHEDULES
from daskalt.solvers import SOLVERS
from daskalt.solvers.base import Budget, Solver
from daskalt.storage.folders import check_replaceable, whole_folder
from daskalt.storage.records import decode, encode
from daskalt.storage.sealed import read_arrays, seal, unseal, write_arrays
from daskalt.storage.store import storage_errors
from daskalt.versions import versions

__all__ = ["ESTIMATORS", "load", "save"]

FORMAT = 3
_FOLDER = instance("the path of a folder", str, Path)
MODEL, WEIGHTS = "model.json", "weights.npz"
_CONTENT = ("parameters", "attributes", "fitted")

# Only what is named here is ever constructed from a file.
ESTIMATORS: dict[str, Any] = {kind.__name__: kind for kind in (MLPClassifier, MLPRegressor)}
_PARTS: dict[str, Any] = {
    type(make()).__name__: type(make())
    for named in (SOLVERS, RULES, SCHEDULES, LINE_SEARCHES)
    for make in named.values()
}
_TARGETS: dict[str, type[Targets]] = {
    kind.__name__: kind for kind in (BinaryTargets, ClassTargets, MultilabelTargets, RealTargets)
}


def save(estimator: Any, folder: str | Path) -> None:
    """Write a fitted estimator to a folder that :func:`load` reads.

    The folder holds ``model.json`` (class, parameters, fitted attributes, versions) and
    ``weights.npz``. It appears whole or not at all; a model that was there before is replaced.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        A fitted estimator.
    folder : str or Path
        Local folder.

    Raises
    ------
    InputError
        If it is no such estimator, a parameter cannot be written, or the folder holds other things.
    StorageError
        If the disk is full or refuses.
    """
    check_arguments(folder=(folder, _FOLDER))
    name = type(estimator).__name__
    if ESTIMATORS.get(name) is not type(estimator):
        raise InputError(f"save takes a fitted {' or '.join(ESTIMATORS)}; got {name}.")
    check_is_fitted(estimator, "coefs_")
    check_replaceable(folder, (MODEL, WEIGHTS))
    arrays: dict[str, np.ndarray] = {}
    types = _PARTS | {"BuiltIn": BuiltIn}
    # The place of the checkpoints is not part of the result.
    given = estimator.get_params(deep=False) | {"checkpoint": None}
    parts = {
        "parameters": {key: _named(value, f"parameters.{key}") for key, value in given.items()},
        "attributes": _attributes(estimator),
        "fitted": _facts(estimator._fitted),
    }
    document = {
        "format": FORMAT,
        "versions": versions(),
        "class": name,
        **{part: encode(value, part, arrays, types) for part, value in parts.items()},
    }
    with whole_folder(folder) as work, storage_errors(folder):
        with (work / WEIGHTS).open("wb") as file:
            document["weights"] = write_arrays(file, arrays)
        (work / MODEL).write_bytes(seal(document, readable=True))


def load(folder: str | Path) -> Any:
    """Return the estimator that :func:`save` wrote.

    It predicts with the same bits, scores, and continues under ``warm_start`` or ``partial_fit``
    from the same weights; the solver gathers its Gram matrices and momentum anew. Nothing but
    daskalt's own classes is constructed, so a folder from elsewhere runs no code.

    Parameters
    ----------
    folder : str or Path
        Local folder.

    Returns
    -------
    MLPClassifier or MLPRegressor
        Fitted, of the class that was saved.

    Raises
    ------
    StorageError
        If the folder is missing, is no model, or is damaged.
    """
    check_arguments(folder=(folder, _FOLDER))
    place = Path(folder)
    if not (place / MODEL).is_file():
        raise StorageError(f"There is no model at {folder}: it has no {MODEL}. Check the path.")
    with _damage_named(folder):
        content = (place / MODEL).read_bytes()
        _check_format(folder, json.loads(content))
        document = unseal(content)
        with (
            (place / WEIGHTS).open("rb") as file,
            read_arrays(file, document["weights"]) as arrays,
        ):
            types = _PARTS | {"BuiltIn": _built_in}
            parts = {part: decode(document[part], arrays, types) for part in _CONTENT}
        estimator = ESTIMATORS[document["class"]](**parts["parameters"])
        for name, value in parts["attributes"].items():
            if not _is_attribute(name):
                raise ValueError(f"{name!r} is no fitted attribute")
            setattr(estimator, name, value)
        estimator._fitted = _revived(parts["fitted"], estimator)
    return estimator


def _check_format(folder: str | Path, document: dict[str, Any]) -> None:
    """Raise StorageError if a model is of another format; the first two had no record within."""
    record = document.get("record", document)
    if record["format"] != FORMAT:
        raise StorageError(
            f"The model at {folder} is of format {record['format']}, written by daskalt "
            f"{record['versions']['daskalt']}, and this version reads format {FORMAT} only. "
            "Load it where it was written, or fit again."
        )


# What is kept: the fitted attributes, and of the training state the problem and the weights.


def _is_attribute(name: str) -> bool:
    return re.fullmatch(r"[a-z]\w*_", name) is not None


def _attributes(estimator: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(estimator).items() if _is_attribute(name)}


def _facts(fitted: Fitted) -> dict[str, Any]:
    problem = fitted.problem
    network, targets = problem.network, problem.targets
    kind = type(targets)
    given = inspect.signature(kind).parameters  # attributes of the same names
    return {
        "widths": network.widths,
        "activation": _named(network.phi, "fitted.activation"),
        "loss": _named(network.loss, "fitted.loss"),
        "shift": problem.scaling.shift,
        "factor": problem.scaling.factor,
        "reach": problem.scaling.reach if np.isfinite(problem.scaling.reach) else None,
        "targets": kind.__name__,
        "target_parameters": {name: getattr(targets, name) for name in given},
        "penalty": problem.penalty,
        "dtype": problem.dtype.name,
        "class_factors": problem.class_factors,
        "weights": tuple(fitted.state.weights),
        "passes": fitted.passes,
    }


def _revived(facts: dict[str, Any], estimator: Any) -> Fitted:
    network = dense(facts["widths"], facts["activation"], facts["loss"])
    if tuple(w.shape for w in facts["weights"]) != network.shapes:
        raise ValueError(f"weights are not of shapes {network.shapes}")
    problem = Problem(
        network=network,
        scaling=Scaling(facts["shift"], facts["factor"], facts.get("reach") or np.inf),
        targets=_TARGETS[facts["targets"]](**facts["target_parameters"]),
        penalty=facts["penalty"],
        dtype=np.dtype(facts["dtype"]),
        class_factors=facts["class_factors"],
    )
    solver = estimator._solver
    state = solver.start(problem, facts["weights"], Budget(None, None))
    return Fitted(problem, state, facts["passes"], solver.parts)


class BuiltIn(NamedTuple):
    """An activation, or a loss on its link, by name, with the digest of its values."""

    names: tuple[str, ...]
    digest: str


def _named(value: Any, where: str) -> Any:
    """A value of which the functions are those of this package, by name."""
    if isinstance(value, Activation):
        names: tuple[str, ...] = (value.name,)
        known: Any = ACTIVATIONS.get(value.name)
    elif isinstance(value, Loss):
        names = value.name, value.link.name
        known = LOSSES.get(names)
    elif isinstance(value, Solver) and _PARTS.get(type(value).__name__) is not type(value):
        raise InputError(_not_built_in(where, type(value).__name__))
    else:
        return value
    if known == value:
        return BuiltIn(names, value.digest)
    raise InputError(_not_built_in(where, repr(value.name)))


def _not_built_in(where: str, name: str) -> str:
    return (
        f"{where} is {name}, which is not built in, and a saved model holds no code. Pickle the "
        "estimator instead; what reads it must be able to import that."
    )


def _built_in(names: tuple[str, ...], digest: str) -> Any:
    """The function that `_named` named."""
    function: Any = ACTIVATIONS[names[0]] if len(names) == 1 else LOSSES[names[0], names[1]]
    if function.digest != digest:
        raise StorageError(
            f"The model has another {function.name!r} than this version of daskalt, which would "
            "predict something else. Load it where it was written, or fit again."
        )
    return function


@contextmanager
def _damage_named(folder: str | Path) -> Iterator[None]:
    """Turn any error while reading into one that says that the folder is damaged."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(
            f"The model at {folder} is damaged or was not written by daskalt "
            f"({type(error).__name__}: {error}). Save it again."
        ) from error
