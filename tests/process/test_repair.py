"""Real servers: what a dead node held is made anew on the others, and when it is back nothing lies there twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

import dsa_zmq
from dsa_zmq.client.store import Store

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_S = 30.0


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def files_of(rng: random.Random) -> dict[str, bytes]:
    small = {f"/small/{number}": rng.randbytes(4096 + number) for number in range(150)}
    return small | {f"/large/{number}": rng.randbytes((3 << 20) + 1 + number) for number in range(4)}


def shards_on_disk(store: Store, names: set[str]) -> int:
    return sum(node.shards for node in store.nodes() if node.name in names)


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_second_node_may_die_once_the_first_one_was_replaced_and_its_return_leaves_two_copies(
    processes: bool,
) -> None:
    files = files_of(random.Random(1))
    chunks = 150 + 4 * 4
    with dsa_zmq.LocalCluster(nodes=4, processes=processes) as cluster:
        store = cluster.connect()
        store.mkdir("/small")
        store.mkdir("/large")
        for path, data in files.items():
            store.write_bytes(path, data)
        others = set(cluster.names[1:])
        cluster.kill(0)
        until(lambda: shards_on_disk(store, others) == 2 * chunks, "not all was made anew")
        until(lambda: store.health().healthy_chunks == chunks, "the master does not see it")
        cluster.kill(1)
        assert {path: store.read_bytes(path) for path in files} == files
        cluster.restart(0)
        cluster.restart(1)
        cluster.wait_healthy()
        until(lambda: shards_on_disk(store, set(cluster.names)) == 2 * chunks, "something lies there twice")
        assert store.health().healthy_chunks == chunks
        assert {path: store.read_bytes(path) for path in files} == files
