"""Which segment files have which shards: made of the headers in all of them, kept in a file, since there may be millions.

Every put that is still on a disk counts, also one that a later record superseded or dropped: ids of chunks are never used
twice, so bytes that have the hash which the catalog wants are the right ones, wherever and however old they are.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw
from blake3 import blake3

from actors.disk import OsFile
from dsa_zmq.errors import DSAError
from dsa_zmq.node.segment_search import records_of
from dsa_zmq.node.segments import PUT, Record, read_anyway
from dsa_zmq.salvage.sources import NodeDirectory

OPEN_FILES = 64  #: segments kept open: far below the usual limit of 1,024 a process
ROWS = 10_000  #: put into the map at once
_LARGEST = (1 << 63) - 1  #: a signed SQL integer; no chunk id is larger

_SCHEMA = """
CREATE TABLE shards (chunk INTEGER, idx INTEGER, file INTEGER, offset INTEGER, length INTEGER, hash BLOB,
    PRIMARY KEY (chunk, idx, file, offset)) WITHOUT ROWID
"""
_INSERT = "INSERT OR IGNORE INTO shards VALUES (?, ?, ?, ?, ?, ?)"
_FIND = "SELECT idx, file, offset, length, hash FROM shards WHERE chunk = ? ORDER BY idx, file, offset"


class Found(NamedTuple):
    """A shard's bytes, as a header tells of them."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    file: int
    offset: int  #: of the payload
    length: int
    hash: bytes  #: of the payload, as it was when it was written


class ShardMap:
    """All shards in a set of node directories, and their bytes."""

    def __init__(self, database: apsw.Connection, nodes: Sequence[NodeDirectory]) -> None:
        """``database`` is an empty one, ours from now on."""
        self._database = database
        self._files = [(node, path) for node in nodes for path in node.segments]
        self._open: OrderedDict[int, OsFile] = OrderedDict()  # the longest unused first
        self.shards = 0
        self._troubles: dict[tuple[Path, str], tuple[str, set[int]]] = {}  # (node, why) -> the first file, all of them
        database.execute(_SCHEMA)

    @property
    def notes(self) -> list[str]:
        """Files that could not be read, or not wholly."""
        return [
            f"{node / first}: {why}" + (f" (and {len(files) - 1:,} more like it)" if len(files) > 1 else "")
            for (node, why), (first, files) in self._troubles.items()
        ]

    @property
    def files(self) -> int:
        """How many segments there are to scan."""
        return len(self._files)

    def scan(self) -> Iterator[int]:
        """Read the headers of all segments; the number of shards so far, after each."""
        for number in range(len(self._files)):
            try:
                self._take_in(number)
            except (OSError, DSAError) as error:
                self._note(number, error)
            self._close(number)
            yield self.shards

    def _take_in(self, number: int) -> None:
        node, path = self._files[number]
        rows = (
            (record.chunk, record.index, number, record.payload_offset, record.length, record.hash)
            for record in _puts(records_of(self._borrow(number), str(node.path / path)))
        )
        with self._database:
            while part := list(itertools.islice(rows, ROWS)):
                self._database.executemany(_INSERT, part)
                self.shards += len(part)

    def find(self, chunk: int) -> list[Found]:
        """Where there are shards of this chunk, by index."""
        return list(map(Found._make, self._database.execute(_FIND, (chunk,))))

    def read(self, found: Found) -> bytes | None:
        """The bytes of a shard, if they are as they were written."""
        try:
            data = read_anyway(self._borrow(found.file), found.length, found.offset)
        except OSError as error:  # unlinked by a node that runs; or a disk that has gone
            self._note(found.file, error)
            return None
        return data if blake3(data).digest() == found.hash else None

    def close_files(self) -> None:
        """Those that are kept open to read on."""
        for number in list(self._open):
            self._close(number)

    def close(self) -> None:
        """Nothing is asked any more."""
        self.close_files()
        self._database.close()

    def _borrow(self, number: int) -> OsFile:
        file = self._open.get(number)
        if file is not None:
            self._open.move_to_end(number)
            return file
        node, path = self._files[number]
        file = self._open[number] = node.disk.open(path, readonly=True)
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def _close(self, number: int) -> None:
        file = self._open.pop(number, None)
        if file is not None:
            file.close()

    def _note(self, number: int, error: OSError | DSAError) -> None:
        node, path = self._files[number]
        why = error.message if isinstance(error, DSAError) else error.strerror or str(error)
        self._troubles.setdefault((node.path, why), (path, set()))[1].add(number)


def _puts(records: Iterable[Record]) -> Iterator[Record]:
    return (record for record in records if record.kind == PUT and record.chunk <= _LARGEST)
