"""A node's word that shards of it are damaged: those places count no more, what is not its own is not believed."""

from __future__ import annotations

import random

import pytest

from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.protocol.messages import Damage, Heartbeat, Noted, Scrub
from dsa_zmq.protocol.operations import Found
from dsa_zmq.protocol.values import ShardRef


@pytest.fixture
def scene(world):
    """Three nodes, a chunk on two of them, and what the master tells its departments of changed places."""
    nodes = world.nodes(3)
    client = world.client()
    assert isinstance(client.upload("/file", nodes, redundancy="copies=2"), Found)
    changed = []
    world.actor._office.when_places.append(lambda ctx, chunks: changed.append(list(chunks)))
    return world, nodes, client, changed


def tell(world, node, *messages):
    """Say this over the connection that the node opened; until all is done that follows."""
    for message in messages:
        node.handle.call(lambda ctx, message=message: ctx.send("tcp://10.0.0.1:7700", message))
    world.run_for(1.0)


def states(world):
    """The catalog's places: (node, shard) -> state. Ends the master."""
    world.crash()
    database = Database(world.disk, CATALOG_FILE)
    rows = database.execute("SELECT node, shard, state FROM places")
    database.close()
    return {(node, shard): state for node, shard, state in rows}


def test_what_a_node_tells_is_bad_from_then_on_and_the_survey_hears_of_it(scene):
    world, nodes, client, changed = scene
    chunk, places = client.where()
    node = min(places)
    tell(world, nodes[node - 1], Damage(1, [ShardRef(chunk, places[node])]))
    assert nodes[node - 1].received(Noted) == [Noted(1)]
    assert set(client.where()[1]) == {max(places)}, "nobody is sent to read it"
    assert changed == [[chunk]]
    assert states(world) == {(node, places[node]): 1, (max(places), places[max(places)]): 0}


def test_it_is_noted_again_when_it_is_told_again_and_changes_nothing(scene):
    world, nodes, client, changed = scene
    chunk, places = client.where()
    node = min(places)
    shard = ShardRef(chunk, places[node])
    tell(world, nodes[node - 1], Damage(1, [shard]))
    tell(world, nodes[node - 1], Damage(1, [shard]), Damage(2, [shard]))
    assert nodes[node - 1].received(Noted) == [Noted(1), Noted(1), Noted(2)]
    assert changed == [[chunk]]


def test_a_message_that_comes_a_second_time_later_does_not_hit_what_was_mended(scene):
    world, nodes, client, changed = scene
    chunk, places = client.where()
    node = min(places)
    late = Damage(1, [ShardRef(chunk, places[node])])
    for message in (Damage(1, []), Damage(2, []), late):
        tell(world, nodes[node - 1], message)
    assert set(client.where()[1]) == set(places)
    assert changed == []
    assert nodes[node - 1].received(Noted) == [Noted(1), Noted(2)]


def test_what_was_told_to_an_earlier_master_does_not_hit_what_was_mended(scene):
    world, nodes, client, _ = scene
    chunk, places = client.where()
    node = nodes[min(places) - 1]
    late = Damage(4, [ShardRef(chunk, places[min(places)])], node.registered.term)
    world.crash()
    world.start()
    world.eventually(lambda: node.registered.term == 2)
    tell(world, node, late)
    assert node.received(Noted) == []
    tell(world, node, Damage(5, late.shards, 2))
    assert node.received(Noted) == [Noted(5)]
    assert states(world)[min(places), places[min(places)]] == 1


def test_nobody_can_damage_another_nodes_shards(scene):
    world, nodes, client, changed = scene
    chunk, places = client.where()
    (other,) = {1, 2, 3} - set(places)
    tell(world, nodes[other - 1], Damage(1, [ShardRef(chunk, index) for index in range(3)]))
    client.send(Damage(7, [ShardRef(chunk, index) for index in range(3)]))
    world.run_for(1.0)
    assert set(client.where()[1]) == set(places)
    assert changed == []


def test_numbers_that_are_no_shards_are_no_reason_to_stop(scene):
    world, nodes, client, _ = scene
    draw = random.Random(5)
    absurd = [ShardRef(1 << 63, 0), ShardRef(-1, 0), ShardRef(draw.getrandbits(63), 0), ShardRef(5, 1 << 40)]
    tell(world, nodes[0], Damage(1, absurd), Damage(-4, absurd), Damage(3, [ShardRef(1, 0)] * 5000))
    assert nodes[0].received(Noted) == [Noted(1)]
    assert len(client.where()[1]) == 2


def test_a_new_process_of_the_node_begins_to_count_anew(scene):
    world, nodes, client, _ = scene
    chunk, places = client.where()
    node = min(places)
    tell(world, nodes[node - 1], Damage(9, []))
    again = world.node(node, 2)
    again.register()
    tell(world, again, Damage(1, [ShardRef(chunk, places[node])]))
    assert again.received(Noted) == [Noted(1)]
    assert set(client.where()[1]) == {max(places)}


def test_a_failed_store_damages_nothing(scene):
    world, nodes, client, changed = scene
    chunk, places = client.where()
    node = nodes[min(places) - 1]
    world.actor._office.members.get(min(places)).failure = "the disk is gone"
    node.beats = False
    tell(world, node, Damage(1, [ShardRef(chunk, places[min(places)])]))
    assert node.received(Noted) == []
    assert changed == []


# --- scrubs -----------------------------------------------------------------------------------------------------------


def beat(world, node, permille):
    """One heartbeat of a node that sends none by itself, and the master's next look."""
    form, registered = node.form, node.registered
    said = Heartbeat(registered.node, form.incarnation, registered.term, 0, 1 << 20, 0, 0, scrub_permille=permille)
    node.handle.call(lambda ctx: ctx.publish("heartbeat", said))
    world.run_for(1.2)


def begin(world, number, node):
    """In a turn of the master: when some other node registers."""
    desk = world.actor._office.scrubs
    world.actor._office.when_registered.append(lambda ctx, _: desk.begin(ctx, number, [node.registered.node]))
    world.node(9).register()
    return desk


def test_a_scrub_is_ordered_until_it_is_noted_and_over_when_the_node_scrubs_no_more(world):
    node = world.nodes(2)[0]
    desk = begin(world, 77, node)
    world.run_for(7.0)
    orders = node.received(Scrub)
    assert set(orders) == {Scrub(77, world.actor._office.term)}
    assert len(orders) >= 3
    node.beats = False
    for permille in (0, 0, 0, 0):
        beat(world, node, permille)
    assert desk.left(77) == [1], "not before it is noted"
    tell(world, node, Noted(77))
    told = len(node.received(Scrub))
    for permille in (0, 5, 900, 0, 0):
        assert desk.left(77) == [1]
        beat(world, node, permille)
    world.run_for(5.0)
    assert desk.left(77) == []
    assert len(node.received(Scrub)) == told


@pytest.mark.parametrize("noted", [False, True])
def test_a_scrub_does_not_wait_for_a_store_that_was_replaced(world, noted):
    node = world.nodes(2)[0]
    desk = begin(world, 77, node)
    if noted:
        tell(world, node, Noted(77))
    assert desk.left(77) == [1]
    node.handle.kill()
    world.run_for(15.0)
    assert desk.left(77) == [1], "it is away"
    world.node(1, store_id=b"another store...").register()
    world.run_for(2.0)
    assert desk.left(77) == []
