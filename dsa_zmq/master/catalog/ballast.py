"""Space set aside on the catalog's disk, so that a full disk can still be cleaned up through the catalog.

Deleting needs room too: the log grows before anything shrinks. When the disk is full the ballast is given up to those
changes, and everything that grows waits (``is_low``) until there is room again: on the disk, or inside the file, where
deletions leave free pages.
"""

from __future__ import annotations

import errno

from actors.disk import Disk

BALLAST_BYTES = 16 << 20  #: the log of some 10,000 deletions, with room for one checkpoint


class Ballast:
    """The file ``path`` on ``disk``, of ``size`` bytes; 0 for none."""

    def __init__(self, disk: Disk, path: str, size: int = BALLAST_BYTES) -> None:
        self._disk = disk
        self._path = path
        self._size = size
        self.is_low = False  #: only changes that give space back may go on

    def exists(self) -> bool:
        """Whether any was set aside, by whatever process: then there has been a catalog, since that is committed first."""
        return self._disk.exists(self._path)

    def restore(self, unused_bytes: int = 0) -> None:
        """Set the space aside, if the disk has it. ``unused_bytes`` are free inside the catalog's file."""
        if not self._size:
            return
        if self._disk.exists(self._path) and self._is_whole():
            return
        if self._disk.free_bytes()[0] >= 2 * self._size and self._allocate():
            self.is_low = False
        else:
            self.is_low = unused_bytes < self._size

    def _allocate(self) -> bool:
        file = self._disk.open(self._path, create=True)
        try:
            file.allocate(self._size)
            file.datasync()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._disk.unlink(self._path)  # what was allocated before the disk was full
            return False
        finally:
            file.close()
        self._disk.sync_dir(self._path.rpartition("/")[0])
        return True

    def release(self) -> bool:
        """Give the space up. False if there is none to give."""
        if not self._size or not self._disk.exists(self._path):
            return False
        self._disk.unlink(self._path)
        self.is_low = True
        return True

    def _is_whole(self) -> bool:
        file = self._disk.open(self._path, readonly=True)
        try:
            return file.size() >= self._size
        finally:
            file.close()
