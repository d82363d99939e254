"""A master whose catalog was made from copies: what nodes hold is looked at before anything of it is dropped."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import RESTORED_NS
from dsa_zmq.model.limits import GRANT_S, UNKNOWN_KEEP_S, UPLOAD_LEASE_S
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.protocol.messages import AskInventory, Drop
from dsa_zmq.protocol.operations import Remove
from dsa_zmq.protocol.values import ShardRef

SECOND = 10**9


@pytest.fixture
def world(make_world):
    """A master that looks again soon where it found a difference."""
    made = make_world(1)
    made.start(pace=HealingPace(differ_s=3.0))
    return made


def restore(world, nodes, *, seconds_ago=60):
    """The master's catalog is one that was made from copies, and the master starts on it; nodes come back to it."""
    wall_ns = []
    world.actor.on_call = lambda ctx, call: wall_ns.append(ctx.wall_ns())
    world.master.call(None)
    world.wait(lambda: wall_ns)
    world.crash()
    database = Database(world.disk, CATALOG_FILE)
    database.begin()
    database.apply(
        "UPDATE meta SET number = ? WHERE name = ?", [(max(1, wall_ns[0] - seconds_ago * SECOND), RESTORED_NS)]
    )
    database.commit()
    database.close()
    world.start()
    world.wait(lambda: all(node.registered.term == world.starts for node in nodes))


def in_peace(world):
    """Until each comparison has ended, and what follows has been done."""
    world.run_for(2.0)
    world.wait(lambda: (s := world.actor.statistics())["to_compare"] == s["comparing"] == 0)
    world.run_for(10.0)


def test_what_an_earlier_master_has_moved_is_found_where_it_is_and_not_dropped_there(world):
    """The catalog names the place that it had before. With one copy, a drop where it is would be the end of it."""
    nodes = world.nodes(2)
    client = world.client()
    client.upload("/file", nodes, redundancy="copies=1")
    chunk, places = client.where()
    ((former, index),) = places.items()
    former_node, present = nodes[former - 1], nodes[2 - former]
    shard = ShardRef(chunk, index)
    former_node.shards.discard(shard)
    present.shards.add(shard)
    former_node.tells = False
    restore(world, nodes)
    world.wait(lambda: len(present.received(AskInventory)) > 3)
    world.run_for(10.0)
    assert client.where()[1] == places, "nobody has said that it is not there"
    former_node.tells = True
    world.eventually(lambda: client.where()[1] == {3 - former: index}, 90)
    in_peace(world)
    assert shard in present.shards
    assert present.received(Drop) == []


def test_nothing_is_dropped_before_every_node_that_is_up_was_compared(world):
    nodes = world.nodes(3)
    client = world.client()
    client.upload("/file", nodes)
    chunk, places = client.where()
    silent = next(node for node in nodes if node.registered.node not in places)
    silent.tells = False
    restore(world, nodes)
    client = world.client("client-b")
    client.ask(Remove("/file"))
    world.wait(lambda: world.actor.statistics()["comparing"] == 1)
    world.run_for(20.0)
    holders = [node for node in nodes if node is not silent]
    assert all(ShardRef(chunk, places[node.registered.node]) in node.shards for node in holders)
    assert all(node.received(Drop) == [] for node in nodes)
    silent.tells = True
    world.wait(lambda: not any(node.shards for node in holders))


def test_a_node_that_is_down_holds_nothing_up_and_one_that_comes_back_does(world):
    nodes = world.nodes(3)
    client = world.client()
    client.upload("/file", nodes)
    away = next(node for node in nodes if node.registered.node not in client.where()[1])
    away.beats = away.tells = False
    restore(world, [node for node in nodes if node is not away])
    world.client("client-b").ask(Remove("/file"))
    world.wait(lambda: not any(node.shards for node in nodes), timeout_s=120)


@pytest.mark.slow
def test_unknown_shards_are_kept_for_a_week(world):
    nodes = world.nodes(2)
    world.client().upload("/file", nodes)
    unknown = ShardRef(5, 1)
    nodes[0].shards.add(unknown)
    world.run_for(UPLOAD_LEASE_S + GRANT_S + 60.0)
    restore(world, nodes)
    world.run_for(UPLOAD_LEASE_S + GRANT_S + 60.0)
    in_peace(world)
    assert unknown in nodes[0].shards
    restore(world, nodes, seconds_ago=UNKNOWN_KEEP_S - 10)
    in_peace(world)
    world.wait(lambda: unknown not in nodes[0].shards)
