"""Room for volumes, and what is kept back of it: a full disk must still take the changes that empty it.

What a file is dropped for leaves only after the change that removed it is safe on nodes. So on a disk that is full of shards
there must be room for records of the catalog that shards cannot take. It is kept as preallocated files of one step each,
made with the first volume and again as soon as there is room; each is given up when a volume finds none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from actors.disk import Disk, DiskFile
from dsa_zmq.errors import NoSpace
from dsa_zmq.model.volumes import DIRECTORY
from dsa_zmq.node.failure import is_full

STEP_BYTES = 1 << 20  #: by which a volume's file grows: each costs the file system a change of its own tables
MIN_STEP_BYTES = 64 << 10  #: in stores with small segments
SPARES = 8  #: steps: the removal of some ten thousand files
_SPARE = "spare."
T = TypeVar("T")


class VolumeRoom:
    """For one thread, but for the figure."""

    def __init__(self, disk: Disk, step_bytes: int) -> None:
        self._disk = disk
        self.step_bytes = max(MIN_STEP_BYTES, min(STEP_BYTES, step_bytes))
        self._spares: set[str] = set()  #: that are there in full

    @property
    def spare_bytes(self) -> int:
        """What is set aside."""
        return len(self._spares) * self.step_bytes

    def find(self, names: Iterable[str]) -> None:
        """The spares among the files that are there at the start. One that a power loss has shortened is made anew later."""
        for name in sorted(names):
            if name in _NAMES:
                with contextlib.suppress(OSError):
                    file = self._disk.open(_path(name), readonly=True)
                    if file.size() >= self.step_bytes:
                        self._spares.add(name)
                    file.close()

    def grow(self, file: DiskFile, allocated: int, needed: int) -> int:
        """Have at least ``needed`` bytes of a file preallocated. Returns how many are. NoSpace, or OSError."""
        if needed <= allocated:
            return allocated
        size = -(-needed // self.step_bytes) * self.step_bytes
        self.make_room(lambda: file.allocate(size))
        return size

    def make_room(self, act: Callable[[], T]) -> T:
        """Do what takes room and changes nothing if there is none: spares are given up for it. NoSpace, or OSError."""
        while True:
            try:
                return act()
            except OSError as error:
                if isinstance(error, NoSpace) or not is_full(error):
                    raise
                if not self._give_up_one():
                    raise NoSpace(
                        "the node's disk is full, and so is what was kept back for copies of the catalog",
                        "free space on it, or add a node",
                    ) from error

    def keep_spares(self) -> None:
        """Make those that are missing, as far as there is room. OSError for other reasons."""
        for name in _NAMES:
            if name not in self._spares:
                try:
                    self._make(name)
                except OSError as error:
                    if not is_full(error):
                        raise
                    return
                self._spares.add(name)

    def _make(self, name: str) -> None:
        file = self._disk.open(_path(name), create=True)
        try:
            file.allocate(self.step_bytes)
        except OSError:
            self._disk.unlink(_path(name))
            raise
        finally:
            file.close()

    def _give_up_one(self) -> bool:
        if not self._spares:
            return False
        name = max(self._spares)
        self._spares.discard(name)
        self._disk.unlink(_path(name))
        return True


_NAMES = tuple(f"{_SPARE}{number}" for number in range(SPARES))


def _path(name: str) -> str:
    return f"{DIRECTORY}/{name}"
