"""What a restore does on the disk, as jobs of one lane: making the catalog under another name, then publishing it.

A crash at any moment leaves no catalog, or all of it: the name that a master looks for is given last, to a file that is
durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.core import Job
from actors.disk import Disk, DiskFile
from dsa_zmq.errors import AlreadyExists, Conflict, Corrupt, DSAError, Incompatible, LocalError
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, is_empty
from dsa_zmq.master.catalog.rebuild import NO_LIMIT, Preview, Rebuilder, Rebuilt, Restoration, remove
from dsa_zmq.master.catalog.stale import STALE_FILE

RESTORE_LANE = "restore"
MADE_FILE = f"{CATALOG_FILE}.new"  #: the catalog that is being made


class Begin(Job, frozen=True):
    """Begin anew, as of the moment ``at_ns``; of the first volume only the log up to ``position``. Result: Fed"""

    at_ns: int = NO_LIMIT
    position: int = NO_LIMIT


class Next(Job, frozen=True):
    """What comes now is the next volume, up to ``position``. Result: Fed"""

    position: int = NO_LIMIT


class Again(Job, frozen=True):
    """What comes now is the same volume from its beginning, from another holder. Result: Fed"""


class Feed(Job, frozen=True):
    """The next bytes of a volume. Result: Fed"""

    data: bytes


class FeedFile(Job, frozen=True):
    """The next bytes of the file that the catalog is made of. Result: Fed, ``size`` 0 at its end"""

    offset: int
    limit: int


class Look(Job, frozen=True):
    """What would it be now? Result: Preview"""


class Finish(Job, frozen=True):
    """Make a master's catalog of it, and publish it. Result: Rebuilt"""

    restoration: Restoration


class Fed(msgspec.Struct, frozen=True):
    """How far the catalog is."""

    position: int
    usable: bool
    reached: bool  #: nothing more is wanted of this volume
    size: int = 0  #: bytes that were fed
    rest: int = 0  #: bytes at their end that are no whole record yet
    unfit: DSAError | None = None  #: why the bytes cannot be used; what came before them counts


class Workshop:
    """The handler of the lane. ``source``: the file, if the catalog is made of one."""

    def __init__(self, disk: Disk, source: DiskFile | None = None) -> None:
        self._disk = disk
        self._source = source
        self._rebuilder: Rebuilder | None = None

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """The result of each job, or the DSAError that kept it from being done."""
        return [self._run(job) for job in jobs]

    def close(self) -> None:
        """Leave nothing behind that is half made. Idempotent."""
        rebuilder, self._rebuilder = self._rebuilder, None
        if rebuilder is not None:
            rebuilder.abandon()

    def _run(self, job: Job) -> Any:
        try:
            return self._do(job)
        except DSAError as error:
            return error
        except OSError as error:
            return LocalError(f"the disk of the catalog cannot be used: {error.strerror or error}", "check that disk")

    def _do(self, job: Job) -> Fed | Preview | Rebuilt:
        if isinstance(job, Begin):
            self.close()
            self._rebuilder = Rebuilder(self._disk, MADE_FILE, at_ns=job.at_ns, position=job.position)
        rebuilder = self._rebuilder
        assert rebuilder is not None, "begun first"
        match job:
            case Look():
                return rebuilder.preview()
            case Finish():
                self._rebuilder = None
                try:
                    rebuilt = rebuilder.finish(job.restoration)
                except BaseException:
                    rebuilder.abandon()
                    raise
                publish(self._disk)
                return rebuilt
            case Next():
                rebuilder.next_volume(position=job.position)
            case Again():
                rebuilder.again()
            case Feed():
                return self._feed(rebuilder, job.data)
            case FeedFile():
                assert self._source is not None, "only asked for where there is a file"
                return self._feed(rebuilder, self._source.pread(job.limit, job.offset))
        return Fed(rebuilder.position, rebuilder.usable, rebuilder.reached)

    def _feed(self, rebuilder: Rebuilder, data: bytes) -> Fed:
        unfit = None
        try:
            rebuilder.feed(data)
        except (Corrupt, Conflict, Incompatible) as error:
            unfit = error
        return Fed(rebuilder.position, rebuilder.usable, rebuilder.reached, len(data), rebuilder.rest, unfit)


def check_vacant(disk: Disk) -> None:
    """Raise AlreadyExists if there is a catalog."""
    if not is_empty(disk, CATALOG_FILE):
        raise AlreadyExists(
            f"there is a catalog already: '{disk.sqlite_path(CATALOG_FILE)}'",
            "start the master on it; to restore an earlier state, move it away, or give a new directory",
        )


def publish(disk: Disk) -> None:
    """Let the made catalog be the one that a master opens. What belonged to a former one is gone before: its log would be
    replayed on this one, and its mark would keep every master from starting."""
    check_vacant(disk)
    remove(disk, CATALOG_FILE)
    if disk.exists(STALE_FILE):
        disk.unlink(STALE_FILE)
    disk.sync_dir("")
    disk.rename(MADE_FILE, CATALOG_FILE)
    disk.sync_dir("")
