"""The records of the catalog in all volumes that there are, and what can be made of them together.

Copies of a volume are combined: a record that is damaged in one is taken from another. So are volumes: the log is one chain
through all of them, so the snapshot of an older one with the logs of later ones is the newest catalog, too. What lies
behind damage is found again by the magic number of its records, and counts only where the chain of hashes leads to it.

An index of the records is kept in a file; the records themselves are read again from where they lie.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from actors.disk import OsDisk, OsFile
from dsa_zmq.errors import Corrupt, DSAError
from dsa_zmq.model.records import BEGIN, CHANGES, END, MAGIC, Record, VolumeHead, end_of, head_of, read_record
from dsa_zmq.model.volumes import READ_BYTES
from dsa_zmq.node.segments import read_anyway

WINDOW_BYTES = max(4 << 20, READ_BYTES)  #: of a volume in memory
NO_LIMIT = (1 << 63) - 1
_ROWS = 10_000  #: put into the index at once

_SCHEMA = """
CREATE TABLE records (kind INTEGER, number INTEGER, hash BLOB, previous BLOB, ends INTEGER, term INTEGER, wall_ns INTEGER,
    file INTEGER, offset INTEGER, length INTEGER,
    PRIMARY KEY (kind, number, hash, file, offset)) WITHOUT ROWID
"""
_PART, _LOG = 0, 1  #: kinds: of a snapshot, of the log
_INSERT = f"INSERT OR IGNORE INTO records VALUES ({', '.join('?' * 10)})"
_NEXT_PART = f"SELECT hash, term FROM records WHERE kind = {_PART} AND number = ? AND previous = ? LIMIT 1"
_BACKWARDS = (
    f"SELECT DISTINCT number, hash, previous, ends, term, wall_ns FROM records WHERE kind = {_LOG}"
    " ORDER BY number DESC, hash"
)
_FORWARDS = (
    f"SELECT DISTINCT number, hash, previous, term FROM records WHERE kind = {_LOG} AND number > ? AND number <= ?"
    " ORDER BY number, hash"
)
_LATER = f"SELECT COUNT(DISTINCT hash), MAX(wall_ns) FROM records WHERE kind = {_LOG} AND number > ? AND term >= ?"
_IN_TIME = "SELECT DISTINCT kind, number, hash FROM records ORDER BY term, wall_ns, kind, number, hash"
_PLACES = "SELECT file, offset, length FROM records WHERE kind = ? AND number = ? AND hash = ? ORDER BY file, offset"


class End(NamedTuple):
    """Where a log may end: the last record of a transaction."""

    term: int
    position: int
    wall_ns: int


class Base(NamedTuple):
    """A snapshot that is complete and sound."""

    head: VolumeHead
    begin: Record
    whole: int  #: the first position of the log as of which the catalog can be made
    whole_ns: int


class Choice(NamedTuple):
    """A snapshot, and how far the log leads from there."""

    base: Base
    end: End
    turns: dict[tuple[int, bytes], bytes]
    """(position, hash of the record before) -> hash of the one to take, where there are several"""


class RecordMap:
    """All sound records in a set of files."""

    def __init__(self, database: apsw.Connection, files: Sequence[Path]) -> None:
        """``database`` is an empty one, ours from now on."""
        self._database = database
        self._paths = files
        self._open: dict[int, OsFile] = {}
        self._begins: dict[bytes, Record] = {}
        self._ends: dict[bytes, Record] = {}
        self.notes: list[str] = []  #: what is damaged
        self.bytes = 0  #: of all records, copies included
        database.execute(_SCHEMA)

    @property
    def clusters(self) -> set[str]:
        """Whose catalogs these are, in hexadecimal."""
        return {head_of(begin).cluster for begin in self._begins.values()}

    def close(self) -> None:
        """Close all files."""
        for file in self._open.values():
            file.close()
        self._database.close()

    # --- reading all ------------------------------------------------------------------------------------------------

    def scan(self) -> None:
        """Read all files."""
        for number, path in enumerate(self._paths):
            try:
                self._open[number] = OsDisk(path.parent).open(path.name, readonly=True)
                self._take_in(number, path)
            except OSError as error:
                self.notes.append(f"{path}: {error.strerror or error}")

    def _take_in(self, number: int, path: Path) -> None:
        end = gaps = 0
        rows: list[tuple[Any, ...]] = []
        for offset, record in sound_records(self._open[number]):
            gaps += offset > end
            end = offset + len(record.data)
            self.bytes += len(record.data)
            try:
                row = self._row(record)
            except DSAError as error:  # a BEGIN or END that only other software can read
                self.notes.append(f"{path}: {error.message}")
                continue
            if row is not None:
                rows.append((*row, number, offset, len(record.data)))
            if len(rows) >= _ROWS:
                self._insert(rows)
        self._insert(rows)
        if gaps:
            where = "one place" if gaps == 1 else f"{gaps} places"
            self.notes.append(f"{path} is damaged in {where}; what lies behind counts where it can be joined")

    def _row(self, record: Record) -> tuple[Any, ...] | None:
        if record.kind == BEGIN:
            head_of(record)
            self._begins[record.hash] = record
            return None
        if record.kind == END:
            end_of(record)
            self._ends[record.hash] = record
        kind = _LOG if record.kind == CHANGES else _PART
        return kind, record.position, record.hash, record.previous, record.ends, record.term, record.wall_ns

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        with self._database:
            self._database.executemany(_INSERT, rows)
        rows.clear()

    # --- choosing ---------------------------------------------------------------------------------------------------

    def choose(self, at_ns: int = NO_LIMIT) -> Choice | None:
        """The newest catalog that can be made, as of that moment or before; None if there is none. Of the logs of two
        masters that of the higher term is the truth."""
        bases = self._bases()
        ends, turns = self._ends_from(bases, at_ns)
        usable = [(end, base) for base, end in zip(bases, ends, strict=True) if end and end.position >= base.whole]
        if not usable:
            return None
        end, base = max(usable, key=lambda pair: (pair[0], pair[1].head.position))
        return Choice(base, end, turns)

    def moments(self) -> list[tuple[int, int]]:
        """From when to when the catalog can be had, by each snapshot, the oldest first."""
        bases = self._bases()
        ends, _ = self._ends_from(bases, NO_LIMIT)
        pairs = zip(bases, ends, strict=True)
        return sorted((base.whole_ns, end.wall_ns) for base, end in pairs if end and end.position >= base.whole)

    def beyond(self, choice: Choice) -> tuple[int, int]:
        """How many later changes are there that cannot be joined to the choice, and when the last of them was made."""
        [(count, wall_ns)] = self._ask(_LATER, (choice.end.position, choice.end.term))
        return count, wall_ns or 0

    def _bases(self) -> list[Base]:
        bases = []
        for begin in self._begins.values():
            last = begin.hash
            for _, digest, _ in self._parts(begin):
                last = digest
            if (end := self._ends.get(last)) is not None:
                bases.append(Base(head_of(begin), begin, end_of(end).position, end.wall_ns))
        return bases

    def _ends_from(self, bases: Sequence[Base], at_ns: int) -> tuple[list[End | None], dict[tuple[int, bytes], bytes]]:
        """For each base the best end that the log leads to from there, and where to turn.

        From the newest record to the oldest: what is known of one position leads to the one before it.
        """
        begun = [End(base.begin.term, base.head.position, base.begin.wall_ns) for base in bases]
        ends = [end if end.wall_ns <= at_ns else None for end in begun]
        turns: dict[tuple[int, bytes], bytes] = {}
        above: dict[bytes, tuple[End, bytes]] = {}  # hash of a record -> the best end behind it, and the way there
        above_at = -1
        for position, group in itertools.groupby(self._ask(_BACKWARDS), key=itemgetter(0)):
            if above_at != position + 1:
                above = {}
            here: dict[bytes, tuple[End, bytes]] = {}
            met: set[bytes] = set()
            several: set[bytes] = set()
            for _, digest, previous, is_end, term, wall_ns in group:
                (several if previous in met else met).add(previous)
                end = above[digest][0] if digest in above else None
                if end is None and is_end and wall_ns <= at_ns:
                    end = End(term, position, wall_ns)
                if end is not None and (previous not in here or end > here[previous][0]):
                    here[previous] = end, digest
            turns.update({(position, previous): here[previous][1] for previous in several if previous in here})
            above, above_at = here, position
            for number, base in enumerate(bases):
                if base.head.position + 1 == position and base.begin.previous in here:
                    ends[number] = here[base.begin.previous][0]
        return ends, turns

    # --- the records of a choice --------------------------------------------------------------------------------------

    def stream(self, choice: Choice) -> Iterator[Record]:
        """The records of a volume that never was: the snapshot, and the log up to its end, wherever they were found.
        Corrupt if one of them cannot be read any more."""
        base = choice.base
        yield base.begin
        # In the order of the terms, since a volume's records never go back to an earlier one; else in any.
        for _, kind, number, digest in heapq.merge(
            ((term, _PART, number, digest) for number, digest, term in self._parts(base.begin)),
            ((term, _LOG, number, digest) for number, digest, term in self._log(choice)),
            key=itemgetter(0, 1),
        ):
            yield self._read(kind, number, digest)

    def in_time(self) -> Iterator[Record]:
        """All records of all volumes but their beginnings, in the order in which they were made, as far as that can be
        told."""
        for kind, number, digest in self._ask(_IN_TIME):
            yield self._read(kind, number, digest)

    @property
    def newest_begin(self) -> Record | None:
        return max(self._begins.values(), key=lambda begin: (begin.term, begin.wall_ns), default=None)

    def _parts(self, begin: Record) -> Iterator[tuple[int, bytes, int]]:
        """(number, hash, term) of the parts of a snapshot, as far as they follow each other."""
        number, digest = 1, begin.hash
        while found := list(self._ask(_NEXT_PART, (number, digest))):
            [(digest, term)] = found
            yield number, digest, term
            number += 1

    def _log(self, choice: Choice) -> Iterator[tuple[int, bytes, int]]:
        """(position, hash, term) of the changes from a base to the end."""
        digest = choice.base.begin.previous
        bounds = (choice.base.head.position, choice.end.position)
        for position, group in itertools.groupby(self._ask(_FORWARDS, bounds), key=itemgetter(0)):
            ways = {found: term for _, found, previous, term in group if previous == digest}
            digest = choice.turns[position, digest] if len(ways) > 1 else next(iter(ways))
            yield position, digest, ways[digest]

    def _read(self, kind: int, number: int, digest: bytes) -> Record:
        for file, offset, length in list(self._ask(_PLACES, (kind, number, digest))):
            try:
                record = read_record(read_anyway(self._open[file], length, offset))
            except (OSError, Corrupt):
                continue  # it could be read before: a disk that dies
            if record is not None and record.hash == digest:
                return record
        raise Corrupt("a record of the catalog cannot be read any more", "copy the disk first, then salvage the copy")

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        return iter(self._database.execute(query, values))


def sound_records(file: OsFile) -> Iterator[tuple[int, Record]]:
    """The records in a file, each with its offset. Where none begins, the next one is looked for."""
    size = file.size()
    offset = start = 0
    window = b""
    while offset < size:
        at = offset - start
        if at + READ_BYTES > len(window) and start + len(window) < size:
            wanted = min(WINDOW_BYTES, size - offset)
            start, window = offset, read_anyway(file, wanted, offset)
            if len(window) < wanted:  # it became shorter
                size = start + len(window)
            continue
        try:
            record = read_record(window, at)
        except Corrupt:
            record = None
        if record is not None:
            yield offset, record
            offset += len(record.data)
            continue
        following = window.find(MAGIC, at + 1)
        offset = start + (following if following >= 0 else max(at + 1, len(window) - len(MAGIC) + 1))
