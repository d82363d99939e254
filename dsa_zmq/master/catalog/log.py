"""The catalog's log: what each transaction changed, as records, kept in the same transaction. See dsa_zmq.model.records.

While copies of the catalog are kept, a transaction ends with its changes being *sealed*: the images of the rows that it
leaves behind, table by table, in one record or several, that name the hash of the one before them. They lie in the table
``log`` until all who are to have them have them. So log and rows cannot disagree, whatever happens to the process.

Three things are in no record: tables that are derived from others, since they are counted anew; the log itself; and what
``meta`` says of it. A transaction that changed nothing else leaves none.

**A break.** Rows may change past the log: while it is switched off, by a migration, or in a catalog that was made from
copies. What nodes hold does not lead to these rows then, and must never pass for it. So ``volume`` in ``meta`` is 0 from
then on, and the first record behind the break leaves one position out: it follows no record that anybody holds, and a new
volume has to be begun.

**Time.** The catalog has no clock. A record's wall time is the latest that any job has brought so far, and never less than
that of the record before. It is late by as much as jobs without a time (what the master does by itself) are alone: clients'
requests and each slice of the garbage collection bring one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from dsa_zmq.master.catalog.log_jobs import LogState
from dsa_zmq.master.catalog.rows import Change
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import DERIVED, META, NOT_LOGGED, TABLES
from dsa_zmq.model.records import BODY_BYTES, CHANGES, NO_HASH, Record, Run, cut, pack_runs, seal

COLUMNS = "position, hash, wall_ns, ends, body"
TRIM_BYTES = 4 << 20  #: removed by one job: a thousand pages have to be looked at to set them free, some ms
TRIM_ROWS = 1000
READ_ROWS = 1000  #: read by one job at most

INSERT = f"INSERT INTO log ({COLUMNS}) VALUES (?, ?, ?, ?, ?)"
_LAST = "SELECT position, hash, wall_ns FROM log ORDER BY position DESC LIMIT 1"
_EXTENT = "SELECT MIN(position), SUM(LENGTH(body)) FROM log"
_SIZES_FROM = "SELECT position, LENGTH(body) FROM log WHERE position >= ? ORDER BY position LIMIT ?"
_SIZES_BELOW = "SELECT position, LENGTH(body) FROM log WHERE position < ? ORDER BY position LIMIT ?"
_BODIES = "SELECT body FROM log WHERE position >= ? AND position <= ? ORDER BY position"
_TRIM = "DELETE FROM log WHERE position <= ?"

_WITHOUT = frozenset(table.name for table in DERIVED)
_SCALAR = frozenset(table.name for table in TABLES if table.width == 1)  #: their keys are no tuples
_encode = msgspec.msgpack.Encoder().encode


class LogRow(NamedTuple):
    """A row of ``log``. Not among the catalog's tables: it is written once, read in order, and never an image itself."""

    position: int
    hash: bytes
    wall_ns: int
    ends: int  #: 1: a transaction ends with it
    body: bytes  #: the whole record


class _Extent(NamedTuple):
    """Which records there are."""

    position: int  #: of the last
    hash: bytes
    wall_ns: int
    first: int  #: of the first that is still there; ``position`` + 1 if none is
    size: int  #: bytes of all


class Log:
    """One for each open catalog. Between :meth:`begin` and :meth:`committed` a transaction is open, whose changes to the log
    are forgotten if it is not committed. ``term``: of the records that it seals."""

    def __init__(self, database: Database, term: int) -> None:
        self._database = database
        self._term = term
        self._there = _load(database)  #: as committed
        self._next = self._there  #: as this transaction leaves it
        self._sealed: list[bytes] = []
        self._wall_ns = self._there.wall_ns  #: the latest that was heard of

    @property
    def position(self) -> int:
        """Of the last record that is committed; 0: there was none ever."""
        return self._there.position

    @property
    def hash(self) -> bytes:
        """Of that record."""
        return self._there.hash

    def begin(self) -> None:
        """A transaction begins."""
        self._next = self._there
        self._sealed = []

    def hear(self, wall_ns: int) -> int:
        """A job brought this time. Returns the log's."""
        self._wall_ns = max(self._wall_ns, wall_ns)
        return self._wall_ns

    def seal(self, changes: Sequence[Change], *, after_break: bool = False) -> None:
        """Keep what the open transaction has changed. It is the last that is written in it."""
        runs = gather(changes)
        if not runs:
            return
        last = self._next
        position, previous, size = last.position, last.hash, last.size
        first = last.first
        if after_break:  # what lies before it leads nowhere any more
            self._database.apply(_TRIM, [(position,)])
            position, size = position + 1, 0
            first = position + 1
        bodies = list(pack(runs))
        records: list[Record] = []
        for number, body in enumerate(bodies, 1):
            position += 1
            ends = number == len(bodies)
            records.append(seal(CHANGES, position, self._term, self._wall_ns, previous, body, ends=ends))
            previous = records[-1].hash
            size += len(records[-1].data)
        self._database.apply(
            INSERT, [LogRow(each.position, each.hash, each.wall_ns, each.ends, each.data) for each in records]
        )
        self._next = _Extent(position, previous, self._wall_ns, first, size)
        self._sealed = [each.data for each in records]

    def committed(self) -> tuple[bytes, ...]:
        """The transaction is durable. Returns its records."""
        self._there = self._next
        return tuple(self._sealed)

    # --- reading and trimming: inside a transaction, before its own changes are sealed ------------------------------

    def state(self, volume: int, restored_ns: int) -> LogState:
        """Where it is, without what this transaction is about to add."""
        there = self._next
        return LogState(there.position, there.hash, there.first, there.size, volume, restored_ns)

    def read(self, first: int, limit: int) -> list[bytes]:
        """Records from that position on: at most ``limit`` bytes of them, one at least; [] if that one is not there."""
        last, size = 0, 0
        for position, length in self._database.execute(_SIZES_FROM, (first, READ_ROWS)):
            if (position != first) if not last else (size + length > limit):
                break
            last, size = position, size + length
        return [row[0] for row in self._database.execute(_BODIES, (first, last))] if last else []

    def trim(self, below: int) -> bool:
        """Remove some of the records below that position, the oldest first, and never the last of all. Whether there are
        more of them."""
        below = min(below, self._next.position)
        found = self._database.execute(_SIZES_BELOW, (below, TRIM_ROWS))
        if not found:
            return False
        last, size = 0, 0
        for position, length in found:
            last, size = position, size + length
            if size >= TRIM_BYTES:
                break
        self._database.apply(_TRIM, [(last,)])
        self._next = self._next._replace(first=last + 1, size=self._next.size - size)
        return last + 1 < below

    def forget(self) -> None:
        """The log is switched off: nobody will have use for what is there, but for the last record, which the next names."""
        there = self._next
        self._database.apply(_TRIM, [(there.position - 1,)])
        self._next = _load(self._database)

    def __repr__(self) -> str:
        there = self._there
        return f"<Log up to {there.position}, from {there.first} on: {there.size} bytes>"


def gather(changes: Iterable[Change]) -> list[Run]:
    """What a transaction's changes come to: of each row its last image. It counts as a whole or not at all, so the order
    among its changes says nothing any more, and a key is either among the rows or among those removed."""
    tables: dict[str, dict[Any, Any]] = {}
    for name, key, row in changes:
        images = tables.get(name)
        if images is None:
            images = tables[name] = {}
        images[key] = row
    for name in tables.keys() & _WITHOUT:
        del tables[name]
    if META.name in tables:
        of_meta = tables[META.name]
        for name in of_meta.keys() & NOT_LOGGED:
            del of_meta[name]
        if not of_meta:
            del tables[META.name]
    return [(name, *_split(name in _SCALAR, images)) for name, images in tables.items()]


def _split(scalar: bool, images: dict[Any, Any]) -> tuple[list[Any], list[Any]]:
    """Rows, and keys of removed ones."""
    rows = [row for row in images.values() if row is not None]
    if len(rows) == len(images):
        return rows, []
    return rows, [(key,) if scalar else key for key, row in images.items() if row is None]


def pack(runs: Sequence[Run]) -> Iterable[bytes]:
    """The bodies of their records: one, unless they are large."""
    body = pack_runs(runs)
    if len(body) <= BODY_BYTES:
        yield body
        return
    items = [(name, False, row) for name, rows, _ in runs for row in rows]
    items += [(name, True, key) for name, _, keys in runs for key in keys]
    packed = [_encode(item[2]) for item in items]
    for first, end in cut([len(each) for each in packed]):
        parts: dict[str, tuple[list[Any], list[Any]]] = {}
        for (name, removed, _), each in zip(items[first:end], packed[first:end], strict=True):
            parts.setdefault(name, ([], []))[removed].append(msgspec.Raw(each))
        yield pack_runs([(name, rows, keys) for name, (rows, keys) in parts.items()])


def _load(database: Database) -> _Extent:
    last = database.execute(_LAST)
    if not last:
        return _Extent(0, NO_HASH, 0, 1, 0)
    [(first, size)] = database.execute(_EXTENT)
    position, digest, wall_ns = last[0]
    return _Extent(position, digest, wall_ns, first, size)
