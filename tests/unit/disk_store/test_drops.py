"""Dropped shards stay dropped, and the segments that they leave empty go."""

from __future__ import annotations

import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.node.store import ShardKey
from tests.unit.disk_store.conftest import contents, crash, drop, lose_index, open_store, put, segments


def test_dropped_shards_stay_dropped_without_the_index(disk: SimDisk) -> None:
    """Although the record of the drop is alone in a segment that holds nothing else."""
    store = open_store(disk)
    put(store, *range(1, 30))
    store.drop([ShardKey(1, 0)])
    put(store, *range(30, 60))
    drop(store, *range(8, 60))
    put(store, *range(60, 80))
    wanted = contents(store)
    assert sorted(key.chunk for key in wanted) == [2, 3, 4, 5, 6, 7, *range(60, 80)]
    lose_index(disk)
    assert contents(crash(disk)) == wanted


def test_dropped_shards_stay_dropped_if_the_index_was_rebuilt_in_between(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 30))
    store.drop([ShardKey(1, 0)])
    put(store, *range(30, 60))
    lose_index(disk)
    store = crash(disk)
    drop(store, *range(8, 60))
    put(store, *range(60, 80))
    lose_index(disk)
    assert sorted(key.chunk for key in contents(crash(disk))) == [2, 3, 4, 5, 6, 7, *range(60, 80)]


def test_empty_segments_are_unlinked_and_what_pinned_them_follows(disk: SimDisk) -> None:
    store = open_store(disk)
    for _ in range(10):
        put(store, *range(1, 30))
        drop(store, *range(1, 30))
    assert len(segments(disk)) <= 5
    assert store.usage().shards == 0
    lose_index(disk)
    assert contents(crash(disk)) == {}


def test_a_reader_of_a_segment_that_is_unlinked_reads_on(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 30))
    handle = store._files.borrow(1)
    drop(store, *range(1, 30))
    assert segments(disk)[0] != "segments/00000001.seg"
    assert len(handle.file.pread(100, 0)) == 100
    store._files.give_back(handle)
    with pytest.raises(OSError):
        handle.file.pread(100, 0)
