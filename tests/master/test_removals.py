"""What was released goes only after the others were read, also by the next master; else it is a place again."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.examine_rules import Released, SettleReleases
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import DROPS, UNVERIFIED
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.model.upkeep import Placed
from dsa_zmq.protocol.messages import Drop, Examine
from dsa_zmq.protocol.operations import Found
from dsa_zmq.protocol.values import ShardRef


@pytest.fixture
def scene(world):
    """Three nodes; a chunk on two of them, and on the third a shard that an earlier master has released."""
    nodes = world.nodes(3)
    client = world.client()
    assert isinstance(client.upload("/file", nodes, redundancy="copies=2"), Found)
    chunk, places = client.where()
    (spare,) = {1, 2, 3} - set(places)
    shard = ShardRef(chunk, 0)
    nodes[spare - 1].shards.add(shard)
    world.crash()
    database = Database(world.disk, CATALOG_FILE)
    database.begin()
    database.apply(DROPS.insert, [(spare, chunk, 0, UNVERIFIED)])
    database.commit()
    database.close()
    return world, nodes, spare, shard, places


def test_what_an_earlier_master_left_open_goes_once_the_others_were_read(scene):
    world, nodes, spare, shard, places = scene
    world.start()
    world.wait(lambda: shard not in nodes[spare - 1].shards)
    for node in places:
        (question,) = nodes[node - 1].received(Examine)
        assert (question.read, question.shards) == (True, [ShardRef(shard.chunk, places[node])])
    assert set(world.client("looker").where()[1]) == set(places)


def test_it_is_a_place_again_if_one_of_the_others_does_not_have_its_shard(scene):
    world, nodes, spare, shard, places = scene
    gone = min(places)
    world.start()
    world.run_for(5.0)  # it had it when inventories were compared
    nodes[gone - 1].shards.discard(ShardRef(shard.chunk, places[gone]))
    world.wait(lambda: world.ran(SettleReleases))
    world.run_for(3.0)
    assert set(world.client("looker").where()[1]) == {spare, max(places)}
    assert nodes[spare - 1].received(Drop) == []


def test_a_node_that_does_not_answer_before_it_is_down_lets_nothing_go(scene):
    world, nodes, spare, _, places = scene
    mute = nodes[max(places) - 1]
    world.start()
    world.run_for(5.0)
    mute.tells = False
    world.wait(lambda: mute.received(Examine))
    mute.beats = False
    world.wait(lambda: world.ran(SettleReleases))
    assert nodes[spare - 1].received(Drop) == []
    world.run_for(1.0)
    assert set(world.client("looker").where()[1]) >= {spare, min(places)}


def test_a_release_that_is_told_is_settled_at_once_and_once(scene):
    world, nodes, spare, shard, places = scene
    world.start(pace=HealingPace(start_hold_s=1000.0))
    world.wait(lambda: all(node.registered.term == 2 for node in nodes))
    released = Released(shard.chunk, spare, shard.index, [Placed(*place) for place in places.items()])
    world.actor.on_call = lambda ctx, call: world.actor._office.removals.verify(ctx, [released])
    world.master.call(None)
    world.master.call(None)
    world.wait(lambda: shard not in nodes[spare - 1].shards)
    assert world.ran(SettleReleases) == 1
    assert world.actor.statistics()["sent_off"] == 1
