"""Nothing is opened, unpickled or run that a user did not ask for; TLS clusters stay closed."""

import ast
import os
import re
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import psutil
import pytest
import yaml
from distributed import Client, LocalCluster
from distributed.security import Security

import daskalt
from daskalt import MLPClassifier, StochasticAltMin
from daskalt.runs import cli
from daskalt.runs.clusters import cluster_of

ROOT = Path(daskalt.__file__).parent
TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 3
    return rng.normal(y[:, None], 0.3, (200, 4)).astype(np.float32), y


def classifier(**options):
    return MLPClassifier((8,), max_iter=2, random_state=0, **options)


# ------------------------------------------------------------------- a cluster over TLS


@pytest.fixture
def tls():
    """A cluster of one worker that speaks TLS alone, and a client with its credentials."""
    security = Security.temporary()
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            protocol="tls://",
            security=security,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_fit_on_a_tls_cluster_gives_the_bits_of_threads(tls, data, store):
    addresses = [tls.scheduler.address, *tls.scheduler_info()["workers"]]
    assert len(addresses) == 2
    assert all(address.startswith("tls://") for address in addresses)
    rows = store(*data)
    there = classifier().fit(rows, client=tls)
    with dask.config.set(scheduler="threads"):
        here = classifier().fit(rows)
    for a, b in zip(here.coefs_ + here.intercepts_, there.coefs_ + there.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("protocol", ["tls", "tcp"])
def test_a_tls_cluster_refuses_a_client_without_credentials(tls, protocol):
    address = tls.scheduler.address.replace("tls", protocol)
    with pytest.raises((OSError, TypeError)):
        Client(address, timeout="1s", set_as_default=False)


# ------------------------------------------------------------------- no ports


NETWORK = {"socket", "socketserver", "ssl", "http", "tornado", "xmlrpc", "smtplib"}


def imported(tree):
    """The modules that a file imports, and what it imports from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree):
    """Every call in a file, with the dotted name of what is called where it has one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("file", TREES)
def test_no_module_reaches_for_the_network(file):
    assert not {name.split(".")[0] for name in imported(TREES[file])} & NETWORK
    servers = {"Server", "create_server", "start_server", "listen_tcp", "HTTPServer"}
    assert not {name.split(".")[-1] for name, _ in calls(TREES[file])} & servers


class Watched(StochasticAltMin):
    """Notes, in every step, what this process listens on."""

    seen: list = []  # noqa: RUF012

    def update(self, problem, state, statistics):
        self.seen.append(listening())
        return super().update(problem, state, statistics)


def listening(*others):
    """Where this process, and others, listen."""
    return {
        connection.laddr
        for process in (psutil.Process(), *others)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_a_fit_on_threads_listens_on_nothing_new(data, monkeypatch):
    monkeypatch.setattr(Watched, "seen", [])
    before = listening()
    classifier(solver=Watched(), verbose=True).fit(*data)
    assert len(Watched.seen) > 1
    assert set().union(*Watched.seen) <= before


def test_workers_that_a_run_starts_listen_to_this_machine_alone():
    config = SimpleNamespace(scheduler=None, workers=1, dashboard=0)
    before = listening()
    with cluster_of(config):
        after = listening(*psutil.Process().children(recursive=True)) - before
    assert len(after) >= 2
    assert {address.ip for address in after} <= {"127.0.0.1", "::1"}


# ------------------------------------------------------------------- no code from data


PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
OWN = {"__init__.py", "runs/commands.py"}  # which import modules of the package by their names
RUNS = {"eval", "exec", "compile", "__import__", "system", "popen", "import_module"}


@pytest.mark.parametrize("file", TREES)
def test_no_module_unpickles_or_runs_text(file):
    tree = TREES[file]
    assert not {name.split(".")[0] for name in imported(tree)} & (PICKLES | {"subprocess"})
    for name, call in calls(tree):
        head, *_, last = name.split(".") if "." in name else (name, name)
        own = file in OWN and re.match(r"import_module\(f.daskalt\.", ast.unparse(call))
        assert last not in RUNS or (head == "re" and last == "compile") or own, name
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if last in ("load", "load_all", "full_load", "unsafe_load") and head == "yaml":
            assert given.get("Loader") == "_Loader", name
        if name in ("np.load", "numpy.load"):
            assert given.get("allow_pickle") == "False", name


def test_the_loader_of_configurations_is_a_safe_one():
    from daskalt.runs.document import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)
    assert not any(tag and "python" in tag for tag in _Loader.yaml_constructors)


def configured(folder, text):
    """Write a configuration, fit as it says, and return the exit code."""
    path = folder / "conf.yaml"
    path.write_text(text)
    return cli.main(["fit", str(path)])


GOOD = {
    "estimator": "MLPClassifier",
    "parameters": {"max_iter": 1, "hidden_layer_sizes": [4]},
    "data": {"dataset": "wine"},
}


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {file}']",
        "!!python/object/apply:subprocess.check_output [[touch, '{file}']]",
        "!!python/object/new:os.system ['touch {file}']",
        "!!python/name:builtins.eval",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
    ],
)
@pytest.mark.parametrize("where", ["estimator: {}", "parameters: {{solver: {}}}", "data: {}"])
def test_tags_that_name_python_are_refused_and_run_nothing(tmp_path, capsys, tag, where):
    value = tag.format(file=tmp_path / "ran")
    assert configured(tmp_path, where.format(value) + f"\noutput: {tmp_path / 'run'}\n") == 2
    assert "is not valid YAML" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["conf.yaml"]


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "daskalt.runs.cli.main", "__class__"]
)
@pytest.mark.parametrize(
    ("path", "inner"),
    [
        (("estimator",), False),
        (("parameters", "solver"), False),
        (("parameters", "solver"), True),
        (("parameters", "solver", "line_search"), False),
        (("parameters", "solver", "line_search"), True),
    ],
)
def test_names_of_anything_but_our_classes_are_refused(tmp_path, capsys, path, inner, name):
    tree = yaml.safe_load(yaml.safe_dump(GOOD)) | {"output": str(tmp_path / "run")}
    place = tree
    for key in path[:-1]:
        place = place.setdefault(key, {"name": "gd"} if key == "solver" else {})
    place[path[-1]] = {"name": name} if inner else name
    assert configured(tmp_path, yaml.safe_dump(tree)) == 2
    printed = capsys.readouterr().err
    names = "'MLPClassifier' or 'MLPRegressor'" if path == ("estimator",) else "one of "
    assert f"{path[-1]} must be {names}" in printed
    assert repr(name) in printed
    assert os.listdir(tmp_path) == ["conf.yaml"]


def test_the_same_configuration_with_a_name_of_ours_runs(tmp_path):
    tree = GOOD | {"output": str(tmp_path / "run")}
    assert configured(tmp_path, yaml.safe_dump(tree)) == 0
