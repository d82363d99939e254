"""Writing past the page cache: for what is written in bulk and hardly read soon.

Through the page cache every byte costs a copy into a page that is new to the process, its writing back, and its removal
later. Past it (``O_DIRECT``) it is copied into a buffer that is used over and over, and the disk fetches it from there:
half the CPU time. Whole blocks only; the ragged ends of a range go through the page cache as ever, and since no block is
written both ways, the two never meet.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterable, Iterator

BLOCK_BYTES = 4096  #: what offsets, sizes and memory are aligned to: as much as any common disk asks for
BUFFER_BYTES = (
    4 << 20
)  #: one for each disk that is written to in bulk; a write waits for the disk, so small ones are slow

Buffer = bytes | memoryview


class DirectWriter:
    """The way past the page cache to the files of one disk. Thread-safe: one write at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._possible = hasattr(os, "O_DIRECT")
        self._buffer: memoryview | None = None  # made at the first use: most processes never write in bulk

    def open(self, path: str, fd: int) -> int | None:
        """A descriptor for :meth:`write`, of the file that is open as ``fd`` and was found at ``path``; the caller closes
        it. None if there is no way past the page cache to it."""
        if not self._possible:
            return None
        try:
            direct = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:  # the file system has none, or the name is gone; if it is the disk, the write will tell
            return None
        if os.path.samestat(os.fstat(direct), os.fstat(fd)):
            return direct
        os.close(direct)
        return None

    def write(self, direct: int, buffers: Iterable[Buffer], offset: int) -> bool:
        """Write whole blocks at the beginning of a block. False if the file system refuses such writes, after all: some
        of the bytes may be written. Raises OSError if it is the disk."""
        with self._lock:
            if self._buffer is None:
                self._buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))
            for filled in _fill(self._buffer, buffers):
                try:
                    done = os.pwrite(direct, self._buffer[:filled], offset)
                except OSError as error:
                    if error.errno in _REFUSED:
                        return False
                    raise
                if done != filled:
                    return False  # the same once more, through the page cache, says why
                offset += filled
        return True


_REFUSED = (errno.EINVAL, errno.ENOTSUP)


def _fill(target: memoryview, buffers: Iterable[Buffer]) -> Iterator[int]:
    """Copy all bytes into ``target``, as often as it gets full; yields how many are in it, each time."""
    filled, room = 0, len(target)
    for buffer in buffers:
        rest = memoryview(buffer)
        while rest:
            size = min(len(rest), room - filled)
            target[filled : filled + size] = rest[:size]
            filled, rest = filled + size, rest[size:]
            if filled == room:
                yield filled
                filled = 0
    if filled:
        yield filled


def cut(buffers: Iterable[Buffer], start: int, stop: int) -> list[Buffer]:
    """The bytes from ``start`` to ``stop`` of buffers that follow each other, uncopied."""
    parts: list[Buffer] = []
    at = 0
    for buffer in buffers:
        first, last = max(start - at, 0), min(stop - at, len(buffer))
        if first < last:
            parts.append(memoryview(buffer)[first:last])
        at += len(buffer)
    return parts
