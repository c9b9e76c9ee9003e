"""The report of a run: its figures against scikit-learn's, its page, its advice."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, r2_score

import daskalt
from daskalt.runs import cli
from daskalt.runs.advice import find_shortcomings, next_commands
from daskalt.runs.journal import json_text
from daskalt.runs.page import render
from daskalt.runs.report import rate_classes

ROWS, FEATURES = 400, 6
EVIL = "<script>alert('x')</script> & \"co\""


def run(folder, X, y, estimator="MLPClassifier", **parameters):
    """The run folder of a fit to some rows, the last fifth of them held out."""
    group = zarr.create_group(folder / "rows.zarr")
    text = y.dtype.kind == "U"
    group.create_array("X", data=X, chunks=(64, X.shape[1]))
    group.create_array("y", data=y.astype(np.dtypes.StringDType()) if text else y, chunks=(64,))
    tree = {
        "estimator": estimator,
        "parameters": {"hidden_layer_sizes": [8], "random_state": 0, "max_iter": 3} | parameters,
        "data": {"train": str(folder / "rows.zarr"), "held_out": 0.2},
        "output": str(folder / "run"),
    }
    (folder / "conf.yaml").write_text(yaml.safe_dump(tree))
    assert cli.main(["fit", str(folder / "conf.yaml")]) == 0
    return folder / "run"


def classes(count):
    rng = np.random.default_rng(0)
    y = np.arange(ROWS) % count
    rng.shuffle(y)
    X = rng.normal(size=(ROWS, FEATURES)) + rng.normal(size=(count, FEATURES))[y]
    names = np.array([EVIL, *(f"class {i}" for i in range(1, count))])
    return X.astype(np.float32), names[y]


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    X, y = classes(4)
    return run(tmp_path_factory.mktemp("classified"), X, y), X, y


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    X, y = classes(35)
    return run(tmp_path_factory.mktemp("many"), X, y, max_iter=1), X, y


@pytest.fixture(scope="module")
def regressed(tmp_path_factory):
    X, _ = classes(2)
    y = X[:, 0] * 2 + X[:, 1]
    folder = tmp_path_factory.mktemp("regressed")
    return run(folder, X, y, "MLPRegressor", early_stopping=True, max_iter=8), X, y


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def held_out(report, X, y):
    count = report["rows"]["held_out"]
    return X[-count:], y[-count:]


VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that elements are nested and closed; keeps texts, attributes and tables."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.references, self.texts = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        for name, value in attrs:
            if name.split(":")[-1] in ("href", "src", "action", "data", "srcset"):
                self.references.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_classes_are_rated_as_by_scikit_learn(classified):
    folder, X, y = classified
    report = report_of(folder)
    X, y = held_out(report, X, y)
    predicted = daskalt.load(folder / "model").predict(X)
    names = report["classes"]
    expected = confusion_matrix(y, predicted, labels=names)
    np.testing.assert_array_equal(report["confusion"]["counts"], expected)
    rated = report["confusion"]["classes"]
    parts = precision_recall_fscore_support(y, predicted, labels=names, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1", "rows"), parts, strict=True):
        ours = [np.nan if each[name] is None else each[name] for each in rated]
        np.testing.assert_allclose(ours, values)
    assert report["held_out"]["accuracy"] == np.mean(y == predicted)


def test_classes_that_are_not_there_are_not_rated():
    rated = rate_classes(np.array([[0, 0, 0], [1, 2, 0], [0, 3, 0]]))
    assert rated[0] == {"precision": 0, "recall": None, "f1": 0, "rows": 0, "predicted": 1}
    assert rated[2] == {"precision": None, "recall": 0, "f1": 0, "rows": 3, "predicted": 0}


def test_residuals_are_those_of_the_held_out_rows(regressed):
    folder, X, y = regressed
    report = report_of(folder)
    X, y = held_out(report, X, y)
    predicted = daskalt.load(folder / "model").predict(X)
    shown = report["residuals"]
    edges = shown["predicted_edges"], shown["residual_edges"]
    expected, *_ = np.histogram2d(predicted, y - predicted, bins=edges)
    assert np.sum(shown["counts"]) == len(y) == shown["count"]
    assert np.abs(np.array(shown["counts"]) - expected).sum() <= 2  # rows on an edge, by rounding
    assert report["held_out"]["r2"] == pytest.approx(r2_score(y, predicted), abs=1e-5)


def test_the_page_says_what_the_report_does(classified):
    folder, *_ = classified
    report, page = report_of(folder), Page(folder / "report.html")
    assert (
        report["headline"] == f"Accuracy {report['held_out']['accuracy']:.4f} on 80 held-out rows"
    )
    for words in (report["headline"], report["stop_reason"], *report["shortcomings"]):
        assert words in page.text
    for each in report["next"]:
        assert each["command"] in page.text
    assert all(str(n) in page.text for n in np.ravel(report["confusion"]["counts"]))


@pytest.mark.parametrize("which", ["classified", "many", "regressed"])
def test_the_page_needs_nothing_else(which, request):
    folder, *_ = request.getfixturevalue(which)
    page = Page(folder / "report.html")
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "img")]
    assert all(ref.startswith(("#", "data:image/png;base64,")) for ref in page.references)
    text = (folder / "report.html").read_text()
    assert "@import" not in text
    assert all(ref.startswith("#") for ref in re.findall(r"url\((.*?)\)", text))
    assert all(
        space.startswith("http://www.w3.org/") for space in re.findall(r"https?://[^\"]*", text)
    )


@pytest.mark.parametrize("which", ["classified", "many", "regressed"])
def test_the_page_can_be_read_by_all(which, request):
    folder, *_ = request.getfixturevalue(which)
    tags = Page(folder / "report.html").tags
    assert dict(tags)["html"] == {"lang": "en"}
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert pictures
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    names = [tag for tag, _ in tags]
    labelled = [attributes for _, attributes in tags if "aria-labelledby" in attributes]
    assert names.count("table") == names.count("caption") + len(labelled)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert all(attributes["aria-labelledby"] in ids for attributes in labelled)


def test_what_comes_from_outside_is_shown_as_text(classified, many):
    for folder, *_ in (classified, many):
        assert EVIL in Page(folder / "report.html").text
        assert "<script" not in (folder / "report.html").read_text()


def test_of_many_classes_the_worst_confusions_are_listed(many):
    folder, *_ = many
    report = report_of(folder)
    counts = np.array(report["confusion"]["counts"])
    np.fill_diagonal(counts, 0)
    i, j = np.unravel_index(counts.argmax(), counts.shape)
    page = Page(folder / "report.html")
    assert "The most frequent confusions in 80 held-out rows" in page.text
    assert f"{report['classes'][i]} {report['classes'][j]} {counts[i, j]}" in page.text


def test_parameters_are_told_from_their_defaults(regressed):
    folder, *_ = regressed
    parameters = report_of(folder)["parameters"]
    assert parameters["changed"] == {
        "hidden_layer_sizes": [8],
        "max_iter": 8,
        "random_state": 0,
        "early_stopping": True,
    }
    both = parameters["changed"] | parameters["defaults"]
    assert set(both) == set(daskalt.MLPRegressor().get_params(deep=False))


def test_the_plan_stands_beside_what_was_measured(classified):
    report = report_of(classified[0])
    assert report["plan"]["rows"] == report["rows"]["training"] == 320
    assert report["plan"]["passes"] == report["cost"]["passes"] == 3
    assert report["measured"]["client_bytes"] > 50e6
    assert report["measured"]["worker_bytes"] is None


def test_columns_of_files_are_told(tmp_path):
    frame = pd.DataFrame(
        {
            "size": [1.5, np.nan, 4.0, 2.5] * 20,
            "town": ["Ulm", "<b>", "Ulm", None] * 20,
            "kind": ["a", "b"] * 40,
        }
    )
    frame.to_csv(tmp_path / "rows.csv", index=False)
    words = ["--target", "kind", "--output", str(tmp_path / "run"), "--passes", "2"]
    assert cli.main(["fit", str(tmp_path / "rows.csv"), *words]) == 0
    columns = report_of(tmp_path / "run")["columns"]
    missing = frame.isna().sum()
    assert {each["name"]: each["missing"] for each in columns} == missing.drop("kind").to_dict()
    assert columns[0]["values"] == f"1.5 to 4, missing ones as {frame['size'].median():g}"
    assert sorted(columns[1]["values"].partition(": ")[2].split(", ")) == ["<b>", "Ulm", "missing"]
    text = Page(tmp_path / "run" / "report.html").text
    assert all(each["values"] in text for each in columns)
    assert "new.csv" in text


# Advice

QUIET = {
    "watched": "loss",
    "stop_reason": "all passes were made",
    "stop_kind": "all made",
    "parameters": {"changed": {}},
    "last_pass": {"loss": 0.1, "accuracy": 0.9},
    "warnings": [],
    "plan": None,
    "measured": {"client_bytes": 500, "worker_bytes": None},
}
SETTLED = [{"loss": loss} for loss in (1.0, 0.5, 0.4, 0.4)]


def shortcomings(history, **facts):
    return list(find_shortcomings(QUIET | facts, history))


def test_nothing_fell_short():
    assert shortcomings(SETTLED) == []
    assert shortcomings(SETTLED, held_out={"loss": 0.2, "accuracy": 0.85}) == []


def test_a_loss_that_still_falls():
    history = [{"loss": 1 / n} for n in range(1, 31)]
    (words,) = shortcomings(history)
    assert words == (
        "The training loss was still falling, by 10 % in the last 3 passes, when all 30 passes "
        "were made: give more passes."
    )
    assert shortcomings(history, stop_kind="converged") == []
    assert "One pass was made" in shortcomings(history[:1])[0]


def test_a_network_that_overfits():
    losses = [(1, 1), (0.5, 0.6), (0.3, 0.7), (0.3, 0.8)]
    history = [{"loss": a, "validation_loss": b} for a, b in losses]
    (words,) = shortcomings(history, watched="validation_loss")
    assert "least after pass 2 (0.6) and has risen to 0.8" in words
    early = {"changed": {"early_stopping": True}}
    assert shortcomings(history, watched="validation_loss", parameters=early) == []


def test_held_out_rows_that_are_of_another_kind():
    (words,) = shortcomings(SETTLED, held_out={"loss": 1.0, "accuracy": 0.7})
    assert words.startswith("Accuracy is 0.700 on held-out rows and 0.900 on training rows")
    (words,) = shortcomings(SETTLED, last_pass={"r2": 0.9}, held_out={"r2": 0.2})
    assert words.startswith("R² is 0.200")


def test_steps_that_were_refused_and_a_method_that_diverged():
    refused = [*SETTLED[:-1], {"loss": 0.4, "refused": 3}]
    assert shortcomings(refused)[0].startswith("3 steps met numbers that were not finite")
    reason = "the method diverged: the loss rose; the weights are those of pass 2"
    ended = {"stop_kind": "diverged", "stop_reason": reason}
    known = [{"kind": "DivergenceWarning", "words": reason}, {"kind": "Other", "words": "Sorted."}]
    first, second = shortcomings(SETTLED, **ended, warnings=known)
    assert first.startswith("The method diverged: the loss rose")
    assert second == "Sorted."


def test_classes_that_are_never_predicted():
    rated = rate_classes(np.array([[5, 0, 0], [2, 0, 0], [0, 0, 0]]))
    (words,) = shortcomings(SETTLED, classes=["a", "b", "c"], confusion={"classes": rated})
    assert words.startswith("Present, but never predicted: b.")


@pytest.mark.parametrize(("planned", "told"), [(480, 0), (300, 1), (1000, 1)])
def test_a_plan_that_was_off(planned, told):
    plan = {"client_bytes": planned, "worker_bytes": None, "memory_limit": 10_000}
    assert len(shortcomings(SETTLED, plan=plan | {"worker_limit": None})) == told


def test_memory_that_was_near_its_limit():
    plan = {"client_bytes": 500, "worker_bytes": 90, "memory_limit": 9000, "worker_limit": 100}
    measured = {"client_bytes": 500, "worker_bytes": 95}
    (words,) = shortcomings(SETTLED, plan=plan, measured=measured)
    assert "95 bytes in a worker, near the limit of 100 bytes" in words


def test_commands_can_be_pasted(classified):
    report = report_of(classified[0])
    commands = [each["command"] for each in report["next"]]
    assert "config.yaml --passes 6 --resume" in " ".join(commands)
    data = {"training": {"place": "my rows.zarr"}}
    changed = report | {"output": "my run", "data": data, "stop_kind": "converged"}
    commands = [each["command"] for each in next_commands(changed, [{}])]
    assert commands == [
        "daskalt predict 'my run' new.zarr --output labels.csv",
        "daskalt evaluate 'my run' test.zarr",
        "daskalt plan 'my run/config.yaml'",
    ]


def test_what_is_no_number_is_null():
    document = {"a": np.float32(1.5), "b": [np.nan, np.inf], "c": np.arange(2), "d": (True, None)}
    expected = {"a": 1.5, "b": [None, None], "c": [0, 1], "d": [True, None]}
    assert json.loads(json_text(document)) == expected


def test_a_page_without_some_of_the_facts(classified):
    """As of a run whose fit was over when it was resumed, with passes that had no loss."""
    report = {k: v for k, v in report_of(classified[0]).items() if k not in ("plan", "confusion")}
    history = [{"pass": 1, "loss": np.nan, "refused": 2, "seconds": 1.0}, {"pass": 2, "loss": 0.5}]
    page = render(report | {"resumed": ["2026-01-01T00:00:00Z"]}, history)
    assert "resumed 1 time" in page
    assert "Confusion matrix" not in page
