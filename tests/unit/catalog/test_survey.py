"""The survey and its moves in the catalog: planned once, counted once arrived, dropped if wanted no more."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.jobs import LoadDrops
from dsa_zmq.master.catalog.move_rules import (
    DONE,
    GONE,
    REFUSED,
    STALE,
    ApplyReceipts,
    Arrived,
    GiveUpMoves,
    LoadMoves,
    LookAtMoves,
)
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.survey_rules import Conditions, Room, Survey, TakeStock
from dsa_zmq.master.catalog.tables import BAD_PLACE, CHUNKS, PLACES, PlaceRow
from dsa_zmq.model.steps import Goals
from dsa_zmq.model.upkeep import Standing, Why
from dsa_zmq.protocol.operations import Remove

KEEPS, AWAY = Standing.KEEPS, Standing.AWAY
UP = dict.fromkeys(range(1, 6), KEEPS)
PLENTY = Room(1 << 40, 1 << 40)


def conditions(standings=UP, *, room=PLENTY, **goals):
    return Conditions(standings, dict.fromkeys(standings, room), Goals(**goals), "rendezvous")


def without(node):
    return UP | {node: AWAY}


def survey(kit, standings=UP, **fields):
    """All slices of one pass; what they planned and released."""
    goals = fields.pop("goals", {})
    moves, released, after = [], [], 0
    for _ in range(1000):
        done = kit.one(Survey(conditions(standings, **goals), after, **fields))
        kit.audit()
        moves += done.moves
        released += done.released
        after = done.next
        if not after:
            return moves, released
    raise AssertionError("the survey does not end")


def held_by(kit, node):
    return {row[0] for row in kit.dump()["places"] if row[1] == node and row[3] != BAD_PLACE}


def receipt_of(kit, move, **fields):
    node = kit.nodes[move.node - 1]
    return kit.receipt(move.move, move.chunk, move.shard, node, move.hash, **fields)


def arrive(kit, *moves, **fields):
    (node,) = {move.node for move in moves}
    arrived = [Arrived(move.chunk, move.move, receipt_of(kit, move, **fields)) for move in moves]
    applied = kit.one(ApplyReceipts(node, arrived))
    kit.audit()
    return [each.outcome for each in applied]


@pytest.fixture
def files(kit):
    """Some files of a few chunks."""
    for number in range(8):
        kit.good(kit.commit(f"/f{number}", 9000))
    return kit


def test_nothing_is_done_where_all_is_as_it_should_be(files):
    before = files.dump()
    assert survey(files) == ([], [])
    assert files.dump() == before


def test_all_that_a_dead_node_held_is_planned_once_and_elsewhere(files):
    lost = held_by(files, 2)
    moves, released = survey(files, without(2))
    assert {move.chunk for move in moves} == lost
    assert len(moves) == len(lost)
    assert not released
    assert {(move.why, move.remaining) for move in moves} == {(Why.REPAIR, 0)}
    for move in moves:
        assert move.node != 2
        assert move.chunk not in held_by(files, move.node)
        assert move.node not in {place.node for place in move.sources}
    assert survey(files, without(2)) == ([], [])


def test_what_has_arrived_is_a_place_and_the_chunk_is_whole(files):
    moves, _ = survey(files, without(2))
    for move in moves:
        assert arrive(files, move) == [DONE]
        assert move.chunk in held_by(files, move.node)
    assert not files.dump()["moves"]
    stock = files.one(TakeStock(without(2)))
    assert (stock.short, set(stock.chunks), stock.untidy) == ({}, {1}, False)


def test_a_receipt_twice_is_one_place(files):
    move, *_ = survey(files, without(2))[0]
    assert [arrive(files, move), arrive(files, move)] == [[DONE], [DONE]]
    assert len([row for row in files.dump()["places"] if row[:2] == (move.chunk, move.node)]) == 1


def test_a_receipt_proves_only_its_own_move(files):
    move, *_ = survey(files, without(2))[0]
    node = files.nodes[move.node - 1]
    forged = files.receipt(move.move + 1, move.chunk, move.shard, node, move.hash)
    (applied,) = files.one(ApplyReceipts(move.node, [Arrived(move.chunk, move.move, forged)]))
    assert applied.outcome == REFUSED
    assert arrive(files, move, incarnation=node.incarnation - 1) == [STALE]
    assert move.chunk not in held_by(files, move.node)
    assert arrive(files, move) == [DONE]


def test_what_arrives_after_its_move_was_given_up_is_dropped(files):
    move, *_ = survey(files, without(2))[0]
    files.one(GiveUpMoves([(move.chunk, move.node, move.move)]))
    files.audit()
    assert [ref.chunk for ref in files.one(LoadDrops(move.node, 10))] == [move.chunk]
    files.drop_all()
    assert arrive(files, move) == [GONE]
    assert [ref.chunk for ref in files.one(LoadDrops(move.node, 10))] == [move.chunk]
    assert arrive(files, move) == [GONE]


def test_nothing_is_planned_onto_a_drop(files):
    move, *_ = survey(files, without(2))[0]
    files.one(GiveUpMoves([(move.chunk, move.node, move.move)]))
    (again,), _ = survey(files, without(2))
    assert again.chunk == move.chunk
    assert again.node not in (2, move.node)


def test_the_move_of_an_earlier_attempt_gives_nothing_up(files):
    move, *_ = survey(files, without(2))[0]
    files.one(GiveUpMoves([(move.chunk, move.node, move.move - 1)]))
    assert arrive(files, move) == [DONE]


def test_a_move_of_a_file_that_is_removed_becomes_a_drop(files):
    moves, _ = survey(files, without(2))
    for number in range(8):
        files.good(Remove(f"/f{number}"))
    files.collect()
    assert not files.dump()["moves"]
    assert files.one(LookAtMoves(UP, [(move.chunk, move.node, move.move) for move in moves])) == [None] * len(moves)
    files.drop_all()
    assert {tuple(arrive(files, move)) for move in moves} == {(GONE,)}
    for node in range(1, 5):
        expected = sorted(move.chunk for move in moves if move.node == node)
        assert [ref.chunk for ref in files.one(LoadDrops(node, 1000))] == expected


def test_a_restart_finds_all_moves_with_what_they_need(files):
    moves, _ = survey(files, without(2))
    files.power_loss()
    loaded, chunk, node = [], 0, 0
    while page := files.one(LoadMoves(without(2), chunk, node, 3)):
        loaded += page
        chunk, node = page[-1].chunk, page[-1].node
    assert sorted(loaded, key=lambda move: move.move) == sorted(moves, key=lambda move: move.move)


@pytest.mark.parametrize("slices", [{"limit": 3}, {"heal": 2}, {"other": 2}, {"limit": 5, "heal": 1}])
def test_small_slices_find_the_same(files, new_kit, slices):
    moves, _ = survey(files, without(2), **slices)
    assert {move.chunk for move in moves} == held_by(files, 2)


def test_a_pass_by_risk_leaves_what_is_less_at_risk(kit):
    kit.good(kit.commit("/three", 4000, redundancy="copies=3"))
    kit.good(kit.commit("/two", 4000, redundancy="copies=2"))
    everywhere = UP | dict.fromkeys((1, 2), AWAY)
    moves, _ = survey(kit, everywhere, at_most=0)
    assert all(move.remaining <= 0 for move in moves)


def test_chunks_may_be_named(files):
    named = sorted(held_by(files, 2))[::2]
    done = files.one(Survey(conditions(without(2)), chunks=(*named, 999_999)))
    assert sorted(move.chunk for move in done.moves) == named
    assert done.next == 0
    done = files.one(Survey(conditions(without(2)), chunks=tuple(held_by(files, 2)), heal=1))
    rest = [chunk for chunk in sorted(held_by(files, 2)) if chunk > done.next]
    assert len(done.moves) == 1
    files.one(Survey(conditions(without(2)), chunks=tuple(rest)))
    assert len(files.dump()["moves"]) == len(held_by(files, 2))


def test_a_node_that_is_back_has_its_places_and_what_is_too_much_is_released(files):
    moves, _ = survey(files, without(2))
    for move in moves:
        arrive(files, move)
    assert files.one(TakeStock(UP)).untidy
    again, released = survey(files)
    assert not again
    assert {each.chunk for each in released} == {move.chunk for move in moves}
    for each in released:
        assert len(each.keepers) == 2
        assert each.node not in {place.node for place in each.keepers}
    assert survey(files) == ([], [])
    assert not files.one(TakeStock(UP)).untidy


def test_while_healing_is_held_nothing_is_planned_or_released(files):
    assert survey(files, without(2), goals={"held": True}) == ([], [])
    moves, _ = survey(files, without(2))
    for move in moves:
        arrive(files, move)
    assert survey(files, goals={"held": True}) == ([], [])


def spoil(kit, chunk, node):
    def rule(rows):
        before = rows.group(PLACES, chunk)
        after = [PlaceRow(*row[:3], BAD_PLACE) if row.node == node else row for row in before]
        change_places(rows, [PlaceChange(rows.get(CHUNKS, chunk), before, after)])

    kit.decide(rule)


def test_a_damaged_shard_is_made_elsewhere_and_its_bytes_go_only_then(files):
    chunk = min(held_by(files, 3))
    spoil(files, chunk, 3)
    (move,), _ = survey(files)
    assert (move.chunk, move.why) == (chunk, Why.BAD)
    assert files.one(LoadDrops(3, 10)) == []
    assert arrive(files, move) == [DONE]
    assert survey(files) == ([], [])
    assert [ref.chunk for ref in files.one(LoadDrops(3, 10))] == [chunk]


def test_a_damaged_shard_may_be_mended_where_it_is(new_kit):
    kit = new_kit(nodes=2)
    kit.good(kit.commit("/f", 4000))
    chunk = min(held_by(kit, 1))
    spoil(kit, chunk, 1)
    (move,), _ = survey(kit)
    assert (move.chunk, move.node) == (chunk, 1)
    kit.one(GiveUpMoves([(move.chunk, move.node, move.move)]))
    assert kit.one(LoadDrops(1, 10)) == [], "its bytes are still the bad place's"
    (move,), _ = survey(kit)
    assert arrive(kit, move) == [DONE]
    assert chunk in held_by(kit, 1)
    assert survey(kit) == ([], [])


def test_the_room_of_a_node_is_kept_to(files):
    moves, _ = survey(files, without(2), goals={"room": Room(3 * 4096, 0)}, limit=1000)
    for node in range(1, 5):
        assert sum(move.shard_bytes for move in moves if move.node == node) <= 3 * 4096


def test_the_places_of_a_store_that_was_replaced_go_once_all_is_whole_without_them(files):
    files.register("n1", store_id=b"another store...", path="/srv/other", start=1)
    standings = {1: KEEPS, 3: KEEPS, 4: KEEPS, 5: KEEPS}
    files.nodes.append(files.register("n1", store_id=b"another store...", path="/srv/other", start=1))
    lost = held_by(files, 2)
    moves, _ = survey(files, standings)
    assert {move.chunk for move in moves} == lost
    for move in moves:
        arrive(files, move)
    _, released = survey(files, standings)
    assert {(each.chunk, each.node) for each in released} == {(chunk, 2) for chunk in lost}


def test_a_copy_that_is_there_twice_stands_in_for_one_that_is_gone_for_good(new_kit):
    """Of three nodes one is away until its copies are made anew, and is back; before any is let go, another dies."""
    kit = new_kit(nodes=3)
    for number in range(8):
        kit.good(kit.commit(f"/f{number}", 9000))
    moves, _ = survey(kit, without(1))
    for move in moves:
        arrive(kit, move)
    twice = {move.chunk for move in moves}
    lost = sorted(held_by(kit, 2) & twice)
    assert lost
    assert not any(chunk in kit.one(TakeStock(without(2))).short for chunk in lost)
    assert survey(kit, without(2), chunks=tuple(lost)) == ([], [])
    back, released = survey(kit)
    assert not back
    assert {each.chunk for each in released} == twice, "the third goes once all three are there"
    stock = kit.one(TakeStock(UP))
    assert (stock.short, stock.untidy) == ({}, False)


def apart(kit):
    return kit.one(TakeStock(UP, dict.fromkeys(range(1, 5), 1 << 30))).apart


def test_when_nodes_are_in_other_zones_than_before_shards_move_apart(files):
    """Two nodes are started again, in a zone: what lies on both of them, or on neither, has one shard to be moved."""
    assert (apart(files), survey(files)) == (0, ([], []))
    for start, name in enumerate(("n0", "n1"), 2):
        files.nodes[start - 2] = files.register(name, start=start, zone="cellar")
    together = {chunk for pair in ((1, 2), (3, 4)) for chunk in held_by(files, pair[0]) & held_by(files, pair[1])}
    assert together
    assert apart(files) == len(together)
    assert files.one(TakeStock(UP)).apart == 0, "no node has room for it"
    moves, released = survey(files)
    assert not released
    assert {(move.chunk, move.why) for move in moves} == {(chunk, Why.SPREAD) for chunk in together}
    assert survey(files) == ([], []), "they are on their way"
    for move in moves:
        arrive(files, move)
    moves, released = survey(files)
    assert not moves
    assert {each.chunk for each in released} == together
    assert apart(files) == 0
    assert survey(files) == ([], [])
    for chunk in together:
        assert len({node in (1, 2) for node in range(1, 5) if chunk in held_by(files, node)}) == 2


def test_moves_that_are_no_risk_are_limited_also_when_shards_move_apart(files):
    for start, name in enumerate(("n0", "n1"), 2):
        files.nodes[start - 2] = files.register(name, start=start, zone="cellar")
    found = files.one(Survey(conditions(), other=1))
    assert len(found.moves) == 1
    assert found.next
