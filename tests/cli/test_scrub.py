"""``dsa scrub``: when everything was last verified."""

from __future__ import annotations

import os
import time

import pytest

from dsa_zmq.cluster import LocalCluster
from tests.cli.conftest import Dsa


def test_status_says_when_each_node_has_verified_all_it_holds(dsa: Dsa) -> None:
    deadline = time.monotonic() + 20
    while not all(node["scrubbed_seconds"] for node in dsa.ok("scrub", "status", "--json").objects):
        assert time.monotonic() < deadline, "a round of nothing takes no time"
        time.sleep(0.05)
    nodes = dsa.ok("--json", "scrub").objects
    assert [(node["name"], node["state"], node["damaged"]) for node in nodes] == [
        ("node-1", "up", 0),
        ("node-2", "up", 0),
    ]
    assert all(not node["scrubbing"] and node["done"] == 0 for node in nodes)
    lines = dsa.ok("scrub").text.splitlines()
    assert [line.split()[0] for line in lines] == ["NODE", "node-1", "node-2"]
    assert all(line.split()[2] == "-" and " ago" in line for line in lines[1:])


@pytest.mark.slow
def test_a_round_that_was_ordered_is_shown_at_once_and_ends(dsa: Dsa) -> None:
    assert dsa.ok("scrub", "now", "node-1", "--json").objects == [{"begun": True, "node": "node-1"}]
    first, second = dsa.ok("scrub", "status", "--json").objects
    assert (first["scrubbing"], first["done"]) == (True, 0.0)
    assert not second["scrubbing"]
    wait_for_the_end(dsa)
    assert dsa.ok("scrub", "now").text == "begun; 'dsa scrub status' shows how far it is\n"
    lines = dsa.ok("scrub").text.splitlines()
    assert all("begun, 0%" in line for line in lines[1:])
    wait_for_the_end(dsa)


def test_a_round_of_a_node_that_does_not_exist_is_refused(dsa: Dsa) -> None:
    refused = dsa("--json", "scrub", "now", "node-9")
    assert refused.status == 3
    assert "node-1" in refused.error["remedy"]


@pytest.mark.slow
def test_what_has_rotted_is_found_by_a_round_and_shown(dsa: Dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(nodes=1, redundancy="copies=1") as cluster, cluster.connect() as store:
        monkeypatch.setenv("DSA_URL", cluster.url)
        store.write_bytes("/f", os.urandom(100_000))
        store.write_bytes("/g", os.urandom(100_000))
        cluster.corrupt("/f")
        assert dsa.ok("scrub", "--json").objects[0]["damaged"] == 0
        dsa.ok("scrub", "now")
        wait_for_the_end(dsa)
        assert dsa.ok("scrub", "--json").objects[0]["damaged"] == 1
        assert "1 shard in quarantine" in dsa.ok("scrub").text


def wait_for_the_end(dsa: Dsa) -> None:
    deadline = time.monotonic() + 20
    while any(task["kind"] == "scrub" and task["state"] == "running" for task in dsa.ok("tasks", "--json").objects):
        assert time.monotonic() < deadline, "a round of next to nothing takes no time"
        time.sleep(0.05)
