"""The comparison on tables: what a file says, the arithmetic by hand, runs on made-up data."""

import json

import numpy as np
import pytest
from sklearn.datasets import make_friedman1
from threadpoolctl import threadpool_limits

import daskalt
from pipelines import compare_tables
from pipelines.benchmark.tables import Table, markdown
from pipelines.tabular.data import Setting, TableData, load_table, load_tables
from pipelines.tabular.methods import METHODS, Method, Run, absent, job, score_of
from pipelines.tabular.picture import drawing
from pipelines.tabular.summary import Results, summary

ABSENT = ("surely_not_installed", "surely-not-installed==1")

SETTING = Setting(None, (0, 1))


@pytest.fixture(autouse=True)
def one_thread():
    """Many threads on tiny rows wait for each other, above all where other tests run too."""
    with threadpool_limits(1):
        yield


def classes(rows=600, seed=0):
    """Rows of three classes around distant means, in columns of very different units."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=rows)
    X = rng.standard_normal((rows, 4)) + 4 * np.eye(3, 4)[y]
    return (X * [1, 100, 1e-3, 1] + [0, 1e4, 0, 5]).astype(np.float32), y


def numbers(rows=600, seed=0):
    """Rows of Friedman's first problem, and its targets in large units."""
    X, y = make_friedman1(rows, n_features=5, random_state=seed)
    return X.astype(np.float32), (1e4 + 300 * y).astype(np.float32)


def halves(X, y):
    """A file's arrays: two thirds of the rows are for training."""
    cut = len(X) * 2 // 3
    return {"x_train": X[:cut], "y_train": y[:cut], "x_test": X[cut:], "y_test": y[cut:]}


def data_of(folder, X, y):
    np.savez(folder / "made.npz", **halves(X, y))
    return load_table(folder / "made.npz")


@pytest.fixture
def folder(tmp_path):
    """A folder with a table of each kind, and something else."""
    folder = tmp_path / "tables"
    folder.mkdir()
    np.savez(folder / "numbers.npz", **halves(*numbers()))
    np.savez(folder / "classes.npz", **halves(*classes()))
    (folder / "README").write_text("two tables")
    return folder


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([7, 3, 3, 9, 7, 3]), [1, 0, 0, 2, 1, 0]),
        (np.array(["b", "a", "a", "b", "a", "b"]), [1, 0, 0, 1, 0, 1]),
        (np.array([True, False, False, True, False, True]), [1, 0, 0, 1, 0, 1]),
        (np.array([2.0, -1.0, -1.0, 2.0, 2.0, -1.0], np.float32), [1, 0, 0, 1, 1, 0]),
        (np.array([2.0, -1.0, -1.5, 2.0, 2.0, -1.0]), None),
        (np.arange(60, dtype=np.float32), None),
    ],
)
def test_targets_are_classes_or_numbers(y, expected, tmp_path):
    data = data_of(tmp_path, np.ones((len(y), 2)), y[:, None])
    assert data.is_classification is (expected is not None)
    assert data.y_train.dtype == (np.int64 if expected else np.float64)
    found = np.concatenate([data.y_train, data.y_test])
    np.testing.assert_array_equal(found, expected if expected else y)


def test_a_class_without_training_rows_is_never_right(tmp_path):
    data = data_of(tmp_path, np.ones((6, 2)), np.array([4, 2, 2, 4, 9, 2]))
    assert data.y_test.tolist() == [-1, 0]
    assert score_of(data, np.zeros(2, int)) == 0.5


def test_rows_stay_as_they_are_in_the_file(folder):
    X, _ = classes()
    first, second = load_tables(folder)
    assert (first.name, second.name) == ("classes", "numbers")
    assert first.x_train.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([first.x_train, first.x_test]), X)
    assert [data.name for data in load_tables(folder, ["numbers"])] == ["numbers"]


GOOD = halves(*classes(30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"lacks the arrays \['y_test'\]; save all of"),
        ({"x_train": np.ones(20)}, r"x_train has the shape \(20,\); save it as \(rows, features\)"),
        ({"x_train": np.full((20, 4), "a")}, "x_train holds <U1; encode its columns as numbers"),
        ({"x_test": np.ones((10, 3))}, "x_train has 4 features and x_test 3; save the same"),
        ({"x_test": np.full((10, 4), np.nan)}, "x_test has 40 values that are no finite numbers"),
        ({"y_train": np.ones(19)}, r"y_train has the shape \(19,\) and its rows are 20"),
        ({"y_train": np.full(20, np.inf)}, "y_train has 20 values that are no finite numbers"),
        ({"y_train": np.zeros(20, int)}, "y_train has 1 distinct values .* give 2 to 1,000"),
        ({"x_train": np.array([{}])}, "Object arrays cannot be loaded"),
    ],
)
def test_a_bad_file_is_named_with_the_cure(changes, message, tmp_path):
    arrays = {name: array for name, array in (GOOD | changes).items() if array is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(SystemExit, match=rf"bad\.npz: .*{message}"):
        load_tables(tmp_path)


def test_many_integers_are_no_classes(tmp_path):
    with pytest.raises(SystemExit, match=r"2,000 distinct values .* as float32"):
        data_of(tmp_path, np.ones((3_000, 1)), np.arange(3_000))


def test_what_is_no_npz_file_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(SystemExit, match=r"text\.npz: "):
        load_tables(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "FOLDER: nowhere is no folder"),
        ([".", "--seeds", "0"], "--seeds: give at least 1"),
        ([".", "--methods", "daskalt,forest"], r"--methods: no method is called \['forest'\]"),
        (["."], "FOLDER: . has no npz file"),
    ],
)
def test_options_that_cannot_be_are_named(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        compare_tables.main(arguments)
    assert not list(tmp_path.iterdir())


def test_an_unknown_table_is_named(folder):
    with pytest.raises(SystemExit, match=r"--only: .*\['wine'\]; choose among classes, numbers"):
        compare_tables.main([str(folder), "--only", "classes,wine"])


def test_the_head_of_a_table_has_no_rare_class():
    y = np.array([0] * 60 + [3, 2] * 19 + [1, 2, 3])
    X = np.arange(len(y), dtype=float)[:, None]
    head = TableData("made", X, y, X, y).head(100)
    kept = y[:100] != 1
    np.testing.assert_array_equal(head.x_train, X[:100][kept])
    np.testing.assert_array_equal(head.y_train, np.array([0, -1, 1, 2])[y[:100][kept]])
    np.testing.assert_array_equal(head.y_test, head.y_train)


@pytest.fixture
def results():
    """Two tables, two seeds: scores and seconds whose medians are plain."""
    scores = {
        "daskalt": [(0.90, 0.92), (0.70, 0.70)],
        "daskalt-early": [(0.88, 0.88), (0.80, 0.80)],
        "sklearn": [(0.904, 0.924), (0.79, 0.79)],
        "torch": [(0.80, 0.80), (0.75, 0.75)],
        "trees": [(0.99, 0.99), (0.10, 0.10)],
    }
    seconds = {"daskalt": (1.0, 2.0), "sklearn": (4.0, 8.0), "torch": (9.0, 2.0)}
    return Results(
        {"a": "accuracy", "b": "R²"},
        [
            Run(table, name, seed, seconds.get(name, (1.0, 1.0))[seed], score)
            for place, table in enumerate("ab")
            for name in scores
            for seed, score in enumerate(scores[name][place])
        ],
    )


def test_ranks_are_of_the_median_scores_of_networks_alone(results):
    assert results.networks == ["daskalt", "daskalt-early", "sklearn", "torch"]
    assert results.mean_ranks(results.networks) == {
        "daskalt": (2 + 4) / 2,
        "daskalt-early": (3 + 1) / 2,
        "sklearn": (1 + 2) / 2,
        "torch": (4 + 3) / 2,
    }
    networks = summary(results, SETTING)[2]
    cells = {row.cells["method"]: row.cells for row in networks.rows}
    assert cells["daskalt"]["beside peers"] == (2 + 3) / 2
    assert cells["daskalt-early"]["beside peers"] == (2 + 1) / 2
    assert cells["sklearn"]["beside peers"] == 1  # beside `daskalt`, not beside `daskalt-early`
    assert cells["daskalt"]["within 0.005 of the best"] == "1 of 2"
    assert cells["daskalt"]["worst to the best"] == "-0.1000 (b)"
    assert cells["daskalt-early"]["within 0.005 of the best peer"] == "1 of 2"
    assert cells["daskalt-early"]["worst to the best peer"] == "-0.0340 (a)"
    assert cells["daskalt-early"]["worst to daskalt"] == "-0.0300 (a)"


def test_equal_scores_share_a_rank():
    runs = [Run("a", name, 0, 1.0, 0.5) for name in ("daskalt", "sklearn", "torch")]
    assert set(Results({"a": "R²"}, runs).mean_ranks(["daskalt", "sklearn", "torch"]).values()) == {
        2.0
    }


def test_seconds_are_medians_and_their_ratios_are_paired_by_seed(results):
    scores, seconds, _, ratios = summary(results, SETTING)
    assert scores.rows[0].cells["sklearn"] == "0.9140"
    assert [row.cells["sklearn"] for row in seconds.rows] == [6.0, 6.0, pytest.approx(6.0)]
    cells = {row.cells["method"]: row.cells for row in ratios.rows}
    assert cells["sklearn"]["over daskalt"] == "4, least 4 (a)"
    assert cells["torch"]["over daskalt"] == "5, least 5 (a)"  # of 9 and 1
    assert "daskalt-early" not in cells


def test_a_fit_that_failed_is_last_and_said(results):
    failed = Run("c", "sklearn", 0, np.nan, -np.inf, "ValueError: no")
    others = [Run("c", name, 0, 1.0, 0.5) for name in results.networks if name != "sklearn"]
    only = Results({"c": "R²"}, [*others, failed])
    assert only.mean_ranks(only.networks)["sklearn"] == 4
    pages = summary(only, SETTING)
    assert "sklearn failed on c, seed 0: ValueError: no" in pages[0].notes
    assert pages[1].rows[0].cells["torch"] == 1.0
    assert np.isnan(pages[1].rows[0].cells["sklearn"])


def test_the_picture_has_a_point_for_each_method_and_table(results):
    from matplotlib.figure import Figure

    figure = Figure()
    drawing(results)(figure)
    points, means = figure.axes
    assert [line.get_label() for line in points.lines] == results.methods
    for line in points.lines:
        seconds, differences = line.get_data()
        (expected,) = results.medians("seconds", [line.get_label()]).T
        np.testing.assert_array_equal(seconds, expected)
        np.testing.assert_array_equal(
            differences, results.differences(line.get_label(), results.networks)
        )
    assert [line.get_label() for line in means.lines] == results.networks
    ranks = results.mean_ranks(results.networks)
    assert [line.get_ydata() for line in means.lines] == [[rank] for rank in ranks.values()]


def test_only_targets_that_are_there_have_columns_and_the_environment_comes_once():
    tables = [Table(name, "title") for name in "ab"]
    for table in tables:
        table.add(x=1.5)
    page = markdown(*tables)
    assert page.count("| x |\n| --- |\n| 1.5 |\n") == 2
    assert page.count("Python ") == 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("make", "enough"), [(classes, 0.95), (numbers, 0.85)])
def test_every_method_learns_each_kind_of_table(name, make, enough, tmp_path):
    for line in absent([name]).values():
        pytest.skip(line)
    setting = Setting(data_of(tmp_path, *make(1_500)), (0,), hidden=32, passes=40)
    first, again = (job(name)(setting, 0) for _ in range(2))
    assert first.failure == ""
    assert first.score > enough
    assert first.score == again.score


@pytest.mark.parametrize("name", ["sklearn-early", "torch"])
@pytest.mark.parametrize("make", [classes, numbers])
def test_peers_are_given_standardised_rows(name, make, tmp_path):
    for line in absent([name]).values():
        pytest.skip(line)
    X, y = make()
    setting = Setting(data_of(tmp_path, X, y), (0,), hidden=8, passes=3)
    other = Setting(data_of(tmp_path, X * 1024.0 - 4096.0, y), (0,), hidden=8, passes=3)
    predictions = [
        METHODS[name].fit(setting, 0)(setting.data.x_test) for setting in (setting, other)
    ]
    np.testing.assert_allclose(*predictions, rtol=1e-3)


@pytest.mark.parametrize("make", [classes, numbers])
def test_daskalt_is_given_the_rows_as_they_are(make, tmp_path, monkeypatch):
    made = []

    class Recorder:
        def __init__(self, hidden, **parameters):
            made.append((hidden, parameters))

        def fit(self, X, y):
            made.append((X, y))
            return self

        predict = None

    for kind in ("MLPClassifier", "MLPRegressor"):
        monkeypatch.setattr(daskalt, kind, Recorder)
    setting = Setting(data_of(tmp_path, *make()), (0,), hidden=8, passes=3)
    for name in ("daskalt", "daskalt-passes", "daskalt-early"):
        METHODS[name].fit(setting, 5)
    parameters, given = made[::2], made[1::2]
    assert parameters == [
        ((8,), {"random_state": 5}),
        ((8,), {"random_state": 5, "max_iter": 3}),
        ((8,), {"random_state": 5, "early_stopping": True}),
    ]
    for X, y in given:
        assert X is setting.data.x_train
        assert y is setting.data.y_train


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(METHODS, "torch", Method(None, "no peer", requires=ABSENT))


def test_the_command_leaves_tables_runs_and_a_picture(folder, tmp_path, capsys, without_torch):
    out, picture = tmp_path / "deep" / "out.json", tmp_path / "picture.png"
    arguments = [str(folder), "--quick", "--seeds", "2", "--out", str(out)]
    assert compare_tables.main([*arguments, "--picture", str(picture)]) == 0
    said = capsys.readouterr()
    assert "torch skipped: pip install surely-not-installed==1" in said.err
    names = [name for name in METHODS if name != "torch"]
    assert f"| table | measure | {' | '.join(names)} |" in said.out
    assert "- torch skipped" in said.out
    assert "- --quick: tiny sizes" in said.out
    record = json.loads(out.read_text())
    assert [table["check"] for table in record["tables"]] == [
        "scores",
        "seconds",
        "networks",
        "ratios",
    ]
    assert [row["cells"]["measure"] for row in record["tables"][0]["rows"]] == ["accuracy", "R²"]
    runs = [(run["table"], run["method"], run["seed"]) for run in record["runs"]]
    assert runs == [
        (table, name, seed) for table in ("classes", "numbers") for name in names for seed in (0, 1)
    ]
    for table in record["tables"][0]["rows"]:
        for name in names:
            scores = [
                run["score"]
                for run in record["runs"]
                if (run["table"], run["method"]) == (table["cells"]["table"], name)
            ]
            assert table["cells"][name] == f"{np.median(scores):.4f}"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_method_that_breaks_does_not_lose_the_others(folder, tmp_path, capsys, monkeypatch):
    def broken(setting, seed):
        raise RuntimeError("on purpose")

    monkeypatch.setitem(METHODS, "sklearn", Method(broken, "broken"))
    out = tmp_path / "out.json"
    arguments = [str(folder), "--quick", "--seeds", "1", "--methods", "trees,sklearn,daskalt"]
    arguments += ["--only", "classes", "--out", str(out), "--picture", str(tmp_path / "p.png")]
    assert compare_tables.main(arguments) == 1
    said = capsys.readouterr()
    assert "- sklearn failed on classes, seed 0: RuntimeError: on purpose" in said.out
    assert "Traceback" in said.err
    runs = {run["method"]: run for run in json.loads(out.read_text())["runs"]}
    assert list(runs) == ["trees", "sklearn", "daskalt"]
    assert runs["sklearn"]["score"] is None
    assert runs["daskalt"]["score"] > 0


def test_with_no_method_left_it_says_so(folder, without_torch):
    with pytest.raises(SystemExit, match="--methods: none of them is installed"):
        compare_tables.main([str(folder), "--methods", "torch"])
