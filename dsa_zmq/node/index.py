"""Where each shard lies, in SQLite: derived from the segments, and rebuilt from them whenever it is in doubt.

Commits are atomic but not waited for (WAL, ``synchronous=NORMAL``): after a power loss the index is as of some earlier
commit, and each segment's ``end`` says from where its records have to be read again. So an entry is only ever made for
bytes that are durable already.

*Pins* keep the dead dead. If segment K holds the record that superseded a put in segment V (a drop, or a newer put), K
must not be unlinked before V is: a rebuild would find the old put and believe it.

*Buckets* are the level 0 of :mod:`dsa_zmq.model.inventory`: how many good shards of a range of chunk ids there are, and
their digest. They change in the transaction that changes the shards.

All methods need the caller's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import apsw

from actors.disk import Disk
from dsa_zmq.model.inventory import bucket_of, shard_digest
from dsa_zmq.node.index_file import PATH, SCHEMA, SCHEMA_VERSION, IndexDamaged, connect, remove
from dsa_zmq.node.segments import DROP, PUT, Record, record_bytes
from dsa_zmq.node.store import ShardInfo, ShardKey

GOOD, DAMAGED, GONE = 0, 1, 2  #: states of a row; GONE only while segments are being read
DROPS_PER_COMMIT = 1000  #: bounds the growth of the WAL while a full disk is being emptied

# Queries repeat the condition of that index word for word: only then does SQLite use it.
_COLUMNS = "chunk, idx, segment, offset, length, chunk_length, sequence, hash, state"
_FIND = f"SELECT {_COLUMNS} FROM shards WHERE chunk = ? AND idx = ?"
_WITHIN = "FROM shards WHERE (chunk, idx) > (?, ?) AND chunk <= ? AND state = 0 ORDER BY chunk, idx LIMIT ?"
_UPSERT = f"INSERT OR REPLACE INTO shards ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# SQLite has no XOR: what either has, less what both have.
_SHIFT = """
INSERT INTO buckets (bucket, shards, digest) VALUES (?, ?, ?) ON CONFLICT (bucket) DO UPDATE SET
    shards = shards + excluded.shards, digest = (digest | excluded.digest) - (digest & excluded.digest)
"""
_MARK = "mark "  #: before the names of marks in the table of meta data


@dataclass(slots=True)
class SegmentState:
    """What is known of one segment."""

    number: int
    generation: int
    size: int  #: bytes of the file
    sealed: bool = False  #: nothing is appended any more
    end: int = 0  #: where the next record goes; in the index: everything before it is there
    live: int = 0  #: shards whose newest record lies here, damaged ones included
    live_bytes: int = 0  #: of their records
    written: int = 0  #: bytes of all records
    drops: int = 0  #: how many of them say that a shard is gone

    def count(self, kind: int, length: int) -> None:
        """A record was added, with so much payload."""
        self.written += record_bytes(length)
        self.drops += kind != PUT

    def gain(self, row: Row) -> None:
        """That record here is the newest of its shard."""
        self.live += 1
        self.live_bytes += record_bytes(row.length)

    def lose(self, row: Row) -> None:
        """That record here is not the newest of its shard any more."""
        self.live -= 1
        self.live_bytes -= record_bytes(row.length)


SegmentRow = tuple[int, bytes, int, int, int, int, int, int, int]
"""A row of the table of segments."""


def segment_row(state: SegmentState) -> SegmentRow:
    """A segment as it is now."""
    generation = state.generation.to_bytes(8, "little")
    return (
        state.number, generation, state.size, int(state.sealed), state.end, state.live, state.live_bytes, state.written,
        state.drops,
    )  # fmt: skip


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
        self._db = connect(disk, wal_pages)
        self._finder = self._db.cursor()  # kept: a new one costs as much as the look-up
        try:
            meta = dict(cast("Iterable[tuple[str, int]]", self._db.execute("SELECT name, value FROM meta")))
            if (version := meta.get("version")) != SCHEMA_VERSION:
                raise IndexDamaged(f"it has version {version}, this build uses version {SCHEMA_VERSION}")
            if not meta.get("complete"):
                raise IndexDamaged("it is incomplete")
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
        self._db = connect(disk, wal_pages)
        self._finder = self._db.cursor()
        try:
            self._db.execute(SCHEMA)
            with self._transaction():
                rows = [("version", SCHEMA_VERSION), ("complete", 0), ("sequence", 0), ("syncs", 0)]
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

    def within(self, after: ShardKey, last: int, limit: int) -> list[ShardInfo]:
        """As :meth:`page`, of chunks up to ``last``."""
        sql = f"SELECT {_COLUMNS} {_WITHIN}"
        return [Row._make(row).info for row in self._db.execute(sql, (*after, last, limit))]

    def keys(self, after: ShardKey, last: int, limit: int) -> list[tuple[int, int]]:
        """The same, keys alone."""
        sql = f"SELECT chunk, idx {_WITHIN}"
        return list(self._db.execute(sql, (*after, last, limit)))

    def buckets(self) -> dict[int, int]:
        """The digest of each bucket of level 0 that is not empty."""
        return dict(self._db.execute("SELECT bucket, digest FROM buckets ORDER BY bucket"))

    def marks(self) -> dict[str, int]:
        """What :meth:`mark` was told, by name."""
        found = cast("Iterable[tuple[str, int]]", self._db.execute("SELECT name, value FROM meta ORDER BY name"))
        return {name.removeprefix(_MARK): value for name, value in found if name.startswith(_MARK)}

    def damaged(self, after: ShardKey, limit: int) -> list[ShardInfo]:
        """Quarantined shards behind ``after``, in key order."""
        condition = "state > 0 AND state = 1 AND (chunk, idx) > (?, ?)"
        sql = f"SELECT {_COLUMNS} FROM shards WHERE {condition} ORDER BY chunk, idx LIMIT ?"
        return [Row._make(row).info for row in self._db.execute(sql, (*after, limit))]

    def damaged_count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM shards WHERE state > 0 AND state = 1").get)

    def damaged_segments(self) -> set[int]:
        """Where quarantined shards lie."""
        return {
            number
            for (number,) in self._db.execute("SELECT DISTINCT segment FROM shards WHERE state > 0 AND state = 1")
        }

    def segments(self) -> list[SegmentState]:
        sql = "SELECT number, generation, size, sealed, end, live, live_bytes, written, drops FROM segments ORDER BY number"
        try:
            return [
                SegmentState(number, int.from_bytes(generation, "little"), size, bool(sealed), *counts)
                for number, generation, size, sealed, *counts in self._db.execute(sql)
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
        dead: Sequence[ShardKey] = (), pins: Sequence[tuple[int, int]] = (),
    ) -> None:  # fmt: skip
        """Good rows as they are now, the keys of those that they replace and of those that are there no more, and the
        segments that this changed. ``sequence`` is that of the newest record. A repeat changes nothing."""
        with self._transaction():
            self._db.execute("UPDATE meta SET value = ?1 WHERE name = 'sequence' AND value < ?1", (sequence,))
            if rows or dead:
                if not self._db.changes():
                    return  # digests would not bear it twice
                lost: list[tuple[int, int]] = []
                if dead:
                    delete = "DELETE FROM shards WHERE chunk = ? AND idx = ? RETURNING chunk, idx, state"
                    lost = [
                        (chunk, index) for chunk, index, state in self._db.executemany(delete, dead) if state == GOOD
                    ]
                self._db.executemany(_UPSERT, rows)
                self._shift_buckets(rows, lost)
            if pins:
                self._db.executemany("INSERT OR IGNORE INTO pins (victim, killer) VALUES (?, ?)", pins)
            self._write_segments(segments)
        self.sequence = max(self.sequence, sequence)

    def _write_segments(self, segments: Iterable[SegmentRow]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", segments)

    def _shift_buckets(self, gained: Iterable[Row | tuple[int, int]], lost: Sequence[tuple[int, int]]) -> None:
        """Good shards that the buckets do not count yet, and such that they still count."""
        shifts: dict[int, list[int]] = {}
        for step, keys in ((1, gained), (-1, lost)):
            for key in keys:
                shift = shifts.setdefault(bucket_of(key[0], 0), [0, 0])
                shift[0] += step
                shift[1] ^= shard_digest(key[0], key[1])
        self._db.executemany(_SHIFT, [(bucket, *shift) for bucket, shift in sorted(shifts.items())])
        if lost:
            self._db.execute("DELETE FROM buckets WHERE shards = 0")

    def quarantine(self, row: Row) -> None:
        """Mark a shard as damaged, if its entry is still this one."""
        sql = "UPDATE shards SET state = 1 WHERE chunk = ? AND idx = ? AND segment = ? AND offset = ? AND state = 0"
        with self._transaction():
            self._db.execute(sql, (row.chunk, row.index, row.segment, row.offset))
            if self._db.changes():
                self._shift_buckets((), [(row.chunk, row.index)])

    def mark(self, values: Mapping[str, int]) -> None:
        """Keep numbers by name, in place of those of the same names."""
        rows = [(_MARK + name, value) for name, value in values.items()]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", rows)

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
        lost: list[tuple[int, int]] = []
        changed = {state.number: state}
        with self._transaction():
            for earlier in self._conflicts(newest.values()):
                row = newest[earlier[:2]]
                winner, loser = (earlier, row) if earlier.sequence > row.sequence else (row, earlier)
                if loser.state != GONE and winner.segment != loser.segment:
                    pins.add((loser.segment, winner.segment))
                if winner is earlier:
                    del newest[row[:2]]
                    continue
                if loser.state != GONE:
                    states[loser.segment].lose(loser)
                    changed[loser.segment] = states[loser.segment]
                if loser.state == GOOD:
                    lost.append(loser[:2])
            for row in newest.values():
                if row.state != GONE:
                    state.gain(row)
            for row in rows:
                state.count(DROP if row.state == GONE else PUT, row.length)
            self._db.executemany(_UPSERT, newest.values())
            self._shift_buckets([row for row in newest.values() if row.state == GOOD], lost)
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

    def sync(self) -> None:
        """Return when all that was committed is durable. Only before a file goes: nothing else waits for the index."""
        self._db.execute("PRAGMA synchronous=FULL").fetchall()
        try:
            with self._transaction():  # a commit that changed nothing would sync nothing
                self._db.execute("UPDATE meta SET value = value + 1 WHERE name = 'syncs'")
        finally:
            self._db.execute("PRAGMA synchronous=NORMAL").fetchall()

    def give_back_room(self) -> None:
        """Bring everything into the database file, and cut the WAL to nothing."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._db.close()
