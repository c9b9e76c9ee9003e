"""The plan of a fit: what it will take, in figures and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from daskalt.memory.limits import describe_bytes
from daskalt.wording import plural

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """What a fit will take.

    Attributes
    ----------
    rows, features, outputs : int
        Of the rows to train on.
    blocks : int
        Tasks that read rows in a pass.
    steps : int
        Steps of a pass.
    batch_size : int
        Rows of a step, nearly.
    passes : int
        Passes that the fit makes unless it stops earlier.
    bytes_read, bytes_written : int
        Of all these passes, copies of the rows to scratch included.
    flops : float
        Floating-point operations of all passes.
    z_bytes, scratch_bytes : int
        Room on disk for what the solver keeps for each row, and for copies of the rows.
    client_bytes : int
        Peak memory of the process that fits.
    worker_bytes : int or None
        Peak memory of the largest worker process; None where threads do the work.
    parts, worker_parts : dict of str to int
        The parts of these peaks.
    memory_limit : int
        Limit of the process that is nearest to it.
    limit_source : str
        What sets it.
    worker_limit : int or None
        Limit of a worker; None where there are none, or none is known.
    worker_limit_source : str or None
    """

    rows: int
    features: int
    outputs: int
    blocks: int
    steps: int
    batch_size: int
    passes: int
    bytes_read: int
    bytes_written: int
    flops: float
    z_bytes: int
    scratch_bytes: int
    client_bytes: int
    worker_bytes: int | None
    parts: dict[str, int]
    worker_parts: dict[str, int] | None
    memory_limit: int
    limit_source: str
    worker_limit: int | None = None
    worker_limit_source: str | None = None

    @property
    def fits(self) -> bool:
        """Whether every process stays within its limit."""
        worker_fits = self.worker_bytes is None or self.worker_limit is None
        return self.client_bytes <= self.memory_limit and (
            worker_fits or self.worker_bytes <= self.worker_limit  # type: ignore[operator]
        )

    @property
    def peak_bytes(self) -> int:
        """The higher of the two peaks."""
        return max(self.client_bytes, self.worker_bytes or 0)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return asdict(self) | {"fits": self.fits}

    def table(self) -> str:
        """Return the plan as lines of text."""
        lines = [
            ("rows × features → outputs", f"{self.rows:,} × {self.features:,} → {self.outputs:,}"),
            ("passes", f"{self.passes}"),
            (
                "a pass",
                f"{plural(self.steps, 'step')} of {plural(self.batch_size, 'row')}, read in "
                f"{plural(self.blocks, 'task')}",
            ),
            ("read", describe_bytes(self.bytes_read)),
            ("written", describe_bytes(self.bytes_written)),
            ("operations", f"{self.flops:.3g}"),
            ("z on disk", describe_bytes(self.z_bytes)),
            ("scratch on disk", describe_bytes(self.scratch_bytes)),
            *_peak_lines("peak of this process", self.client_bytes, self.parts),
            ("  limit", f"{describe_bytes(self.memory_limit)} ({self.limit_source})"),
        ]
        if self.worker_bytes is not None:
            lines += _peak_lines("peak of a worker", self.worker_bytes, self.worker_parts or {})
            if self.worker_limit is not None:
                limit = f"{describe_bytes(self.worker_limit)} ({self.worker_limit_source})"
                lines.append(("  limit", limit))
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)

    def __str__(self) -> str:
        return self.table()


def _peak_lines(name: str, total: int, parts: dict[str, int]) -> Iterator[tuple[str, str]]:
    yield name, describe_bytes(total)
    for part, size in parts.items():
        yield f"  {part}", describe_bytes(size)
