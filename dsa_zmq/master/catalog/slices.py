"""Snapshots: how a volume begins, and the slices in which the rows of the catalog are read for it.

The catalog goes on changing while it is read. That does no harm, because records hold images: a row that changes after it
was read is in the log, and so is one that was read too late. What has to be right is where the log begins and from where on
it suffices:

* BEGIN names the position before the transaction in which it was made, and that comes before all slices: whatever changes
  from there on is in the volume's log.
* A slice shows the rows as they were when its transaction began: it is read before any other job of its batch writes. So
  with the last row read, the catalog can be made as of the position before that transaction: that is END's.

Rows are walked by key, table by table; keys compare as in the database: numbers by size, text by its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dsa_zmq.errors import Conflict
from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.log import Log
from dsa_zmq.master.catalog.log_jobs import BeginVolume, Slice, TakeSlice, VolumeBegun
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import LOGGED, META, NOT_LOGGED, VOLUME, Table
from dsa_zmq.model.records import (
    BEGIN,
    BODY_BYTES,
    END,
    ROWS,
    VOLUME_FORMAT,
    Record,
    Run,
    VolumeEnd,
    VolumeHead,
    pack_runs,
    seal,
)

SLICE_ROWS = 5000  #: read by one job at most: some 10 ms
PORTION = 100  #: rows of one query

_encode = msgspec.msgpack.Encoder().encode


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a snapshot goes on."""

    table: int = 0  #: in LOGGED
    after: tuple[Any, ...] | None = None  #: key of the last row that was read of it
    rows: int = 0  #: so far


def begin_volume(rows: Rows, facts: Facts, log: Log, job: BeginVolume) -> VolumeBegun:
    """The next volume is this one. Its log goes on behind what is committed."""
    volume = rows.new_id()
    rows.set_number(VOLUME, volume)
    head = VolumeHead(VOLUME_FORMAT, facts.cluster.hex(), volume, schema.NEWEST_FORMAT, log.position, job.software)
    body = msgspec.json.encode(head)
    begin = seal(BEGIN, 0, facts.term, log.hear(job.wall_ns), log.hash, body)
    return VolumeBegun(volume, log.position, begin.data)


def take_slice(rows: Rows, facts: Facts, log: Log, database: Database, job: TakeSlice) -> Slice:
    """The next rows, as they were before this transaction. Conflict if another volume was begun since."""
    if job.volume != rows.number(VOLUME):
        raise Conflict(f"volume {job.volume} is not the one that is being made", "begin another one")
    cursor = msgspec.msgpack.decode(job.cursor, type=_Cursor) if job.cursor else _Cursor()
    cursor, packed = _read(database, cursor, job.limit)
    wall_ns, part, previous = log.hear(job.wall_ns), job.part, job.previous
    records: list[bytes] = []

    def add(kind: int, body: bytes) -> None:
        nonlocal part, previous
        record: Record = seal(kind, part, facts.term, wall_ns, previous, body)
        records.append(record.data)
        part, previous = part + 1, record.hash

    for runs in _bodies(packed):
        add(ROWS, pack_runs(runs))
    if cursor.table < len(LOGGED):
        return Slice(records, _encode(cursor), part, previous)
    add(END, msgspec.json.encode(VolumeEnd(log.position, cursor.rows)))
    return Slice(records, b"", part, previous)


def _read(database: Database, cursor: _Cursor, limit: int) -> tuple[_Cursor, list[tuple[str, bytes]]]:
    """(table, row) from there on, rows encoded: at most ``limit`` bytes of them, one at least."""
    at, after, packed, size = cursor.table, cursor.after, list[tuple[str, bytes]](), 0
    while at < len(LOGGED):
        table = LOGGED[at]
        found = database.execute(*walk(table, after, PORTION))
        for row in found:
            if table is not META or row[0] not in NOT_LOGGED:
                each = _encode(row)
                if packed and (size + len(each) > limit or len(packed) == SLICE_ROWS):
                    return _Cursor(at, after, cursor.rows + len(packed)), packed
                packed.append((table.name, each))
                size += len(each)
            after = row[: table.width]
        if len(found) < PORTION:
            at, after = at + 1, None
    return _Cursor(at, after, cursor.rows + len(packed)), packed


def walk(table: Table[Any, Any], after: tuple[Any, ...] | None, limit: int) -> tuple[str, tuple[Any, ...]]:
    """The query for the next rows by key, and its values. Comparing whole keys is a range of the primary key's tree."""
    key = ", ".join(table.columns.split(", ")[: table.width])
    if after is None:
        return f"SELECT {table.columns} FROM {table.name} ORDER BY {key} LIMIT ?", (limit,)
    marks = ", ".join("?" * table.width)
    where = f"({key}) > ({marks})"
    return f"SELECT {table.columns} FROM {table.name} WHERE {where} ORDER BY {key} LIMIT ?", (*after, limit)


def _bodies(packed: Sequence[tuple[str, bytes]]) -> list[list[Run]]:
    """Rows of one record each."""
    bodies: list[list[Run]] = []
    size = BODY_BYTES
    for name, row in packed:
        if size + len(row) > BODY_BYTES:
            bodies.append([])
            size = 0
        runs = bodies[-1]
        if not runs or runs[-1][0] != name:
            runs.append((name, [], []))
        runs[-1][1].append(msgspec.Raw(row))
        size += len(row)
    return bodies
