"""A disk store opens with all that it had, whatever became of its index, its footers and its last records."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from actors.disk import OsDisk
from actors.sim.disk import SimDisk
from dsa_zmq.errors import ConfigError, Unavailable
from dsa_zmq.node.index_file import PATH as INDEX
from dsa_zmq.node.recovery import REBUILD_MARK
from dsa_zmq.node.store import ShardKey
from tests.unit.disk_store.conftest import (
    CAPACITY,
    SEGMENT,
    contents,
    crash,
    drop,
    image,
    lose_index,
    open_store,
    place,
    put,
    put_all,
    segments,
    shard,
)


def test_a_lost_index_is_rebuilt_from_footers_and_scans(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 31))
    drop(store, *range(1, 31, 4))
    wanted, usage = contents(store), store.usage()
    lose_index(disk)
    store = crash(disk, power=False)
    assert contents(store) == wanted
    assert store.usage().shards == usage.shards
    assert any("rebuilt" in note for note in store.notes)
    put_all(store, shard(1))


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "header"])
def test_a_damaged_index_is_rebuilt(disk: SimDisk, damage: str) -> None:
    store = open_store(disk)
    put(store, *range(1, 31))
    wanted = contents(store)
    store.close()
    old = disk.read_bytes(INDEX)
    new = {"garbage": b"no database" * 1000, "truncated": old[: len(old) // 2], "empty": b"", "header": b"x" + old[1:]}
    disk.replace_bytes(INDEX, new[damage])
    assert contents(open_store(disk)) == wanted


def test_an_index_found_malformed_in_use_is_rebuilt_at_the_next_start(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, *(shard(chunk, 10, index=index) for chunk in range(1, 200) for index in (0, 1)))
    wanted = contents(store)
    store.close()
    hash_of_one = shard(150, 10, index=1).hash
    disk.flip_bit(INDEX, disk.read_bytes(INDEX).find(hash_of_one) // 4096 * 4096, 7)  # the kind of that page
    store = open_store(disk)
    with pytest.raises(Unavailable):
        store.list(None, 10_000)
    assert store.failure
    assert disk.exists(REBUILD_MARK)
    store = crash(disk, power=False)
    assert contents(store) == wanted
    assert not disk.exists(REBUILD_MARK)


def test_an_index_of_other_segments_is_not_believed(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1), shard(2))
    store.close()
    foreign = disk.read_bytes(INDEX)
    other = SimDisk(random.Random(9))
    store = open_store(other, seed=77)
    put_all(store, shard(3), shard(4))
    store.close()
    other.replace_bytes(INDEX, foreign)
    assert contents(open_store(other)) == {shard(n).key: shard(n).data for n in (3, 4)}


def test_records_of_an_earlier_life_of_a_file_do_not_count(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1), shard(2))
    store.close()
    old = image(disk, segments(disk)[0])
    other = SimDisk(random.Random(9))
    store = open_store(other, seed=77)
    put_all(store, shard(3))
    store.close()
    file = other.open(segments(other)[0])
    file.pwritev([old[2048:]], 2048)
    file.datasync()
    lose_index(other)
    assert contents(open_store(other)) == {shard(3).key: shard(3).data}


def test_appending_goes_on_behind_a_torn_record_that_never_counts_again(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1), shard(2))
    path, at = place(disk, shard(2))
    disk.process_crash()
    file = disk.open(path)
    file.pwritev([bytes(900)], at + 100)
    file.datasync()
    lose_index(disk)
    store = open_store(disk)
    assert contents(store) == {shard(1).key: shard(1).data}
    assert any("being written" in note for note in store.notes)
    put_all(store, shard(3), shard(4))
    for lost in (False, True):
        if lost:
            lose_index(disk)
        store = crash(disk)
        assert sorted(contents(store)) == [shard(n).key for n in (1, 3, 4)]
        assert store.damaged() == []


def test_a_torn_record_that_a_footer_lists_does_not_count_either(disk: SimDisk) -> None:
    """Records and footer are written before one sync: of them, the footer alone may have reached the disk."""
    store = open_store(disk)
    put_all(store, shard(1), shard(2, 5000))
    put_all(store, shard(3, 3000))
    path, at = place(disk, shard(2, 5000))
    disk.process_crash()
    for name in segments(disk)[1:]:
        disk.unlink(name)  # as it was when the first segment was full and the next not begun
    file = disk.open(path)
    file.pwritev([bytes(4000)], at + 1000)
    file.datasync()
    lose_index(disk)
    store = open_store(disk)
    assert contents(store) == {shard(1).key: shard(1).data}
    put_all(store, *(shard(chunk, 100) for chunk in range(10, 40)))
    wanted = contents(store)
    lose_index(disk)
    store = crash(disk)
    assert contents(store) == wanted
    assert store.damaged() == []


def test_damage_in_the_middle_costs_only_what_it_hit(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 5))
    path, at = place(disk, shard(2))
    disk.process_crash()
    disk.flip_bit(path, at - 40)
    lose_index(disk)
    assert sorted(contents(open_store(disk))) == [shard(n).key for n in (1, 3, 4)]


def test_a_damaged_footer_or_file_header_loses_nothing(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 31))
    wanted = contents(store)
    store.close()
    for path in segments(disk):
        disk.flip_bit(path, SEGMENT - 10)
        disk.flip_bit(path, 9)
    lose_index(disk)
    store = open_store(disk)
    assert contents(store) == wanted
    put_all(store, shard(100))


def test_a_file_that_was_never_used_is_removed(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1))
    store.close()
    disk.open("segments/00000099.seg", create=True).allocate(SEGMENT)
    disk.sync_dir("segments")
    store = open_store(disk)
    assert "segments/00000099.seg" not in segments(disk)
    assert contents(store) == {shard(1).key: shard(1).data}


def test_files_of_others_are_left_alone(disk: SimDisk) -> None:
    disk.makedirs("segments")
    disk.replace_bytes("segments/notes.txt", b"mine")
    disk.replace_bytes("segments/x.seg", b"mine too")
    store = open_store(disk)
    put_all(store, shard(1))
    assert disk.read_bytes("segments/notes.txt") == b"mine"
    assert disk.read_bytes("segments/x.seg") == b"mine too"


def test_a_store_in_use_is_not_opened_twice(tmp_path: Any) -> None:
    store = open_store(OsDisk(tmp_path))
    with pytest.raises(ConfigError, match="in use"):
        open_store(OsDisk(tmp_path))
    store.close()
    open_store(OsDisk(tmp_path)).close()


@pytest.mark.parametrize(
    "changes",
    [{"segment_bytes": 4095}, {"segment_bytes": 4096 + 1}, {"segment_bytes": 2 << 30}, {"capacity": CAPACITY // 10}],
)
def test_settings_that_make_no_sense_are_refused(disk: SimDisk, changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        open_store(disk, **changes)


@pytest.mark.slow
def test_a_hundred_thousand_small_shards_start_within_seconds(tmp_path: Any) -> None:
    store = open_store(OsDisk(tmp_path), capacity=1 << 30, segment_bytes=4 << 20)
    count = 100_000
    for first in range(1, count + 1, 5000):
        put_all(store, *(shard(chunk, 32) for chunk in range(first, first + 5000)))
    store.close()
    os.unlink(tmp_path / INDEX)
    ticket = os.times()
    store = open_store(OsDisk(tmp_path), capacity=1 << 30, segment_bytes=4 << 20)
    spent = os.times()
    assert store.usage().shards == count
    assert spent.user - ticket.user < 10, "CPU seconds: fifty times what it should take"
    assert store.get(ShardKey(count // 3, 0))[1] == shard(count // 3, 32).data
    store.close()
