"""A real directory on a disk that can be made to look full, for tests of what happens then.

Room is counted as a file system would: files take it when they grow and give it back when they go. Only SQLite's files
are not looked at, for SQLite opens them itself: on a disk that is really full, the index too would find no room.
"""

from __future__ import annotations

import errno
import os
import threading

from actors.disk import OsDisk, OsFile


class Room:
    """How many bytes are left; without a limit until one is set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: int | None = None
        self._filling = 0

    def limit(self, left: int | None, filling: int) -> None:
        """From now on so many bytes are left; the same ``filling`` told again changes nothing."""
        with self._lock:
            if filling != self._filling:
                self._left, self._filling = left, filling

    def take(self, size: int) -> None:
        """A file grows (or shrinks, below 0). OSError if there is no room for that."""
        with self._lock:
            if self._left is None:
                return
            if size > self._left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._left -= size

    def left(self, real: int) -> int:
        """Of ``real`` bytes that the disk has."""
        left = self._left
        return real if left is None else min(left, real)


class LimitedFile(OsFile):
    """A file on a :class:`LimitedDisk`; it takes over the descriptor of ``file``."""

    def __init__(self, file: OsFile, room: Room) -> None:
        self.__dict__.update(file.__dict__)  # whatever an OsFile is made of
        self._room = room
        self._size = self.size()

    def pwritev(self, buffers: list[bytes | memoryview], offset: int) -> int:
        self._grow(offset + sum(len(b) if isinstance(b, bytes) else b.nbytes for b in buffers))
        return super().pwritev(buffers, offset)

    def allocate(self, size: int) -> None:
        self._grow(size)
        super().allocate(size)

    def _grow(self, end: int) -> None:
        if end > self._size:
            self._room.take(end - self._size)
            self._size = end


class LimitedDisk(OsDisk):
    """A directory whose disk is as full as ``room`` says."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(root)
        self.room = Room()

    def open(self, path: str, *, create: bool = False, exclusive: bool = False, readonly: bool = False) -> OsFile:
        return LimitedFile(super().open(path, create=create, exclusive=exclusive, readonly=readonly), self.room)

    def replace_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.room.take(len(data))  # both are there for a moment
        before = self._size(path)
        super().replace_bytes(path, data, mode)
        self.room.take(-before)

    def unlink(self, path: str) -> None:
        before = self._size(path)
        super().unlink(path)
        self.room.take(-before)

    def rename(self, path: str, to: str) -> None:
        before = self._size(to)
        super().rename(path, to)
        self.room.take(-before)

    def free_bytes(self) -> tuple[int, int]:
        free, total = super().free_bytes()
        return self.room.left(free), total

    def _size(self, path: str) -> int:
        try:
            return os.stat(self._real(path)).st_size
        except FileNotFoundError:
            return 0
