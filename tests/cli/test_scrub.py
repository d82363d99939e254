"""``dsa scrub``: when everything was last verified."""

from __future__ import annotations

import time

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
