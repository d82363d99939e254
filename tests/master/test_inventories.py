"""The master and what its nodes hold: differences are found and settled, and nothing goes because of a listing."""

from __future__ import annotations

import random

import pytest

from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.examine_rules import Adopt, Declare
from dsa_zmq.master.catalog.inventory_rules import JudgeInventory
from dsa_zmq.master.catalog.places import tally
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import HOLDERS, INVENTORIES
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.inventory import SHARDS
from dsa_zmq.model.limits import GRANT_S, UPLOAD_LEASE_S
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import (
    ABSENT,
    DAMAGED,
    GOOD,
    UNREADABLE,
    AskInventory,
    Drop,
    Examine,
    Examined,
    Inventory,
)
from dsa_zmq.protocol.operations import Found
from dsa_zmq.protocol.values import PlacedShard, ShardRef


def uploaded(world, nodes, path="/file"):
    """The id of the only chunk of a new file, and the numbers of its nodes."""
    client = world.client(f"client-{path[1:]}")
    assert isinstance(client.upload(path, nodes), Found)
    return client.where(path)


def compared(world):
    """Until each comparison that was wanted has ended."""
    world.wait(lambda: (s := world.actor.statistics())["to_compare"] == s["comparing"] == 0)


def again(world, node, start=2, inventory=None):
    """The node comes back as another process, with what it holds now; ``inventory`` is how it tells that."""
    back = world.node(node.registered.node, start)
    back.inventory = inventory or back.inventory
    back.shards = node.shards
    node.beats = False
    back.register(cluster=node.form.cluster, seen_term=node.form.seen_term, seen_master=node.form.seen_master)
    world.run_for(2.0)
    compared(world)
    return back


def test_a_node_that_has_what_the_catalog_says_is_asked_for_one_level(world):
    nodes = world.nodes(2)
    uploaded(world, nodes)
    back = again(world, nodes[0])
    assert [question.level for question in back.received(AskInventory)] == [0]
    assert world.ran(JudgeInventory) == 0


def test_an_orphan_of_long_ago_goes_and_one_of_an_upload_under_way_stays(make_world):
    world = make_world(1)
    world.start(gc_interval_s=30.0)
    nodes = world.nodes(2)
    world.run_for(UPLOAD_LEASE_S + GRANT_S + 60.0)
    chunk, _ = uploaded(world, nodes)
    old, young = ShardRef(5, 1), ShardRef(chunk + 100, 0)
    nodes[0].shards |= {old, young}
    back = again(world, nodes[0])
    world.wait(lambda: old not in back.shards)
    assert young in back.shards
    assert [drop.shards for drop in back.received(Drop)] == [[old]]


def test_a_place_is_missing_only_when_the_node_itself_says_so(world):
    nodes = world.nodes(2)
    chunk, places = uploaded(world, nodes)
    shard = ShardRef(chunk, places[1])
    back = again(world, nodes[0], inventory=lambda question: Inventory(question.number, [], []))
    assert [question.shards for question in back.received(Examine)] == [[shard]]
    assert set(world.client("looker").where()[1]) == {1, 2}
    back.shards.discard(shard)
    again(world, back, 3)
    assert set(world.client("looker-2").where()[1]) == {2}
    assert world.ran(Declare) == 1


def test_what_is_wanted_and_found_on_a_node_counts_again(world):
    """With one copy nothing can be made anew."""
    nodes = world.nodes(1)
    client = world.client()
    client.upload("/file", nodes, redundancy="copies=1")
    chunk, places = client.where()
    shard = ShardRef(chunk, places[1])
    nodes[0].shards.discard(shard)
    back = again(world, nodes[0])
    assert world.client("looker").where()[1] == {}
    back.shards.add(shard)
    back = again(world, back, 3)
    assert world.client("looker-2").where()[1] == {1: 0}
    assert [question.read for question in back.received(Examine)] == [True]
    assert world.ran(Adopt) == 1


def test_a_shard_that_vanishes_without_a_word_is_found_while_all_stands_still(make_world):
    world = make_world(1)
    world.start(pace=HealingPace(differ_s=3.0))
    nodes = world.nodes(2)
    chunk, places = uploaded(world, nodes)
    compared(world)
    nodes[0].shards.discard(ShardRef(chunk, places[1]))
    world.wait(lambda: world.ran(Declare) == 1)
    assert set(world.client("looker").where()[1]) == {2}


def test_a_comparison_goes_on_with_the_next_process_of_a_node_that_dies_in_it(world):
    nodes = world.nodes(2)
    chunk, places = uploaded(world, nodes)
    nodes[0].shards.discard(ShardRef(chunk, places[1]))
    mute = world.node(1, 2)
    mute.tells = False
    mute.shards = nodes[0].shards
    nodes[0].beats = False
    mute.register(cluster=nodes[0].form.cluster)
    assert world.ran(Declare) == 0
    world.wait(lambda: len(mute.received(AskInventory)) > 2)
    again(world, mute, 3)
    assert set(world.client("looker").where()[1]) == {2}


# --- asking -----------------------------------------------------------------------------------------------------------


def ask(world, shards, read=False):
    """Ask through the master; a list that gets the states."""
    ended = []
    examiner = world.actor._office.examiner
    world.actor.on_call = lambda ctx, call: examiner.ask(ctx, shards, read, lambda _, states: ended.append(states))
    world.master.call(None)
    return ended


def test_a_node_that_does_not_answer_is_asked_until_it_is_down_and_then_decides_nothing(world):
    nodes = world.nodes(2)
    chunk, places = uploaded(world, nodes)
    compared(world)
    nodes[0].tells = False
    ended = ask(world, [PlacedShard(chunk, places[1], 1), PlacedShard(chunk, places[2], 2)])
    world.run_for(10.0)
    assert ended == []
    assert len(nodes[0].received(Examine)) > 2
    nodes[0].beats = False
    world.wait(lambda: ended)
    assert ended == [[UNREADABLE, GOOD]]
    assert set(world.client("looker").where()[1]) == {1, 2}


def test_an_answer_that_comes_late_or_from_another_or_twice_removes_nothing(world):
    nodes = world.nodes(2)
    chunk, places = uploaded(world, nodes)
    compared(world)
    nodes[0].tells = False
    ended = ask(world, [PlacedShard(chunk, places[1], 1)])
    world.wait(lambda: nodes[0].received(Examine))
    number = nodes[0].received(Examine)[-1].number
    nodes[1].send(Examined(number, [ABSENT]))
    nodes[0].send(Examined(number - 1, [ABSENT]))
    world.run_for(0.5)
    assert ended == []
    nodes[0].send(Examined(number, [GOOD]))
    world.wait(lambda: ended)
    nodes[0].send(Examined(number, [ABSENT]))
    world.run_for(0.5)
    assert ended == [[GOOD]]
    assert set(world.client("looker").where()[1]) == {1, 2}


def test_who_asks_hears_of_a_no_after_the_catalog_has_it(world):
    nodes = world.nodes(2)
    chunk, places = uploaded(world, nodes)
    compared(world)
    changed = []
    world.actor._office.when_places.append(lambda ctx, chunks: changed.append(chunks))
    nodes[0].tells = False
    ended = ask(world, [PlacedShard(chunk, places[1], 1)])
    world.wait(lambda: nodes[0].received(Examine))
    nodes[0].send(Examined(nodes[0].received(Examine)[-1].number, [DAMAGED]))
    world.wait(lambda: ended)
    assert (ended, changed) == ([[DAMAGED]], [[chunk]])
    assert world.ran(Declare) == 1
    assert set(world.client("looker").where()[1]) == {2}


# --- how much travels -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_differences_in_a_hundred_thousand_shards_move_under_a_hundredth_of_the_list(make_world):
    count, wrong = 100_000, 10
    world = make_world(1)
    world.start()
    (node,) = world.nodes(1)
    first = id_floor(2) + 1
    world.crash()
    fill(world, range(first, first + count))
    listed = [ShardRef(chunk, 0) for chunk in range(first, first + count)]
    missing = random.Random(3).sample(listed, wrong)
    node.shards = set(listed) - set(missing)
    said = []
    tell = node.inventory
    node.inventory = lambda question: said.append((question, tell(question))) or said[-1][1]
    world.start()
    world.wait(lambda: node.registered.term == 2)
    world.run_for(3.0)
    compared(world)
    whole = len(CODEC.encode(Inventory(1, [], [], listed)))
    moved = sum(len(CODEC.encode(message)) for pair in said for message in pair)
    moved += sum(len(CODEC.encode(message)) for message in node.received(Examine))
    assert {question.level for question, _ in said} == set(range(SHARDS + 1))
    assert {shard for question in node.received(Examine) for shard in question.shards} == set(missing)
    assert moved < whole / 100, f"{moved} of {whole} bytes"


def fill(world, chunks):
    """Write so many chunks with one copy on node 1 into the catalog of a stopped master."""
    database = Database(world.disk, CATALOG_FILE)
    database.begin()
    database.apply(
        "INSERT INTO chunks VALUES (?, ?, ?, ?, ?)",
        [(chunk, 10, chunk.to_bytes(32, "big"), "copies=1", 1) for chunk in chunks],
    )
    database.apply(
        "INSERT INTO places (chunk, node, shard, state) VALUES (?, ?, ?, ?)", [(chunk, 1, 0, 0) for chunk in chunks]
    )
    for table in (HOLDERS, INVENTORIES):
        database.execute(f"DELETE FROM {table.name}")
    tally(database)
    database.commit()
    database.close()
