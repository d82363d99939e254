"""The database file of a node's index: its schema, opening it, and removing it."""

from __future__ import annotations

import apsw

from actors.disk import Disk
from dsa_zmq.errors import ConfigError

PATH = "index.sqlite"
SCHEMA_VERSION = 2  #: an index of another version is made anew
CACHE_KIB = 8 << 10  #: of SQLite pages: bounds the memory of a node, whatever it holds

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    generation BLOB NOT NULL,
    size INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    end INTEGER NOT NULL,
    live INTEGER NOT NULL,
    live_bytes INTEGER NOT NULL,
    written INTEGER NOT NULL,
    drops INTEGER NOT NULL
);
CREATE TABLE buckets (bucket INTEGER PRIMARY KEY, shards INTEGER NOT NULL, digest INTEGER NOT NULL);
CREATE TABLE pins (victim INTEGER, killer INTEGER, PRIMARY KEY (victim, killer)) WITHOUT ROWID;
CREATE TABLE shards (
    chunk INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    chunk_length INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (chunk, idx)
) WITHOUT ROWID;
CREATE INDEX marked ON shards (state, chunk, idx) WHERE state > 0;
"""


class IndexDamaged(Exception):
    """The index is missing, incomplete, of another version, or SQLite finds it malformed: rebuild it."""


def connect(disk: Disk, wal_pages: int) -> apsw.Connection:
    db = apsw.Connection(disk.sqlite_path(PATH), vfs=disk.sqlite_vfs)
    try:
        # The exclusive lock keeps a second process out of this directory, and spares the shared-memory file.
        for setting in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL", "temp_store=MEMORY"):
            db.execute(f"PRAGMA {setting}").fetchall()
        db.execute(f"PRAGMA cache_size=-{CACHE_KIB}").fetchall()
        db.execute(f"PRAGMA wal_autocheckpoint={wal_pages}").fetchall()
        db.execute("BEGIN IMMEDIATE; COMMIT")
    except (apsw.BusyError, apsw.LockedError) as error:
        db.close()
        raise ConfigError(
            "the data directory is in use by another process", "stop the other node, or choose another directory"
        ) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        db.close()
        raise IndexDamaged(f"SQLite says: {error}") from error
    except BaseException:
        db.close()
        raise
    return db


def remove(disk: Disk) -> None:
    """Delete the index. The database goes first: a WAL without it is harmless, it without its WAL may be wrong."""
    for name in (PATH, f"{PATH}-wal", f"{PATH}-journal", f"{PATH}-shm"):
        if disk.exists(name):
            disk.unlink(name)
            disk.sync_dir("")
