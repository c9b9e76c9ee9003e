"""Blocks of whole lines parse to the rows that Arrow makes of all bytes at once."""

import io

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv

from daskalt.ingest.lines import blocks_of_lines

NAMES = ["a", "b"]

plain = st.text("xy ", min_size=1, max_size=3)
stray = st.builds("x{}".format, st.text('xy"', max_size=2))  # quotes that are text
inside = st.lists(st.sampled_from(["x", '""', "\n", "\r", ","]), max_size=4).map("".join)
quoted = st.builds('"{}"{}'.format, inside, st.sampled_from(["", "", "", "x", 'x"']))
lines = st.builds(
    "{},{}{}".format,
    *[st.one_of(plain, quoted, stray)] * 2,
    st.sampled_from(["\n", "\n", "\r\n", "\r"]),
)


def parsed(text):
    return csv.read_csv(
        pyarrow.BufferReader(text),
        csv.ReadOptions(column_names=NAMES, use_threads=False),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(column_types=dict.fromkeys(NAMES, pyarrow.string())),
    ).to_pylist()


@settings(max_examples=300, deadline=None)
@given(st.lists(lines, min_size=1, max_size=20).map("".join), st.integers(30, 60))
def test_blocks_parse_to_the_rows_of_the_whole(text, size):
    text = text.encode()
    blocks = list(blocks_of_lines(io.BytesIO(text), size))
    assert b"".join(blocks) == text
    assert [row for block in blocks if block.strip() for row in parsed(block)] == parsed(text)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ('"1\n2",3\n' * 4, ['"1\n2",3\n'] * 4),
        ("12345,7\r" * 4, ["12345,7\r"] * 4),
        ('1" 5",7\n' * 2 + '"a\n\nb",', ['1" 5",7\n', '1" 5",7\n', '"a\n\nb",']),
        ("12345,7", ["12345,7"]),
        ("", []),
    ],
)
def test_blocks_end_with_a_line_or_the_stream(text, blocks):
    made = [block.decode() for block in blocks_of_lines(io.BytesIO(text.encode()), 8)]
    assert made == blocks


def test_a_line_without_end_is_refused():
    with pytest.raises(ValueError, match="straddles"):
        list(blocks_of_lines(io.BytesIO(b'"' + b"x,\n" * 100), 50))
