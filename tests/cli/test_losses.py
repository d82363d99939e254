"""Folders while parts of the cluster are gone: what can be had is fetched, what cannot is named, and nobody waits long."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from actors.zmq.reactor import ZmqRuntime
from dsa_zmq.client.get_tree import get_tree
from dsa_zmq.client.service import client_spec
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.store import Store
from dsa_zmq.cluster import LocalCluster
from dsa_zmq.errors import DSAError, Timeout, Unavailable
from dsa_zmq.model.addresses import parse_url
from dsa_zmq.model.stat import Stat
from tests.cli.conftest import Dsa

pytestmark = pytest.mark.slow

CALM = 2  #: times shorter than in life: on a busy machine a node is not suspected, and left out, for a late heartbeat


def impatient(url: str) -> Store:
    """As ``connect`` makes it, but it gives up after seconds."""
    settings = ClientSettings(hosts=parse_url(url), progress_timeout_s=3.0, request_timeout_s=1.5)
    return Store(lambda: ZmqRuntime(client_spec(settings, random.SystemRandom())).start(), url)


def test_files_whose_only_node_is_gone_are_named_and_the_others_fetched(tmp_path: Path) -> None:
    content = {f"f{number:02}": os.urandom(70_000) for number in range(24)}  # larger ones are placed each by itself
    failures: list[DSAError] = []
    with LocalCluster(nodes=2, redundancy="copies=1", speed=CALM) as cluster, impatient(cluster.url) as store:
        cluster.wait_healthy()  # each node has been reached by the other: until then it may get nothing
        stored = store.put_many((data, f"/d/{name}") for name, data in content.items())
        assert all(isinstance(outcome, Stat) for outcome in stored), stored
        cluster.kill(0)
        result = get_tree(store, "/d", tmp_path / "d", on_failure=failures.append)
    fetched = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    assert 0 < len(fetched) < len(content), failures
    assert all(content[name] == data for name, data in fetched.items())
    assert (result.files, result.failed) == (len(fetched), len(content) - len(fetched))
    assert len(failures) == result.failed
    for name in set(content) - set(fetched):
        assert any(f"/d/{name}" in failure.message for failure in failures)


def test_without_a_master_the_whole_folder_ends_at_once(tmp_path: Path) -> None:
    with LocalCluster(nodes=2, speed=CALM) as cluster, impatient(cluster.url) as store:
        store.put_many((os.urandom(100), f"/d/{number}") for number in range(300))
        failures: list[DSAError] = []

        (tmp_path / "d").mkdir()
        (tmp_path / "d/0").mkdir()  # fails alone, and then nobody answers any more
        with pytest.raises((Unavailable, Timeout)):
            get_tree(
                store, "/d", tmp_path / "d", on_failure=lambda error: (failures.append(error), cluster.kill_master())
            )
        assert [failure.code for failure in failures] == ["local"]


def test_with_copies_a_lost_node_costs_nothing(dsa: Dsa, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = {f"f{number:02}": os.urandom(70_000) for number in range(24)}  # larger ones are placed each by itself
    with LocalCluster(nodes=3, speed=CALM) as cluster, cluster.connect() as store:
        store.put_many((data, f"/d/{name}") for name, data in content.items())
        cluster.kill(0)
        monkeypatch.setenv("DSA_URL", cluster.url)
        dsa.ok("get", "/d", str(tmp_path / "d"))
        dsa.ok("put", str(tmp_path / "d"), "/again")
        assert {entry.name for entry in store.ls("/again")} == set(content)
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == content
