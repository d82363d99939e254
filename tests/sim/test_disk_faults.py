"""What a simulated disk keeps and loses."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sim.disk import DiskFaults, SimDisk
from actors.sim.inode import SECTOR

SEEDS = range(40)


def disk_with(seed: int, content: bytes = b"") -> SimDisk:
    """A disk with a durable file ``a``."""
    disk = SimDisk(random.Random(seed))
    disk.replace_bytes("a", content)
    return disk


def test_synced_bytes_survive_power_loss_and_unsynced_ones_may_not() -> None:
    kept = lost = torn = torn_pages = 0
    for seed in SEEDS:
        old, new = os.urandom(20_000), os.urandom(20_000)
        disk = disk_with(seed, old)
        file = disk.open("a")
        file.pwritev([new[:8192]], 0)
        file.datasync()
        file.pwritev([new[8192:]], 8192)
        disk.power_loss()
        found = disk.read_bytes("a")
        assert found[:8192] == new[:8192]
        assert len(found) == 20_000
        for offset in range(8192, 20_000, SECTOR):
            sector = slice(offset, offset + SECTOR)
            assert found[sector] in (old[sector], new[sector])
        kept += found == new
        lost += found[8192:] == old[8192:]
        torn += found != new and found[8192:] != old[8192:]
        page = slice(8192, 12288)
        torn_pages += found[page] not in (old[page], new[page])
    assert min(kept, lost, torn, torn_pages) > 3


def test_the_size_is_as_unsure_as_the_bytes() -> None:
    sizes = set()
    for seed in SEEDS:
        disk = disk_with(seed, bytes(100))
        file = disk.open("a")
        file.pwritev([b"x" * 100], 100)
        file.pwritev([b"x" * 100], 200)
        disk.power_loss()
        sizes.add(len(disk.read_bytes("a")))
    assert sizes == {100, 200, 300}


def test_without_the_sync_synced_bytes_are_lost_for_some_seed() -> None:
    """The test above can fail: a disk that lies about its syncs loses what it promised."""
    lost = 0
    for seed in SEEDS:
        new = os.urandom(8192)
        disk = disk_with(seed, bytes(8192))
        disk.ignore_sync = True
        file = disk.open("a")
        file.pwritev([new], 0)
        file.datasync()
        disk.power_loss()
        lost += disk.read_bytes("a") != new
    assert lost > 5


def test_a_crash_of_the_process_loses_nothing_but_its_handles() -> None:
    disk = SimDisk(random.Random(1))
    file = disk.open("a", create=True)
    file.pwritev([b"not synced"], 0)
    disk.process_crash()
    for call in (lambda: file.pread(1, 0), lambda: file.pwritev([b"x"], 0), file.datasync, file.size):
        with pytest.raises(OSError) as failure:
            call()
        assert failure.value.errno == errno.EBADF
    assert disk.read_bytes("a") == b"not synced"


def powerless(prepare: Callable[[SimDisk], None]) -> Iterator[SimDisk]:
    """A disk after a power loss, for each of many seeds."""
    for seed in SEEDS:
        disk = SimDisk(random.Random(seed))
        prepare(disk)
        disk.power_loss()
        yield disk


def survivors(prepare: Callable[[SimDisk], None]) -> set[tuple[str, ...]]:
    """The names in the root after a power loss, over many seeds."""
    return {tuple(disk.listdir("")) for disk in powerless(prepare)}


def synced_file(disk: SimDisk, path: str) -> None:
    file = disk.open(path, create=True)
    file.pwritev([b"content"], 0)
    file.datasync()


def test_a_new_file_needs_a_sync_of_its_directory() -> None:
    def without(disk: SimDisk) -> None:
        synced_file(disk, "a")
        synced_file(disk, "b")

    def with_sync(disk: SimDisk) -> None:
        without(disk)
        disk.sync_dir("")

    assert survivors(without) == {(), ("a",), ("a", "b")}
    assert survivors(with_sync) == {("a", "b")}


def test_a_removal_needs_a_sync_of_its_directory() -> None:
    def without(disk: SimDisk) -> None:
        disk.replace_bytes("a", b"1")
        disk.unlink("a")

    def with_sync(disk: SimDisk) -> None:
        without(disk)
        disk.sync_dir("")

    assert survivors(without) == {(), ("a",)}
    assert survivors(with_sync) == {()}


def test_a_new_directory_needs_a_sync_of_its_parent() -> None:
    def without(disk: SimDisk) -> None:
        disk.makedirs("d/e")
        disk.replace_bytes("d/e/a", b"1")
        disk.sync_dir("d")

    def with_sync(disk: SimDisk) -> None:
        without(disk)
        disk.sync_dir("")

    assert survivors(without) == {(), ("d",)}
    disk = next(disk for disk in powerless(without) if not disk.exists("d"))
    assert not disk.exists("d/e")
    assert not disk.exists("d/e/a")
    assert survivors(with_sync) == {("d",)}


def test_a_replaced_file_has_the_old_or_the_new_content_wherever_the_process_dies() -> None:
    found = set()
    for operations in range(8):
        for seed in range(10):
            disk = disk_with(seed, b"old")
            disk.die_after(operations)
            try:
                disk.replace_bytes("a", b"new and longer")
            except OSError:
                found.add("cut short")
            disk.power_loss()
            found.add(disk.read_bytes("a").decode())
    assert found == {"cut short", "old", "new and longer"}


def test_bytes_that_a_failed_sync_gave_up_are_not_saved_by_the_next_one() -> None:
    fates = set()
    for seed in SEEDS:
        old, new = os.urandom(4096), os.urandom(4096)
        disk = disk_with(seed, old)
        disk.failing_syncs = 1
        file = disk.open("a")
        file.pwritev([new], 0)
        with pytest.raises(OSError) as failure:
            file.datasync()
        assert failure.value.errno == errno.EIO
        seen = file.pread(4096, 0) == new
        file.datasync()
        disk.power_loss()
        fates.add((seen, disk.read_bytes("a") == new))
    assert fates == {(True, True), (True, False), (False, False)}


def test_bytes_written_again_after_a_failed_sync_are_saved() -> None:
    for seed in SEEDS:
        disk = disk_with(seed, bytes(4096))
        disk.failing_syncs = 1
        file = disk.open("a")
        new = os.urandom(4096)
        file.pwritev([new], 0)
        with pytest.raises(OSError):
            file.datasync()
        file.pwritev([new], 0)
        file.datasync()
        disk.power_loss()
        assert disk.read_bytes("a") == new


def test_a_full_disk_refuses_with_enospc_and_reserved_space_is_kept() -> None:
    disk = SimDisk(random.Random(1), faults=DiskFaults(capacity_bytes=100 * 4096))
    reserved = disk.open("reserved", create=True)
    reserved.allocate(60 * 4096)
    assert disk.free_bytes() == (40 * 4096, 100 * 4096)
    other = disk.open("other", create=True)
    with pytest.raises(OSError) as failure:
        other.pwritev([bytes(41 * 4096)], 0)
    assert failure.value.errno == errno.ENOSPC
    assert other.size() <= 40 * 4096
    with pytest.raises(OSError) as failure:
        other.allocate(41 * 4096)
    assert failure.value.errno == errno.ENOSPC
    reserved.pwritev([os.urandom(60 * 4096)], 0)
    disk.unlink("other")
    assert disk.free_bytes()[0] == 40 * 4096


def test_a_read_only_disk_can_only_be_read() -> None:
    disk = disk_with(1, b"content")
    file = disk.open("a")
    disk.readonly = True
    calls = (
        lambda: file.pwritev([b"x"], 0),
        lambda: disk.unlink("a"),
        lambda: disk.open("b", create=True),
        lambda: disk.replace_bytes("a", b"x"),
    )
    for call in calls:
        with pytest.raises(OSError) as failure:
            call()
        assert failure.value.errno == errno.EROFS
    assert disk.read_bytes("a") == b"content"


def test_rot_and_bad_sectors_hit_one_place_and_outlast_a_power_loss() -> None:
    content = os.urandom(5000)
    disk = disk_with(1, content)
    disk.flip_bit("a", 4999, 3)
    disk.bad_sector("a", 600)
    disk.power_loss()
    file = disk.open("a")
    assert file.pread(512, 0) == content[:512]
    with pytest.raises(OSError) as failure:
        file.pread(10, 1020)
    assert failure.value.errno == errno.EIO
    assert file.pread(5000, 1024) == content[1024:4999] + bytes([content[4999] ^ 8])
    file.pwritev([content[512:1024]], 512)
    assert file.pread(1024, 0) == content[:1024]


def test_random_errors_come_at_their_rate() -> None:
    disk = SimDisk(random.Random(1), faults=DiskFaults(read_error=0.5, sync_error=0.5))
    file = disk.open("a", create=True)
    errors = 0
    for call in (lambda: file.pread(1, 0), file.datasync):
        for _ in range(100):
            try:
                call()
            except OSError:
                errors += 1
    assert 60 < errors < 140


def test_a_dying_process_changes_nothing_more() -> None:
    lengths = set()
    for seed in range(5):
        disk = disk_with(seed, bytes(10_000))
        file = disk.open("a")
        disk.die_after(1)
        file.pwritev([b"first"], 0)
        for _ in range(3):
            with pytest.raises(OSError):
                file.pwritev([b"x" * 5000], 5000)
        with pytest.raises(OSError):
            file.datasync()
        disk.process_crash()
        found = disk.read_bytes("a")
        written = len(found[5000:].rstrip(b"\0"))
        assert found == b"first".ljust(5000, b"\0") + (b"x" * written).ljust(5000, b"\0")
        lengths.add(written)
    assert len(lengths) > 2  # a write may be cut short anywhere


class Model:
    """What the contract promises of one file: for each byte, the values it may have after a power loss."""

    def __init__(self) -> None:
        self.seen = b""
        self.possible: list[set[int]] = []
        self.sizes = {0}

    def _show(self, content: bytes) -> None:
        self.seen = content
        self.sizes.add(len(content))
        while len(self.possible) < len(content):
            self.possible.append({0})
        for index, value in enumerate(content):
            self.possible[index].add(value)

    def write(self, offset: int, data: bytes) -> None:
        content = bytearray(self.seen.ljust(offset, b"\0"))
        content[offset : offset + len(data)] = data
        self._show(bytes(content))

    def truncate(self, size: int) -> None:
        for values in self.possible[size:]:
            values.add(0)  # should the old size come back, what was cut off may have been wiped already
        self._show(self.seen[:size].ljust(size, b"\0"))

    def sync(self) -> None:
        self.sizes = {len(self.seen)}
        self.possible = [{value} for value in self.seen]

    def check(self, found: bytes) -> None:
        assert len(found) in self.sizes
        assert all(value in self.possible[index] for index, value in enumerate(found))


actions = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 9000), st.binary(min_size=1, max_size=600)),
    st.tuples(st.just("truncate"), st.integers(0, 9000), st.just(b"")),
    st.tuples(st.just("sync"), st.just(0), st.just(b"")),
    st.tuples(st.just("power"), st.just(0), st.just(b"")),
)


@given(st.integers(0, 2**32), st.lists(actions, max_size=14))
@pytest.mark.slow
def test_any_history_leaves_only_what_the_contract_allows(seed: int, history: list[tuple[str, int, bytes]]) -> None:
    disk = disk_with(seed)
    file, model = disk.open("a"), Model()
    for action, number, data in [*history, ("power", 0, b"")]:
        if action == "write":
            file.pwritev([data], number)
            model.write(number, data)
        elif action == "truncate":
            file.truncate(number)
            model.truncate(number)
        elif action == "sync":
            file.datasync()
            model.sync()
        else:
            disk.power_loss()
            found = disk.read_bytes("a")
            model.check(found)
            file = disk.open("a")
            model.seen = found
            model.sync()
        assert file.pread(20_000, 0) == model.seen
    file.allocate(20_000)
    assert file.pread(20_000, 0) == model.seen.ljust(20_000, b"\0")  # nothing lurks behind the end
