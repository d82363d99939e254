"""Who is silent is suspect, then down; the master's own silence and strangers' words count for nothing."""

from __future__ import annotations

from typing import Any

from dsa_zmq.model.ids import NONCE_BITS
from dsa_zmq.protocol.operations import Found


def test_silence_makes_a_node_suspect_then_down_and_a_heartbeat_ends_it(world: Any) -> None:
    (node,) = world.nodes(1)
    client = world.client()
    node.beats = False
    world.run_for(4.5)
    assert client.states() == {"n1": "suspect"}
    world.run_for(7)
    assert client.states() == {"n1": "down"}
    node.resume_beating()
    world.eventually(lambda: client.states() == {"n1": "up"})


def test_a_paused_master_blames_nobody_for_the_silence(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    world.run_for(2)
    world.runtime.pause("master")
    world.run_for(60)
    world.runtime.resume("master")
    world.wait(lambda: world.actor.statistics()["missed_ms"] > 50_000)
    world.run_for(1)
    for index in range(10):  # connections have broken and are made anew meanwhile
        assert isinstance(client.upload(f"/f{index}", nodes), Found)
        world.run_for(0.5)
    assert client.states() == {"n1": "up", "n2": "up"}
    assert not world.runtime.story("now='down'")


def test_late_ticks_make_nobody_suspect(world: Any) -> None:
    (node,) = world.nodes(1)
    client = world.client()
    for _ in range(4):
        node.beats = False
        world.run_for(1.2)
        world.runtime.pause("master")
        world.run_for(6)  # short of breaking the connection
        world.runtime.resume("master")
        node.resume_beating()
        world.run_for(0.1)
        assert client.states() == {"n1": "up"}


def test_heartbeats_of_strangers_and_of_other_incarnations_keep_nobody_alive(world: Any) -> None:
    first, second = world.nodes(2)
    client = world.client()
    first.beats = False
    for _ in range(24):
        world.run_for(0.5)
        second.publish(first.heartbeat(incarnation=2 << NONCE_BITS))
        second.publish(first.heartbeat(node=77))
    assert client.states() == {"n1": "down", "n2": "up"}


def test_a_failed_store_is_shown_and_gets_no_new_shards(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    nodes[0].beats = False
    nodes[0].publish(nodes[0].heartbeat(failure="EIO on sync"))
    world.eventually(lambda: client.states()["n1"] == "failed")
    for index in range(8):
        client.upload(f"/f{index}", nodes)
    assert nodes[0].shards == set()
    assert len(nodes[1].shards) == 8
