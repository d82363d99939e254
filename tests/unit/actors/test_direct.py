"""Writes past the page cache: the same bytes in the same places as any other write, on every file system."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors import direct
from actors.direct import BLOCK_BYTES, BUFFER_BYTES, cut
from actors.disk import OsDisk

BLOCK = BLOCK_BYTES


def no_direct_open(patch: pytest.MonkeyPatch) -> None:
    """As tmpfs was for long: it cannot even be opened so."""
    real = os.open

    def refuse(path: Any, flags: int, *more: Any) -> int:
        if flags & getattr(os, "O_DIRECT", 0):
            raise OSError(errno.EINVAL, "invalid argument")
        return real(path, flags, *more)

    patch.setattr(direct.os, "open", refuse)


def no_direct_write(patch: pytest.MonkeyPatch) -> None:
    """Disks with larger blocks than ours refuse late."""

    def refuse(fd: int, data: Any, offset: int) -> int:
        raise OSError(errno.EINVAL, "invalid argument")

    patch.setattr(direct.os, "pwrite", refuse)


def no_such_flag(patch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    patch.delattr(direct.os, "O_DIRECT", raising=False)


def short_writes(patch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    patch.setattr(direct.os, "pwrite", lambda fd, data, offset: real(fd, data[: len(data) // 2], offset))


def as_it_is(patch: pytest.MonkeyPatch) -> None:
    """Whatever this file system does."""


@pytest.mark.parametrize("world", [as_it_is, no_direct_open, no_direct_write, no_such_flag, short_writes])
def test_bulk_is_read_back_where_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: Callable[[pytest.MonkeyPatch], None]
) -> None:
    world(monkeypatch)
    disk = OsDisk(tmp_path)
    file, reader = disk.open("a", create=True), disk.open("a", readonly=True)
    file.allocate(64 * BLOCK)
    content = bytearray(64 * BLOCK)
    draw = random.Random(3)
    sizes = [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 10 * BLOCK + 77]
    for offset in (0, 1, BLOCK - 1, BLOCK, 5 * BLOCK + 80):
        for size in sizes:
            data = draw.randbytes(size)
            parts = [data[: size // 3], memoryview(data)[size // 3 : size // 2], b"", data[size // 2 :]]
            assert file.write_bulk(parts, offset) == size
            content[offset : offset + size] = data
            small = draw.randbytes(50)  # the page cache has the block behind it, and its neighbours
            file.pwritev([small], offset + size)
            content[offset + size : offset + size + 50] = small
            assert reader.pread(64 * BLOCK, 0) == content
    file.datasync()
    file.close()
    reader.close()
    assert disk.read_bytes("a") == content


def test_bulk_larger_than_the_buffer_arrives_whole(tmp_path: Path) -> None:
    file = OsDisk(tmp_path).open("a", create=True)
    data = os.urandom(BUFFER_BYTES // 2 + 3)
    file.write_bulk([data, data, data], 80)
    assert file.pread(3 * len(data), 80) == data * 3
    file.close()


def test_a_disk_that_fails_is_told_and_not_written_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, data: Any, offset: int) -> int:
        raise OSError(errno.EIO, "input/output error")

    file = OsDisk(tmp_path).open("a", create=True)
    monkeypatch.setattr(direct.DirectWriter, "open", lambda self, path, fd: os.dup(fd))  # on any file system
    monkeypatch.setattr(direct.os, "pwrite", fail)
    with pytest.raises(OSError) as failure:
        file.write_bulk([bytes(3 * BLOCK)], 0)
    assert failure.value.errno == errno.EIO
    file.close()


def test_a_file_that_took_the_name_meanwhile_is_not_written_to(tmp_path: Path) -> None:
    disk = OsDisk(tmp_path)
    file = disk.open("a", create=True)
    disk.unlink("a")
    disk.open("a", create=True).close()
    data = os.urandom(3 * BLOCK)
    file.write_bulk([data], 0)
    assert disk.read_bytes("a") == b""
    assert file.pread(len(data), 0) == data
    file.close()


def test_every_descriptor_is_closed(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    file = OsDisk(tmp_path).open("a", create=True)
    file.write_bulk([bytes(3 * BLOCK)], 0)
    file.close()
    file.close()
    after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    assert len(after) == len(before)


def test_a_cut_is_the_same_bytes(tmp_path: Path) -> None:
    buffers = [b"abc", b"", memoryview(b"defg"), b"h"]
    for start in range(9):
        for stop in range(start, 9):
            assert b"".join(cut(buffers, start, stop)) == b"abcdefgh"[start:stop]
