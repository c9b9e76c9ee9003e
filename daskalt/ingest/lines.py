"""Blocks of whole lines of CSV, each of which can be parsed alone."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["TOO_LONG", "blocks_of_lines"]

TOO_LONG = "a line straddles blocks"
QUOTE, FIELD_STARTS = ord('"'), np.frombuffer(b',\n\r"', np.uint8)
_FIELD = rb'(?:"(?:[^"]++|"")*+"[^,\r\n]*+|(?!")[^,\r\n]*+)'
_LINES = re.compile(rb"(?:(?:%b,)*+%b(?:\r\n|\n|\r))*+" % (_FIELD, _FIELD))


def blocks_of_lines(stream: Any, size: int) -> Iterator[bytes]:
    """The bytes of a stream in blocks of about ``size`` that end where a line does.

    A line end between quotes does not count.

    Raises
    ------
    ValueError
        When a line is longer than a block.
    """
    rest = b""
    while more := stream.read(size):
        block = rest + more
        end = _end_of_lines(block)
        if end == 0 and len(block) >= 2 * size:
            raise ValueError(TOO_LONG)
        rest = block[end:]
        if end:
            yield block[:end]
    if rest:
        yield rest


def _end_of_lines(block: bytes) -> int:
    """Where the last whole line ends in bytes that start with a line."""
    line_end = b"\n" if b"\n" in block else b"\r"
    end = block.rfind(line_end)
    if QUOTE in block:
        values = np.frombuffer(block, np.uint8)
        quotes = np.flatnonzero(values == QUOTE)
        if not _all_around_fields(values, quotes):
            return _LINES.match(block).end()  # type: ignore[union-attr]
        while end >= 0 and (before := int(np.searchsorted(quotes, end))) % 2:
            end = block.rfind(line_end, 0, quotes[before - 1])
    return end + 1


def _all_around_fields(values: np.ndarray, quotes: np.ndarray) -> bool:
    """Whether each second quote opens a field, or escapes the quote before it."""
    opening = quotes[::2]
    before = values[opening[opening > 0] - 1]
    return bool(np.isin(before, FIELD_STARTS).all())
