"""``dsa df``, ``dsa nodes``, ``dsa health``: what they say of a cluster that is well, and of one that is not."""

from __future__ import annotations

import os
import time

import pytest

from dsa_zmq import __version__
from dsa_zmq.cluster import LocalCluster
from dsa_zmq.protocol.messages import PROTOCOL_VERSION
from tests.cli.conftest import Dsa


def test_df_says_what_can_still_be_stored(dsa: Dsa) -> None:
    lines = dsa.ok("df").text.splitlines()
    assert lines[0].endswith(" more at copies=2")
    assert lines[1].endswith("2 of 2 nodes up")
    assert lines[3].split() == ["NODE", "STATE", "CAPACITY", "USED", "FREE", "USED%"]
    assert [line.split()[:2] for line in lines[4:]] == [["node-1", "up"], ["node-2", "up"]]
    assert dsa.ok("df", "--redundancy", "copies=1").text.splitlines()[0].endswith(" more at copies=1")


def test_df_as_json_adds_up(dsa: Dsa) -> None:
    (space,) = dsa.ok("df", "--json").objects
    assert space["redundancy"] == "copies=2"
    assert 0 < space["storable"] <= space["free"]
    assert sum(node["capacity"] for node in space["nodes"]) == space["capacity"]
    (once,) = dsa.ok("df", "--json", "--redundancy", "copies=1").objects
    assert once["storable"] > space["storable"]
    assert dsa("df", "--redundancy", "many").status == 2


@pytest.mark.parametrize("line", [["nodes"], ["nodes", "ls"]])
def test_nodes_are_listed_by_name(dsa: Dsa, line: list[str]) -> None:
    lines = dsa.ok(*line).text.splitlines()
    assert lines[0].split() == ["NODE", "STATE", "ADDRESS", "ZONE", "USED", "FREE", "SHARDS", "SILENT", "BUILD"]
    assert [row.split()[:2] for row in lines[1:]] == [["node-1", "up"], ["node-2", "up"]]
    assert all("127.0.0.1:" in row for row in lines[1:])
    assert all(row.endswith(f"  {__version__}, protocol {PROTOCOL_VERSION}") for row in lines[1:])
    for where in (["--json", *line], [*line, "--json"]):
        found = dsa.ok(*where).objects
        assert [(node["name"], node["state"], node["failure"]) for node in found] == [
            ("node-1", "up", ""),
            ("node-2", "up", ""),
        ]
    assert dsa("nodes", "lss").status == 2


def test_health_is_status_0_when_all_is_well(dsa: Dsa) -> None:
    dsa.store.write_bytes(f"{dsa.home}/x", os.urandom(100))
    ran = dsa.ok("health")
    assert ran.text.startswith("healthy; 2 of 2 nodes up\n")
    (report,) = dsa.ok("health", "--json").objects
    assert report["state"] == "healthy"
    assert report["healthy_chunks"] >= 1
    assert report["lost_chunks"] == report["endangered_chunks"] == report["degraded_chunks"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redundancy", "kills", "states"),
    [("copies=3", 1, {"degraded": 1}), ("copies=3", 2, {"endangered": 2}), ("copies=1", 3, {"lost": 2})],
)
def test_health_tells_how_bad_it_is(
    dsa: Dsa, monkeypatch: pytest.MonkeyPatch, redundancy: str, kills: int, states: dict[str, int]
) -> None:
    with LocalCluster(nodes=3, redundancy=redundancy, speed=10) as cluster, cluster.connect() as store:
        store.write_bytes("/x", os.urandom(100))
        for node in range(kills):
            cluster.kill(node)
        deadline = time.monotonic() + 10
        while [node.state for node in store.nodes()].count("down") < kills:
            assert time.monotonic() < deadline
        monkeypatch.setenv("DSA_URL", cluster.url)
        ((state, status),) = states.items()
        ran = dsa("health")
        assert ran.text.startswith(f"{state}; {3 - kills} of 3 nodes up\n")
        assert ran.status == status
        assert dsa("health", "--json").objects[0]["state"] == state
        named = dsa("health", "--files", state)
        assert named.text == f"{state:<10}  /x  (1 chunk of 100 B)\n"
        assert named.status == status
        while f"{state}_files" not in (report := dsa("health", "--json").objects[0]):
            assert time.monotonic() < deadline
        assert report[f"{state}_files"] == 1
        assert [line.split()[1] for line in dsa.ok("nodes").text.splitlines()[1:]].count("down") == kills


def test_health_names_nobody_where_nothing_is_at_risk(dsa: Dsa) -> None:
    assert dsa.ok("health", "--files", "degraded").text == "no file is degraded or worse\n"
    assert dsa.ok("health", "--files", "lost", "--json").text == ""
    assert dsa("health", "--files", "healthy").status == 2
    assert dsa("health", "--files", "lost", "--watch").status == 2


def test_explain_says_where_a_file_lies_and_what_it_survives(dsa: Dsa) -> None:
    path = f"{dsa.home}/explained"
    dsa.store.write_bytes(path, os.urandom(3_000_000))
    assert dsa.ok("explain", path).text.splitlines() == [
        f"{path}: 3 chunks with 3.0 MB, stored with copies=2.",
        "Chunks 1 to 3 lie on node-1 and node-2.",
        "It survives the loss of any one node; not of node-1 and node-2 together.",
    ]
    (told,) = dsa.ok("explain", "--if-lost", "node-2", path, "--json").objects
    assert told["if_lost"] == ["node-2"]
    assert told["sentences"][-1] == "It does not survive the loss of node node-1."
    assert dsa("explain", dsa.home).status == 4
    assert dsa("explain", f"{path}-not").status == 3
    assert dsa("explain").status == 2


def test_explain_says_what_the_loss_of_a_node_would_mean_for_everything(dsa: Dsa) -> None:
    dsa.store.write_bytes(f"{dsa.home}/y", os.urandom(100))
    ran = dsa("explain", "--if-lost", "node-1")
    assert ran.status == 2
    assert ran.text.startswith("If node-1 were lost now, ")
    assert "Everything that can be read now could still be read." in ran.text
    assert "would have no redundancy left." in ran.text
    ran = dsa("explain", "--if-lost", "node-1", "--if-lost", "node-2", "--json")
    (told,) = ran.objects
    assert ran.status == 2
    assert told["nodes_up"] == told["healthy_chunks"] == told["endangered_chunks"] == 0
    assert told["newly_lost_chunks"] == told["lost_chunks"] >= 1
    assert dsa("explain", "--if-lost", "node-9").status == 3
