"""What a difference of inventories means: the table of the judge, row by row, and the catalog's digests."""

from __future__ import annotations

import random

import pytest

from dsa_zmq.master.catalog import inventory_rules
from dsa_zmq.master.catalog.examine_rules import Adopt
from dsa_zmq.master.catalog.inventory_rules import BucketDigests, Judged, JudgeInventory, NodeDigests
from dsa_zmq.master.catalog.jobs import LoadDrops
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.tables import (
    BAD_PLACE,
    CHUNKS,
    DROPS,
    LIVE_PLACE,
    MOVES,
    PLACES,
    UNVERIFIED,
    DropRow,
    MoveRow,
)
from dsa_zmq.model.inventory import SHARDS, bucket_of, digests, id_range
from dsa_zmq.model.upkeep import Standing, Why
from dsa_zmq.protocol.operations import Remove
from dsa_zmq.protocol.values import ShardRef
from tests.unit.catalog.conftest import ALL_UP, spare


def holders(staged):
    return [receipt.node for receipt in staged.receipts]


def judge(kit, node, listed, *, buckets=(), standings=ALL_UP):
    """What follows when the node lists these (chunk, index), in their buckets and the others given."""
    refs = [ShardRef(*each) for each in listed]
    wanted = {*buckets, *(bucket_of(ref.chunk, SHARDS - 1) for ref in refs)}
    return kit.one(JudgeInventory(node, sorted(wanted), refs, standings))


def places(kit, chunk):
    return {row[1]: row[2] for row in kit.dump()["places"] if row[0] == chunk}


def change(kit, chunk, how):
    def rule(rows):
        before = rows.group(PLACES, chunk)
        change_places(rows, [PlaceChange(rows.get(CHUNKS, chunk), before, how(before))])

    kit.decide(rule)


# --- listed -----------------------------------------------------------------------------------------------------------


def test_what_both_have_is_left(kit, staged):
    for receipt in staged.receipts:
        assert judge(kit, receipt.node, [(staged.chunk, receipt.index)]) == Judged([], [], 0)
    assert kit.dump()["drops"] == []


def test_a_shard_with_a_pending_move_or_a_drop_is_left_to_its_own_conversation(kit, staged):
    node = spare(staged)
    kit.decide(lambda rows: rows.put(MOVES, MoveRow(staged.chunk, node, 0, 77, Why.REPAIR, staged.chunk, 0)))
    assert judge(kit, node, [(staged.chunk, 0)]) == Judged([], [], 0)
    kit.decide(lambda rows: (rows.get(MOVES, (staged.chunk, node)), rows.delete(MOVES, (staged.chunk, node))))
    drop = DropRow(node, staged.chunk, 0, UNVERIFIED)
    kit.decide(lambda rows: rows.put(DROPS, drop))
    before = kit.dump()
    assert judge(kit, node, [(staged.chunk, 0)]) == Judged([], [], 0)
    assert kit.dump() == before


def test_what_is_of_no_chunk_goes_below_the_horizon_only(kit):
    """Above it, it may be of an upload that is under way."""
    kit.collect(horizon=500)
    assert judge(kit, 2, [(499, 0), (500, 0), (501, 1)]) == Judged([], [], 1)
    assert kit.one(LoadDrops(2, 10)) == [ShardRef(499, 0)]
    assert judge(kit, 2, [(499, 0), (500, 0), (501, 1)]) == Judged([], [], 0), "it is under way"


def test_what_was_deleted_while_the_node_was_away_goes(kit, staged):
    node = staged.receipts[0]
    kit.good(Remove("/file"))
    kit.collect()
    kit.drop_all()
    kit.collect(horizon=staged.chunk + 1)
    assert judge(kit, node.node, [(staged.chunk, node.index)]).dropping == 1
    assert kit.one(LoadDrops(node.node, 10)) == [ShardRef(staged.chunk, node.index)]


def test_what_is_wanted_and_nowhere_else_is_to_be_read_and_then_a_place(kit, staged):
    lost, index = staged.receipts[1].node, staged.receipts[1].index
    change(kit, staged.chunk, lambda before: [row for row in before if row.node != lost])
    node = spare(staged)
    assert judge(kit, node, [(staged.chunk, index)]) == Judged([], [ShardRef(staged.chunk, index)], 0)
    assert lost not in places(kit, staged.chunk), "nothing is a place because of a listing"
    assert kit.one(Adopt(node, [ShardRef(staged.chunk, index)])) == [staged.chunk]
    assert places(kit, staged.chunk)[node] == index
    assert kit.one(Adopt(node, [ShardRef(staged.chunk, index)])) == []
    kit.audit()


@pytest.mark.parametrize(
    ("standing", "outcome"),
    [
        (Standing.KEEPS, "drop"),
        (Standing.LEAVES, "adopt"),
        (Standing.SILENT, "wait"),
        (Standing.FAILED, "adopt"),
        (Standing.AWAY, "adopt"),
    ],
)
def test_what_another_node_has_goes_only_if_that_one_keeps(kit, staged, standing, outcome):
    other = staged.receipts[0]
    judged = judge(kit, spare(staged), [(staged.chunk, other.index)], standings=ALL_UP | {other.node: standing})
    assert (judged.dropping, len(judged.adoptable)) == {"drop": (1, 0), "adopt": (0, 1), "wait": (0, 0)}[outcome]


def test_a_copy_that_stands_in_for_a_missing_one_is_wanted(kit, staged):
    kept, lost = staged.receipts
    judged = judge(kit, spare(staged), [(staged.chunk, kept.index)], standings=ALL_UP | {lost.node: Standing.AWAY})
    assert judged == Judged([], [ShardRef(staged.chunk, kept.index)], 0)
    silent = ALL_UP | {lost.node: Standing.SILENT}
    assert judge(kit, spare(staged), [(staged.chunk, kept.index)], standings=silent) == Judged([], [], 0)
    assert judge(kit, spare(staged), [(staged.chunk, kept.index)]).dropping == 1


def test_a_bad_place_elsewhere_does_not_make_a_shard_superfluous(kit, staged):
    other = staged.receipts[0]
    change(
        kit,
        staged.chunk,
        lambda before: [row._replace(state=BAD_PLACE) if row.node == other.node else row for row in before],
    )
    assert len(judge(kit, spare(staged), [(staged.chunk, other.index)]).adoptable) == 1


def test_a_shard_that_no_chunk_of_this_redundancy_has_goes(kit, staged):
    assert judge(kit, spare(staged), [(staged.chunk, 2)]) == Judged([], [], 1)


def test_a_second_shard_on_a_node_with_a_place_goes_if_that_one_is_listed_too_and_good(kit, staged):
    node, index = staged.receipts[0].node, staged.receipts[0].index
    own, other = (staged.chunk, index), (staged.chunk, 1 - index)
    assert judge(kit, node, [other]) == Judged([ShardRef(*own)], [], 0), "the place's own shard may be lost"
    change(kit, staged.chunk, lambda before: [r._replace(state=BAD_PLACE) if r.node == node else r for r in before])
    assert judge(kit, node, [own, other]) == Judged([], [], 0)
    change(kit, staged.chunk, lambda before: [r._replace(state=LIVE_PLACE) for r in before])
    before = kit.dump()["places"]
    assert judge(kit, node, [own, other]) == Judged([], [], 1)
    assert kit.one(LoadDrops(node, 10)) == [ShardRef(*other)]
    assert kit.dump()["places"] == before
    assert judge(kit, node, [own, other]) == Judged([], [], 0), "it is under way"
    kit.audit()


def test_what_was_not_asked_for_is_not_judged(kit):
    kit.collect(horizon=500)
    job = JudgeInventory(2, [bucket_of(100, 3)], [ShardRef(100, 0), ShardRef(300, 0), ShardRef(-5, 0)], ALL_UP)
    assert kit.one(job).dropping == 1
    assert kit.one(LoadDrops(2, 10)) == [ShardRef(100, 0)]


# --- not listed -------------------------------------------------------------------------------------------------------


def test_a_place_that_is_not_listed_stays_and_the_node_is_asked(kit, staged):
    receipt = staged.receipts[0]
    before = kit.dump()
    judged = judge(kit, receipt.node, [], buckets=[bucket_of(staged.chunk, SHARDS - 1)])
    assert judged == Judged([ShardRef(staged.chunk, receipt.index)], [], 0)
    assert kit.dump() == before


def test_a_bad_place_is_not_missed(kit, staged):
    bad = staged.receipts[0].node
    change(kit, staged.chunk, lambda before: [r._replace(state=BAD_PLACE) if r.node == bad else r for r in before])
    assert judge(kit, bad, [], buckets=[bucket_of(staged.chunk, SHARDS - 1)]) == Judged([], [], 0)


# --- adoption ---------------------------------------------------------------------------------------------------------


def test_nothing_is_adopted_that_is_to_be_dropped_or_moved_or_is_not_wanted(kit, staged):
    node = spare(staged)
    assert kit.one(Adopt(node, [ShardRef(staged.chunk, 2), ShardRef(99, 0)])) == []
    assert kit.one(Adopt(holders(staged)[0], [ShardRef(staged.chunk, staged.receipts[1].index)])) == []
    kit.decide(lambda rows: rows.put(MOVES, MoveRow(staged.chunk, node, 0, 77, Why.REPAIR, staged.chunk, 0)))
    assert kit.one(Adopt(node, [ShardRef(staged.chunk, 0)])) == []
    kit.decide(lambda rows: (rows.get(MOVES, (staged.chunk, node)), rows.delete(MOVES, (staged.chunk, node))))
    kit.decide(lambda rows: rows.put(DROPS, DropRow(node, staged.chunk, 0, UNVERIFIED)))
    assert kit.one(Adopt(node, [ShardRef(staged.chunk, 0)])) == []


def test_of_two_shards_of_a_chunk_one_is_adopted(kit, staged):
    change(kit, staged.chunk, lambda before: [])
    assert kit.one(Adopt(3, [ShardRef(staged.chunk, 0), ShardRef(staged.chunk, 1)])) == [staged.chunk]
    assert places(kit, staged.chunk) == {3: 0}


# --- digests ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(new_kit):
    """A catalog, and the (chunk, index) of its node 1, over a wide range of ids."""
    kit = new_kit()
    draw = random.Random(5)
    ids = sorted({*draw.sample(range(1, 5000), 300), *draw.sample(range(1 << 20, (1 << 20) + 3000), 200)})
    database = kit.catalog._database
    database.begin()
    chunks = [(chunk, 10, chunk.to_bytes(32, "big"), "copies=2", 1) for chunk in ids]
    database.apply("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", chunks)
    held = [(chunk, node, node - 1, 0) for chunk in ids for node in (1, 2) if draw.random() < 0.7]
    held += [(chunk, 3, 0, BAD_PLACE) for chunk in ids]
    database.apply("INSERT INTO places (chunk, node, shard, state) VALUES (?, ?, ?, ?)", held)
    database.commit()
    kit.retally()
    kit.alive.remove(kit)  # it outlives each test
    yield kit, [(chunk, shard) for chunk, node, shard, _ in held if node == 1]
    kit.disk.process_crash()


def test_the_kept_digests_are_those_of_level_0(many):
    kit, held = many
    assert kit.one(NodeDigests(1)) == digests(held, 0)
    assert kit.one(NodeDigests(3)) == {}, "a bad place is not in the node's set either"


@pytest.mark.parametrize("slice_rows", [7, 100, inventory_rules.SLICE_ROWS])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_slices_of_any_size_make_the_digests_of_all_levels(many, monkeypatch, level, slice_rows):
    kit, held = many
    scan = inventory_rules.PLACES_BETWEEN
    sql = scan.sql.replace(f"LIMIT {inventory_rules.SLICE_ROWS + 1}", f"LIMIT {slice_rows + 1}")
    monkeypatch.setattr(inventory_rules, "SLICE_ROWS", slice_rows)
    monkeypatch.setattr(scan, "sql", sql)
    buckets = sorted({bucket_of(chunk, level - 1) for chunk, _ in held})
    ranges = [id_range(level - 1, bucket) for bucket in buckets]
    made = {}
    slices = 0
    while ranges:
        result = kit.one(BucketDigests(1, level, ranges))
        assert result.rest != ranges, "each slice gets on"
        ranges = result.rest
        slices += 1
        for bucket, digest in result.digests.items():
            made[bucket] = made.get(bucket, 0) ^ digest
    assert made == digests(held, level)
    assert slices > 1 or slice_rows == inventory_rules.SLICE_ROWS
