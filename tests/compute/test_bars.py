"""Progress of a long task: a bar that fits its terminal, plain lines without one."""

import io
import os
import pty
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

from daskalt import MLPClassifier
from daskalt.compute.bars import Bar, counted, describe_count, describe_seconds, fitted_parts
from daskalt.compute.progress import Done
from daskalt.solvers.base import Report
from daskalt.training.history import PassRecord, Quality
from daskalt.training.listeners import PassBar, Underway

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MODEL = """
import numpy as np
from daskalt import MLPClassifier
X = np.random.default_rng(0).standard_normal((3000, 5)).astype("f4")
model = MLPClassifier((8,), max_iter=3, random_state=0, verbose=True, early_stopping=True)
"""
FIT = f"{MODEL}model.fit(X, X[:, 0] > 0)"


WIDE = """
import fcntl, os, struct, termios
for columns in (40, 80):
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    model.fit(X, X[:, 0] > 0)
    os.write(2, b"\\0")
"""


@pytest.fixture(scope="module")
def written():
    """What a Python process writes to a terminal of either width during a fit."""
    narrow, wide, _ = on_terminal(MODEL + WIDE).split("\0")
    return {40: narrow, 80: wide}


def on_terminal(code):
    """What a Python process writes to a terminal."""
    leader, follower = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=follower, stdout=subprocess.DEVNULL, stderr=follower,
        env=env | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    assert process.wait() == 0
    return b"".join(parts).decode()


@pytest.mark.parametrize(
    ("columns", "facts"),
    [
        (40, r"loss [\d.e-]+ [\d.]+ s$"),
        (80, r"loss [\d.e-]+ accuracy [\d.]+ validation [\d.]+( \(loss [\d.e-]+\))? [\d.]+ s$"),
    ],
)
def test_a_fit_fits_its_terminal(columns, facts, written):
    written = written[columns]
    lines = re.split(r"[\r\n]+", CONTROL.sub("", written))
    assert max(map(len, lines)) <= columns
    passes = [" ".join(line.split()) for line in lines]
    for number in (1, 2, 3):  # each a line, left for good
        assert any(re.match(rf"pass {number}/3 {facts}", line) for line in passes), passes
    assert written.endswith("\x1b[?25h") or "\x1b[?25h" in written[-20:]  # the cursor is back


def test_a_dumb_terminal_gets_lines(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    with counted("reading", 10, "rows", True) as count:
        count.update(10)
    assert capsys.readouterr().err.startswith("reading 10/10 rows in ")


def test_there_are_no_control_characters_without_a_terminal():
    forced = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "CI": "true"}
    run = subprocess.run(
        [sys.executable, "-c", FIT],
        capture_output=True, text=True, check=True, env=os.environ | forced,
    )  # fmt: skip
    assert run.stdout == ""
    assert [line.split()[1] for line in run.stderr.splitlines()] == ["1/3", "2/3", "3/3"]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", run.stderr)


@pytest.mark.parametrize("columns", range(8, 200, 3))
def test_what_a_line_says_fits_and_begins_with_what_counts_most(columns):
    bar = Bar()
    bar.words, bar.total, bar.done, bar.left = "pass 3/10", 200, 50, 100.0
    bar.facts = ["loss 0.01234", "validation 0.9321 (loss 0.1234)", "12.3k rows/s"]
    parts = fitted_parts(bar, columns)
    assert len(" ".join([bar.words, *parts])) < columns or not parts
    facts = [part for part in parts if part in bar.facts]
    assert facts == bar.facts[: len(facts)]
    if columns >= 40:
        assert parts[0] == "25%"
        assert "loss 0.01234" in parts
        assert "1:40 min left" in parts
    if columns >= 110:
        assert facts == bar.facts


def test_counting_leaves_a_line(capsys):
    with counted("writing", 70, "rows", True) as count:
        for _ in range(7):
            count.update(10)
    printed = capsys.readouterr()
    assert re.fullmatch(r"writing 70/70 rows in [\d.]+ s\n", printed.err)
    assert printed.out == ""
    with counted("writing", 70, "rows", False) as count:
        count.update(70)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.00 s"), (0.424, "0.42 s"), (1.26, "1.3 s"), (9.96, "10 s"), (59.4, "59 s"),
     (59.6, "1:00 min"), (185, "3:05 min"), (3723, "1:02:03"), (360000, "100:00:00")],
)  # fmt: skip
def test_times_in_words(seconds, words):
    assert describe_seconds(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0.5, "0.5"), (950, "950"), (999.6, "1k"), (12345, "12.3k"), (4.56e6, "4.56M"), (2e9, "2G")],
)  # fmt: skip
def test_counts_in_words(count, words):
    assert describe_count(count) == words


class _Terminal(io.StringIO):
    """A terminal that remembers what is written to it."""

    def isatty(self):
        return True

    def shown(self):
        return CONTROL.sub("", self.getvalue())


def test_beneath_a_line_is_the_pass_under_way_or_nothing(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    monkeypatch.setattr("daskalt.compute.bars.REFRESHES", 100)
    history = []
    fit = Underway(None, SimpleNamespace(history=history, end=None), 3, 100, None)
    bar = PassBar()
    bar.begin(fit, 0)
    for number in (1, 2, 3):
        bar.step(Done(number - 1, 60, 60.0, 6.0))
        drawn = re.compile(rf"pass {number}/3 .*60%")
        until = time.monotonic() + 30
        while not drawn.search(terminal.shown()) and time.monotonic() < until:
            time.sleep(0.01)
        before = len(terminal.shown())
        history.append(PassRecord(number, Quality(0.1), Report(), 0.5))
        bar.passed(fit)
        line, _, beneath = terminal.shown()[before:].partition("loss 0.1  0.50 s")
        assert line.split()[-1] == f"{number}/3"
        expected = {f"{number + 1}/3"} if number < 3 else set()
        assert set(re.findall(r"pass (\d/\d)", beneath)) == expected
    bar.end(fit)


class _Gone(_Terminal):
    """A terminal that nobody reads any more."""

    def write(self, _):
        raise OSError(5, "Input/output error")


def _closed():
    file = io.StringIO()
    file.close()
    return file


@pytest.mark.parametrize("stderr", [None, _closed(), _Gone()], ids=["none", "closed", "gone"])
def test_lines_that_cannot_be_written_end_no_fit(stderr, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", stderr)
    X = np.random.default_rng(0).standard_normal((100, 3))
    model = MLPClassifier((4,), max_iter=3, random_state=0, tol=10.0, n_iter_no_change=1)
    quiet = clone(model).fit(X, X[:, 0] > 0)
    model.set_params(verbose=True).fit(X, X[:, 0] > 0)
    np.testing.assert_array_equal(model.coefs_[0], quiet.coefs_[0])
    assert model.stop_reason_ == quiet.stop_reason_
    assert capsys.readouterr().out == ""
