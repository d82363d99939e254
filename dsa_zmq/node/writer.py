"""Appending records to segments: as few calls as possible, one sync per segment and batch."""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.disk import DiskFile
from dsa_zmq.errors import NoSpace
from dsa_zmq.node.index import Row, SegmentState, row_of
from dsa_zmq.node.recovery import Recovered
from dsa_zmq.node.segment_files import SegmentFiles
from dsa_zmq.node.segments import (
    DROP,
    ENTRY_BYTES,
    FILE_HEADER_BYTES,
    PUT,
    Record,
    encode_entry,
    encode_footer,
    encode_record_header,
    footer_bytes,
    pad,
    record_bytes,
)
from dsa_zmq.node.space import SPARES, Space
from dsa_zmq.node.store import NewShard, ShardKey

# What was written in bulk does not stay in the page cache: it would push out what is read, and every page of it would be a
# new one, which costs ten times the copy (on virtual machines far more). Reads fill the cache as usual.
FORGET_BYTES = 256 << 10
# Preallocated blocks that were never written cost each sync a change of the file system's own tables. So small writes turn
# some of them into written ones ahead, with zeros, as a segment reads there anyway: one such change for many syncs.
ZEROS_AHEAD = bytes(256 << 10)
LEFT_BY_REWRITING = SPARES - 1  #: so that drops find one, whatever compaction has done
BUFFERS_PER_CALL = 1000  #: IOV_MAX is 1,024 on Linux and macOS
_NO_HASH = bytes(32)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class _Active:
    """The segment at whose end is written. ``planned`` runs ahead of ``state.end`` within a batch."""

    state: SegmentState
    file: DiskFile
    entries: bytearray
    planned: int
    written: int = 0  #: blocks before this offset have been written
    buffers: list[bytes | memoryview] = field(default_factory=list)

    def room(self) -> int:
        """Bytes that one more record may take, with the footer that it makes longer."""
        return self.state.size - self.planned - footer_bytes(len(self.entries) // ENTRY_BYTES + 1)

    def add(self, record: Record, data: bytes | memoryview) -> None:
        self.buffers += (encode_record_header(record, self.state.generation), data, pad(record.length))
        self.entries += encode_entry(record)
        self.state.count(record.kind, record.length)
        self.planned += record_bytes(record.length)

    def flush(self, *, seal: bool) -> None:
        """Write what was added, and the footer if this is the end; return when it is durable."""
        if not self.buffers and not seal:
            return
        position = self.state.end
        for first in range(0, len(self.buffers), BUFFERS_PER_CALL):
            position += self.file.pwritev(self.buffers[first : first + BUFFERS_PER_CALL], position)
        if seal:
            footer, offset = encode_footer(self.entries, self.state.generation, self.state.size)
            self.file.pwritev([footer], offset)
        elif position > self.written:
            self._write_ahead(position)
        self.file.datasync()
        if position - self.state.end >= FORGET_BYTES:
            self.file.forget(self.state.end, position - self.state.end)
        self.buffers.clear()
        self.state.end = self.state.size if seal else self.planned
        self.state.sealed = seal

    def _write_ahead(self, position: int) -> None:
        """Zeros behind ``position``, unless writes are so large that each pays for itself."""
        ahead = min(len(ZEROS_AHEAD), self.state.size - position)
        if ahead and position - self.state.end < FORGET_BYTES:
            self.file.pwritev([memoryview(ZEROS_AHEAD)[:ahead]], position)
            self.written = position + ahead


class SegmentWriter:
    """For one thread. After an OSError from :meth:`append` it must not be used again: what is on the disk is unknown."""

    def __init__(self, files: SegmentFiles, space: Space, recovered: Recovered, rng: random.Random) -> None:
        self.segments = recovered.segments
        self.changed: dict[int, SegmentState] = {}  #: touched since the index was last told
        self._files = files
        self._space = space
        self._rng = rng
        self._sequence = recovered.index.sequence
        self._spares = deque(recovered.spares)
        self._next_number = max([*self.segments, *(spare.number for spare in self._spares)], default=0) + 1
        self._active: _Active | None = None
        every = [*self.segments.values(), *self._spares]
        space.allocated = sum(state.size for state in every)
        if recovered.active is not None:
            self._activate(recovered.active, recovered.entries)

    @property
    def sequence(self) -> int:
        """Of the newest record."""
        return self._sequence

    @property
    def free(self) -> int:
        """Payload bytes that puts may still write, before padding and headers."""
        room = 0 if self._active is None or self._is_short() else max(0, self._active.room())
        return room + self._space.growth(len(self._spares)) * self._usable

    @property
    def free_to_rewrite(self) -> int:
        """The same for what compaction moves, which may always use one segment more."""
        room = 0 if self._active is None else max(0, self._active.room())
        return room + max(1, self._space.growth(len(self._spares))) * self._usable

    @property
    def may_grow(self) -> bool:
        """Whether puts may have another segment."""
        return self._space.growth(len(self._spares)) > 0

    @property
    def _usable(self) -> int:
        """Bytes of a segment that records and their entries may take."""
        return self._space.segment_bytes - FILE_HEADER_BYTES - footer_bytes(0)

    @property
    def used(self) -> int:
        """Bytes written to segments, or no longer usable at their ends."""
        return sum(state.end for state in self.segments.values())

    def keep_spares(self) -> None:
        """Preallocate what is kept back. OSError if there is no room."""
        self._space.keep_ballast()
        while len(self._spares) < SPARES:
            self._create()

    def refill(self) -> bool:
        """Make spares anew that were used up, if there is room. Whether there are all of them."""
        try:
            while len(self._spares) < SPARES:
                self._space.check_growth()
                self._create()
        except OSError as error:
            if not isinstance(error, NoSpace) and error.errno not in _FULL:
                raise
        return not self._is_short()

    def _is_short(self) -> bool:
        """Whether a spare was used up, so that the segment in use is for drops and for rewriting alone: what frees space
        must not lose its room to puts."""
        return len(self._spares) < SPARES

    def put(self, shards: Sequence[NewShard]) -> list[Row | NoSpace]:
        """Append shards; returns their rows when all that found room are durable."""
        return self._append(PUT, shards, SPARES)

    def drop(self, keys: Sequence[ShardKey]) -> list[Row | NoSpace]:
        """Append records that these shards are gone. They may use what puts may not."""
        return self._append(DROP, [NewShard(key, 0, _NO_HASH, b"") for key in keys], 0)

    def rewrite(self, shards: Sequence[NewShard], dropped: Sequence[ShardKey]) -> list[Row | NoSpace]:
        """Append shards that are elsewhere already, and records that others are gone, in this order."""
        placed = self._append(PUT, shards, LEFT_BY_REWRITING)
        return placed + self._append(DROP, [NewShard(key, 0, _NO_HASH, b"") for key in dropped], LEFT_BY_REWRITING)

    def close(self) -> None:
        if self._active is not None:
            self._active.file.close()
            self._active = None

    def _append(self, kind: int, shards: Sequence[NewShard], left: int) -> list[Row | NoSpace]:
        """``left``: spares that must be left."""
        results: list[Row | NoSpace] = []
        for shard in shards:
            length = len(shard.data)
            try:
                active = self._with_room(record_bytes(length), left)
            except NoSpace as error:
                results.append(error)
                continue
            self._sequence += 1
            (chunk, index), place = shard.key, active.planned
            record = Record(kind, chunk, index, shard.chunk_length, length, shard.hash, self._sequence, place)
            active.add(record, shard.data)
            results.append(row_of(record, active.state.number))
        if self._active is not None:
            self._active.flush(seal=False)
        return results

    def _with_room(self, size: int, left: int) -> _Active:
        active = self._active
        # Again for spares of an earlier start with smaller segments, which may be too short even when they are empty.
        while active is None or active.room() < size or (left == SPARES and self._is_short() and not self.refill()):
            spare = self._take_spare(left)
            if active is not None:
                # Sealed and durable before the next one is begun: so only the newest segment can ever be torn.
                active.flush(seal=True)
                active.file.close()
                self.changed[active.state.number] = active.state
            active = self._activate(spare, bytearray())
        self.changed[active.state.number] = active.state
        return active

    def _take_spare(self, left: int) -> SegmentState:
        try:
            if left == SPARES or (left and self.may_grow):
                self._space.keep_ballast()
                while len(self._spares) <= SPARES:
                    self._space.check_growth()
                    self._create()
            elif len(self._spares) <= left:
                self._create()  # beyond all limits: what is done in it frees more than it takes
        except OSError as error:
            if isinstance(error, NoSpace) or error.errno not in _FULL:
                raise
            raise NoSpace("the node's disk is full", "free space on it, or add a node") from error
        return self._spares.popleft()

    def _create(self) -> None:
        size = self._space.segment_bytes
        self._spares.append(self._files.create(self._next_number, size, self._rng))
        self._next_number += 1
        self._space.allocated += size

    def _activate(self, state: SegmentState, entries: bytearray) -> _Active:
        file = self._files.open_for_writing(state.number)
        self.segments[state.number] = state
        self._active = _Active(state, file, entries, state.end)
        return self._active
