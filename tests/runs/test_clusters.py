"""The dashboard of a run: its address, its access, and the message without it."""

import sys
import urllib.request
from types import SimpleNamespace

import pytest

from daskalt.runs import clusters
from daskalt.runs.clusters import cluster_of

LOCAL = SimpleNamespace(scheduler=None, workers=1, dashboard=0)


def asked(**changes):
    return SimpleNamespace(**vars(LOCAL) | changes)


@pytest.fixture
def without_bokeh(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)


def test_the_link_of_started_workers_leads_to_a_dashboard(capsys):
    pytest.importorskip("bokeh")
    with cluster_of(asked()):
        words, link = capsys.readouterr().err.split()
        assert words == "Dashboard:"
        assert link.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(link) as page:
            assert b"bokeh" in page.read().lower()


def test_a_scheduler_that_is_there_has_its_own(capsys):
    pytest.importorskip("bokeh")
    with clusters.local_workers(1) as client:
        link, address = client.dashboard_link, client.scheduler.address
        with cluster_of(asked(workers=None, scheduler=address)):
            assert capsys.readouterr().err == f"Dashboard: {link}\n"


def test_the_port_is_chosen(monkeypatch):
    make, addresses = clusters.LocalCluster, []

    def noted(**options):
        addresses.append(options["dashboard_address"])
        return make(**options | {"dashboard_address": "127.0.0.1:0"})

    monkeypatch.setattr(clusters, "LocalCluster", noted)
    with cluster_of(asked(dashboard=8899)):
        assert addresses == ["127.0.0.1:8899"]


@pytest.mark.usefixtures("without_bokeh")
@pytest.mark.parametrize("port", [0, 8899])
def test_without_bokeh_only_who_asks_is_told(port, monkeypatch, capsys):
    make = clusters.LocalCluster
    monkeypatch.setattr(
        clusters,
        "LocalCluster",
        lambda **options: make(**options | {"dashboard_address": "127.0.0.1:0"}),
    )
    with cluster_of(asked(dashboard=port)):
        said = capsys.readouterr().err
    assert said == ("For a dashboard: pip install 'daskalt[dashboard]'.\n" if port else "")
