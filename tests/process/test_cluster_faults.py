"""The faults of ``LocalCluster``: each does what it says, is undone by its opposite, can be made again; in both modes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.client.store import Store
from dsa_zmq.errors import DSAError, Invalid, NoSpace, NotFound, Timeout

pytestmark = [pytest.mark.process, pytest.mark.slow]

Twice = range(2)


@pytest.fixture(params=[False, True], ids=["threads", "processes"])
def cluster(request: pytest.FixtureRequest) -> Iterator[dsa_zmq.LocalCluster]:
    with dsa_zmq.LocalCluster(nodes=3, processes=request.param) as cluster:
        yield cluster


@pytest.fixture
def store(cluster: dsa_zmq.LocalCluster) -> Iterator[Store]:
    with cluster.connect() as store:
        yield store


def states(store: Store) -> dict[str, str]:
    return {node.name: node.state for node in store.nodes()}


def test_a_paused_node_falls_silent_and_goes_on_where_it_was(
    cluster: dsa_zmq.LocalCluster, store: Store, eventually: Callable[..., Any], content: Any, fresh_name: Any
) -> None:
    for _ in Twice:
        store.write_bytes(path := fresh_name(), data := content(300_000))
        incarnation = {node.name: node.incarnation for node in store.nodes()}
        cluster.pause(1)
        cluster.pause(1)
        eventually(lambda: states(store)["node-2"] == "down")
        assert cluster.ended() == []
        assert store.read_bytes(path) == data
        cluster.resume(1)
        cluster.resume(1)
        cluster.wait_up()
        assert {node.name: node.incarnation for node in store.nodes()} == incarnation
        assert store.read_bytes(path) == data


def test_a_paused_master_answers_when_it_goes_on(cluster: dsa_zmq.LocalCluster, store: Store) -> None:
    store.write_bytes("/file", b"1")
    for _ in Twice:
        cluster.pause("master")
        with pytest.raises((DSAError, TimeoutError)):
            dsa_zmq.connect(cluster.url, timeout=0.3)
        cluster.resume("master")
        assert store.read_bytes("/file") == b"1"
        cluster.wait_up()


def test_a_paused_server_can_be_killed_restarted_and_left_paused(cluster: dsa_zmq.LocalCluster) -> None:
    cluster.pause(0)
    begin = time.monotonic()
    cluster.kill(0)
    assert cluster.ended() == ["node-1"]
    cluster.restart(0)
    cluster.wait_up()
    cluster.pause(1)
    cluster.restart(1)
    cluster.wait_up()
    cluster.pause(2)  # the end of the block must not wait for it
    assert time.monotonic() - begin < 10


def test_a_node_cut_off_from_the_master_is_down_and_returns(
    cluster: dsa_zmq.LocalCluster, store: Store, eventually: Callable[..., Any]
) -> None:
    for _ in Twice:
        cluster.partition([0], ["master"])
        eventually(lambda: states(store) == {"node-1": "down", "node-2": "up", "node-3": "up"})
        cluster.heal()
        cluster.wait_up()


@pytest.mark.parametrize("direction", [([2], ["master"]), (["master"], [2])], ids=["to the master", "to the node"])
def test_a_cut_of_one_direction_is_one(
    cluster: dsa_zmq.LocalCluster, store: Store, eventually: Callable[..., Any], direction: Any
) -> None:
    cluster.partition(*direction, one_way=True)
    if direction[0] == [2]:
        eventually(lambda: states(store)["node-3"] == "down")
    else:
        time.sleep(0.6)  # longer than it takes to be down: its heartbeats are heard all the same
        assert states(store)["node-3"] == "up"
    cluster.heal()
    cluster.wait_up()


def test_a_partition_outlasts_restarts_of_either_side(
    cluster: dsa_zmq.LocalCluster, store: Store, eventually: Callable[..., Any]
) -> None:
    cluster.partition([0], ["master", 1])
    cluster.restart(0)
    eventually(lambda: states(store)["node-1"] == "down")
    cluster.restart_master()
    eventually(lambda: states(store) == {"node-1": "down", "node-2": "up", "node-3": "up"})
    with pytest.raises(Timeout, match="node-1 is"):
        cluster.wait_up(timeout=0.6)
    cluster.heal()
    cluster.wait_up()


def test_clients_read_around_the_nodes_that_they_cannot_reach(
    cluster: dsa_zmq.LocalCluster, store: Store, content: Any
) -> None:
    store.write_bytes("/file", data := content(2_500_000))
    for cut in (0, 1, 2):
        cluster.partition(["clients"], [cut])
        with cluster.connect() as later:
            assert later.read_bytes("/file") == data
        assert store.read_bytes("/file") == data
        assert set(states(store).values()) == {"up"}
        cluster.heal()
    cluster.partition(["clients"], ["master"])
    with pytest.raises((DSAError, TimeoutError)):
        cluster.connect(timeout=0.3)
    cluster.heal()
    assert store.read_bytes("/file") == data


def test_a_corrupt_copy_is_never_served(cluster: dsa_zmq.LocalCluster, store: Store, content: Any) -> None:
    for path in ("/a", "/b"):
        store.write_bytes(path, data := content(200_000))
        first = cluster.corrupt(path)
        for _ in range(4):  # whichever copy is asked first
            assert store.read_bytes(path) == data
        store.write_bytes(both := f"{path}-both", other := content(200_000))
        holders = [name for name in cluster.names if corrupted(cluster, both, name)]
        assert first in cluster.names
        assert len(holders) in (1, 2)  # the second may be gone already: the first was noticed and is being mended
        with contextlib.suppress(DSAError):
            assert store.read_bytes(both) == other


def corrupted(cluster: dsa_zmq.LocalCluster, path: str, name: str) -> bool:
    try:
        return cluster.corrupt(path, name) == name
    except NotFound:
        return False


def test_what_cannot_be_corrupted_is_said(cluster: dsa_zmq.LocalCluster, store: Store) -> None:
    store.write_bytes("/empty", b"")
    with pytest.raises(NotFound, match="/empty has no bytes on any node"):
        cluster.corrupt("/empty")
    with pytest.raises(NotFound, match="/absent"):
        cluster.corrupt("/absent")


def test_a_full_disk_takes_nothing_more_and_works_again_when_it_is_emptied(
    cluster: dsa_zmq.LocalCluster, store: Store, content: Any, fresh_name: Any
) -> None:
    kept: dict[str, bytes] = {}
    for _ in Twice:
        for name in cluster.names:
            cluster.fill_disk(name)
        with pytest.raises(NoSpace):
            fill(store, kept, fresh_name, content)
        for path, data in kept.items():
            assert store.read_bytes(path) == data
        for name in cluster.names:
            cluster.empty_disk(name)
        cluster.wait_up()
        again(lambda: store.write_bytes("/after", content(1_000_000)))


def fill(store: Store, kept: dict[str, bytes], fresh_name: Any, content: Any) -> None:
    """The segments that are there have room for some."""
    for _ in range(40):
        store.write_bytes(path := fresh_name(), data := content(1_000_000))
        kept[path] = data


def again(action: Callable[[], object]) -> None:
    """Until it succeeds: the master learns of new room with the next heartbeat."""
    deadline = time.monotonic() + 5
    while True:
        try:
            action()
        except NoSpace:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


def test_a_wiped_node_comes_back_empty(cluster: dsa_zmq.LocalCluster, store: Store, content: Any) -> None:
    for number in Twice:
        store.write_bytes(f"/file-{number}", data := content(100_000))
        before = next(node for node in store.nodes() if node.name == "node-1")
        cluster.wipe(0)
        cluster.wait_up()
        after = next(node for node in store.nodes() if node.name == "node-1")
        assert after.node != before.node
        assert store.read_bytes(f"/file-{number}") == data


def test_an_added_node_takes_part(cluster: dsa_zmq.LocalCluster, store: Store) -> None:
    for number in (3, 4):
        assert cluster.add_node() == number
        assert states(store)[f"node-{number + 1}"] == "up"
    cluster.kill(3)
    assert cluster.ended() == ["node-4"]
    cluster.restart(3)
    cluster.wait_up()


def test_healthy_means_that_the_bytes_are_too(cluster: dsa_zmq.LocalCluster, store: Store, content: Any) -> None:
    cluster.wait_healthy()
    for _ in Twice:
        store.write_bytes("/file", content(3_000_000))
        cluster.pause(0)
        cluster.pause(1)
        with pytest.raises(Timeout):
            cluster.wait_healthy(timeout=1.5)
        cluster.resume(0)
        cluster.resume(1)
        cluster.wait_healthy()


@pytest.mark.parametrize(
    "harm",
    [
        lambda cluster: cluster.pause(1),
        lambda cluster: cluster.partition([1], ["master"]),
        lambda cluster: cluster.partition([1], ["master"], one_way=True),
    ],
    ids=["paused", "cut off", "not heard"],
)
def test_what_a_silent_node_held_is_made_anew_and_nobody_waits_for_the_node(
    cluster: dsa_zmq.LocalCluster, store: Store, content: Any, harm: Callable[[dsa_zmq.LocalCluster], None]
) -> None:
    store.write_bytes("/file", data := content(3_000_000))
    harm(cluster)
    cluster.wait_healthy()
    assert states(store)["node-2"] == "down"
    cluster.kill(0)  # what it had, too, lies elsewhere
    assert store.read_bytes("/file") == data


def test_faults_end_with_the_cluster(tmp_path: Path) -> None:
    cluster = dsa_zmq.LocalCluster(2, directory=tmp_path)
    with cluster:
        cluster.partition([0], ["master"])
        cluster.fill_disk(1)
    with cluster, cluster.connect() as store:
        store.write_bytes("/file", os.urandom(100))


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda c: c.partition([0]), "needs two groups"),
        (lambda c: c.partition([0, 1], [1]), "node-2 is on both sides"),
        (lambda c: c.partition([0], ["node-9"]), "there is no node 'node-9'"),
        (lambda c: c.pause(7), "there is no node number 7"),
        (lambda c: c.wipe("master"), "there is no node 'master'"),
        (lambda c: c.fill_disk("clients"), "there is no node 'clients'"),
    ],
)
def test_faults_that_make_no_sense_are_refused(call: Callable[[Any], object], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        call(dsa_zmq.LocalCluster(3))


def test_two_nodes_may_die_one_after_the_other_if_the_first_is_healed(
    cluster: dsa_zmq.LocalCluster, store: Store, content: Any
) -> None:
    kept = {f"/file-{number}": content(700_000) for number in range(6)}
    for path, data in kept.items():
        store.write_bytes(path, data)
    cluster.kill(0)
    cluster.wait_healthy()
    cluster.pause(1)
    for path, data in kept.items():
        assert store.read_bytes(path) == data
    cluster.resume(1)
    cluster.restart(0)
    cluster.wait_up()
    cluster.wait_healthy()
