"""SQLite on a simulated disk: the shipped SQL meets lost and torn writes.

Each :class:`~actors.sim.disk.SimDisk` has a VFS of its own. There are no locks and no shared memory, so a database in
WAL mode needs ``PRAGMA locking_mode=EXCLUSIVE`` first, and only one connection at a time may use a database. As with
SQLite's own unix VFS, the first sync of a journal that was opened to be created also syncs its directory, whether or not
it was there; nothing else does.

SQLite draws the salts of its WAL from one generator per operating system process, which no VFS can seed: the bytes of
a WAL differ between runs, what recovery makes of them does not.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import posixpath
import random
import weakref
from typing import TYPE_CHECKING, Any, NoReturn, cast

import apsw

if TYPE_CHECKING:
    from actors.sim.disk import SimDisk, SimFile

JULIAN_MS = 211_845_067_200_000  #: 2026-01-01 12:00, in milliseconds since the Julian epoch: the clock stands still
SECTOR_SIZE = 4096  #: bytes; what the unix VFS says
JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL

_serial = itertools.count(1)  # names of VFS are global in SQLite


def _fail(error: OSError, code: int) -> NoReturn:
    """Raise what SQLite understands: its own code for a full disk, otherwise ``code``."""
    if error.errno == errno.ENOSPC:
        raise apsw.FullError(str(error)) from error
    failure: Any = apsw.IOError(str(error))
    failure.extendedresult = code
    raise failure from error


class SimVFSFile:
    """One file of SQLite, open on a simulated disk."""

    def __init__(self, disk: SimDisk, file: SimFile, path: str, *, is_journal: bool, delete_on_close: bool) -> None:
        self._disk = disk
        self._file = file
        self._path = path
        self._directory_unsynced = is_journal
        self._delete_on_close = delete_on_close

    def xRead(self, amount: int, offset: int) -> bytes:
        try:
            return self._file.pread(amount, offset)
        except OSError as error:
            _fail(error, apsw.SQLITE_IOERR_READ)

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self._file.pwritev([data], offset)
        except OSError as error:
            _fail(error, apsw.SQLITE_IOERR_WRITE)

    def xTruncate(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError as error:
            _fail(error, apsw.SQLITE_IOERR_TRUNCATE)

    def xSync(self, flags: int) -> None:
        try:
            self._file.datasync()
            if self._directory_unsynced:
                self._directory_unsynced = False
                self._disk.sync_dir(posixpath.dirname(self._path))
        except OSError as error:
            _fail(error, apsw.SQLITE_IOERR_FSYNC)

    def xFileSize(self) -> int:
        try:
            return self._file.size()
        except OSError as error:
            _fail(error, apsw.SQLITE_IOERR_FSTAT)

    def xClose(self) -> None:
        alive = self._file.alive
        self._file.close()
        if self._delete_on_close and alive:
            self._disk.unlink(self._path)

    def xLock(self, level: int) -> None:
        """Locks nothing: one connection per database."""

    def xUnlock(self, level: int) -> None:
        """See :meth:`xLock`."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR_SIZE

    def xDeviceCharacteristics(self) -> int:
        # As in life: a torn write never damages bytes outside of what was written.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False


class SimVFS(apsw.VFS):
    """The VFS of one disk for one process; it does not keep the disk alive, and goes with it."""

    def __init__(self, disk: SimDisk) -> None:
        self.name = f"sim-{next(_serial)}"
        self._disk_reference = weakref.ref(disk)
        self._generation = disk.generation
        self._random = random.Random(self.name)
        super().__init__(self.name, base=None, iVersion=2)

    @property
    def _disk(self) -> SimDisk:
        disk = self._disk_reference()
        if disk is None or disk.generation != self._generation:
            raise apsw.CantOpenError("the simulated disk is gone, or the process that used it")
        return disk

    def close_connections(self) -> None:
        """The process has died: close what it left open, without letting SQLite change anything any more."""
        for connection in apsw.connections():
            if connection.open_vfs == self.name:
                # SQLite tries to roll back and to checkpoint, and fails, since the handles of its files are dead.
                with contextlib.suppress(apsw.Error):
                    connection.close(force=True)
        self.unregister()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        disk = self._disk
        wanted = flags[0]
        readonly = bool(wanted & apsw.SQLITE_OPEN_READONLY)
        create = bool(wanted & apsw.SQLITE_OPEN_CREATE)
        flags[1] = wanted
        if name is None:  # a temporary file: no name, and nothing of it needs to outlive its handle
            file, path = disk.open_unnamed(), ""
        else:
            path = (name if isinstance(name, str) else name.filename()).lstrip("/")
            try:
                exclusive = bool(wanted & apsw.SQLITE_OPEN_EXCLUSIVE)
                file = disk.open(path, create=create, exclusive=exclusive, readonly=readonly)
            except OSError as error:
                raise apsw.CantOpenError(str(error)) from error
        opened = SimVFSFile(
            disk,
            file,
            path,
            # Also if it is there: an earlier process may have made it and died before its name was durable.
            is_journal=name is not None and create and bool(wanted & JOURNALS),
            delete_on_close=name is not None and bool(wanted & apsw.SQLITE_OPEN_DELETEONCLOSE),
        )
        return cast(apsw.VFSFile, opened)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        path = filename.lstrip("/")
        disk = self._disk
        try:
            disk.unlink(path)
            if syncdir:
                disk.sync_dir(posixpath.dirname(path))
        except FileNotFoundError as error:
            _fail(error, apsw.SQLITE_IOERR_DELETE_NOENT)
        except OSError as error:
            _fail(error, apsw.SQLITE_IOERR_DELETE)

    def xAccess(self, pathname: str, flags: int) -> bool:
        disk = self._disk
        return disk.exists(pathname.lstrip("/")) and not (flags == apsw.SQLITE_ACCESS_READWRITE and disk.readonly)

    def xFullPathname(self, name: str) -> str:
        return "/" + posixpath.normpath(name).lstrip("/")

    def xRandomness(self, numbytes: int) -> bytes:
        return self._random.randbytes(numbytes)

    def xCurrentTime(self) -> float:
        return JULIAN_MS / 86_400_000

    def xCurrentTimeInt64(self) -> int:
        return JULIAN_MS

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xGetLastError(self) -> tuple[int, str]:
        return 0, ""
