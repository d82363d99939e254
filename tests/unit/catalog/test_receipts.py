"""Receipts: only a node's own word, for exactly this shard, makes a place."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.model.ids import NONCE_BITS
from dsa_zmq.protocol.operations import Confirm, Locate, Stat
from dsa_zmq.protocol.values import PlacedShard, StagedChunk


def with_receipt(commit, receipt, position=0):
    """The commit with another receipt for one of its first chunk's shards."""
    chunk = commit.chunks[0]
    receipts = [receipt if index == position else r for index, r in enumerate(chunk.receipts)]
    return msgspec.structs.replace(
        commit, chunks=[StagedChunk(chunk.chunk, chunk.length, chunk.hash, receipts), *commit.chunks[1:]]
    )


def node_of(kit, receipt):
    return next(node for node in kit.nodes if node.node == receipt.node)


def forge(kit, commit, **fields):
    """The commit, with a receipt that its node wrote for something else."""
    chunk = commit.chunks[0]
    receipt = chunk.receipts[0]
    written = kit.receipt(commit.upload, chunk.chunk, receipt.index, node_of(kit, receipt), chunk.hash, **fields)
    return with_receipt(commit, msgspec.structs.replace(receipt, mac=written.mac))


def refuse(kit, commit):
    assert kit.bad(commit) == "denied"
    assert kit.bad(Stat(commit.path)) == "not-found"
    assert kit.dump()["places"] == []


def test_true_receipts_become_places(kit):
    commit = kit.commit("/f")
    assert forge(kit, commit) == commit
    kit.good(commit)
    places = kit.good(Locate("/f")).chunks[0][3]
    assert sorted(places) == sorted((r.node, r.index) for r in commit.chunks[0].receipts)


def test_a_forged_receipt_is_refused_and_the_refusal_is_kept(kit):
    commit = kit.commit("/f")
    receipt = commit.chunks[0].receipts[1]
    forged = with_receipt(commit, msgspec.structs.replace(receipt, mac=bytes(16)), 1)
    request = kit.request(forged)
    first = kit.one(request)
    assert first.code == "denied"
    assert kit.one(request) == first
    assert len(kit.dump()["replies"]) == 1
    refuse(kit, forged)


@pytest.mark.parametrize("what", ["upload", "chunk", "index", "incarnation"])
def test_a_receipt_written_for_another_one_is_refused(kit, what):
    commit = kit.commit("/f")
    value = {"upload": commit.upload + 1, "chunk": commit.chunks[0].chunk + 1, "index": 1, "incarnation": 1}[what]
    refuse(kit, forge(kit, commit, **{what: value}))


def test_a_receipt_for_other_bytes_is_refused(kit):
    refuse(kit, forge(kit, kit.commit("/f"), shard_hash=kit.random.randbytes(32)))


def test_a_receipt_of_another_cluster_is_refused(kit):
    refuse(kit, forge(kit, kit.commit("/f"), cluster=bytes(16)))


def test_a_receipt_of_an_earlier_store_of_the_node_is_refused(kit):
    refuse(kit, forge(kit, kit.commit("/f"), store_id=bytes(16)))


def test_a_receipt_under_another_generation_of_the_key_is_refused(kit):
    refuse(kit, forge(kit, kit.commit("/f"), generation=2))


def test_another_nodes_receipt_is_refused(kit):
    commit = kit.commit("/f")
    receipt = commit.chunks[0].receipts[0]
    held_by = {r.node for r in commit.chunks[0].receipts}
    other = next(node for node in kit.nodes if node.node not in held_by)
    refuse(kit, with_receipt(commit, msgspec.structs.replace(receipt, node=other.node)))


def test_a_receipt_replayed_from_another_upload_of_the_same_bytes_is_refused(kit):
    first = kit.commit("/f")
    kit.good(first)
    again = kit.commit("/g")
    chunk = StagedChunk(again.chunks[0].chunk, first.chunks[0].length, first.chunks[0].hash, first.chunks[0].receipts)
    assert kit.bad(msgspec.structs.replace(again, chunks=[chunk])) == "denied"
    assert kit.bad(Stat("/g")) == "not-found"


def test_a_receipt_of_an_unknown_node_is_refused(kit):
    commit = kit.commit("/f")
    receipt = commit.chunks[0].receipts[0]
    refuse(kit, with_receipt(commit, msgspec.structs.replace(receipt, node=99)))


def test_a_receipt_of_a_replaced_store_makes_no_place_and_is_to_be_confirmed_unless_it_is_forged(kit):
    commit = kit.commit("/f")
    receipt = commit.chunks[0].receipts[0]
    node = node_of(kit, receipt)
    replacement = kit.register(node.name, store_id=b"wiped and new ..")
    assert replacement.node != node.node
    wanted = [PlacedShard(commit.chunks[0].chunk, receipt.index, node.node)]
    assert kit.good(commit) == Confirm(wanted, [], [], 0)
    assert kit.bad(Stat("/f")) == "not-found"
    refuse(kit, with_receipt(commit, msgspec.structs.replace(receipt, mac=bytes(16))))


def test_a_receipt_for_a_shard_that_the_redundancy_does_not_have_is_refused(kit):
    commit = kit.commit("/f")
    chunk = commit.chunks[0]
    receipt = chunk.receipts[1]
    refuse(kit, with_receipt(commit, kit.receipt(commit.upload, chunk.chunk, 2, node_of(kit, receipt), chunk.hash), 1))


def test_fewer_or_more_shards_than_the_redundancy_wants_are_refused(kit):
    commit = kit.commit("/f")
    refuse(kit, msgspec.structs.replace(commit, redundancy="copies=3"))
    refuse(kit, msgspec.structs.replace(commit, redundancy="copies=1"))


def test_two_shards_on_one_node_or_one_shard_twice_are_refused(kit):
    commit = kit.commit("/f")
    chunk = commit.chunks[0]
    first, second = (node_of(kit, receipt) for receipt in chunk.receipts)
    refuse(kit, with_receipt(commit, kit.receipt(commit.upload, chunk.chunk, 1, first, chunk.hash), 1))
    refuse(kit, with_receipt(commit, kit.receipt(commit.upload, chunk.chunk, 0, second, chunk.hash), 1))


def test_receipts_of_an_earlier_start_are_confirmed_and_then_good(kit):
    commit = kit.commit("/f", 8192)
    stale = commit.chunks[1].receipts[0]
    node = node_of(kit, stale)
    renewed = kit.register(node.name, start=7)
    expected = [
        PlacedShard(chunk.chunk, receipt.index, receipt.node)
        for chunk in commit.chunks
        for receipt in chunk.receipts
        if receipt.node == node.node
    ]
    assert kit.good(commit) == Confirm(expected, [], [], 0)
    assert kit.bad(Stat("/f")) == "not-found"
    assert kit.dump()["places"] == []
    chunks = [
        msgspec.structs.replace(
            chunk,
            receipts=[
                kit.receipt(commit.upload, chunk.chunk, r.index, renewed, chunk.hash) if r.node == node.node else r
                for r in chunk.receipts
            ],
        )
        for chunk in commit.chunks
    ]
    kit.good(msgspec.structs.replace(commit, chunks=chunks))


def test_a_staged_page_asks_for_confirmation_too(kit):
    stage = kit.stage(kit.new_id(), 0)
    for node in kit.nodes:
        kit.register(node.name, start=2)
    answer = kit.good(stage)
    assert isinstance(answer, Confirm)
    assert len(answer.shards) == 8
    assert kit.dump()["uploads"] == []


@pytest.mark.parametrize("later", [1 << NONCE_BITS, 1, -1])
def test_a_receipt_of_a_later_start_or_of_another_process_of_this_start_is_not_believed_without_asking(kit, later):
    commit = kit.commit("/f")
    chunk = commit.chunks[0]
    node = node_of(kit, chunk.receipts[0])
    incarnation = node.incarnation + later
    other = kit.receipt(commit.upload, chunk.chunk, chunk.receipts[0].index, node, chunk.hash, incarnation=incarnation)
    assert isinstance(kit.good(with_receipt(commit, other)), Confirm)
