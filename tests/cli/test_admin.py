"""dsa redundancy, nodes drain and rm, rebalance, tasks: a plan first, then what it said."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from dsa_zmq import LocalCluster

if TYPE_CHECKING:
    from tests.cli.conftest import Dsa

FILES = {f"/d/{number}": os.urandom(100_000 + number) for number in range(12)}


@pytest.mark.slow
def test_a_node_is_planned_emptied_switched_off_and_forgotten(dsa: Dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(nodes=4) as cluster, cluster.connect() as store:
        monkeypatch.setenv("DSA_URL", cluster.url)
        for path, data in FILES.items():
            store.write_bytes(path, data)
        planned = dsa.ok("nodes", "drain", "-n", "node-1", "--json").objects[0]
        assert planned["plan"] == "drain"
        assert planned["moves"] > 0
        refused = dsa("nodes", "drain", "node-1")
        assert refused.status == 2
        assert "say -y" in refused.err
        assert not any(node.draining for node in store.nodes())
        assert "may be switched off" in dsa.ok("nodes", "drain", "-y", "node-1").text
        assert dsa("nodes", "rm", "-y", "node-1").status == 4
        assert "up, draining" in dsa.ok("nodes").text
        cluster.kill(0)
        deadline = time.monotonic() + 10
        while [node.state for node in store.nodes() if node.name == "node-1"] != ["down"]:
            assert time.monotonic() < deadline
        dsa.ok("nodes", "rm", "-y", "node-1")
        assert [node.name for node in store.nodes()] == ["node-2", "node-3", "node-4"]
        assert {path: store.read_bytes(path) for path in FILES} == FILES
        assert store.health().healthy_chunks == len(FILES)
        kinds = [line.split(":")[0] for line in dsa.ok("tasks").text.splitlines()]
        assert sorted(kinds) == ["drain node-1", "remove node-1"]
        assert dsa("nodes", "drain", "-n", "node-9").status == 3


@pytest.mark.slow
def test_what_is_stored_gets_the_redundancy_of_its_directory(dsa: Dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(nodes=3) as cluster, cluster.connect() as store:
        monkeypatch.setenv("DSA_URL", cluster.url)
        for path, data in FILES.items():
            store.write_bytes(path, data)
        assert "new files in /d get copies=3" in dsa.ok("redundancy", "set", "/d", "copies=3").text
        assert dsa("redundancy", "set", "/d", "copies=4").status == 6
        assert dsa("redundancy", "set", "/d/1", "copies=3").status == 4
        assert dsa.ok("stat", "--json", "/d").objects[0]["redundancy"] == "copies=3"
        plan = dsa.ok("redundancy", "apply", "-n", "/d", "--json").objects[0]
        assert (plan["moves"], plan["bytes"]) == (36, 3 * sum(map(len, FILES.values())))
        assert {entry.redundancy for entry in store.ls("/d")} == {"copies=2"}
        assert "done" in dsa.ok("redundancy", "apply", "-y", "/d").text
        assert {entry.redundancy for entry in store.ls("/d")} == {"copies=3"}
        assert {path: store.read_bytes(path) for path in FILES} == FILES
        report = store.health()
        assert (report.lost_chunks, report.endangered_chunks, report.degraded_chunks) == (0, 0, 0)
        assert "nothing to do" in dsa.ok("redundancy", "apply", "-n", "/d").text
        dsa.ok("redundancy", "set", "/d", "inherit")
        assert store.stat("/d").redundancy == "copies=2"
        cluster.kill(0)
        cluster.kill(1)
        assert {path: store.read_bytes(path) for path in FILES} == FILES


@pytest.mark.slow
def test_rebalancing_shows_its_plan_and_ends(dsa: Dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(nodes=3) as cluster:
        monkeypatch.setenv("DSA_URL", cluster.url)
        assert dsa.ok("rebalance", "-n").text == "nothing to do: all nodes are filled alike\n"
        assert dsa.ok("tasks").text == "nothing was begun yet\n"
        assert dsa.ok("rebalance", "-y", "--json").objects[-1]["state"] == "done"
        assert dsa.ok("rebalance", "--stop").text == "nothing of that kind goes on\n"


@pytest.mark.slow
def test_what_is_stopped_is_told_once(dsa: Dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(nodes=3) as cluster, cluster.connect() as store:
        monkeypatch.setenv("DSA_URL", cluster.url)
        assert dsa.ok("nodes", "drain", "--stop", "node-1", "--json").objects == [{"stopped": False}]
        dsa.ok("nodes", "drain", "-y", "node-1")
        assert dsa.ok("nodes", "drain", "--stop", "node-1").text == "stopped; what was done stays\n"
        assert not any(node.draining for node in store.nodes())
        assert dsa.ok("nodes", "drain", "--stop", "node-1").text == "nothing of that kind goes on\n"
        dsa.ok("nodes", "drain", "-y", "node-1")
        assert dsa.ok("nodes", "drain", "--stop", "node-1", "--json").objects == [{"stopped": True}]
