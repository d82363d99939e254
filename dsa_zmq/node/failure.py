"""When a store stops to trust its disk, and how it says so."""

from __future__ import annotations

import contextlib
import errno

import apsw

from actors.disk import Disk
from dsa_zmq.errors import Unavailable
from dsa_zmq.node.recovery import REBUILD_MARK

FAILED = "failed.txt"  #: why a write or sync failed; while it is there, the store takes nothing

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Failure:
    """Why a store takes nothing any more; empty while it is good."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.text = ""

    def __bool__(self) -> bool:
        return bool(self.text)

    def load(self) -> None:
        """Be failed if an earlier process was."""
        if self._disk.exists(FAILED):
            self.text = self._disk.read_bytes(FAILED).decode("utf-8", "replace").strip() or "it failed earlier"

    def of_write(self, error: OSError) -> None:
        """A write or sync failed: nothing can be said of what it covered, now or after a restart (the page cache may show
        what the disk does not have). So it is written down, for an operator to clear."""
        self.text = plain(error)
        if error.errno != errno.EROFS:
            with contextlib.suppress(OSError):  # on a dead disk there is no place for it, and no next start either
                self._disk.replace_bytes(FAILED, f"{self.text}\n".encode())

    def of_index(self, error: apsw.Error) -> None:
        """SQLite failed. The segments are the truth, so the next start makes it good."""
        self.text = self.text or f"the index failed: {error}"
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
            with contextlib.suppress(OSError):  # without the mark, SQLite finds the damage again
                self._disk.replace_bytes(REBUILD_MARK, b"")

    def error(self) -> Unavailable:
        """What every put is answered from now on."""
        return Unavailable(
            f"the node's store has failed: {self.text}",
            f"check its disk; then delete {FAILED} in its directory, if it is there, and restart the node",
        )


def plain(error: Exception) -> str:
    """An error of the disk or of SQLite, for people."""
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return "its file system is mounted read-only"
    if isinstance(error, OSError):
        return f"{error.strerror or error} on the disk"
    return str(error)


def is_full(error: OSError) -> bool:
    """Whether there was no room, as opposed to a fault."""
    return error.errno in _FULL
