"""A disk store keeps to its room; a full disk refuses puts, and nothing else."""

from __future__ import annotations

import os
from typing import Any

import pytest

from actors.disk import OsDisk
from actors.sim.disk import SimDisk
from dsa_zmq.errors import Corrupt, Invalid, NoSpace
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.index_file import PATH as INDEX
from dsa_zmq.node.segments import FILE_HEADER_BYTES, TRAILER_BYTES, largest_payload, record_bytes
from dsa_zmq.node.space import MIN_WAL_PAGES, PAGE_BYTES, SPARES
from dsa_zmq.node.store import ShardInfo, ShardKey
from tests.unit.disk_store.conftest import (
    CAPACITY,
    SEGMENT,
    contents,
    crash,
    drop,
    image,
    lose_index,
    open_store,
    put_all,
    rot,
    segments,
    shard,
)


def test_a_small_shard_takes_less_than_one_and_a_half_times_its_bytes(tmp_path: Any) -> None:
    store = open_store(OsDisk(tmp_path), capacity=64 << 20, segment_bytes=4 << 20)
    put_all(store, *(shard(chunk, 4096) for chunk in range(1, 2001)))
    store.close()
    on_disk = sum(os.path.getsize(tmp_path / name) for name in (INDEX,))
    on_disk += 2000 * (record_bytes(4096) + 64)
    assert on_disk / (2000 * 4096) < 1.1


def test_a_shard_that_no_segment_can_hold_is_refused(disk: SimDisk) -> None:
    store = open_store(disk)
    assert isinstance(store.put([shard(1, SEGMENT)])[0], Invalid)
    largest = SEGMENT - FILE_HEADER_BYTES - TRAILER_BYTES - 64 - 80
    put_all(store, shard(2, largest // 64 * 64 - 16))
    assert store.failure == ""


def fill(store: DiskStore, first: int = 1, size: int = 1000) -> list[ShardKey]:
    keys = []
    for chunk in range(first, first + 1000):
        outcome = store.put([shard(chunk, size)])[0]
        if not isinstance(outcome, ShardInfo):
            assert isinstance(outcome, NoSpace)
            return keys
        keys.append(outcome.key)
    raise AssertionError("it never got full")


def test_the_capacity_is_kept(disk: SimDisk) -> None:
    store = open_store(disk)
    keys = fill(store)
    usage = store.usage()
    assert usage.free < 1000
    assert usage.used <= CAPACITY
    taken = sum(len(image(disk, path)) for path in segments(disk)) + len(image(disk, "ballast"))
    assert taken + store.usage().used - store._writer.used <= CAPACITY
    assert len(keys) > 100
    assert store.failure == ""


def test_free_says_what_still_fits(disk: SimDisk) -> None:
    store = open_store(disk)
    before = store.usage().free
    stored = sum(record_bytes(1000) + 64 for _ in fill(store))
    assert 0.75 * before < stored <= before


def test_the_reserve_is_left_to_others(disk: SimDisk) -> None:
    disk.capacity_bytes = 1 << 20
    store = open_store(disk, capacity=1 << 30, reserve=300 << 10)
    fill(store)
    assert store.usage().free < 1000
    assert 300 << 10 <= disk.free_bytes()[0] <= (300 << 10) + 2 * MIN_WAL_PAGES * PAGE_BYTES + SEGMENT


def test_a_disk_filled_by_others_is_no_space_and_no_failure(disk: SimDisk) -> None:
    store = open_store(disk)
    disk.capacity_bytes = 1 << 20
    held = fill(store)
    disk.capacity_bytes -= disk.free_bytes()[0]
    assert isinstance(store.put([shard(5000)])[0], NoSpace)
    assert store.failure == ""
    for number, key in enumerate(held):
        assert store.drop([key]) == [key], f"the drop number {number} on a full disk"
    put_all(store, shard(6000))
    assert store.failure == ""


def test_damage_found_on_a_full_disk_is_noted_and_fails_nothing(disk: SimDisk) -> None:
    store = open_store(disk)
    disk.capacity_bytes = 1 << 20
    held = fill(store)
    store.close()  # the index begins a new WAL, for which there will be no room
    store = open_store(disk)
    disk.capacity_bytes -= disk.free_bytes()[0]
    for key in held:
        rot(disk, shard(key.chunk))
        with pytest.raises(Corrupt):
            store.get(key)
        assert store.failure == ""
    assert [info.key for info in store.damaged(limit=10_000)] == held
    assert store.usage().shards == 0
    assert store.drop(held) == held
    put_all(store, shard(6000))
    assert store.failure == ""


def test_damage_that_cannot_be_noted_at_all_fails_nothing_and_is_found_again(disk: SimDisk) -> None:
    store = open_store(disk)
    disk.capacity_bytes = 1 << 20
    held = fill(store)
    store.close()
    store = open_store(disk)
    disk.unlink("ballast")
    disk.capacity_bytes -= disk.free_bytes()[0]
    for key in held:
        rot(disk, shard(key.chunk))
        with pytest.raises(Corrupt):
            store.get(key)
        assert store.failure == ""
    noted = len(store.damaged(limit=10_000))
    assert noted < len(held)
    assert store.usage().shards == len(held) - noted
    for key in held:
        with pytest.raises(Corrupt):
            store.get(key)
    assert store.failure == ""


@pytest.mark.parametrize("power", [True, False])
def test_a_store_opens_and_drops_on_a_full_disk(disk: SimDisk, power: bool) -> None:
    store = open_store(disk)
    disk.capacity_bytes = 1 << 20
    held = fill(store)
    disk.capacity_bytes -= disk.free_bytes()[0]
    store = crash(disk, power=power)
    assert sorted(contents(store)) == held
    assert store.drop(held) == held
    lose_index(disk)
    assert contents(crash(disk, power=power)) == {}


@pytest.mark.parametrize(
    "sizes", [(SEGMENT, 4 * SEGMENT), (4 * SEGMENT, SEGMENT), (SEGMENT, 4 * SEGMENT, 16 * SEGMENT)]
)
@pytest.mark.parametrize("power", [False, True])
def test_segments_of_another_size_than_before_take_all_that_fits_into_them(
    disk: SimDisk, sizes: tuple[int, ...], power: bool
) -> None:
    """The spares that the start before has preallocated are of its size."""
    stored: dict[ShardKey, bytes] = {}
    for turn, segment_bytes in enumerate(sizes):
        store = open_store(disk, capacity=16 * CAPACITY, segment_bytes=segment_bytes)
        large = largest_payload(segment_bytes)
        new = [shard(10 * turn + at, size) for at, size in enumerate((large, 10, large // 2, large, 300), 1)]
        put_all(store, *new[:2])
        put_all(store, *new[2:])
        stored |= {it.key: bytes(it.data) for it in new}
        assert contents(store) == stored
        if power:
            disk.power_loss()
        else:
            store.close()
    store = open_store(disk, capacity=16 * CAPACITY, segment_bytes=sizes[-1])
    assert contents(store) == stored
    drop(store, *(key.chunk for key in stored))
    store.close()
    open_store(disk, capacity=16 * CAPACITY, segment_bytes=sizes[-1]).close()
    assert len(segments(disk)) <= SPARES + 1, "empty ones are unlinked"


def test_spares_that_are_too_short_do_not_let_a_full_store_grow(disk: SimDisk) -> None:
    store = open_store(disk)
    fill(store)
    store.close()
    store = open_store(disk, segment_bytes=4 * SEGMENT)
    before = contents(store)
    (outcome,) = store.put([shard(99_999, 2 * SEGMENT)])
    assert isinstance(outcome, NoSpace)
    assert contents(store) == before
    drop(store, *(key.chunk for key in before))
    put_all(store, shard(99_999, 2 * SEGMENT))
