"""Parsed columns kept on disk, to be read again without parsing."""

from collections.abc import Iterator
from pathlib import Path

from daskalt.ingest.frames import Batch

__all__ = ["Spool"]


class Spool:
    """Batches in a file, in Arrow's format; the types of columns may differ from one to another.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: list[tuple[str, int]] = []

    def clear(self) -> None:
        """Forget all batches."""
        self.path.unlink(missing_ok=True)
        self.places = []

    def append(self, batch: Batch) -> None:
        """Write a batch."""
        import pyarrow

        with (
            self.path.open("ab") as file,
            pyarrow.ipc.new_stream(file, batch.rows.schema) as writer,
        ):
            writer.write_batch(batch.rows)
        self.places.append((batch.file, batch.first))

    def batches(self) -> Iterator[Batch]:
        """All batches in order."""
        import pyarrow

        with pyarrow.OSFile(str(self.path)) as file:
            for name, first in self.places:
                with pyarrow.ipc.open_stream(file) as reader:
                    rows = reader.read_next_batch()
                    reader.read_all()  # up to where the next begins
                yield Batch(name, first, rows)
