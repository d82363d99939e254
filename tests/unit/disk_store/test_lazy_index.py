"""Rows that the index has not been told of yet: found like all others, bounded in number, and not missed after a crash."""

from __future__ import annotations

from typing import Any

import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.errors import Corrupt, NotFound, Unavailable
from dsa_zmq.model.inventory import digests
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.lazy_index import RECENT_ROWS
from dsa_zmq.node.segments import record_bytes
from dsa_zmq.node.store import ShardKey
from tests.unit.disk_store.conftest import contents, crash, open_store, put, rot, shard

LARGE = {"capacity": 1 << 28, "segment_bytes": 1 << 20}  #: a segment holds more of these shards than are kept back


def chunks(store: DiskStore) -> list[int]:
    """All chunks of which a shard is there, each read and verified."""
    there = contents(store)
    assert all(data == shard(key.chunk).data for key, data in there.items())
    return [key.chunk for key in there]


def test_a_plain_put_writes_nothing_but_its_segment(disk: SimDisk) -> None:
    store = open_store(disk, **LARGE)
    put(store, 1)
    before = disk.counts["pwritev"], disk.counts["datasync"]
    put(store, 2)
    assert (disk.counts["pwritev"], disk.counts["datasync"]) == (before[0] + 1, before[1] + 1)


def test_rows_kept_back_are_bounded(disk: SimDisk) -> None:
    store = open_store(disk, **LARGE)
    most = 0
    for chunk in range(1, 2 * RECENT_ROWS):
        put(store, chunk)
        most = max(most, len(store._index._recent))
    assert most == RECENT_ROWS - 1
    assert store.usage().shards == 2 * RECENT_ROWS - 1


@pytest.mark.parametrize("power", [True, False])
def test_shards_that_the_index_was_not_told_of_survive_a_crash(disk: SimDisk, power: bool) -> None:
    store = open_store(disk, **LARGE)
    for chunk in range(1, RECENT_ROWS + 40):
        put(store, chunk)
    assert len(store._index._recent) == 39
    store = crash(disk, power=power, **LARGE)
    assert chunks(store) == list(range(1, RECENT_ROWS + 40))
    if not power:  # a power loss may take an index that was never synced
        assert store.notes == []


@pytest.mark.parametrize("power", [True, False])
def test_digests_and_live_bytes_are_true_after_a_crash(disk: SimDisk, power: bool) -> None:
    store = open_store(disk, **LARGE)
    put(store, *range(1, RECENT_ROWS + 20))
    store.drop([ShardKey(chunk, 0) for chunk in range(1, 300, 7)])
    put(store, *range(1000, 1040))
    store = crash(disk, power=power, **LARGE)
    there = [one.key for one in store.list(None, 10_000)]
    assert store.digests(0) == digests(there, 0)
    assert sum(state.live_bytes for state in store._writer.segments.values()) == len(there) * record_bytes(1000)


def test_an_orderly_end_tells_the_index_everything(disk: SimDisk) -> None:
    store = open_store(disk, **LARGE)
    put(store, 1, 2, 3)
    store.close()
    for name in disk.listdir("segments"):
        disk.flip_bit(f"segments/{name}", 8)  # the version: no segment of this file could be read anew
    store = open_store(disk, **LARGE)
    assert [info.key.chunk for info in store.list(None, 10)] == [1, 2, 3]


def test_a_listing_has_the_told_and_the_untold_in_key_order(disk: SimDisk) -> None:
    store = open_store(disk, **LARGE)
    put(store, 2, 5, 9)
    store._index.tell()
    put(store, 1, 4, 10)
    assert [info.key.chunk for info in store.list(None, 4)] == [1, 2, 4, 5]
    assert [info.key.chunk for info in store.list(ShardKey(5, 0), 4)] == [9, 10]
    assert chunks(store) == [1, 2, 4, 5, 9, 10]


@pytest.mark.parametrize("power", [True, False])
def test_an_untold_shard_that_is_dropped_stays_dropped(disk: SimDisk, power: bool) -> None:
    store = open_store(disk, **LARGE)
    put(store, 1, 2, 3)
    assert store.drop([ShardKey(2, 0)]) == [ShardKey(2, 0)]
    assert chunks(store) == [1, 3]
    store = crash(disk, power=power, **LARGE)
    assert chunks(store) == [1, 3]
    with pytest.raises(NotFound):
        store.get(ShardKey(2, 0))
    put(store, 2)
    assert chunks(crash(disk, power=power, **LARGE)) == [1, 2, 3]


def test_damage_of_an_untold_shard_is_known_after_a_crash(disk: SimDisk) -> None:
    store = open_store(disk, **LARGE)
    put(store, 1, 2, 3)
    rot(disk, shard(3))
    with pytest.raises(Corrupt):
        store.get(ShardKey(3, 0))
    assert [info.key.chunk for info in store.damaged()] == [3]
    assert store.usage().shards == 2
    store = crash(disk, power=False, **LARGE)
    assert [info.key.chunk for info in store.damaged()] == [3]
    assert chunks(store) == [1, 2]


def test_damage_noted_in_the_middle_of_a_put_hides_no_shard(disk: SimDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader may tell the index when the writer has written shards, and not yet said so: their records must be read
    again after a crash."""
    store = open_store(disk, **LARGE)
    put(store, 1, 2)
    rot(disk, shard(1))
    write = store._writer.put

    def write_and_be_overtaken(shards: Any) -> Any:
        placed = write(shards)
        with pytest.raises(Corrupt):
            store.get(ShardKey(1, 0))
        return placed

    monkeypatch.setattr(store._writer, "put", write_and_be_overtaken)
    put(store, 3)
    assert chunks(crash(disk, power=False, **LARGE)) == [2, 3]


def test_an_index_that_fails_loses_no_shard(disk: SimDisk) -> None:
    store = open_store(disk, **LARGE)
    put(store, *range(1, 40))
    disk.unlink("ballast")
    disk.capacity_bytes -= disk.free_bytes()[0]
    with pytest.raises(Unavailable):
        store.drop([ShardKey(1, 0)])  # there is room for its record, and none to tell the index
    assert "no space" in store.failure
    assert all(store.get(ShardKey(chunk, 0))[1] == shard(chunk).data for chunk in range(2, 40))
    disk.capacity_bytes += 1 << 24
    store = crash(disk, power=False, **LARGE)
    assert chunks(store) == list(range(2, 40))
