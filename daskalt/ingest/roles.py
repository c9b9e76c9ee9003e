"""Which columns of a frame are features, targets, row weights and names of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from daskalt.data.recipe import Recipe
from daskalt.errors import InputError
from daskalt.wording import meant, plural

__all__ = ["Roles", "assign_roles", "listed", "roles_by_recipe"]

SHOWN = 20  # names in a message


@dataclass(frozen=True)
class Roles:
    """Names of columns by role.

    Attributes
    ----------
    target : str, list of str or None
        As given: a list makes a y of two dimensions.
    excluded : list of str
        Columns that are not used.
    """

    features: list[str]
    target: str | list[str] | None
    weight: str | None
    ident: str | None
    excluded: list[str]

    @property
    def targets(self) -> list[str]:
        """Names of the columns of y."""
        return [self.target] if isinstance(self.target, str) else self.target or []

    @property
    def read(self) -> list[str]:
        """The columns that are stored."""
        return [*self.features, *self.targets, *([] if self.weight is None else [self.weight])]


def assign_roles(
    available: list[str],
    file: str,
    *,
    target: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    weight: str | None = None,
    ident: str | None = None,
) -> Roles:
    """Return the roles of the available columns.

    ``features`` and ``exclude`` take names, patterns and comma-separated lists of both. An exact
    name takes precedence over a pattern or a list.

    Raises
    ------
    InputError
        When there is no such column, or one has several roles.
    """
    targets = [target] if isinstance(target, str) else [str(name) for name in target or ()]
    single = [name for name in (weight, ident) if name is not None]
    others = [*targets, *single]
    _refuse_unknown([name for name in others if name not in available], available, file)
    left_out, never = _expand(exclude, available, file)
    chosen, literal = _expand(features, available, file)
    if features is None:
        chosen, literal = available, []
    known = dict.fromkeys(targets, "the target")
    for argument, name, words in (
        ("weight", weight, "the weight of the row"),
        ("ident", ident, "what the row is called"),
    ):
        _refuse_clashes(argument, [] if name is None else [name], known)
        known |= {} if name is None else {name: words}
    _refuse_clashes("target", targets, {})
    _refuse_clashes("features", literal, known)
    _refuse_clashes("exclude", never, known)
    apart = {*others, *left_out}
    used = [name for name in chosen if name not in apart]
    if not used:
        raise InputError(
            f"No column of {file} is left to be a feature: it has {listed(available)}. Name at "
            "least one that is not the target, weight, ident or excluded."
        )
    kept_for_something = {*used, *others}
    excluded = [name for name in available if name not in kept_for_something]
    kept = target if target is None or isinstance(target, str) else targets
    return Roles(used, kept, weight, ident, excluded)


def roles_by_recipe(
    available: list[str],
    file: str,
    recipe: Recipe,
    target: str | Sequence[str] | None = None,
) -> Roles:
    """Columns by their roles in a recipe; targets only if all are there.

    Raises
    ------
    InputError
        When columns of features are not there, naming all of them.
    """
    features = [column.name for column in recipe.columns]
    there = set(available)
    lacking = [name for name in features if name not in there]
    if lacking:
        raise InputError(
            f"{file} lacks {plural(len(lacking), 'column')} that training had: {listed(lacking)}."
            f"{meant(lacking, available)} It has {listed(available)}. Add them to the file, or "
            "train on data without them."
        )
    targets = [known.name for known in recipe.targets]
    if target is not None:
        targets = [target] if isinstance(target, str) else list(target)
        _refuse_unknown([name for name in targets if name not in available], available, file)
        _refuse_clashes("target", targets, {name: "a feature of the recipe" for name in features})
    elif targets and set(targets) <= set(available):
        target = recipe.target
    else:
        targets = []
    weight, ident = (n if n in available else None for n in (recipe.weight, recipe.ident))
    _refuse_clashes("target", targets, {} if weight is None else {weight: "the weight of the row"})
    used = {*features, *targets, weight, ident}
    excluded = [name for name in available if name not in used]
    return Roles(features, target, weight, ident, excluded)  # type: ignore[arg-type]


def _expand(
    wanted: str | Sequence[str] | None, available: list[str], file: str
) -> tuple[list[str], list[str]]:
    """The columns that names, lists and patterns mean, and those that are named in full."""
    entries = [wanted] if isinstance(wanted, str) else [str(entry) for entry in wanted or ()]
    words: list[str] = []
    for entry in entries:
        words += [entry] if entry in available else [part.strip() for part in entry.split(",")]
    there = set(available)
    literal = [word for word in words if word in there]
    found: dict[str, None] = {}
    unknown = []
    for word in words:
        names = [word] if word in there else [n for n in available if fnmatchcase(n, word)]
        unknown += [] if names else [word]
        found |= dict.fromkeys(names)
    _refuse_unknown(unknown, available, file)
    return list(found), literal


def _refuse_clashes(argument: str, names: Sequence[str], known: Mapping[str, str]) -> None:
    """Refuse names that have another role already, or are given twice."""
    for place, name in enumerate(names):
        if name in known:
            raise InputError(
                f"{argument} names {name!r}, which is {known[name]}. A column is one thing: name "
                "another, or leave it out of one."
            )
        if name in names[:place]:
            raise InputError(f"{argument} names {name!r} twice. Name it once.")


def _refuse_unknown(unknown: list[str], available: list[str], file: str) -> None:
    if unknown:
        raise InputError(
            f"{file} has no column {', '.join(map(repr, unknown))}."
            f"{meant(unknown, available)} It has {listed(available)}. Check target, features, "
            "exclude, ident and weight."
        )


def listed(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    more = f" and {plural(len(names) - SHOWN, 'column')} more" if len(names) > SHOWN else ""
    return f"{list(names[:SHOWN])}{more}"
