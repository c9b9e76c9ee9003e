"""A run as a YAML file or a command line describes it, checked before any work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from sklearn.base import is_classifier

from daskalt.errors import ConfigError
from daskalt.estimators.model import ESTIMATORS
from daskalt.runs.choice import choose_estimator
from daskalt.runs.document import override, read_document
from daskalt.runs.examples import EXAMPLES, HELD_OUT
from daskalt.runs.origins import DataConfig
from daskalt.runs.parts import PARTS, estimator_of, parameters_of
from daskalt.runs.sections import Section

__all__ = ["RunConfig", "config_of", "load_config"]


class Document(Section):
    """The keys of a configuration."""

    estimator: Literal[tuple(ESTIMATORS)] | None = None  # type: ignore[valid-type]
    parameters: dict = Field(default_factory=dict)
    data: DataConfig
    output: str
    scheduler: str | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    dashboard: Annotated[int, Field(ge=0, lt=2**16)] = 0


@dataclass(frozen=True)
class RunConfig:
    """A checked run: an estimator, unfitted, and what to fit it on.

    Attributes
    ----------
    estimator : MLPClassifier or MLPRegressor
    data : DataConfig
    output : str
        The run folder.
    scheduler : str or None
        Address of a Dask scheduler to train on.
    workers : int or None
        Worker processes to start and train on.
    dashboard : int
        Port of the dashboard of these workers; 0 for any that is free.
    reason : str or None
        Why the estimator was chosen, if the targets decided it.
    """

    estimator: Any
    data: DataConfig
    output: str
    scheduler: str | None = None
    workers: int | None = None
    dashboard: int = 0
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.workers is not None:
            raise ConfigError("Give scheduler or workers, not both.")
        dataset = self.data.dataset
        if dataset and is_classifier(self.estimator) and not EXAMPLES[dataset].labelled:
            raise ConfigError(f"The targets of {dataset} are numbers: use MLPRegressor.")

    def resolved(self) -> dict[str, Any]:
        """Return the configuration with every default written out; it describes the same run."""
        data = self.data.model_dump(mode="json")
        if self.data.dataset is not None:
            data["held_out"] = self.data.held_out or HELD_OUT
        return {
            "estimator": type(self.estimator).__name__,
            "parameters": parameters_of(self.estimator),
            "data": data,
            "output": self.output,
            "scheduler": self.scheduler,
            "workers": self.workers,
            "dashboard": self.dashboard,
        }


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Return the run that a YAML file describes.

    Parameters
    ----------
    path : str or Path
        The file.
    overrides : dict, optional
        Values by dotted key, such as ``{"parameters.max_iter": 5}``, that override the file's.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is wrong.
    """
    return config_of(read_document(path), overrides)


def config_of(tree: dict[str, Any], overrides: dict[str, Any] | None = None) -> RunConfig:
    """Return the run that a tree of keys describes, as `load_config` does."""
    values = overrides or {}
    for key in sorted(values, key=lambda key: key.count(".")):  # what holds others before these
        override(tree, key, values[key], PARTS)
    # A section without keys is as good as none.
    document = Document.read({key: value for key, value in tree.items() if value is not None})
    name, reason = document.estimator, None
    if name is None:
        name, reason = choose_estimator(document.data)
    rest = {key: getattr(document, key) for key in ("output", "scheduler", "workers", "dashboard")}
    estimator = estimator_of(ESTIMATORS[name], document.parameters)
    return RunConfig(estimator, document.data, **rest, reason=reason)
