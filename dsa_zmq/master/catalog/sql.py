"""The thin layer over SQLite: statements by set, and what an error means for the transaction.

One connection writes, reads and checkpoints; nobody else opens the file (``locking_mode=EXCLUSIVE``, which also keeps
WAL from needing shared memory, so that a simulated disk can carry it). ``synchronous=FULL``: a COMMIT that returned is
durable.

Three things can go wrong with a statement, and they are three exceptions:

* :class:`DiskFull`: nothing of this transaction will be there; rolling back is safe and the file is sound.
* :class:`Rejected`: the engine refused a statement (a constraint). Our bug; roll back.
* :class:`CatalogBroken`: an I/O error, or nobody knows whether the COMMIT happened. Nothing that this process believes can
  be trusted: it has to end. After the restart the reply table tells those who ask again what happened.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import apsw

from actors.disk import Disk
from dsa_zmq.errors import ConfigError, Conflict, Corrupt, DSAError, LocalError, NoSpace

CHECKPOINT_PAGES = (
    4096  #: 16 MiB of log: long enough to write each page of it once, short enough to re-read after a crash
)
CACHE_KIB = 65_536  #: page cache: the inner nodes of some ten million rows
COPY_BYTES = 1 << 20  #: of the log at a time
#: apsw puts a statement back in a new place for each set of values, and forgets what was in the next place: with the usual
#: 100 every batch had to prepare all of its statements anew.
PREPARED_STATEMENTS = 1000
QUICK_CHECK_BYTES = 16 << 20  #: a file this small is checked as a whole at each opening: some 20 ms


class CatalogBroken(Exception):
    """The catalog cannot be used any more by this process, which must end and start anew from disk."""


class DiskFull(Exception):
    """No room for this transaction; it was rolled back."""


class Rejected(Exception):
    """The engine refused a statement of this transaction, which is to be rolled back."""


class Database:
    """One open catalog file."""

    def __init__(self, disk: Disk, path: str, *, scrambled: bool = False) -> None:
        """Open or create ``path``. Raises a :class:`DSAError` that names the file, the cause and the remedy.

        ``scrambled`` turns the order of every SELECT around that does not ask for one: a test of ORDER BY.
        """
        self.path = path
        self.broken: CatalogBroken | None = None
        self._wal_pages = 0
        try:
            self._connection = apsw.Connection(
                disk.sqlite_path(path),
                flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX,
                vfs=disk.sqlite_vfs,
                statementcachesize=PREPARED_STATEMENTS,
            )
        except (apsw.Error, OSError) as error:
            raise _opening_failure(disk.sqlite_path(path), error) from error
        try:
            self._configure(scrambled)
            _write_again(disk, f"{path}-wal")
            disk.sync_dir(path.rpartition("/")[0])  # the new file's name has to survive, not only its bytes
        except (apsw.Error, OSError) as error:
            self.abandon()
            raise _opening_failure(disk.sqlite_path(path), error) from error

    def _configure(self, scrambled: bool) -> None:
        run = self._connection.execute
        self._connection.set_busy_timeout(0)
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA wal_autocheckpoint = 0")
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        run("PRAGMA temp_store = MEMORY")
        run("PRAGMA cell_size_check = ON")
        if scrambled:
            run("PRAGMA reverse_unordered_selects = ON")
        self._connection.set_wal_hook(self._note_wal)
        run("BEGIN IMMEDIATE")  # takes the lock now, so that a second process is told at once
        run("ROLLBACK")
        if self.file_bytes() <= QUICK_CHECK_BYTES:
            self._quick_check()

    def _quick_check(self) -> None:
        found = self._connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != [("ok",)]:
            raise apsw.CorruptError(str(found[0][0]).splitlines()[-1])  # the others are headings

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return 0

    # --- transactions ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._guard()
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Returns when the transaction is durable.

        A full disk is noticed here more often than in the statements, since these only fill the page cache. It is clean
        even so: the log's frames count only behind a complete commit frame, which is written last and did not fit.
        """
        try:
            self._connection.execute("COMMIT")
        except apsw.FullError as error:
            raise DiskFull(str(error)) from error
        except (apsw.Error, OSError) as error:
            raise self._give_up("the outcome of a commit is unknown", error) from error

    def rollback(self) -> None:
        """End the transaction if there still is one: SQLite may have ended it by itself."""
        self._guard()
        if self._connection.in_transaction:
            self.execute("ROLLBACK")

    def checkpoint(self, *, at_pages: int = CHECKPOINT_PAGES) -> None:
        """Move the log into the file if it has grown to ``at_pages``; its own space is used again from the start then.

        A full disk only means: later.
        """
        if self._wal_pages >= at_pages:
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.FullError:
                return
            except (apsw.Error, OSError) as error:
                raise self._give_up("the log could not be checkpointed", error) from error
            self._wal_pages = 0

    # --- statements -----------------------------------------------------------------------------------------------

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """One statement; its rows."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except (apsw.Error, OSError) as error:
            raise self._meaning(error) from error

    def load(self, sql: str, keys: Iterable[Sequence[Any]]) -> list[Any]:
        """One SELECT for each key; the rows of all, in the order of the keys."""
        try:
            return self._connection.executemany(sql, keys).fetchall()
        except (apsw.Error, OSError) as error:
            raise self._meaning(error) from error

    def apply(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """One changing statement for each set of values, inside the transaction.

        Before and after, the transaction must be open: on a full disk or an I/O error SQLite may roll all of it back, and
        what follows would then stand alone.
        """
        self._check_open(sql)
        try:
            self._connection.executemany(sql, values)
        except (apsw.Error, OSError) as error:
            raise self._meaning(error) from error
        self._check_open(sql)

    def _check_open(self, sql: str) -> None:
        if not self._connection.in_transaction:
            raise self._give_up("a transaction ended by itself", apsw.Error(sql))

    def table_exists(self, name: str) -> bool:
        try:
            return self._connection.table_exists("main", name)
        except (apsw.Error, OSError) as error:
            raise self._meaning(error) from error

    # --- space ----------------------------------------------------------------------------------------------------

    def file_bytes(self) -> int:
        return int(self._connection.pragma("page_count")) * int(self._connection.pragma("page_size"))

    def unused_bytes(self) -> int:
        """Inside the file: freed by deletions, taken by the next insertions."""
        return int(self._connection.pragma("freelist_count")) * int(self._connection.pragma("page_size"))

    def close(self) -> None:
        """Close; a log that is left behind is read at the next opening."""
        if self.broken is not None:
            self.abandon()
            return
        try:
            self._connection.close()
        except (apsw.Error, OSError) as error:
            raise self._give_up("the catalog could not be closed", error) from error

    def abandon(self) -> None:
        """Let go of the file as a killed process would: nothing is moved or tidied any more, and nothing is reported."""
        with suppress(apsw.Error, OSError):
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close(True)

    @contextmanager
    def trouble(self, what: str) -> Iterator[None]:
        """Around other calls to the same disk: its errors break the catalog like our own."""
        try:
            yield
        except OSError as error:
            raise self._give_up(what, error) from error

    # --- errors ---------------------------------------------------------------------------------------------------

    def _guard(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _meaning(self, error: Exception) -> Exception:
        if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            return DiskFull(str(error))
        if isinstance(error, apsw.ConstraintError):
            return Rejected(str(error))
        return self._give_up("a statement failed", error)

    def _give_up(self, what: str, error: Exception) -> CatalogBroken:
        self.broken = CatalogBroken(f"catalog '{self.path}': {what}: {type(error).__name__}: {error}")
        return self.broken


def _write_again(disk: Disk, path: str) -> None:
    """Make durable what a reader of an inherited log sees. The caller has the lock, so nobody else writes to it.

    If the last process ended because a sync failed, part of the log may be in the page cache only and marked clean: no
    later sync would write it, and a power loss would take it with everything that was appended since.
    """
    if not disk.exists(path):
        return
    file = disk.open(path)
    try:
        for offset in range(0, file.size(), COPY_BYTES):
            file.pwritev([file.pread(COPY_BYTES, offset)], offset)
        file.datasync()
    finally:
        file.close()


def _opening_failure(path: str, error: Exception) -> DSAError:
    """What kept a catalog from opening, for the operator."""
    shown = f"catalog '{path}'"
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return Conflict(f"{shown} is in use by another process", "stop the other master first", path)
        case apsw.NotADBError() | apsw.CorruptError() | apsw.FormatError():
            return Corrupt(f"{shown} is damaged: {error}", "restore the catalog from its backup", path)
        case apsw.FullError():
            return NoSpace(f"no room on the disk of {shown}", "free some space on that disk", path)
        case apsw.CantOpenError() | apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return ConfigError(
                f"{shown} cannot be opened for writing: {error}", "check the directory's owner and mode", path
            )
        case _:
            return LocalError(f"{shown} cannot be read: {error}", "check the disk, then start again", path)
