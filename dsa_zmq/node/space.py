"""How much room a store has, and what it keeps back so that full never means stuck.

Puts may use the capacity and the disk's room less the reserve. Kept back beyond that, on the disk and not only in
numbers: :data:`SPARES` preallocated segments, in which drops still find room for their records, and a ballast file, which
is given up when SQLite finds the disk full.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from actors.disk import Disk
from dsa_zmq.errors import NoSpace
from dsa_zmq.model.sizes import format_size

SPARES = 2  #: segments: their records of drops are enough to empty every other segment of common sizes
BALLAST = "ballast"
BALLAST_BYTES = 8 << 20  #: two checkpoints of SQLite's WAL; with smaller segments as much as one
MIN_BALLAST_BYTES = 256 << 10  #: a few commits
MIN_KEPT_BYTES = 16 << 10  #: of a ballast that was needed: less than that is of no use
PAGE_BYTES = 4096  #: of SQLite
MIN_WAL_PAGES, MAX_WAL_PAGES = 16, 1000  #: the latter is SQLite's default


@dataclass(slots=True)
class Space:
    """The limits of one store. Byte counts everywhere."""

    disk: Disk
    capacity: int  #: what this store may take, all in all
    reserve: int  #: what it leaves free on the file system
    segment_bytes: int
    allocated: int = 0  #: by segments, spares included
    index: int = 0  #: by the index, as last measured

    @property
    def ballast_bytes(self) -> int:
        return max(MIN_BALLAST_BYTES, min(BALLAST_BYTES, self.segment_bytes))

    @property
    def wal_pages(self) -> int:
        """How long SQLite's WAL may grow: in small stores less, for there it would count."""
        return max(MIN_WAL_PAGES, min(MAX_WAL_PAGES, self.segment_bytes // 4 // PAGE_BYTES))

    @property
    def index_reserve(self) -> int:
        """For the WAL, and for the index to grow by while a segment is filled."""
        return 2 * self.wal_pages * PAGE_BYTES

    @property
    def smallest_capacity(self) -> int:
        """What is kept back, one segment to fill, and one for a first index."""
        return (SPARES + 2) * self.segment_bytes + self.ballast_bytes + self.index_reserve

    def _within_capacity(self) -> int:
        return self.capacity - self.allocated - self.index - self.ballast_bytes - self.index_reserve

    def _left_by_others(self) -> int:
        return self.disk.free_bytes()[0] - self.reserve - self.index_reserve

    def growth(self, spares: int) -> int:
        """How many more segments puts may fill, while ``spares`` are preallocated."""
        try:
            room = min(self._within_capacity(), self._left_by_others())
        except OSError:  # a file system that cannot even say this takes no new segments
            return 0
        return max(0, room // self.segment_bytes - (SPARES - spares))

    def check_growth(self) -> None:
        """Raise NoSpace if puts may not have another segment."""
        if self._within_capacity() < self.segment_bytes:
            raise NoSpace(
                f"the node's capacity of {format_size(self.capacity)} is used up",
                "remove files, raise its --capacity, or add a node",
            )
        if self._left_by_others() < self.segment_bytes:
            free = self.disk.free_bytes()[0]
            raise NoSpace(
                f"the node's disk has {format_size(free)} left, {format_size(self.reserve)} of that are kept in reserve",
                "remove files, free space on that disk, or add a node",
            )

    def keep_ballast(self) -> None:
        """Have the ballast file in its full size. OSError if there is no room for it."""
        file = self.disk.open(BALLAST, create=True)
        try:
            if file.size() < self.ballast_bytes:
                file.allocate(self.ballast_bytes)
                file.datasync()
        finally:
            file.close()

    @contextlib.contextmanager
    def ballast_dropped(self) -> Iterator[None]:
        """A block that has the ballast's room; afterwards, what is left of it is kept again."""
        if self.disk.exists(BALLAST):
            self.disk.unlink(BALLAST)
        try:
            yield
        finally:
            self._keep_some_ballast()

    def _keep_some_ballast(self) -> None:
        size = self.ballast_bytes
        with contextlib.suppress(OSError):  # without it, the next commit finds no room and says so
            file = self.disk.open(BALLAST, create=True)
            while size >= MIN_KEPT_BYTES and file.size() == 0:
                with contextlib.suppress(OSError):
                    file.allocate(size)
                size //= 2
            file.close()
