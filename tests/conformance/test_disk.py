"""One contract for the real disk and the simulated one."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from actors.disk import Disk, OsDisk
from actors.sim.disk import SimDisk


@pytest.fixture(params=["os", "sim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return OsDisk(tmp_path) if request.param == "os" else SimDisk(random.Random(1))


def test_bytes_are_read_back_where_they_were_written(disk: Disk) -> None:
    file = disk.open("a", create=True)
    content = bytearray()
    draw = random.Random(5)
    for size in (1, 511, 512, 4096, 5000, 70_000):
        offset = draw.randrange(len(content) + 1)
        data = os.urandom(size)
        assert file.pwritev([data[: size // 2], memoryview(data)[size // 2 :]], offset) == size
        content[offset : offset + size] = data
        assert file.size() == len(content)
        assert file.pread(len(content) + 10, 0) == content
    for _ in range(50):
        offset, size = draw.randrange(len(content) + 100), draw.randrange(9000)
        assert file.pread(size, offset) == content[offset : offset + size]
    file.datasync()
    file.close()
    assert disk.read_bytes("a") == content


def test_forgotten_bytes_are_still_there(disk: Disk) -> None:
    file = disk.open("a", create=True)
    data = os.urandom(100_000)
    file.pwritev([data], 0)
    file.datasync()
    file.forget(1000, 50_000)
    file.forget(0, 1 << 30)
    assert file.pread(200_000, 0) == data
    file.close()


def test_a_gap_reads_as_zeros(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwritev([b"end"], 10_000)
    assert file.pread(20_000, 9_000) == bytes(1_000) + b"end"
    file.close()


def test_allocating_lengthens_a_file_and_never_shortens_it(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwritev([b"start"], 0)
    file.allocate(100_000)
    assert file.size() == 100_000
    assert file.pread(200_000, 0) == b"start" + bytes(99_995)
    file.allocate(10)
    assert file.size() == 100_000
    file.close()


def test_files_are_opened_as_asked(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("a")
    with pytest.raises(FileNotFoundError):
        disk.open("missing/a", create=True)
    disk.open("a", exclusive=True).close()
    with pytest.raises(FileExistsError):
        disk.open("a", exclusive=True)
    disk.open("a", create=True).close()
    reader = disk.open("a", readonly=True)
    with pytest.raises(OSError) as failure:
        reader.pwritev([b"x"], 0)
    assert failure.value.errno == errno.EBADF
    reader.close()
    reader.close()


def test_directories_list_their_names_in_order(disk: Disk) -> None:
    disk.makedirs("b/c")
    disk.makedirs("b/c")
    for name in ("b/z", "b/c/y", "b/a", "x"):
        disk.open(name, create=True).close()
    assert disk.listdir("") == ["b", "x"]
    assert disk.listdir("b") == ["a", "c", "z"]
    assert disk.exists("b")
    assert disk.exists("b/c/y")
    assert not disk.exists("b/y")
    with pytest.raises(FileNotFoundError):
        disk.listdir("missing")
    with pytest.raises(IsADirectoryError):
        disk.open("b", create=True)
    disk.sync_dir("b")


def test_a_removed_file_lives_on_for_those_who_have_it_open(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.pwritev([b"content"], 0)
    disk.unlink("a")
    assert not disk.exists("a")
    assert file.pread(10, 0) == b"content"
    file.close()
    with pytest.raises(FileNotFoundError):
        disk.unlink("a")
    assert disk.open("a", create=True).size() == 0


def test_a_renamed_file_takes_the_place_of_another(disk: Disk) -> None:
    disk.makedirs("d")
    disk.replace_bytes("d/new", b"of the new one")
    disk.rename("d/new", "d/free")
    assert (disk.listdir("d"), disk.read_bytes("d/free")) == (["free"], b"of the new one")
    disk.replace_bytes("d/old", b"old")
    disk.rename("d/free", "d/old")
    disk.sync_dir("d")
    assert (disk.listdir("d"), disk.read_bytes("d/old")) == (["old"], b"of the new one")
    with pytest.raises(FileNotFoundError):
        disk.rename("d/free", "d/old")


def test_a_small_file_is_replaced_as_a_whole(disk: Disk) -> None:
    disk.makedirs("d")
    disk.replace_bytes("d/a", b"first and long")
    disk.replace_bytes("d/a", b"second")
    disk.replace_bytes("d/empty", b"")
    assert disk.read_bytes("d/a") == b"second"
    assert disk.read_bytes("d/empty") == b""
    assert disk.listdir("d") == ["a", "empty"]


def test_free_space_is_part_of_the_whole(disk: Disk) -> None:
    free, total = disk.free_bytes()
    assert 0 < free <= total
