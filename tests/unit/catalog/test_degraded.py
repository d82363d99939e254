"""Writes with fewer shards than their redundancy has: only if the request says so, and never with no loss to spare."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.master.catalog.survey_rules import Conditions, Room, Survey, TakeStock
from dsa_zmq.model.hashes import shard_hash
from dsa_zmq.model.steps import Goals
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.operations import Confirm, Locate, Stage, Stat

BIG = 1 << 20
UP = dict.fromkeys(range(1, 5), Standing.KEEPS)
LEAST = [("ec=2+2", 3), ("copies=3", 2), ("copies=4", 2), ("ec=2+1", 3), ("copies=2", 2), ("copies=1", 1)]


def change(value, **fields):
    return msgspec.structs.replace(value, **fields)


def with_shards(asked, count):
    """The same commit or page, with so many shards of each chunk."""
    return change(asked, chunks=[change(chunk, receipts=chunk.receipts[:count]) for chunk in asked.chunks])


def commit(kit, redundancy, path="/f", **fields):
    return kit.commit(path, BIG + 70_000, chunk_bytes=BIG, redundancy=redundancy, **fields)


@pytest.mark.parametrize(("redundancy", "least"), LEAST)
def test_a_commit_that_says_so_needs_one_shard_more_than_a_reader_and_any_other_needs_all(kit, redundancy, least):
    asked = commit(kit, redundancy, degraded=True)
    for count in range(least):
        assert kit.bad(with_shards(asked, count)) == "denied"
    shards = len(asked.chunks[0].receipts)
    for count in range(shards):
        assert kit.bad(change(with_shards(asked, count), degraded=False)) == "denied"
    assert kit.bad(Stat("/f")) == "not-found"
    assert kit.dump()["places"] == []
    kit.good(with_shards(asked, least))
    assert [len(chunk[3]) for chunk in kit.good(Locate("/f")).chunks] == [least, least]
    kit.audit()


@pytest.mark.parametrize(("redundancy", "least"), LEAST)
def test_a_staged_page_keeps_the_same_rule(kit, redundancy, least):
    page = kit.stage(kit.new_id(), 0, redundancy=redundancy)
    said = Stage(*msgspec.structs.astuple(page)[:4], page.chunks, True)
    assert kit.bad(with_shards(said, least - 1)) == "denied"
    if least < len(page.chunks[0].receipts):
        assert kit.bad(with_shards(page, least)) == "denied"
    assert kit.dump()["uploads"] == []
    kit.good(with_shards(said, least))
    kit.audit()


def test_one_chunk_with_too_few_shards_among_others_with_all_is_refused(kit):
    asked = commit(kit, "ec=2+2", degraded=True)
    last = asked.chunks[-1]
    assert kit.bad(change(asked, chunks=[*asked.chunks[:-1], change(last, receipts=last.receipts[:2])])) == "denied"
    assert kit.dump()["places"] == []


def test_what_is_there_counts_once_and_must_be_true_also_where_fewer_will_do(kit):
    asked = with_shards(commit(kit, "ec=2+2", degraded=True), 3)
    (chunk, other) = asked.chunks
    first, second, third = chunk.receipts
    node_of = {node.node: node for node in kit.nodes}
    unused = next(node for node in kit.nodes if node.node not in {r.node for r in chunk.receipts})

    def write(index, node, hash_of=None, **fields):
        hash_ = shard_hash(chunk.hash, index if hash_of is None else hash_of)
        return kit.receipt(asked.upload, chunk.chunk, index, node, hash_, **fields)

    lies = {
        "one shard on two nodes": [first, second, write(second.index, unused)],
        "two shards on one node": [first, second, write(third.index, node_of[second.node])],
        "the same receipt twice": [first, second, second],
        "a receipt that nobody wrote": [first, second, change(third, mac=bytes(16))],
        "another upload's": [first, second, write(third.index, node_of[third.node], upload=asked.upload + 1)],
        "for other bytes": [first, second, write(third.index, node_of[third.node], hash_of=first.index)],
        "a shard that there is not": [first, second, change(third, index=4)],
        "more than there are": [*chunk.receipts, write(3, unused), write(2, unused)],
    }
    for receipts in lies.values():
        assert kit.bad(change(asked, chunks=[change(chunk, receipts=receipts), other])) == "denied"
    assert kit.dump()["places"] == []
    kit.good(asked)


def test_receipts_of_an_earlier_start_are_confirmed_as_those_of_any_commit(kit):
    asked = with_shards(commit(kit, "ec=2+2", degraded=True), 3)
    stale = asked.chunks[0].receipts[0].node
    kit.register(next(node.name for node in kit.nodes if node.node == stale), start=5)
    answer = kit.good(asked)
    assert isinstance(answer, Confirm)
    assert {shard.node for shard in answer.shards} == {stale}


def test_what_is_missing_is_made_as_soon_as_there_is_a_node_for_it(kit):
    asked = commit(kit, "ec=2+2", degraded=True)
    chunk = asked.chunks[0]
    missing = chunk.receipts[-1]
    kit.good(with_shards(asked, 3))
    away = UP | {missing.node: Standing.AWAY}

    def named(standings):
        rooms = dict.fromkeys(standings, Room(10**9, 10**9))
        return kit.one(Survey(Conditions(standings, rooms, Goals(), "rendezvous"), chunks=(chunk.chunk,)))

    assert kit.one(TakeStock(away)).short[1] >= 1
    assert (named(away).moves, named(away).stuck) == ([], 1)
    (move,) = named(UP).moves
    assert (move.node, move.shard, move.remaining) == (missing.node, missing.index, 1)
    assert move.hash == shard_hash(chunk.hash, missing.index)
