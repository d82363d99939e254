"""How much room a store has, and what it keeps back so that full never means stuck.

Puts may use the capacity and the disk's room less the reserve. Kept back beyond that, on the disk and not only in
numbers: :data:`SPARES` preallocated segments, in which drops still find room for their records, and a ballast file, which
is given up when SQLite finds the disk full.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from actors.disk import Disk
from dsa_zmq.errors import NoSpace

SPARES = 2  #: segments: their records of drops are enough to empty every other segment of common sizes
BALLAST = "ballast"
BALLAST_BYTES = 8 << 20  #: two checkpoints of SQLite's WAL; never more than a segment
UNIT = 1 << 20


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
        return min(BALLAST_BYTES, self.segment_bytes)

    def _within_capacity(self) -> int:
        return self.capacity - self.allocated - self.index - self.ballast_bytes

    def growth(self, spares: int) -> int:
        """How many more segments puts may fill, while ``spares`` are preallocated."""
        room = min(self._within_capacity(), self.disk.free_bytes()[0] - self.reserve)
        return max(0, room // self.segment_bytes - (SPARES - spares))

    def check_growth(self) -> None:
        """Raise NoSpace if puts may not have another segment."""
        if self._within_capacity() < self.segment_bytes:
            raise NoSpace(
                f"the node's capacity of {self.capacity // UNIT} MiB is used up", "raise its --capacity, or add a node"
            )
        free = self.disk.free_bytes()[0]
        if free - self.reserve < self.segment_bytes:
            raise NoSpace(
                f"the node's disk has {free // UNIT} MiB left, {self.reserve // UNIT} MiB of them are kept in reserve",
                "free space on that disk, or add a node",
            )

    def keep_ballast(self) -> None:
        """Have the ballast file. OSError if there is no room for it."""
        if self.disk.exists(BALLAST):
            return
        file = self.disk.open(BALLAST, create=True)
        try:
            file.allocate(self.ballast_bytes)
            file.datasync()
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                self.disk.unlink(BALLAST)
            raise
        finally:
            file.close()

    def drop_ballast(self) -> bool:
        """Give its room up; False if it is given up already."""
        if not self.disk.exists(BALLAST):
            return False
        self.disk.unlink(BALLAST)
        return True
