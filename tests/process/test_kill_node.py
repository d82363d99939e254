"""A node killed at the k-th shard of a transfer: the transfer goes on, with the same bytes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from dsa_zmq.errors import DSAError

pytestmark = [pytest.mark.process, pytest.mark.slow]

CHUNK_BYTES = 320 << 10  #: more than goes into one message with another
SHARD_FRAME = 16 << 10  #: what is longer is a shard: the last one, of an odd length, too
CHUNKS, COPIES = 6, 2
SIZE = (CHUNKS - 1) * CHUNK_BYTES + 33_333
SETTINGS = {"chunk_bytes": CHUNK_BYTES, "node_dead_s": 1.0, "progress_timeout_s": 8.0}


def some(counts: list[int], rounds: int) -> list[int]:
    """With more rounds, every shard."""
    return counts if rounds == 1 else list(range(1, CHUNKS * COPIES + 1))


@pytest.mark.parametrize(
    ("when", "counts"), [("before", [1, 12]), ("half", [3, 8]), ("after", [6, 11])], ids=lambda value: value
)
def test_a_put_goes_on_without_the_node_that_dies_at_its_kth_shard(
    proxied_cluster: Any, client: Any, trip: Any, content: Any, rounds: int, when: str, counts: list[int]
) -> None:
    cluster = proxied_cluster(4)
    acknowledged: dict[str, bytes] = {}
    for k in some(counts, rounds):
        store = client(cluster.front, **SETTINGS).store
        killer = trip("to server", k, when, cluster.kill, SHARD_FRAME)
        cluster.set_trip(killer, *cluster.names)
        path, data = f"/put-{when}-{k}", content(SIZE)
        store.put([data], path)
        assert killer.fired.wait(5)
        acknowledged[path] = data
        (killed,) = cluster.ended()
        assert store.read_bytes(path) == data, f"killed {killed} {when} shard {k}"
        cluster.restart(killed)
        cluster.wait_healthy()
    fresh = client(cluster.url).store
    assert {found.path for found in fresh.ls()} == set(acknowledged)
    for path, data in acknowledged.items():
        assert fresh.read_bytes(path) == data
    health = fresh.health()
    assert (health.healthy_chunks, health.lost_chunks) == (CHUNKS * len(acknowledged), 0)


@pytest.mark.parametrize(
    ("when", "counts"), [("before", [1, 6]), ("half", [3, 5]), ("after", [2, 4])], ids=lambda value: value
)
def test_a_get_goes_on_with_other_copies_when_a_node_dies_at_the_kth_shard(
    proxied_cluster: Any,
    client: Any,
    trip: Any,
    content: Any,
    leftovers: Any,
    rounds: int,
    when: str,
    counts: list[int],
    tmp_path: Path,
) -> None:
    cluster = proxied_cluster(4)
    data = content(SIZE)
    client(cluster.url, **SETTINGS).store.put([data], "/file")
    reads = itertools.cycle(
        (
            lambda store: store.read_bytes("/file"),
            lambda store: b"".join(store.iter_bytes("/file")),
            lambda store: store.get("/file", tmp_path / "local") and (tmp_path / "local").read_bytes(),
        )
    )
    for k in counts if rounds == 1 else range(1, CHUNKS + 1):
        store = client(cluster.front, **SETTINGS).store
        killer = trip("to client", k, when, cluster.kill, SHARD_FRAME)
        cluster.set_trip(killer, *cluster.names)
        assert next(reads)(store) == data
        assert killer.fired.wait(5)
        cluster.restart(cluster.ended()[0])
        cluster.wait_healthy()
    assert leftovers(tmp_path) == []


def test_two_nodes_that_die_during_a_put_cost_nothing_of_it(
    proxied_cluster: Any, client: Any, trip: Any, content: Any
) -> None:
    cluster = proxied_cluster(5)
    store = client(cluster.front, **SETTINGS).store
    data = content(SIZE)
    first = trip("to server", 2, "after", cluster.kill, SHARD_FRAME)
    second = trip("to server", 3, "half", cluster.kill, SHARD_FRAME)
    cluster.set_trip(first, *cluster.names[:2])
    cluster.set_trip(second, *cluster.names[2:])
    store.put([data], "/file")
    assert first.fired.wait(5)
    assert second.fired.wait(5)
    assert store.read_bytes("/file") == data
    for name in cluster.ended():
        cluster.restart(name)
    cluster.wait_healthy()
    health = store.health()
    assert (health.healthy_chunks, health.lost_chunks) == (CHUNKS, 0)


def test_too_few_nodes_left_fail_the_put_clearly_and_leave_no_name(
    proxied_cluster: Any, client: Any, trip: Any, content: Any
) -> None:
    cluster = proxied_cluster(2)
    store = client(cluster.front, **SETTINGS).store
    store.put([data := content(SIZE)], "/old")
    cluster.set_trip(trip("to server", 4, "half", cluster.kill, SHARD_FRAME), *cluster.names)
    for path in ("/new", "/old"):
        with pytest.raises(DSAError) as caught:
            store.put([content(SIZE)], path)
        assert caught.value.exit_status in (6, 7)
        assert caught.value.remedy
    assert [found.path for found in store.ls()] == ["/old"]
    assert store.read_bytes("/old") == data
