"""Places: nothing goes that is needed, what is not proved comes back, and the tallies agree (each rule is audited)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.master.catalog.jobs import LoadDrops
from dsa_zmq.master.catalog.places import PlaceChange, change_places, release, restore, send_off, view_of
from dsa_zmq.master.catalog.tables import BAD_PLACE, CHUNKS, MOVES, PLACES, MoveRow
from dsa_zmq.model.upkeep import Placed, Standing, Why
from dsa_zmq.protocol.operations import Locate, Remove
from tests.unit.catalog.conftest import ALL_UP, spare


@pytest.fixture
def chunk(kit, staged):
    """A chunk with two shards, and one of them on a third node, too."""
    kit.add_place(staged.chunk, spare(staged), staged.receipts[1].index)
    return staged


def nodes_of(kit, chunk):
    return [row[1] for row in kit.dump()["places"] if row[0] == chunk and row[3] != BAD_PLACE]


def let_go(kit, chunk, node, standings=ALL_UP):
    return kit.decide(lambda rows: release(rows, chunk, node, view_of(rows, standings)))


def test_of_two_that_could_go_only_one_does(kit, chunk):
    first, second = chunk.receipts[1].node, spare(chunk)
    assert let_go(kit, chunk.chunk, first) == [
        Placed(node, kit_index) for node, kit_index in sorted([(chunk.receipts[0].node, 0), (second, 1)])
    ]
    assert let_go(kit, chunk.chunk, second) is None
    assert nodes_of(kit, chunk.chunk) == sorted([chunk.receipts[0].node, second])


@pytest.mark.parametrize("standing", [standing for standing in Standing if standing is not Standing.KEEPS])
def test_nothing_goes_because_of_a_node_that_may_not_keep(kit, chunk, standing):
    assert let_go(kit, chunk.chunk, spare(chunk), ALL_UP | {chunk.receipts[1].node: standing}) is None


def test_what_is_released_is_dropped_only_after_the_others_were_read(kit, chunk):
    node, shard = spare(chunk), chunk.receipts[1].index
    kept = let_go(kit, chunk.chunk, node)
    assert kit.one(LoadDrops(node, 10)) == []
    assert kit.do(Locate("/file")).chunks[0][3] == [(place.node, place.index) for place in kept]
    for good in ([], kept[:1], kept[1:]):
        send = lambda rows, good=good: send_off(rows, chunk.chunk, node, shard, good, view_of(rows, ALL_UP))  # noqa: E731
        assert not kit.decide(send)
    assert kit.decide(lambda rows: send_off(rows, chunk.chunk, node, shard, kept, view_of(rows, ALL_UP)))
    assert [ref.chunk for ref in kit.one(LoadDrops(node, 10))] == [chunk.chunk]
    assert not kit.decide(lambda rows: restore(rows, chunk.chunk, node, shard)), "the node may have been told"


def test_what_was_released_is_a_place_again_if_another_proves_bad(kit, chunk):
    node, shard = spare(chunk), chunk.receipts[1].index
    before = kit.dump()
    let_go(kit, chunk.chunk, node)
    assert kit.decide(lambda rows: restore(rows, chunk.chunk, node, shard))
    assert kit.dump() == before


def test_between_mark_and_word_a_keeper_may_have_gone(kit, chunk):
    node, shard = spare(chunk), chunk.receipts[1].index
    kept = let_go(kit, chunk.chunk, node)
    down = ALL_UP | {chunk.receipts[0].node: Standing.AWAY}
    assert not kit.decide(lambda rows: send_off(rows, chunk.chunk, node, shard, kept, view_of(rows, down)))
    assert kit.one(LoadDrops(node, 10)) == []


def test_a_bad_place_counts_nowhere_and_goes_when_the_chunk_is_healthy_without_it(kit, chunk):
    bad = chunk.receipts[1].node

    def rule(rows):
        before = rows.group(PLACES, chunk.chunk)
        after = [row._replace(state=BAD_PLACE) if row.node == bad else row for row in before]
        change_places(rows, [PlaceChange(rows.get(CHUNKS, chunk.chunk), before, after)])

    kit.decide(rule)
    assert bad not in [node for node, _ in kit.do(Locate("/file")).chunks[0][3]]
    assert let_go(kit, chunk.chunk, spare(chunk)) is None, "the bad one does not keep anything"
    assert let_go(kit, chunk.chunk, bad) is not None
    assert [ref.chunk for ref in kit.one(LoadDrops(bad, 10))] == [chunk.chunk]


def test_a_chunk_that_is_let_go_takes_its_moves_along(kit):
    commit = kit.commit("/file")
    kit.good(commit)
    (staged,) = commit.chunks
    target = spare(staged)
    move = MoveRow(staged.chunk, target, 0, kit.new_id(), Why.REPAIR, staged.chunk, 0)
    kit.decide(lambda rows: rows.put(MOVES, move))
    kit.good(Remove("/file"))
    kit.collect()
    assert kit.dump()["moves"] == kit.dump()["holders"] == kit.dump()["inventories"] == []
    assert set(kit.drop_all()) == {target, *(receipt.node for receipt in staged.receipts)}


@given(
    steps=st.lists(st.tuples(st.sampled_from(["release", "restore", "good"]), st.integers(1, 4)), max_size=12),
    standings=st.lists(st.sampled_from(Standing), min_size=4, max_size=4),
)
@settings(max_examples=settings.default.max_examples // 10)
def test_in_whatever_order_places_go_and_come_two_copies_stay_somewhere(new_kit, steps, standings):
    kit = new_kit()
    commit = kit.commit("/file", redundancy="copies=2")
    kit.good(commit)
    (staged,) = commit.chunks
    for node in {1, 2, 3, 4} - {receipt.node for receipt in staged.receipts}:
        kit.add_place(staged.chunk, node, node % 2)
    shard_of = {row[1]: row[2] for row in kit.dump()["places"]}
    now = dict(enumerate(standings, 1))
    for step, node in steps:
        match step:
            case "release":
                let_go(kit, staged.chunk, node, now)
            case "restore":
                kit.decide(lambda rows, node=node: restore(rows, staged.chunk, node, shard_of[node]))
            case "good":
                everywhere = [Placed(*place) for place in shard_of.items()]
                kit.decide(
                    lambda rows, node=node, good=everywhere: send_off(
                        rows, staged.chunk, node, shard_of[node], good, view_of(rows, now)
                    )
                )
        assert len(nodes_of(kit, staged.chunk)) >= 2
