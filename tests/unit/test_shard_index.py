"""The index of a shard store: of several records of a shard the newest is the truth, in whatever order they come."""

from __future__ import annotations

import itertools
import random

import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.model.inventory import digests
from dsa_zmq.node.index import Index, SegmentState, row_of
from dsa_zmq.node.index_file import IndexDamaged
from dsa_zmq.node.segments import DROP, PUT, Record
from dsa_zmq.node.store import ShardKey

KEY = ShardKey(7, 1)


def record(kind: int, sequence: int) -> Record:
    return Record(
        kind, KEY.chunk, KEY.index, 10, 10 if kind == PUT else 0, bytes([sequence] * 32), sequence, 64 * sequence
    )


@pytest.fixture
def index() -> Index:
    return Index.create(SimDisk(random.Random(1)), wal_pages=100)


def merge(index: Index, order: list[tuple[int, Record]]) -> dict[int, SegmentState]:
    states = {number: SegmentState(number, 1, 4096) for number, _ in order}
    for number, one in order:
        index.merge(states[number], [row_of(one, number)], states, one.sequence)
    return states


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_highest_sequence_wins_in_any_order(index: Index, order: tuple[int, ...]) -> None:
    story = [(1, record(PUT, 1)), (2, record(DROP, 2)), (3, record(PUT, 3))]
    states = merge(index, [story[position] for position in order])
    row = index.find(KEY)
    assert row is not None
    assert (row.segment, row.sequence) == (3, 3)
    assert {number: state.live for number, state in states.items()} == {1: 0, 2: 0, 3: 1}
    killers = {killer for victim, killer in index.pins() if victim == 1}
    assert killers, "the first put must never be believed again"
    assert killers <= {2, 3}


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_a_drop_outlives_an_older_put_that_is_read_later(index: Index, order: tuple[int, ...]) -> None:
    story = [(1, record(PUT, 1)), (2, record(DROP, 2))]
    states = merge(index, [story[position] for position in order])
    index.complete()
    assert index.find(KEY) is None
    assert (states[1].live, states[2].live) == (0, 0)
    assert index.pins() == {(1, 2)}


def test_what_is_known_already_changes_nothing(index: Index) -> None:
    states = merge(index, [(1, record(PUT, 1))])
    index.apply(sequence=1, segments=[], rows=[], dead=[])
    assert states[1].live == 1
    assert index.damaged_count() == 0
    assert [info.key for info in index.page(ShardKey(-1, 0), 10)] == [KEY]


def test_a_change_that_is_told_twice_counts_once(index: Index) -> None:
    row = row_of(record(PUT, 3), 1)
    other = row._replace(index=2, sequence=4)
    for sequence, changes in ((3, {"rows": [row]}), (4, {"rows": [other]}), (5, {"dead": [KEY]})):
        for _ in range(2):
            index.apply(sequence=sequence, segments=[], **changes)
    assert index.buckets() == digests([other[:2]], 0)
    for _ in range(2):
        index.quarantine(other)
    assert index.buckets() == {}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_buckets_and_live_bytes_follow_whatever_order_records_come_in(index: Index, order: tuple[int, ...]) -> None:
    other = record(PUT, 4)._replace(index=9, length=500)
    story = [(1, record(PUT, 1)), (2, record(DROP, 2)), (3, record(PUT, 3)), (3, other)]
    states = merge(index, [story[position] for position in order])
    assert index.buckets() == digests([KEY, (KEY.chunk, 9)], 0)
    assert {number: state.live_bytes for number, state in states.items()} == {1: 0, 2: 0, 3: 128 + 640}
    assert {state.number: state.live_bytes for state in index.segments()} == {1: 0, 2: 0, 3: 128 + 640}


def test_an_index_of_the_version_before_is_made_anew() -> None:
    disk = SimDisk(random.Random(1))
    index = Index.create(disk, wal_pages=100)
    index.complete()
    index._db.execute("UPDATE meta SET value = 1 WHERE name = 'version'")
    index.close()
    with pytest.raises(IndexDamaged, match="it has version 1, this build uses version 2"):
        Index(disk, wal_pages=100)


def test_an_index_that_was_never_finished_is_not_believed() -> None:
    disk = SimDisk(random.Random(1))
    Index.create(disk, wal_pages=100).close()
    with pytest.raises(IndexDamaged, match="incomplete"):
        Index(disk, wal_pages=100)
    index = Index.create(disk, wal_pages=100)
    index.complete()
    index.close()
    assert Index(disk, wal_pages=100).sequence == 0


def test_queries_for_damaged_shards_do_not_read_all_others(index: Index) -> None:
    for sql in (
        "SELECT count(*) FROM shards WHERE state > 0 AND state = 1",
        "SELECT hash FROM shards WHERE state > 0 AND state = 1 AND (chunk, idx) > (5, 0) ORDER BY chunk, idx LIMIT 9",
        "DELETE FROM shards WHERE state > 0 AND state = 2",
    ):
        plan = " ".join(str(row[-1]) for row in index._db.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "INDEX marked" in plan
