"""Volumes of the catalog, written from a stopped master's database by other code than the master's."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    CLUSTER,
    DIRECTORY,
    FILE,
    INODES,
    LIVE,
    META,
    NAMES,
    PAGES,
    ChunkRow,
    InodeRow,
    MetaRow,
    NameRow,
    PageRow,
)  # fmt: skip
from dsa_zmq.master.catalog.tables import LOGGED as KEPT
from dsa_zmq.model.manifest import pack_page
from dsa_zmq.model.records import (
    BEGIN,
    CHANGES,
    END,
    NO_HASH,
    ROWS,
    VOLUME_FORMAT,
    Record,
    VolumeEnd,
    VolumeHead,
    cut,
    pack_runs,
    seal,
)

ROW_BYTES = 150  #: about: how rows are cut into records
RECORD_BYTES = 3000
SECOND = 1_000_000_000

State = dict[str, dict[Any, Any]]
"""Table -> key -> row."""


def state_of(catalog: Path) -> State:
    """All rows of a catalog whose master is stopped; nothing is changed there."""
    with tempfile.TemporaryDirectory() as scratch:
        for suffix in ("", "-wal"):
            if Path(f"{catalog}{suffix}").exists():
                shutil.copyfile(f"{catalog}{suffix}", f"{scratch}/c{suffix}")
        database = apsw.Connection(f"{scratch}/c")
        state = {
            table.name: {
                row[: table.width]: row for row in database.execute(f"SELECT {table.columns} FROM {table.name}")
            }
            for table in KEPT
        }
        database.close()
        return state


class Chronicle:
    """The log of one catalog, from state to state, and the volumes that were begun meanwhile."""

    def __init__(self, state: State, *, position: int = 100, term: int = 1) -> None:
        self.state = state
        self.position, self.hash, self.term, self.wall_ns = position, NO_HASH, term, 1_000 * SECOND
        self.log: list[Record] = []

    def change(self, state: State, *, transactions: int = 1) -> None:
        """What leads to this state, as so many transactions."""
        runs: list[tuple[str, list[Any], list[Any]]] = []
        for name, rows in state.items():
            old = self.state[name]
            new = [row for key, row in rows.items() if old.get(key) != row]
            gone = [key for key in old if key not in rows]
            runs += [(name, [row], []) for row in new] + [(name, [], [key]) for key in gone]
        size = -(-len(runs) // transactions)
        for start in range(0, len(runs), size or 1):
            self.wall_ns += SECOND
            self._seal(runs[start : start + size])
        self.state = state

    def _seal(self, runs: list[Any]) -> None:
        for half, ends in ((runs[: len(runs) // 2], False), (runs[len(runs) // 2 :], True)):
            self.position += 1
            record = seal(CHANGES, self.position, self.term, self.wall_ns, self.hash, pack_runs(half), ends=ends)
            self.hash = record.hash
            self.log.append(record)

    def snapshot(self, number: int = 1) -> list[Record]:
        """The parts of a volume that is begun and completed now."""
        self.wall_ns += SECOND
        cluster = self.state[META.name][CLUSTER,][2]
        head = VolumeHead(VOLUME_FORMAT, cluster.hex(), number, schema.NEWEST_FORMAT, self.position, "test")
        parts = [seal(BEGIN, 0, self.term, self.wall_ns, self.hash, msgspec.json.encode(head))]
        total = 0
        for name, kept in self.state.items():
            rows = list(kept.values())
            total += len(rows)
            for first, end in cut([ROW_BYTES] * len(rows), RECORD_BYTES):
                body = pack_runs([(name, rows[first:end], [])])
                parts.append(seal(ROWS, len(parts), self.term, self.wall_ns, parts[-1].hash, body))
        body = msgspec.json.encode(VolumeEnd(self.position, total))
        parts.append(seal(END, len(parts), self.term, self.wall_ns, parts[-1].hash, body))
        return parts


def data_of(*records: list[Record]) -> bytes:
    return b"".join(record.data for some in records for record in some)


def put_volume(node: Path, data: bytes, number: int = 1) -> Path:
    """Into a node's directory, with room behind it, as nodes preallocate."""
    (node / "catalog").mkdir(exist_ok=True)
    path = node / "catalog" / f"{number:016x}.volume"
    path.write_bytes(data + bytes(10_000))
    return path


def large_volume(files: int, cluster: bytes) -> Iterator[bytes]:
    """A volume with so many files of one chunk in directories of a thousand, record by record."""
    directories = -(-files // 1000)
    ids = range(1 << 40, (1 << 40) + directories)

    def tables() -> Iterator[tuple[str, Iterator[Any]]]:
        yield META.name, iter([MetaRow(CLUSTER, 0, cluster)])
        yield NAMES.name, (NameRow(1, f"directory-{number}", LIVE, 1, number, DIRECTORY) for number in ids)
        yield INODES.name, iter([InodeRow(1, DIRECTORY, 0o755, 1, "copies=2")])
        yield INODES.name, (InodeRow(number, DIRECTORY, 0o755, 1, "") for number in ids)
        start = 1 << 41
        yield (
            NAMES.name,
            (
                NameRow(ids[number // 1000], f"file-{number:010d}.bin", LIVE, 1, start + number, FILE)
                for number in range(files)
            ),
        )
        yield (
            INODES.name,
            (
                InodeRow(start + number, FILE, 0o644, 1, "copies=2", 1, start + number, 100, 1, 1 << 20, 1, 1)
                for number in range(files)
            ),
        )
        yield PAGES.name, (PageRow(start + number, 0, pack_page([start + number])) for number in range(files))
        yield (
            CHUNKS.name,
            (ChunkRow(start + number, 100, number.to_bytes(32, "big"), "copies=2", 1) for number in range(files)),
        )

    head = VolumeHead(VOLUME_FORMAT, cluster.hex(), 1, schema.NEWEST_FORMAT, 1, "test")
    last, total = seal(BEGIN, 0, 1, SECOND, NO_HASH, msgspec.json.encode(head)), 0
    yield last.data
    for name, rows in tables():
        while part := list(itertools.islice(rows, 1000)):
            total += len(part)
            last = seal(ROWS, last.position + 1, 1, SECOND, last.hash, pack_runs([(name, part, [])]))
            yield last.data
    yield seal(END, last.position + 1, 1, SECOND, last.hash, msgspec.json.encode(VolumeEnd(1, total))).data
