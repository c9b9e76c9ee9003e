"""Tables of results with targets and verdicts, as Markdown and JSON."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipelines.benchmark.environment import environment_line, warning_if_busy


@dataclass(frozen=True)
class Target:
    """A bound that the issue sets on a measured number, and whether it is met."""

    text: str
    met: bool


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells by column, and the target it is held to, if any."""

    cells: dict
    target: Target | None = None


@dataclass
class Table:
    """The result of one check.

    Attributes
    ----------
    check, title : str
    rows : list of Row
        All with the same columns.
    notes : list of str
        What is charged, what was skipped, what else a reader must know.
    curves : list of Curve
        The runs behind the rows, where the check has them.
    """

    check: str
    title: str
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    curves: list = field(default_factory=list)

    def add(self, target=None, **cells):
        """Append a row; underscores in the names of columns become spaces."""
        self.rows.append(Row({k.replace("_", " "): v for k, v in cells.items()}, target))


def at_most(value, bound, unit=""):
    """The target value ≤ bound; nan misses it."""
    return Target(f"≤ {bound:g}{unit}", bool(value <= bound))


def at_least(value, bound, unit=""):
    """The target value ≥ bound; nan misses it."""
    return Target(f"≥ {bound:g}{unit}", bool(value >= bound))


def cell(value):
    """A table cell: numbers to three or four digits, infinity as "never", nan as "–"."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    return f"{value:.4f}" if 0.9 < value < 1 else f"{value:.3g}"


def markdown(*tables):
    """The tables as Markdown, each with its notes; the environment ends the last one's."""
    surroundings = [*filter(None, [environment_line(), warning_if_busy()])]
    sections = [section(table) for table in tables[:-1]]
    return "\n".join([*sections, section(tables[-1], surroundings)])


def section(table, more_notes=()):
    """One table as Markdown; its targets and verdicts are shown where a row has one."""
    held = any(row.target for row in table.rows)
    columns = [*(table.rows[0].cells if table.rows else ["result"])]
    columns += ["target", "verdict"] if held else []
    lines = [f"## {table.check}: {table.title}", "", bar(columns), bar(["---"] * len(columns))]
    for row in table.rows:
        cells = [cell(value) for value in row.cells.values()]
        lines.append(bar([*cells, *verdict(row.target)] if held else cells))
    notes = [f"- {note}" for note in [*table.notes, *more_notes]]
    lines += ["", *notes] if notes else []
    return "\n".join(lines) + "\n"


def bar(cells):
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def verdict(target):
    """The last two cells of a row."""
    return ("", "") if target is None else (target.text, "pass" if target.met else "**fail**")


def plain(value):
    """`value` in JSON's own types: null stands for never (infinite) and for not measured."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def write(table, folder, arguments, order):
    """Write `CHECK.md` and `CHECK.json`, and join all checks in `folder` into `benchmark.md`.

    Checks run one at a time, possibly days apart, so the joint page is made of what
    the folder holds, in the given order of names.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = plain(asdict(table)) | {"environment": environment_line(), "arguments": arguments}
    (folder / f"{table.check}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{table.check}.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    pages = [folder / f"{name}.md" for name in order]
    joined = "\n".join(page.read_text(encoding="utf-8") for page in pages if page.exists())
    (folder / "benchmark.md").write_text("# Benchmark\n\n" + joined, encoding="utf-8")
