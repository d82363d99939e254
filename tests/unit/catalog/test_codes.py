"""Codes in the catalog: every shard by its own hash, made from the others where it is missing, converted both ways."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.master.catalog.convert_rules import CheckPage, ConvertPage, Exchange, WalkFiles
from dsa_zmq.master.catalog.examine_rules import Declare
from dsa_zmq.master.catalog.garbage_plan import CountGarbage
from dsa_zmq.master.catalog.move_rules import DONE, REFUSED, STALE, ApplyReceipts, Arrived, LoadMoves, LookAtMoves
from dsa_zmq.master.catalog.survey_rules import Conditions, Room, Survey, TakeStock
from dsa_zmq.model.hashes import HASH_BYTES, UNKNOWN_HASH, chunk_hash, shard_hash
from dsa_zmq.model.steps import Goals
from dsa_zmq.model.upkeep import Placed, Standing, Why
from dsa_zmq.protocol.operations import Locate, MakeDirectory, SetRedundancy, Stat
from dsa_zmq.protocol.values import ShardRef

CODE = "ec=2+1"
BIG = 1 << 20
GB = 10**9
UP = dict.fromkeys(range(1, 5), Standing.KEEPS)


def change(value, **fields):
    return msgspec.structs.replace(value, **fields)


def conditions(standings=UP, room=GB):
    return Conditions(standings, dict.fromkeys(standings, Room(room, room)), Goals(), "rendezvous")


def without(*nodes):
    return UP | dict.fromkeys(nodes, Standing.AWAY)


def survey(kit, standings=UP):
    done = kit.one(Survey(conditions(standings)))
    kit.audit()
    assert not done.next
    return done


def hashes_of(kit, chunk):
    return next(row[2] for row in kit.dump()["chunks"] if row[0] == chunk)


def arrive(kit, move, made=b"", **fields):
    """The target's word that it has the shard; ``made``: the hash that it found, where nobody had said it."""
    node = next(each for each in kit.nodes if each.node == move.node)
    receipt = kit.receipt(move.move, move.chunk, move.shard, node, move.hash or made or UNKNOWN_HASH, **fields)
    (applied,) = kit.one(ApplyReceipts(move.node, [Arrived(move.chunk, move.move, receipt, made)]))
    kit.audit()
    return applied.outcome


def shown(kit, path):
    return kit.good(Stat(path)).attributes


@pytest.fixture
def coded(kit):
    """A file of one chunk and a bit, and its first chunk as it was staged."""
    commit = kit.commit("/file", BIG + 1000, chunk_bytes=BIG, redundancy=CODE)
    kit.good(commit)
    return commit.chunks[0]


# --- storing ----------------------------------------------------------------------------------------------------------


def test_each_receipt_of_a_code_is_for_the_hash_of_its_own_shard(kit):
    commit = kit.commit("/f", BIG, chunk_bytes=BIG, redundancy=CODE)
    (chunk,) = commit.chunks
    other = [kit.receipt(commit.upload, chunk.chunk, r.index, kit.nodes[r.node - 1], chunk_hash(chunk.hash))
             for r in chunk.receipts]  # fmt: skip
    assert kit.bad(change(commit, chunks=[change(chunk, receipts=other)])) == "denied"
    assert kit.bad(change(commit, chunks=[change(chunk, receipts=chunk.receipts[:2])])) == "denied"
    assert kit.bad(change(commit, chunks=[change(chunk, hash=chunk_hash(chunk.hash))])) == "invalid"
    longer = change(chunk, hash=chunk.hash + bytes(HASH_BYTES))
    assert kit.bad(change(commit, chunks=[longer])) == "invalid"
    kit.good(commit)
    (located,) = kit.good(Locate("/f")).chunks
    assert located[:3] == (chunk.chunk, BIG, chunk.hash)


def test_small_files_of_a_directory_with_a_code_are_committed_as_copies_and_others_are_not(kit):
    kit.good(MakeDirectory("/d", redundancy=CODE))
    kit.good(kit.commit("/d/small", 1000, chunk_bytes=BIG, redundancy="copies=2", inherits=True))
    kit.good(kit.commit("/d/large", BIG, chunk_bytes=BIG, redundancy=CODE, inherits=True))
    assert kit.bad(kit.commit("/d/x", 1000, chunk_bytes=BIG, redundancy=CODE, inherits=True)) == "outdated"
    assert kit.bad(kit.commit("/d/x", 70_000, chunk_bytes=BIG, redundancy="copies=2", inherits=True)) == "outdated"
    assert kit.bad(kit.commit("/d/x", 4096, chunk_bytes=4096, redundancy="copies=2", inherits=True)) == "outdated"
    assert (shown(kit, "/d/small").redundancy, shown(kit, "/d").redundancy) == ("copies=2", CODE)


# --- healing ----------------------------------------------------------------------------------------------------------


def test_a_missing_shard_is_made_from_the_others_and_bound_by_its_own_hash(kit, coded):
    lost = coded.receipts[0]
    done = survey(kit, without(lost.node))
    (move,) = [each for each in done.moves if each.chunk == coded.chunk]
    assert (move.shard, move.why, move.remaining) == (lost.index, Why.REPAIR, 0)
    assert move.hash == shard_hash(coded.hash, lost.index)
    assert (move.shard_bytes, move.source_bytes, move.source_needed) == (BIG // 2, BIG // 2, 2)
    others = [each for each in move.sources if each.node != lost.node]
    assert sorted(each.index for each in others) == [1, 2]
    assert not any(move.has_bytes(each) for each in others)
    assert [move.source_hash(each) for each in others] == [shard_hash(coded.hash, each.index) for each in others]
    assert move.chunk_hash == chunk_hash(coded.hash)
    assert arrive(kit, move, incarnation=5) == STALE
    assert arrive(kit, change(move, hash=chunk_hash(coded.hash))) == REFUSED
    assert arrive(kit, move) == DONE
    assert hashes_of(kit, coded.chunk) == coded.hash


def test_what_is_left_of_a_code_is_counted_by_different_shards(kit, coded):
    """Two nodes may be away before a chunk with two of three needed cannot be read; no third shard makes up for it."""
    at = [each.node for each in coded.receipts]
    only_it = {row[0]: row for row in kit.dump()["chunks"]}
    assert len(only_it) == 2
    stock = kit.one(TakeStock(without(at[0])))
    assert stock.short[0] >= 1
    assert kit.one(TakeStock(without(*at[:2]))).short[-1] >= 1
    assert not [each for each in survey(kit, without(*at[:2])).moves if each.chunk == coded.chunk], (
        "nothing to make it of"
    )


def test_a_very_copy_is_the_first_source_of_a_shard_that_is_to_move(kit, coded):
    leaving = coded.receipts[1]
    done = survey(kit, UP | {leaving.node: Standing.LEAVES})
    (move,) = [each for each in done.moves if each.chunk == coded.chunk]
    assert (move.shard, move.why) == (leaving.index, Why.DRAIN)
    assert move.sources[0] == Placed(leaving.node, leaving.index)
    assert [move.has_bytes(each) for each in move.sources] == [True, False, False]
    assert [each.index for each in move.sources[1:]] == [0, 2], "the chunk's own bytes before parity"


def test_of_a_chunk_that_cannot_be_read_what_is_there_moves_off_a_node_all_the_same(kit, coded):
    """Those that are away may come back."""
    leaving, *away = coded.receipts
    at = without(*(each.node for each in away)) | {leaving.node: Standing.LEAVES}
    (move,) = [each for each in survey(kit, at).moves if each.chunk == coded.chunk]
    assert (move.shard, move.why, move.remaining) == (leaving.index, Why.DRAIN, -1)
    assert arrive(kit, move) == DONE
    assert [(each.chunk, each.node) for each in survey(kit, at).released] == [(coded.chunk, leaving.node)]


def test_a_damaged_shard_of_a_code_is_made_from_others_where_it_is_if_there_is_nowhere_else(kit):
    commit = kit.commit("/wide", BIG, chunk_bytes=BIG, redundancy="ec=2+2")
    kit.good(commit)
    (chunk,) = commit.chunks
    rotten = chunk.receipts[2]
    assert kit.one(Declare(rotten.node, [], [ShardRef(chunk.chunk, rotten.index)])) == [chunk.chunk]
    (move,) = survey(kit).moves
    assert (move.node, move.shard, move.why) == (rotten.node, rotten.index, Why.BAD)
    assert rotten.node not in {each.node for each in move.sources}
    assert arrive(kit, move) == DONE
    assert survey(kit).moves == []


# --- converting -------------------------------------------------------------------------------------------------------


def walk(kit, redundancy=""):
    return kit.one(WalkFiles("/", redundancy)).files


def convert(kit, file, at=None):
    content, ids = kit.new_id(), tuple(kit.new_id() for _ in range(file.chunks))
    made = kit.one(ConvertPage(77, file, content, 0, ids, at or conditions()))
    kit.audit()
    return content, made


def test_copies_become_a_code_whose_hashes_come_with_the_receipts(kit):
    commit = kit.commit("/f", 2 * BIG, chunk_bytes=BIG, redundancy="copies=2")
    kit.good(commit)
    kit.good(SetRedundancy("/", CODE))
    (file,) = walk(kit)
    assert (file.has, file.wants) == ("copies=2", CODE)
    content, made = convert(kit, file)
    assert len(made.moves) == 6
    old = {each.chunk: each for each in commit.chunks}
    for move in made.moves:
        assert (move.hash, move.shard_bytes, move.source_bytes, move.source_needed) == (b"", BIG // 2, BIG, 1)
        assert move.chunk_hash == chunk_hash(hashes_of(kit, move.chunk)) == old[move.source].hash
        assert not any(move.has_bytes(each) for each in move.sources)
        assert {move.source_hash(each) for each in move.sources} == {old[move.source].hash}
    hashes = {(move.chunk, move.shard): kit.random.randbytes(32) for move in made.moves}
    first = made.moves[0]
    assert arrive(kit, first) == arrive(kit, first, UNKNOWN_HASH) == REFUSED, "it has to say what it has made"
    word = Arrived(first.chunk, first.move, kit.receipt(first.move, first.chunk, first.shard, kit.nodes[first.node - 1],
                   kit.random.randbytes(32)), kit.random.randbytes(32))  # fmt: skip
    assert kit.one(ApplyReceipts(first.node, [word]))[0].outcome == REFUSED, "and its word is for that"
    for move in made.moves:
        assert kit.one(CheckPage(content, 0)) is False
        assert arrive(kit, move, hashes[move.chunk, move.shard]) == DONE
    assert kit.one(CheckPage(content, 0)) is True
    assert kit.one(Exchange(file, content, kit.now)) is True
    for chunk, _, kept, _ in kit.good(Locate("/f")).chunks:
        assert [shard_hash(kept, index) for index in range(3)] == [hashes[chunk, index] for index in range(3)]
    assert shown(kit, "/f").redundancy == CODE
    assert walk(kit) == []


def test_a_hash_that_is_known_stays_whatever_a_later_receipt_says(kit):
    kit.good(kit.commit("/f", BIG, chunk_bytes=BIG))
    (file,) = walk(kit, CODE)
    _, made = convert(kit, file)
    first, second, third = made.moves
    right = [kit.random.randbytes(32) for _ in range(3)]
    assert [arrive(kit, each, made) for each, made in zip((first, second), right, strict=False)] == [DONE, DONE]
    before = hashes_of(kit, first.chunk)
    assert kit.one(Declare(first.node, [ShardRef(first.chunk, first.shard)], []))
    (again,) = [each for each in survey(kit, without(first.node)).moves if each.shard == first.shard] or [None]
    assert again is None, "one shard of two needed is left, so nothing can be made of it"
    assert arrive(kit, third, right[2]) == DONE
    (again,) = survey(kit).moves
    assert (again.shard, again.hash) == (first.shard, right[0])
    other = kit.random.randbytes(32)
    assert arrive(kit, change(again, hash=other), other) == REFUSED
    assert arrive(kit, again) == DONE
    after = hashes_of(kit, first.chunk)
    assert shard_hash(after, first.shard) == shard_hash(before, first.shard)


@pytest.mark.parametrize("wanted", ["copies=3", "ec=2+2"])
def test_a_code_becomes_copies_or_another_code_from_as_many_shards_as_it_needs(kit, wanted):
    commit = kit.commit("/f", BIG + 70_000, chunk_bytes=BIG, redundancy=CODE)
    kit.good(commit)
    (file,) = walk(kit, wanted)
    content, made = convert(kit, file)
    old = {each.chunk: each for each in commit.chunks}
    for move in made.moves:
        assert (move.source_redundancy, move.source_needed) == (CODE, 2)
        assert move.source_bytes == -(-old[move.source].length // 32) * 16
        assert move.hash == (chunk_hash(old[move.source].hash) if wanted == "copies=3" else b"")
        assert not any(move.has_bytes(each) for each in move.sources)
        assert [each.index for each in move.sources] == [0, 1, 2]
        assert arrive(kit, move, b"" if move.hash else kit.random.randbytes(32)) == DONE
    assert kit.one(Exchange(file, content, kit.now)) is True
    assert shown(kit, "/f").redundancy == wanted


def test_moves_of_a_conversion_are_the_same_after_a_restart(kit):
    kit.good(kit.commit("/f", BIG, chunk_bytes=BIG, redundancy=CODE))
    _, made = convert(kit, walk(kit, "ec=2+2")[0])
    kit.reopen()
    loaded = kit.one(LoadMoves(UP))
    assert sorted(loaded, key=lambda each: each.move) == sorted(made.moves, key=lambda each: each.move)
    rows = [(each.chunk, each.node, each.move) for each in made.moves]
    assert kit.one(LookAtMoves(UP, rows)) == made.moves


def test_room_is_needed_for_shards_and_not_for_whole_chunks(kit):
    kit.good(kit.commit("/f", BIG, chunk_bytes=BIG))
    (file,) = walk(kit, CODE)
    assert convert(kit, file, conditions(room=BIG // 2 - 1))[1].code == "no-space"
    assert len(convert(kit, file, conditions(room=BIG // 2))[1].moves) == 3


def test_what_is_small_is_found_only_where_it_is_not_kept_as_it_should_be(kit):
    kit.good(kit.commit("/small", 1000, chunk_bytes=BIG, redundancy="copies=2"))
    kit.good(kit.commit("/single", 1000, chunk_bytes=BIG, redundancy="copies=1"))
    kit.good(kit.commit("/full", 4096, chunk_bytes=4096, redundancy="copies=2"))
    kit.good(SetRedundancy("/", CODE))
    assert {(file.has, file.wants, file.size) for file in walk(kit)} == {
        ("copies=1", "copies=2", 1000), ("copies=2", CODE, 4096)
    }  # fmt: skip


def test_the_garbage_of_codes_is_as_large_as_their_shards(kit):
    kit.good(kit.commit("/f", BIG, chunk_bytes=BIG, redundancy="ec=2+2"))
    (file,) = walk(kit, CODE)
    content, made = convert(kit, file)
    for move in made.moves:
        arrive(kit, move, kit.random.randbytes(32))
    assert kit.one(Exchange(file, content, kit.now)) is True
    assert kit.one(CountGarbage()).bytes == 2 * BIG
