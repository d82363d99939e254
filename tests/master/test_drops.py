"""What nobody holds any more is dropped by its nodes, sooner or later, and by nobody else's word."""

from __future__ import annotations

from typing import Any

from dsa_zmq.master.catalog.jobs import DropsDone, LoadDrops
from dsa_zmq.protocol.messages import Drop, Dropped
from dsa_zmq.protocol.operations import Locate, Remove, Stat
from dsa_zmq.protocol.values import ShardRef


def test_what_was_removed_is_dropped_by_its_nodes_and_forgotten(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    for index in range(4):
        client.upload(f"/f{index}", nodes)
    kept = client.ask(Locate("/f0")).chunks[0].chunk
    for index in range(1, 4):
        client.ask(Remove(f"/f{index}"))
    world.wait(lambda: sum(len(node.shards) for node in nodes) == 2, 30)
    assert {shard.chunk for node in nodes for shard in node.shards} == {kept}
    world.wait(lambda: world.actor.statistics()["shards_dropped"] == 6)
    told = sum(len(node.received(Drop)) for node in nodes)
    world.run_for(10)
    assert sum(len(node.received(Drop)) for node in nodes) == told
    assert world.actor.statistics()["drops"] == 0
    assert client.ask(Stat("/f0")).attributes.size == 5


def test_a_drop_is_repeated_until_the_node_answers(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/f", nodes)
    for node in nodes:
        node.drops = False
    client.ask(Remove("/f"))
    world.run_for(8)
    assert all(2 <= len(node.received(Drop)) <= 4 for node in nodes)
    assert all(node.shards for node in nodes)
    for node in nodes:
        node.drops = True
    world.wait(lambda: not any(node.shards for node in nodes), 60)
    world.wait(lambda: world.actor.statistics()["drops"] == 0)


def started_anew(world: Any, node: Any) -> Any:
    """Another process of a node, with all that it had."""
    again = world.node(int(node.form.name[1:]), 2, cluster=node.form.cluster)
    again.shards = set(node.shards)
    again.register()
    return again


def test_a_node_that_was_down_hears_of_its_drops_when_it_is_back(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    client.upload("/f", nodes)
    gone, stays = (node for node in nodes if node.shards)
    gone.handle.kill()
    world.run_for(11)
    client.ask(Remove("/f"))
    world.wait(lambda: not stays.shards, 30)
    again = started_anew(world, gone)
    world.wait(lambda: not again.shards, 30)


def test_a_restarted_node_hears_of_its_drops_soon_however_long_its_last_process_was_mute(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/f", nodes)
    nodes[0].drops = False
    client.ask(Remove("/f"))
    world.run_for(40)
    again = started_anew(world, nodes[0])
    world.wait(lambda: not again.shards, 2)


def test_a_dropped_message_of_a_stranger_removes_nothing(world: Any) -> None:
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/f", nodes)
    for node in nodes:
        node.drops = False
    client.ask(Remove("/f"))
    world.wait(lambda: all(node.received(Drop) for node in nodes), 30)
    (drop,) = nodes[0].received(Drop)[:1]
    stranger = world.client("stranger", session=False)
    stranger.send(Dropped(drop.number, drop.shards))
    nodes[1].send(Dropped(drop.number + 100, drop.shards))
    nodes[0].send(Dropped(drop.number, [ShardRef(12345, 0)]))
    world.run_for(1)
    assert world.ran(LoadDrops) > 0
    assert world.ran(DropsDone) == 0
