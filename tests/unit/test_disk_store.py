"""What only the disk store promises: durability, rebuilding, quarantine, failing for good, never stuck."""

from __future__ import annotations

import errno
import os
import random
import threading
from typing import Any

import pytest
from blake3 import blake3

from actors.disk import OsDisk
from actors.sim.disk import SimDisk
from dsa_zmq.errors import ConfigError, Corrupt, DSAError, Invalid, NoSpace, NotFound, Unavailable
from dsa_zmq.node import segment_files
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.failure import FAILED
from dsa_zmq.node.index_file import PATH as INDEX
from dsa_zmq.node.recovery import REBUILD_MARK
from dsa_zmq.node.segments import FILE_HEADER_BYTES, TRAILER_BYTES, record_bytes
from dsa_zmq.node.space import MIN_BALLAST_BYTES, MIN_WAL_PAGES, PAGE_BYTES
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey

SEGMENT = 8 << 10
CAPACITY = MIN_BALLAST_BYTES + 2 * MIN_WAL_PAGES * PAGE_BYTES + 40 * SEGMENT


def shard(chunk: int, size: int = 1000, *, index: int = 0) -> NewShard:
    data = blake3(f"{chunk} {index} {size}".encode()).digest(size)  # unique, and quicker than a generator
    return NewShard(ShardKey(chunk, index), size, blake3(data).digest(), data)


def open_store(disk: Any, *, seed: int = 1, **changes: Any) -> DiskStore:
    settings: dict[str, Any] = {"capacity": CAPACITY, "reserve": 0, "segment_bytes": SEGMENT, **changes}
    return DiskStore(disk, rng=random.Random(seed), **settings)


def crash(disk: SimDisk, *, power: bool = True) -> DiskStore:
    """The process dies; the next one opens."""
    if power:
        disk.power_loss()
    else:
        disk.process_crash()
    return open_store(disk, seed=2)


def lose_index(disk: SimDisk) -> None:
    for name in (INDEX, f"{INDEX}-wal"):
        if disk.exists(name):
            disk.unlink(name)
    disk.sync_dir("")


def put_all(store: DiskStore, *shards: NewShard) -> None:
    outcomes = store.put(shards)
    assert all(isinstance(outcome, ShardInfo) for outcome in outcomes), outcomes


def contents(store: DiskStore) -> dict[ShardKey, bytes]:
    return {info.key: store.get(info.key)[1] for info in store.list(None, 10_000)}


def segments(disk: Any) -> list[str]:
    return [f"segments/{name}" for name in disk.listdir("segments")]


def image(disk: SimDisk, path: str) -> bytes:
    file = disk.open(path, readonly=True)
    return file.pread(file.size(), 0)


def place(disk: SimDisk, new: NewShard) -> tuple[str, int]:
    """File and offset of a shard's payload."""
    for path in segments(disk):
        if (at := image(disk, path).find(bytes(new.data))) >= 0:
            return path, at
    raise AssertionError("the payload is nowhere")


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(5))


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_write_and_one_sync(disk: SimDisk) -> None:
    store = open_store(disk, capacity=1 << 28, segment_bytes=4 << 20)
    put_all(store, shard(99))  # a new WAL begins with a sync of its header
    before = disk.counts["datasync"]
    put_all(store, *(shard(chunk, 20) for chunk in range(1, 20)))
    assert disk.counts["datasync"] - before == 1


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


def test_acknowledged_shards_survive_power_loss(disk: SimDisk) -> None:
    store = open_store(disk)
    wanted = {}
    for chunk in range(1, 40):
        new = shard(chunk, chunk * 30)
        put_all(store, new)
        wanted[new.key] = new.data
        if chunk % 7 == 0:
            store = crash(disk)
    assert contents(crash(disk)) == wanted


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_lost_index_is_rebuilt_from_footers_and_scans(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, *(shard(chunk) for chunk in range(1, 31)))
    store.drop([ShardKey(chunk, 0) for chunk in range(1, 31, 4)])
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
    put_all(store, *(shard(chunk) for chunk in range(1, 31)))
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


@pytest.mark.parametrize("seed", range(6))
def test_what_a_store_shows_after_kill_9_survives_a_power_loss_right_then(seed: int) -> None:
    """Until it is synced, a record is in the page cache only: shown it would be, and lost."""
    disk = SimDisk(random.Random(seed))
    store = open_store(disk)
    put_all(store, shard(100))
    shown = 0
    for operations in range(4):
        disk.die_after(operations)
        store.put([shard(operations + 1, 2000)])
        store = crash(disk, power=False)
        seen = contents(store)
        shown += operations + 1 in {key.chunk for key in seen}
        store = crash(disk)
        assert contents(store) == seen
    assert shown >= 2


def test_damage_in_the_middle_costs_only_what_it_hit(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, *(shard(chunk) for chunk in range(1, 5)))
    path, at = place(disk, shard(2))
    disk.process_crash()
    disk.flip_bit(path, at - 40)
    lose_index(disk)
    assert sorted(contents(open_store(disk))) == [shard(n).key for n in (1, 3, 4)]


def test_a_damaged_footer_or_file_header_loses_nothing(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, *(shard(chunk) for chunk in range(1, 31)))
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


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_bad_sector_is_quarantined_and_told_and_survives_a_restart(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1), shard(2, 2000))
    path, at = place(disk, shard(2, 2000))
    disk.bad_sector(path, at + 1000)
    with pytest.raises(Corrupt):
        store.get(ShardKey(2, 0))
    assert [info.key for info in store.damaged()] == [ShardKey(2, 0)]
    assert store.failure == ""
    store.close()
    store = open_store(disk)
    assert [info.key for info in store.damaged()] == [ShardKey(2, 0)]
    assert contents(store) == {shard(1).key: shard(1).data}


def test_a_record_that_is_not_the_one_that_the_index_means_is_not_served(disk: SimDisk) -> None:
    """The index is no more than a hint: what it points to must be this very record, though the bytes be the same."""
    store = open_store(disk)
    one = shard(1)
    put_all(store, one, NewShard(ShardKey(2, 0), one.chunk_length, one.hash, one.data))
    store._index.tell()
    store._index._index._db.execute(
        "UPDATE shards SET offset = (SELECT offset FROM shards WHERE chunk = 1) WHERE chunk = 2"
    )
    with pytest.raises(Corrupt):
        store.get(ShardKey(2, 0))
    assert store.get(ShardKey(1, 0))[1] == one.data


def test_quarantined_bytes_stay_on_the_disk(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, *(shard(chunk) for chunk in range(1, 8)))
    path, at = place(disk, shard(1))
    disk.flip_bit(path, at)
    with pytest.raises(Corrupt):
        store.get(ShardKey(1, 0))
    store.drop([ShardKey(chunk, 0) for chunk in range(2, 8)])
    put_all(store, *(shard(chunk) for chunk in range(11, 31)))
    store.drop([ShardKey(chunk, 0) for chunk in range(11, 31)])
    assert path in segments(disk)
    store.drop([ShardKey(1, 0)])
    assert path not in segments(disk)


def test_a_replaced_damaged_shard_does_not_come_back_when_its_replacement_is_dropped(disk: SimDisk) -> None:
    store = open_store(disk)
    filler = [shard(chunk) for chunk in range(10, 30)]
    put_all(store, shard(1), *filler)
    path, at = place(disk, shard(1))
    disk.flip_bit(path, at)
    with pytest.raises(Corrupt):
        store.get(ShardKey(1, 0))
    put_all(store, shard(1))
    store.drop([ShardKey(1, 0)])
    lose_index(disk)
    disk.process_crash()
    store = open_store(disk)
    with pytest.raises(NotFound):
        store.get(ShardKey(1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("keep_index", [True, False])
def test_a_flipped_byte_anywhere_is_never_a_crash_and_never_wrong_bytes(keep_index: bool) -> None:
    disk = SimDisk(random.Random(5))
    store = open_store(disk, segment_bytes=4096)
    news = [shard(chunk, 700, index=chunk % 3) for chunk in range(1, 10)]
    put_all(store, *news)
    store.drop([news[0].key, news[7].key])
    wanted = {new.key: new.data for new in news if new not in (news[0], news[7])}
    store.close()
    originals = {path: image(disk, path) for path in segments(disk)}
    index = disk.read_bytes(INDEX)
    for path in list(originals)[:3]:
        for at in range(0, 4096, 11):
            disk.flip_bit(path, at, at % 8)
            store = open_store(disk, segment_bytes=4096)
            wrong = 0
            for new in news:
                try:
                    assert store.get(new.key)[1] == new.data
                    assert new.key in wanted or not keep_index
                except (Corrupt, NotFound):
                    wrong += new.key in wanted
            assert wrong <= 1, (path, at)
            put_all(store, shard(100, 100))
            store.close()
            for name in segments(disk):
                disk.unlink(name)
            for name, data in originals.items():
                disk.replace_bytes(name, data)
            if keep_index:
                disk.replace_bytes(INDEX, index)
            else:
                lose_index(disk)


# --- dropping ---------------------------------------------------------------------------------------------------------


def test_dropped_shards_stay_dropped_without_the_index(disk: SimDisk) -> None:
    """Although the record of the drop is alone in a segment that holds nothing else."""
    store = open_store(disk)
    put_all(store, *(shard(chunk) for chunk in range(1, 30)))
    store.drop([ShardKey(1, 0)])
    put_all(store, *(shard(chunk) for chunk in range(30, 60)))
    store.drop([ShardKey(chunk, 0) for chunk in range(8, 60)])
    put_all(store, *(shard(chunk) for chunk in range(60, 80)))
    wanted = contents(store)
    assert sorted(key.chunk for key in wanted) == [2, 3, 4, 5, 6, 7, *range(60, 80)]
    lose_index(disk)
    assert contents(crash(disk)) == wanted


def test_dropped_shards_stay_dropped_if_the_index_was_rebuilt_in_between(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, *(shard(chunk) for chunk in range(1, 30)))
    store.drop([ShardKey(1, 0)])
    put_all(store, *(shard(chunk) for chunk in range(30, 60)))
    lose_index(disk)
    store = crash(disk)
    store.drop([ShardKey(chunk, 0) for chunk in range(8, 60)])
    put_all(store, *(shard(chunk) for chunk in range(60, 80)))
    lose_index(disk)
    assert sorted(key.chunk for key in contents(crash(disk))) == [2, 3, 4, 5, 6, 7, *range(60, 80)]


def test_empty_segments_are_unlinked_and_what_pinned_them_follows(disk: SimDisk) -> None:
    store = open_store(disk)
    for _ in range(10):
        put_all(store, *(shard(chunk) for chunk in range(1, 30)))
        store.drop([ShardKey(chunk, 0) for chunk in range(1, 30)])
    assert len(segments(disk)) <= 5
    assert store.usage().shards == 0
    lose_index(disk)
    assert contents(crash(disk)) == {}


def test_a_reader_of_a_segment_that_is_unlinked_reads_on(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, *(shard(chunk) for chunk in range(1, 30)))
    handle = store._files.borrow(1)
    store.drop([ShardKey(chunk, 0) for chunk in range(1, 30)])
    assert segments(disk)[0] != "segments/00000001.seg"
    assert len(handle.file.pread(100, 0)) == 100
    store._files.give_back(handle)
    with pytest.raises(OSError):
        handle.file.pread(100, 0)


# --- room -------------------------------------------------------------------------------------------------------------


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
        path, at = place(disk, shard(key.chunk))
        disk.flip_bit(path, at + 5)
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
        path, at = place(disk, shard(key.chunk))
        disk.flip_bit(path, at + 5)
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


# --- failing ----------------------------------------------------------------------------------------------------------


def test_a_failed_sync_fails_the_store_for_good_until_an_operator_clears_it(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1))
    disk.failing_syncs = 1
    assert isinstance(store.put([shard(2)])[0], Unavailable)
    assert "Input/output error" in store.failure or "input/output error" in store.failure
    for _ in range(2):
        assert isinstance(store.put([shard(2)])[0], Unavailable)
        with pytest.raises(Unavailable):
            store.drop([ShardKey(1, 0)])
        assert store.get(ShardKey(1, 0))[1] == shard(1).data
        store = crash(disk, power=False)
        assert store.failure
    disk.unlink(FAILED)
    store = crash(disk)
    assert store.failure == ""
    put_all(store, shard(2))


def test_a_failed_sync_of_a_drop_fails_the_store(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1))
    disk.failing_syncs = 1
    with pytest.raises(Unavailable):
        store.drop([ShardKey(1, 0)])
    assert store.failure
    assert store.get(ShardKey(1, 0))[1] == shard(1).data


def test_a_read_only_file_system_is_named(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1))
    disk.readonly = True
    outcome = store.put([shard(2)])[0]
    assert isinstance(outcome, Unavailable)
    assert "read-only" in str(outcome)
    assert "read-only" in store.failure
    assert store.get(ShardKey(1, 0))[1] == shard(1).data
    disk.readonly = False
    store = crash(disk)
    assert store.failure == ""


def test_a_disk_that_cannot_be_read_at_the_start_is_unavailable(disk: SimDisk) -> None:
    open_store(disk).close()
    disk.readonly = True
    with pytest.raises(Unavailable, match="cannot be used"):
        open_store(disk)


def test_too_many_open_files_is_no_damage(disk: SimDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(disk)
    put_all(store, shard(1))

    def refuse(number: int) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(store._files, "borrow", refuse)
        with pytest.raises(Unavailable):
            store.get(ShardKey(1, 0))
    assert store.get(ShardKey(1, 0))[1] == shard(1).data
    assert store.damaged() == []


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_readers_never_meet_wrong_bytes_while_one_writer_puts_and_drops(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_files, "OPEN_FILES", 3)
    store = open_store(OsDisk(tmp_path), capacity=4 << 20)
    put_all(store, *(shard(chunk) for chunk in range(1, 100)))
    problems: list[object] = []
    reads = [0, 0, 0]
    stop = threading.Event()

    def read(number: int) -> None:
        draw = random.Random(number)
        while not stop.is_set() or reads[number] < 50:
            new = shard(draw.randrange(1, 200))
            try:
                if store.get(new.key)[1] != new.data:
                    problems.append(new.key)
            except NotFound:
                if new.key.chunk < 100:
                    problems.append(new.key)
            except DSAError as error:
                problems.append(error)
            reads[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        put_all(store, *(shard(chunk) for chunk in range(100, 200)))
        store.drop([ShardKey(chunk, 0) for chunk in range(100, 200)])
    stop.set()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert problems == []
    store.close()
