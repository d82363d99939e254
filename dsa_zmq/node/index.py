"""Where each shard lies, in SQLite: derived from the segments, and rebuilt from them whenever it is in doubt.

Commits are atomic but not waited for (WAL, ``synchronous=NORMAL``): after a power loss the index is as of some earlier
commit, and each segment's ``end`` says from where its records have to be read again. So an entry is only ever made for
bytes that are durable already.

*Pins* keep the dead dead. If segment K holds the record that superseded a put in segment V (a drop, or a newer put), K
must not be unlinked before V is: a rebuild would find the old put and believe it.

All methods need the caller's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import apsw

from actors.disk import Disk
from dsa_zmq.errors import ConfigError
from dsa_zmq.node.segments import PUT, Record
from dsa_zmq.node.store import ShardInfo, ShardKey

PATH = "index.sqlite"
SCHEMA_VERSION = 1
GOOD, DAMAGED, GONE = 0, 1, 2  #: states of a row; GONE only while segments are being read
CACHE_KIB = 8 << 10  #: of SQLite pages: bounds the memory of a node, whatever it holds
DROPS_PER_COMMIT = 1000  #: bounds the growth of the WAL while a full disk is being emptied

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    generation BLOB NOT NULL,
    size INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    end INTEGER NOT NULL,
    live INTEGER NOT NULL
);
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
# Queries repeat the condition of that index word for word: only then does SQLite use it.
_COLUMNS = "chunk, idx, segment, offset, length, chunk_length, sequence, hash, state"
_FIND = f"SELECT {_COLUMNS} FROM shards WHERE chunk = ? AND idx = ?"
_UPSERT = f"INSERT OR REPLACE INTO shards ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class IndexDamaged(Exception):
    """The index is missing, incomplete, of another version, or SQLite finds it malformed: rebuild it."""


@dataclass(slots=True)
class SegmentState:
    """What is known of one segment."""

    number: int
    generation: int
    size: int  #: bytes of the file
    sealed: bool = False  #: nothing is appended any more
    end: int = 0  #: where the next record goes; in the index: everything before it is there
    live: int = 0  #: shards whose newest record lies here, damaged ones included


SegmentRow = tuple[int, bytes, int, int, int, int]
"""A row of the table of segments."""


def segment_row(state: SegmentState) -> SegmentRow:
    """A segment as it is now."""
    generation = state.generation.to_bytes(8, "little")
    return state.number, generation, state.size, int(state.sealed), state.end, state.live


class Row(NamedTuple):
    """A shard's entry."""

    chunk: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    segment: int
    offset: int
    length: int
    chunk_length: int
    sequence: int
    hash: bytes
    state: int

    @property
    def info(self) -> ShardInfo:
        return ShardInfo(ShardKey(self.chunk, self.index), self.length, self.chunk_length, self.hash)


def row_of(record: Record, segment: int, *, intact: bool = True) -> Row:
    """The entry that a record asks for."""
    state = GONE if record.kind != PUT else GOOD if intact else DAMAGED
    return Row(
        record.chunk, record.index, segment, record.offset, record.length, record.chunk_length, record.sequence,
        record.hash, state,
    )  # fmt: skip


class Index:
    """The index of one store. Errors of SQLite and of the disk below it pass through as ``apsw.Error`` or OSError."""

    def __init__(self, disk: Disk, wal_pages: int) -> None:
        """Open what is there; ``wal_pages`` is how long the WAL may grow, about.

        Raises :class:`IndexDamaged` if it cannot be used, ConfigError if somebody else uses it.
        """
        if not disk.exists(PATH):
            raise IndexDamaged("it is not there")
        self._db = _connect(disk, wal_pages)
        self._finder = self._db.cursor()  # kept: a new one costs as much as the look-up
        try:
            meta = dict(cast("Iterable[tuple[str, int]]", self._db.execute("SELECT name, value FROM meta")))
            if meta.get("version") != SCHEMA_VERSION or not meta.get("complete"):
                raise IndexDamaged("it is incomplete or of another version")
            self.sequence = meta["sequence"]
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, KeyError) as error:
            self.close()
            raise IndexDamaged(f"SQLite says: {error}") from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, disk: Disk, wal_pages: int) -> Index:
        """A new, empty, not yet complete one, in place of what is there."""
        remove(disk)
        self = cls.__new__(cls)
        self.sequence = 0
        self._db = _connect(disk, wal_pages)
        self._finder = self._db.cursor()
        try:
            self._db.execute(_SCHEMA)
            with self._transaction():
                rows = [("version", SCHEMA_VERSION), ("complete", 0), ("sequence", 0)]
                self._db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", rows)
            disk.sync_dir("")  # so that a power loss takes the file or leaves it, never leaves its WAL alone
        except BaseException:
            self.close()
            raise
        return self

    # --- looking ------------------------------------------------------------------------------------------------------

    def find(self, key: ShardKey) -> Row | None:
        found = self._finder.execute(_FIND, key).fetchall()  # to the end: a query left open would hold up checkpoints
        return Row._make(found[0]) if found else None

    def highest_chunk(self) -> int:
        """No shard of a chunk above this one is here; 0 if there are none at all."""
        return int(self._db.execute("SELECT coalesce(max(chunk), 0) FROM shards").get)

    def page(self, after: ShardKey, limit: int) -> list[ShardInfo]:
        """Good shards behind ``after``, in key order."""
        sql = f"SELECT {_COLUMNS} FROM shards WHERE (chunk, idx) > (?, ?) AND state = 0 ORDER BY chunk, idx LIMIT ?"
        return [Row._make(row).info for row in self._db.execute(sql, (*after, limit))]

    def damaged(self, limit: int) -> list[ShardInfo]:
        """Quarantined shards, in key order."""
        sql = f"SELECT {_COLUMNS} FROM shards WHERE state > 0 AND state = 1 ORDER BY chunk, idx LIMIT ?"
        return [Row._make(row).info for row in self._db.execute(sql, (limit,))]

    def damaged_count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM shards WHERE state > 0 AND state = 1").get)

    def segments(self) -> list[SegmentState]:
        sql = "SELECT number, generation, size, sealed, end, live FROM segments ORDER BY number"
        try:
            return [
                SegmentState(number, int.from_bytes(generation, "little"), size, bool(sealed), end, live)
                for number, generation, size, sealed, end, live in self._db.execute(sql)
            ]
        except TypeError as error:  # SQLite checks no pages: rot can change a column's type
            raise IndexDamaged(f"a segment's row is malformed: {error}") from error

    def pins(self) -> set[tuple[int, int]]:
        """All (victim, killer)."""
        return set(self._db.execute("SELECT victim, killer FROM pins ORDER BY victim, killer"))

    def size_bytes(self) -> int:
        """Bytes of the database file, without its WAL."""
        return int(self._db.execute("PRAGMA page_count").get) * int(self._db.execute("PRAGMA page_size").get)

    # --- changing: each method is one transaction ---------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite rolls back by itself on a full disk
                self._db.execute("ROLLBACK")
            raise

    def apply(
        self, *, sequence: int, segments: Sequence[SegmentRow], rows: Sequence[Row] = (),
        gone: Sequence[ShardKey] = (), pins: Sequence[tuple[int, int]] = (),
    ) -> None:  # fmt: skip
        """Rows as they are now, keys that are there no more, and the segments that this changed."""
        with self._transaction():
            self._db.executemany(_UPSERT, rows)
            if gone:
                self._db.executemany("DELETE FROM shards WHERE chunk = ? AND idx = ?", gone)
            if pins:
                self._db.executemany("INSERT OR IGNORE INTO pins (victim, killer) VALUES (?, ?)", pins)
            self._write_segments(segments)
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'sequence'", (sequence,))
        self.sequence = sequence

    def _write_segments(self, segments: Iterable[SegmentRow]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?)", segments)

    def quarantine(self, row: Row) -> None:
        """Mark a shard as damaged, if its entry is still this one."""
        sql = "UPDATE shards SET state = 1 WHERE chunk = ? AND idx = ? AND segment = ? AND offset = ? AND state = 0"
        self._db.execute(sql, (row.chunk, row.index, row.segment, row.offset))

    def forget_segment(self, number: int) -> None:
        """The file is gone: so are its pins."""
        with self._transaction():
            self._db.execute("DELETE FROM segments WHERE number = ?", (number,))
            self._db.execute("DELETE FROM pins WHERE victim = ? OR killer = ?", (number, number))

    def merge(self, state: SegmentState, rows: Sequence[Row], states: dict[int, SegmentState], sequence: int) -> None:
        """Take in records read from one segment, in file order: of each shard the record of the highest sequence wins.

        ``states`` are all segments; their ``live`` counts follow.
        """
        newest: dict[tuple[int, int], Row] = {}
        for row in rows:
            key = row[:2]
            if key not in newest or row.sequence >= newest[key].sequence:
                newest[key] = row
        pins: set[tuple[int, int]] = set()
        changed = {state.number: state}
        with self._transaction():
            for earlier in self._conflicts(newest.values()):
                row = newest[earlier[:2]]
                winner, loser = (earlier, row) if earlier.sequence > row.sequence else (row, earlier)
                if loser.state != GONE and winner.segment != loser.segment:
                    pins.add((loser.segment, winner.segment))
                if winner is earlier:
                    del newest[row[:2]]
                elif loser.state != GONE:
                    states[loser.segment].live -= 1
                    changed[loser.segment] = states[loser.segment]
            state.live += sum(1 for row in newest.values() if row.state != GONE)
            self._db.executemany(_UPSERT, newest.values())
            self._db.executemany("INSERT OR IGNORE INTO pins (victim, killer) VALUES (?, ?)", sorted(pins))
            self._write_segments(map(segment_row, changed.values()))
            self._db.execute("UPDATE meta SET value = ? WHERE name = 'sequence'", (sequence,))
        self.sequence = sequence

    def _conflicts(self, rows: Iterable[Row]) -> list[Row]:
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS incoming (chunk INTEGER, idx INTEGER)")
        self._db.execute("DELETE FROM incoming")
        self._db.executemany("INSERT INTO incoming (chunk, idx) VALUES (?, ?)", (row[:2] for row in rows))
        sql = f"SELECT {_COLUMNS} FROM incoming JOIN shards USING (chunk, idx) ORDER BY chunk, idx"
        return [Row._make(row) for row in self._db.execute(sql)]

    def complete(self) -> None:
        """All segments were read: entries of dropped shards have done their work."""
        with self._transaction():  # SQLite writes nothing if these change nothing
            self._db.execute("DELETE FROM shards WHERE state > 0 AND state = 2")
            self._db.execute("UPDATE meta SET value = 1 WHERE name = 'complete' AND value = 0")

    def give_back_room(self) -> None:
        """Bring everything into the database file, and cut the WAL to nothing."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._db.close()


def _connect(disk: Disk, wal_pages: int) -> apsw.Connection:
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
