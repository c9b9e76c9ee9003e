"""Progress of a long task: a bar on the last line of a terminal, elsewhere plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from daskalt.compute.signals import held

__all__ = ["Bar", "Count", "counted", "describe_count", "describe_seconds", "shown_bar"]

REFRESHES = 5  # a second
WIDEST, NARROWEST = 40, 6  # of the bar itself, in columns
_UNWRITABLE = (OSError, ValueError)  # a terminal that is gone, a file that is closed


class Bar:
    """The progress of a task; shows nothing but the lines passed to `print`.

    Attributes
    ----------
    words : str
        What is being done.
    done, total : float
        In the unit that is counted.
    facts : sequence of str
        Further figures, the most important first.
    left : float or None
        Seconds until the end; None where unknown.
    columns : int or None
        Width of the terminal; None where there is none.
    """

    columns: int | None = None

    def __init__(self) -> None:
        self.words = ""
        self.done, self.total = 0.0, 0.0
        self.facts: Sequence[str] = ()
        self.left: float | None = None

    @property
    def share(self) -> float:
        """Share of the total that is done."""
        return min(1.0, self.done / self.total) if self.total > 0 else 0.0

    def tell(self, line: str) -> None:
        """Print a line that stays, where it can be written."""
        if sys.stderr is not None:
            with suppress(*_UNWRITABLE):
                print(line, file=sys.stderr, flush=True)


class _LiveBar(Bar):
    """A bar at the foot of a terminal, redrawn by its own thread."""

    def __init__(self, console: Any) -> None:
        super().__init__()
        from rich.live import Live

        self._console = console
        self.columns = console.width
        self._live = Live(
            self,
            console=console,
            refresh_per_second=REFRESHES,
            transient=True,
            redirect_stdout=False,  # which may be a file
        )

    def tell(self, line: str) -> None:
        with suppress(*_UNWRITABLE):
            self._console.print(line, markup=False, highlight=False, emoji=False)

    @contextmanager
    def running(self) -> Iterator[None]:
        with held(), suppress(*_UNWRITABLE):
            self._live.start()
        try:
            yield
        finally:
            self.words = ""
            with held(), suppress(*_UNWRITABLE):
                self._live.stop()

    def __rich__(self) -> Any:  # also redrawn beneath every line
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self.words:
            return Text()
        columns = self._console.width
        after = fitted_parts(self, columns)
        room = columns - len(" ".join([self.words, *after])) - 2
        parts: list[Any] = [Text(self.words, style="bold")]
        if room >= NARROWEST and self.total > 0:
            parts.append(ProgressBar(1.0, self.share, min(WIDEST, room), complete_style="cyan"))
        parts += map(Text, after)
        row = Table.grid(padding=(0, 1, 0, 0))
        for _ in parts:
            row.add_column(no_wrap=True)
        row.add_row(*parts)
        return row


def fitted_parts(bar: Bar, columns: int) -> list[str]:
    """Return the figures that fit on a line of so many columns beside the bar."""
    share = [f"{100 * bar.share:.0f}%"] if bar.total > 0 else []
    left = [] if bar.left is None else [f"{describe_seconds(bar.left)} left"]
    facts = list(bar.facts)
    while True:
        parts = [*share, *facts, *left]
        room = columns - len(" ".join([bar.words, *parts]))
        # The first fact matters more than the bar, which only repeats the share.
        if room > (NARROWEST + 1 if len(facts) > 1 else 0):
            return parts
        if facts:
            facts.pop()
        elif left:
            left.pop()
        else:
            return []


@contextmanager
def shown_bar(shown: bool = True) -> Iterator[Bar]:
    """Yield a bar on stderr: drawn on a terminal, elsewhere only its lines."""
    if not shown or not _on_terminal():
        yield Bar()
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_dumb_terminal or console.is_jupyter:
        yield Bar()
        return
    bar = _LiveBar(console)
    with bar.running():
        yield bar


def _on_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except _UNWRITABLE:
        return False


class Count:
    """A count of finished rows, shown on a bar."""

    def __init__(self, bar: Bar, unit: str) -> None:
        self._bar, self._unit = bar, unit
        self._began = time.perf_counter()

    def update(self, count: float) -> None:
        """Count some more."""
        bar = self._bar
        bar.done += count
        seconds = max(1e-9, time.perf_counter() - self._began)
        bar.facts = [f"{describe_count(bar.done / seconds)} {self._unit}/s"]
        bar.left = seconds * (1 - bar.share) / bar.share if bar.share > 0 else None

    def settle(self) -> None:
        """Set the total to what is done, where the total was an estimate."""
        self._bar.total = self._bar.done

    def describe(self) -> str:
        """Return what was done and how long it took, in words."""
        bar, seconds = self._bar, time.perf_counter() - self._began
        done = f"{bar.done:,.0f}/{bar.total:,.0f} {self._unit}"
        return f"{bar.words} {done} in {describe_seconds(seconds)}"


@contextmanager
def counted(words: str, total: float, unit: str, shown: bool) -> Iterator[Count]:
    """Yield a counter up to ``total`` on a bar, and print a summary line at the end."""
    with shown_bar(shown) as bar:
        bar.words, bar.total = words, total
        count = Count(bar, unit)
        yield count
        if shown:
            bar.tell(count.describe())


def describe_seconds(seconds: float) -> str:
    """Return a time in words that stay short: 0.42 s, 12 s, 3:05, 1:02:03."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.95 else f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02} min"


def describe_count(count: float) -> str:
    """Return a number to three figures: 950, 12.3k, 4.56M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.9995:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"
