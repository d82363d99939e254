"""Real servers: a node comes new and gets its share, the first one is emptied and switched off, and everything is there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import dsa_zmq

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_S = 60.0


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_node_is_added_and_the_first_one_is_switched_off(tmp_path: Path, processes: bool) -> None:
    rng = random.Random(7)
    files = {f"/d/{number}": rng.randbytes(200_000 + number) for number in range(60)}
    with dsa_zmq.LocalCluster(nodes=3, directory=tmp_path, processes=processes) as cluster:
        store = cluster.connect()
        for path, data in files.items():
            store.write_bytes(path, data)
    with dsa_zmq.LocalCluster(nodes=4, directory=tmp_path, processes=processes) as cluster:
        store = cluster.connect()
        plan = store.admin.plan_rebalance()
        assert plan.moves > 15
        assert plan.apply().wait(PATIENCE_S).state == "done"
        held = {node.name: node.shards for node in store.nodes()}
        assert held["node-4"] > 15
        drained = store.admin.plan_drain("node-1").apply().wait(PATIENCE_S)
        assert (drained.state, drained.note) == ("done", "may be switched off")
        cluster.kill(0)
        assert {path: store.read_bytes(path) for path in files} == files
        report = store.health()
        assert report.healthy_chunks == len(files)
