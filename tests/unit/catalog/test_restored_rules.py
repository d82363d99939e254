"""The rules of a catalog that was restored from copies: it may be of an earlier moment than what nodes hold."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.damage_rules import DamageTaken, TakeDamage
from dsa_zmq.master.catalog.inventory_rules import Judged, JudgeInventory
from dsa_zmq.master.catalog.jobs import LoadDrops
from dsa_zmq.master.catalog.log_jobs import LoadLog
from dsa_zmq.master.catalog.move_rules import GONE, ApplyReceipts, Arrived, GiveUpMoves
from dsa_zmq.master.catalog.tables import MOVES, RESTORED_NS, MoveRow
from dsa_zmq.master.reconciling import UNKNOWN_KEEP_NS
from dsa_zmq.model.hashes import shard_hash
from dsa_zmq.model.inventory import SHARDS, bucket_of
from dsa_zmq.model.upkeep import Why
from dsa_zmq.protocol.values import ShardRef
from tests.unit.catalog.conftest import ALL_UP, spare

RESTORED = 1_000
A_WEEK_LATER = RESTORED + UNKNOWN_KEEP_NS


@pytest.fixture
def restored(kit):
    """The kit, as if its catalog had been made from copies."""
    kit.decide(lambda rows: rows.set_number(RESTORED_NS, RESTORED))
    kit.reopen()
    assert kit.catalog.restored_ns == kit.one(LoadLog()).restored_ns == RESTORED
    return kit


@pytest.fixture
def staged(restored):
    commit = restored.commit("/file", redundancy="copies=2")
    restored.good(commit)
    return commit.chunks[0]


def judge(kit, node, chunk, index, **fields):
    return kit.one(JudgeInventory(node, [bucket_of(chunk, SHARDS - 1)], [ShardRef(chunk, index)], ALL_UP, **fields))


def damaged(kit, node, chunk, index, **fields):
    return kit.one(TakeDamage(node, [ShardRef(chunk, index)], ALL_UP, **fields))


@pytest.mark.parametrize(
    ("wall_ns", "goes"), [(0, 0), (RESTORED, 0), (A_WEEK_LATER - 1, 0), (A_WEEK_LATER, 1), (1 << 62, 1)]
)
def test_what_is_of_no_chunk_is_kept_for_a_week(restored, wall_ns, goes):
    restored.collect(horizon=500)
    assert damaged(restored, 3, 400, 0, wall_ns=wall_ns) == DamageTaken([], goes)
    assert judge(restored, 2, 400, 0, wall_ns=wall_ns) == Judged([], [], goes)


def test_nothing_is_dropped_while_all_is_to_be_spared(restored, staged):
    node, index = spare(staged), staged.receipts[0].index
    restored.collect(horizon=500)
    for shard in ((400, 0), (staged.chunk, index)):
        assert judge(restored, node, *shard, wall_ns=A_WEEK_LATER, spares=True) == Judged([], [], 0)
        assert damaged(restored, node, *shard, wall_ns=A_WEEK_LATER, spares=True) == DamageTaken([], 0)
    assert restored.one(LoadDrops(node, 10)) == []
    assert judge(restored, node, staged.chunk, index) == Judged([], [], 1)


def test_damage_of_a_place_is_noted_all_the_same(restored, staged):
    first = staged.receipts[0]
    assert damaged(restored, first.node, staged.chunk, first.index, spares=True) == DamageTaken([staged.chunk], 0)


def test_a_move_that_is_given_up_leaves_what_may_have_been_there_before_it(restored, staged):
    node = spare(staged)
    row = MoveRow(staged.chunk, node, 0, 77, Why.REPAIR, staged.chunk, 0)
    restored.decide(lambda rows: rows.put(MOVES, row))
    restored.one(GiveUpMoves([(staged.chunk, node, 77)]))
    assert restored.dump()["moves"] == restored.dump()["drops"] == []
    receipt = restored.receipt(77, staged.chunk, 0, restored.nodes[node - 1], shard_hash(staged.hash, 0))
    (applied,) = restored.one(ApplyReceipts(node, [Arrived(staged.chunk, 77, receipt)]))
    assert applied.outcome == GONE
    assert restored.dump()["drops"] == []
