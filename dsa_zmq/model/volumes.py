"""Following the records of a volume: does each one follow those before it, and what can be made of them? Pure.

Whoever keeps a volume (a node), reads one (a restore, salvage, a check of a backup) or writes one (the master) takes the
records in the order of the file. See :mod:`dsa_zmq.model.records`.
"""

from __future__ import annotations

from collections.abc import Iterator

from dsa_zmq.errors import Conflict, Corrupt
from dsa_zmq.model.records import (
    BEGIN,
    CHANGES,
    END,
    HEADER_BYTES,
    MAX_BODY_BYTES,
    VOLUME_FORMAT,
    Record,
    VolumeHead,
    end_of,
    head_of,
    read_record,
)

DIRECTORY = "catalog"  #: of a node's directory, for its volumes
SUFFIX = ".volume"
READ_BYTES = HEADER_BYTES + MAX_BODY_BYTES  #: so many bytes hold any record


class VolumeChain:
    """The ends of a volume's two chains."""

    def __init__(self) -> None:
        self.head: VolumeHead | None = None  #: None until the BEGIN is there
        self.begun_ns = 0
        self.parts = 0  #: records of the snapshot so far
        self.part_hash = b""  #: of the last of them
        self.complete = False
        self.whole = -1  #: the first position as of which the catalog can be made; -1: the snapshot is not complete
        self.whole_ns = 0
        self.position = -1  #: of the last record of the log; the head's if there is none yet
        self.hash = b""  #: of it
        self.ended = -1  #: of the last record that ended a transaction
        self.ended_ns = 0
        self.wall_ns = 0  #: of the last record of the log, or of BEGIN
        self.term = 0  #: of the newest record

    def take(self, record: Record) -> bool:
        """The next record of the file. False if it is there already, and is to be passed over.

        Raises Conflict if it does not follow what is there, Corrupt if it contradicts itself.
        """
        if record.kind == BEGIN:
            return self._begin(record)
        if self.head is None:
            raise Conflict(
                f"{_name(record)} of a volume comes before its beginning", "send the volume from its beginning"
            )
        if record.kind == CHANGES:
            return self._log(record)
        return self._snapshot(record)

    def _begin(self, record: Record) -> bool:
        head = head_of(record)
        if self.head is not None:
            if head != self.head:
                raise Conflict(f"volume {self.head.volume} begins twice, in two ways")
            return False
        if head.format != VOLUME_FORMAT:
            raise Corrupt(f"this is no volume of a catalog, but '{head.format[:80]}'", "name another file")
        self.head = head
        self.parts, self.part_hash = 1, record.hash
        self.position = self.ended = head.position
        self.hash = record.previous
        self.begun_ns = self.wall_ns = self.ended_ns = record.wall_ns
        self.term = record.term
        return True

    def _snapshot(self, record: Record) -> bool:
        if record.position < self.parts:
            return False
        if self.complete or record.position > self.parts or record.previous != self.part_hash:
            raise Conflict(f"{_name(record)} does not follow part {self.parts - 1} of its volume")
        if record.kind == END:
            self.complete, self.whole, self.whole_ns = True, end_of(record).position, record.wall_ns
        self.parts, self.part_hash = self.parts + 1, record.hash
        self.term = max(self.term, record.term)
        return True

    def _log(self, record: Record) -> bool:
        if record.position <= self.position:
            if record.position == self.position and record.hash != self.hash:
                raise Conflict(f"{_name(record)} is another one than the one that is there")
            return False
        if record.position > self.position + 1 or record.previous != self.hash or record.term < self.term:
            raise Conflict(f"{_name(record)} does not follow change {self.position} of its volume")
        self.position, self.hash, self.wall_ns = record.position, record.hash, record.wall_ns
        self.term = record.term
        if record.ends:
            self.ended, self.ended_ns = record.position, record.wall_ns
        return True

    @property
    def usable(self) -> bool:
        """The catalog can be made of it: the snapshot is complete, and the log reaches the moment when it was."""
        return self.complete and self.ended >= self.whole


def file_name(volume: int) -> str:
    """Of a volume's file, in :data:`DIRECTORY`."""
    return f"{volume:016x}{SUFFIX}"


def volume_of(name: str) -> int:
    """The volume whose file has this name; 0: none has."""
    stem = name.removesuffix(SUFFIX)
    number = int(stem, 16) if len(stem) == 16 and not set(stem) - set("0123456789abcdef") else 0
    return number if name == file_name(number) else 0


def read_records(data: bytes | memoryview) -> Iterator[tuple[int, Record]]:
    """The records in these bytes, from their beginning, each with the offset behind it; ends where they end within one.
    Raises Corrupt where none begins."""
    offset = 0
    while (record := read_record(data, offset)) is not None:
        offset += len(record.data)
        yield offset, record


def _name(record: Record) -> str:
    return f"{'change' if record.kind == CHANGES else 'part'} {record.position}"
