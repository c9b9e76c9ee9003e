"""A fitted estimator as a folder, without pickle: ``model.json`` beside ``weights.npz``."""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskalt.activations import ACTIVATIONS
from daskalt.data.scaling import Scaling
from daskalt.data.store import storage_errors
from daskalt.data.targets import (
    BinaryTargets,
    ClassTargets,
    MultilabelTargets,
    RealTargets,
    Targets,
)
from daskalt.errors import InputError, StorageError
from daskalt.estimators import MLPClassifier, MLPRegressor
from daskalt.fitted import Fitted
from daskalt.folders import check_replaceable, whole_folder
from daskalt.losses import get_loss
from daskalt.network import dense
from daskalt.parameters import check_arguments, instance
from daskalt.rules import LINE_SEARCHES, RULES, SCHEDULES
from daskalt.solvers import SOLVERS
from daskalt.solvers.base import Budget, Problem
from daskalt.versions import versions

__all__ = ["ESTIMATORS", "load", "save"]

FORMAT = 2
_FOLDER = instance("the path of a folder", str, Path)
MODEL, WEIGHTS = "model.json", "weights.npz"

# Only what is named here is ever constructed from a file.
ESTIMATORS: dict[str, Any] = {kind.__name__: kind for kind in (MLPClassifier, MLPRegressor)}
_SOLVERS: dict[str, Any] = {
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
    document = {
        "format": FORMAT,
        "versions": versions(),
        "class": name,
        # Where a fit is put down is no part of what it led to.
        "parameters": _encode(
            estimator.get_params(deep=False) | {"checkpoint": None}, "parameters", arrays
        ),
        "attributes": _encode(_attributes(estimator), "attributes", arrays),
        "fitted": _encode(_facts(estimator._fitted), "fitted", arrays),
    }
    with whole_folder(folder) as work, storage_errors(folder):
        np.savez(work / WEIGHTS, **arrays)  # type: ignore[arg-type]
        (work / MODEL).write_text(_sealed(document, work), encoding="utf-8")


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
        text = (place / MODEL).read_text(encoding="utf-8")
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise StorageError(
                f"The model at {folder} is of format {document['format']}, written by daskalt "
                f"{document['versions']['daskalt']}, and this version reads format {FORMAT} only. "
                "Load it where it was written, or fit again."
            )
        if _sealed(document, place) != text:
            raise ValueError("its content is not what was written")
        # Opened here because np.load leaves a damaged file open.
        with (place / WEIGHTS).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = dict(file)
        estimator = ESTIMATORS[document["class"]](**_decode(document["parameters"], arrays))
        for name, value in _decode(document["attributes"], arrays).items():
            if not _is_attribute(name):
                raise ValueError(f"{name!r} is no fitted attribute")
            setattr(estimator, name, value)
        estimator._fitted = _revived(_decode(document["fitted"], arrays), estimator)
    return estimator


def _sealed(document: dict[str, Any], folder: Path) -> str:
    """A document as JSON with a digest of itself and of the weights beside it."""
    facts = {name: value for name, value in document.items() if name != "digest"}
    digest = hashlib.blake2b(json.dumps(facts).encode())
    digest.update((folder / WEIGHTS).read_bytes())
    return json.dumps({**facts, "digest": digest.hexdigest()}, indent=1)


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
        "activation": network.phi.name,
        "loss": network.loss.name,
        "link": network.loss.link_name,
        "shift": problem.scaling.shift,
        "factor": problem.scaling.factor,
        "targets": kind.__name__,
        "target_parameters": {name: getattr(targets, name) for name in given},
        "penalty": problem.penalty,
        "dtype": problem.dtype.name,
        "class_factors": problem.class_factors,
        "weights": tuple(fitted.state.weights),
        "passes": fitted.passes,
    }


def _revived(facts: dict[str, Any], estimator: Any) -> Fitted:
    phi, loss = ACTIVATIONS[facts["activation"]], get_loss(facts["loss"], facts["link"])
    network = dense(facts["widths"], phi, loss)
    if tuple(w.shape for w in facts["weights"]) != network.shapes:
        raise ValueError(f"weights are not of shapes {network.shapes}")
    problem = Problem(
        network=network,
        scaling=Scaling(facts["shift"], facts["factor"]),
        targets=_TARGETS[facts["targets"]](**facts["target_parameters"]),
        penalty=facts["penalty"],
        dtype=np.dtype(facts["dtype"]),
        class_factors=facts["class_factors"],
    )
    solver = estimator._solver
    state = solver.start(problem, facts["weights"], Budget(None, None))
    return Fitted(problem, state, facts["passes"], solver.parts)


@contextmanager
def _damage_named(folder: str | Path) -> Iterator[None]:
    """Say of any surprise while reading that the folder is damaged."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(
            f"The model at {folder} is damaged or was not written by daskalt "
            f"({type(error).__name__}: {error}). Save it again."
        ) from error


# Values as JSON. What JSON cannot say is an object with one key in brackets; arrays are members
# of the npz file, named by where they stand.


def _encode(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [_encode(v, f"{where}.{k}", arrays) for k, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"<tuple>": _encode(list(value), where, arrays)}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("<") for key in value):
            return {key: _encode(v, f"{where}.{key}", arrays) for key, v in value.items()}
        return {"<dict>": _encode([list(pair) for pair in value.items()], where, arrays)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OT":  # text, as scikit-learn keeps names of features
            return {"<objects>": _encode(value.tolist(), where, arrays)}
        arrays[where] = value
        return {"<array>": where}
    if type(value) is _SOLVERS.get(type(value).__name__):
        pair = [type(value).__name__, value.get_params(deep=False)]
        return {"<solver>": _encode(pair, where, arrays)}
    if isinstance(value, np.random.RandomState):
        return {"<random state>": _encode(value.get_state(legacy=False), where, arrays)}
    raise InputError(
        f"{where} is of type {type(value).__name__}, which a saved model cannot hold. "
        "Give a number, text, list, dict or array."
    )


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decode(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    for mark, revive in _REVIVE.items():
        if value.keys() == {mark}:
            inner = value[mark]
            return arrays[inner] if mark == "<array>" else revive(_decode(inner, arrays))
    return {key: _decode(v, arrays) for key, v in value.items()}


def _objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _solver(pair: list) -> Any:
    name, parameters = pair
    return _SOLVERS[name](**parameters)


def _random_state(state: dict) -> np.random.RandomState:
    random = np.random.RandomState()
    random.set_state(state)
    return random


_REVIVE: dict[str, Any] = {
    "<array>": None,
    "<tuple>": tuple,
    "<dict>": dict,
    "<objects>": _objects,
    "<solver>": _solver,
    "<random state>": _random_state,
}
