"""A summary of ingested data in lines: rows, targets, and every column."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from daskalt.data.recipe import Column, Recipe, Target, recipe_of_rows
from daskalt.data.table import Table
from daskalt.wording import plural

__all__ = ["account"]

SHOWN_CLASSES, SHOWN_CATEGORIES, SHOWN_COLUMNS = 10, 5, 50
MOST_CLASSES = 1000


def account(destination: str, table: Table) -> Iterator[str]:
    """Return the lines on what an ingested table holds and how its features were made."""
    rows, features = plural(table.n_rows, "row"), plural(table.X.shape[1], "feature")
    yield f"{destination}: {rows} of {features}, {table.X.dtype}"
    facts = recipe_of_rows(table.X)
    if facts is None:
        yield from _target_in_store(table)
        return
    recipe = Recipe.from_dict(facts, destination)
    if recipe.left_out:
        yield f"{plural(recipe.left_out, 'row')} left out, in which a value is missing"
    for target in recipe.targets:
        yield f"target {_escaped(target.name)}: {_target(target, of_classes=not recipe.several)}"
    if recipe.reused:
        yield "columns encoded by a recipe that was learnt before, of whose rows it tells:"
    yield from _table(list(_columns(recipe)))


def _target_in_store(table: Table) -> Iterator[str]:
    """The targets of data without a recipe: classes with their counts, or a range."""
    if table.y is None or len(table.y.shape) > 1:
        return
    counts: dict[Any, int] = {}
    low = high = None
    for start, stop in table.block_bounds():
        values = table.y.read(start, stop)
        if values.dtype.kind == "f":
            low = float(values.min()) if low is None else min(low, float(values.min()))
            high = float(values.max()) if high is None else max(high, float(values.max()))
        elif len(counts) <= MOST_CLASSES:
            for each, count in zip(*np.unique(values, return_counts=True), strict=True):
                counts[each.item()] = counts.get(each.item(), 0) + int(count)
    if len(counts) > MOST_CLASSES:
        return
    target = Target("y", str(table.y.dtype), low, high)
    if counts:
        target.classes = sorted(counts)
        target.counts = [counts[each] for each in target.classes]
    yield f"target y: {_target(target)}"


def _target(target: Target, *, of_classes: bool = True) -> str:
    if not of_classes or target.classes is None or target.counts is None:
        reach = "" if target.low is None else f" from {target.low:g} to {target.high:g}"
        return f"{_kind(target.type)}{reach}"
    pairs = list(zip(target.classes, target.counts, strict=True))
    shown = ", ".join(f"{_escaped(str(each))} ({count:,})" for each, count in pairs[:SHOWN_CLASSES])
    return f"{plural(len(pairs), 'class', 'classes')}: {shown}{_more(pairs, SHOWN_CLASSES)}"


def _columns(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Each column and its use."""
    for column in recipe.columns:
        yield column.name, _number(column, recipe) if column.kind == "number" else _texts(column)
    for name, words in (("weight", "weight of the row"), ("ident", "id of the row, no feature")):
        if getattr(recipe, name) is not None:
            yield getattr(recipe, name), words
    for name in recipe.excluded:
        yield name, "excluded"


def _number(column: Column, recipe: Recipe) -> str:
    words = f"{_kind(column.type)} from {column.low:g} to {column.high:g}"
    if column.missing and recipe.missing == "median":
        words += f"; {column.missing:,} missing, filled with {column.fill:g}"
        words += f", the median of {recipe.medians}"
    return words


def _texts(column: Column) -> str:
    assert column.categories is not None
    assert column.counts is not None
    pairs = sorted(zip(column.counts, column.categories, strict=True), key=lambda p: -p[0])
    shown = [
        f"{'(missing)' if t is None else _escaped(t)} ({n:,})" for n, t in pairs[:SHOWN_CATEGORIES]
    ]
    count = plural(len(pairs), "category", "categories")
    return f"{count}: {', '.join(shown)}{_more(pairs, SHOWN_CATEGORIES)}"


def _kind(dtype: str) -> str:
    return {"bool": "truth value", "text": "text"}.get(dtype, f"number ({dtype})")


def _more(values: Sequence[Any], shown: int) -> str:
    return f" and {len(values) - shown:,} more" if len(values) > shown else ""


def _escaped(text: str) -> str:
    """Text with line ends and other invisible characters escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _table(lines: list[tuple[str, str]]) -> Iterator[str]:
    lines = [(_escaped(name), words) for name, words in lines]
    width = min(30, max(len(name) for name, _ in lines))
    for name, words in lines[:SHOWN_COLUMNS]:
        yield f"  {name:{width}}  {words}"
    if len(lines) > SHOWN_COLUMNS:
        yield f"  and {plural(len(lines) - SHOWN_COLUMNS, 'column')} more"
