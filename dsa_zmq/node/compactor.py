"""Compaction: what is still live in a segment is appended anew elsewhere, and the segment goes.

Steps, so that nobody waits for long: :meth:`Compactor.gather` reads and verifies some live records (on any lane),
:meth:`Compactor.rewrite` appends those whose rows still name these very records, syncs, and switches the rows (on the
writer's). What was dropped meanwhile has no row and is left; what is dropped later has a higher sequence than the copy. So a
copy never raises the dead, and a crash leaves the old record, or both, with the same bytes.

A segment may be needed although nothing in it is live: its records keep older ones dead, in segments that are still there
(its *victims*). So the last steps look which of its shards the victims have, too. Each of those either has a row, hence a
newer record elsewhere, or gets a new record of its end; that one's segment takes over the duty. Then the segment can go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from dsa_zmq.errors import Corrupt, DSAError, NotFound
from dsa_zmq.node.books import Books, Pin
from dsa_zmq.node.failure import Failure
from dsa_zmq.node.guard import Guard
from dsa_zmq.node.index import Row, SegmentState
from dsa_zmq.node.lazy_index import LazyIndex
from dsa_zmq.node.reading import Reading
from dsa_zmq.node.segment_files import SegmentFiles
from dsa_zmq.node.segments import ENTRY_BYTES, PUT, Record, read_footer, record_bytes
from dsa_zmq.node.store import NewShard, ShardKey
from dsa_zmq.node.writer import SegmentWriter

RECORDS_AT_ONCE = 256  #: in one step: some 10 ms where shards are small
DROP_BYTES = record_bytes(0)


@dataclass(frozen=True, slots=True)
class Share:
    """Some of what a segment has that is still needed."""

    segment: int
    read_bytes: int  #: from the disk, for this
    rows: tuple[Row, ...] = ()
    data: tuple[bytes, ...] = ()  #: verified bytes of those rows
    owed: tuple[
        tuple[ShardKey, tuple[int, ...]], ...
    ] = ()  #: shards that must stay dead, and the victims that have them
    last: bool = False  #: nothing else of it is needed


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of a share."""

    written_bytes: int
    ended: bool = False  #: the segment is gone, or cannot go now
    gone: bool = False
    freed: int = 0  #: segments unlinked


@dataclass(slots=True)
class _Work:
    """A segment on its way out."""

    segment: int
    records: list[Record]
    position: int = 0  #: in records
    victims: list[int] = field(default_factory=list)  #: to be looked through
    newest: dict[ShardKey, int] = field(
        default_factory=dict
    )  #: of each shard in it the highest sequence, if it has victims
    owed: dict[ShardKey, list[int]] = field(default_factory=dict)
    is_out: bool = False  #: a share was taken and not yet rewritten


class Compactor:
    """One segment at a time. ``gather`` and ``rewrite`` are called in turn, never at the same time."""

    def __init__(
        self, index: LazyIndex, guard: Guard, writer: SegmentWriter, files: SegmentFiles, reading: Reading, books: Books,
        failed: Failure,
    ) -> None:  # fmt: skip
        self._index = index
        self._guard = guard
        self._writer = writer
        self._files = files
        self._reading = reading
        self._books = books
        self._failed = failed
        self._work: _Work | None = None
        self._barred: set[int] = set()  # footers that cannot be read: these wait until they are empty

    def garbage(self) -> int:
        """Bytes of dead records in full segments. The caller has the guard."""
        segments = self._writer.segments.values()
        return sum(self._dead(state) for state in segments if state.sealed)

    def choose(self, share: float) -> int | None:
        """The full segment with the fewest live bytes among those of whose size ``share`` or more is dead, and whose rest
        has room elsewhere; None if there is none."""
        with self._guard:
            barred = self._barred | self._index.damaged_segments()
            states = [(state, self._dead(state)) for state in self._writer.segments.values()]
            return emptiest(states, barred, share, self._writer.free_to_rewrite)

    def _dead(self, state: SegmentState) -> int:
        """Bytes that would not have to be rewritten."""
        needed = state.live_bytes + (state.drops * DROP_BYTES if self._books.is_pinned(state.number) else 0)
        return max(0, state.written - needed)

    # --- reading ------------------------------------------------------------------------------------------------------

    def gather(self, segment: int, limit_bytes: int) -> Share | None:
        """The next of what is needed of a segment: up to so many bytes, or one larger shard. None if it must wait, for there
        is damage in it. Raises Unavailable if it cannot be read now."""
        if self._failed:
            raise self._failed.error()
        try:
            return self._next(segment, limit_bytes)
        except _Unreadable:
            self._barred.add(segment)
        except Corrupt:
            pass  # quarantined: it is not chosen until that shard is dropped
        except DSAError:
            self._work = None
            raise
        self._work = None
        return None

    def _next(self, segment: int, limit_bytes: int) -> Share:
        work = self._work
        if work is None or work.segment != segment or work.is_out:  # a share that was lost must be gathered anew
            return self._begin(segment)
        work.is_out = True
        if work.position < len(work.records):
            return self._live(work, limit_bytes)
        if work.victims:
            return self._look_through(work, work.victims.pop())
        return self._owed(work)

    def _begin(self, segment: int) -> Share:
        gone = segment not in self._writer.segments  # drops have emptied it just now
        records = [] if gone else self._records(segment)
        self._work = work = _Work(segment, records, victims=self._books.victims(segment))
        if work.victims:
            for record in records:
                key = ShardKey(record.chunk, record.index)
                work.newest[key] = max(record.sequence, work.newest.get(key, 0))
        return Share(segment, len(records) * ENTRY_BYTES)

    def _records(self, segment: int) -> list[Record]:
        state = self._writer.segments.get(segment)
        if state is None:
            raise _Unreadable
        try:
            handle = self._files.borrow(segment)
        except OSError as error:
            raise _Unreadable from error
        try:
            records = read_footer(handle.file, state.size, state.generation)
        except OSError as error:
            raise _Unreadable from error
        finally:
            self._files.give_back(handle)
        if records is None:
            raise _Unreadable
        return records

    def _live(self, work: _Work, limit_bytes: int) -> Share:
        rows: list[Row] = []
        data: list[bytes] = []
        size = 0
        for record in work.records[work.position : work.position + RECORDS_AT_ONCE]:
            row = None if record.kind != PUT else self._reading.find(ShardKey(record.chunk, record.index))
            if row is not None and (row.segment, row.offset) == (work.segment, record.offset):
                if rows and size + record_bytes(record.length) > limit_bytes:
                    break
                with contextlib.suppress(NotFound):  # just dropped
                    data.append(self._reading.read(ShardKey(record.chunk, record.index))[1])
                    rows.append(row)
                    size += record_bytes(record.length)
            work.position += 1
        return Share(work.segment, size, tuple(rows), tuple(data))

    def _look_through(self, work: _Work, victim: int) -> Share:
        """Which of our shards this one has in an older record."""
        if victim not in self._writer.segments:
            return Share(work.segment, 0)
        records = self._records(victim)
        for record in records:
            key = ShardKey(record.chunk, record.index)
            if record.kind == PUT and record.sequence < work.newest.get(key, 0):
                work.owed.setdefault(key, []).append(victim)
        return Share(work.segment, len(records) * ENTRY_BYTES)

    def _owed(self, work: _Work) -> Share:
        keys = sorted(work.owed)[:RECORDS_AT_ONCE]
        owed = tuple((key, tuple(work.owed.pop(key))) for key in keys)
        return Share(work.segment, 0, owed=owed, last=not work.owed)

    # --- writing ------------------------------------------------------------------------------------------------------

    def rewrite(self, share: Share) -> Rewritten:
        """Append what is still needed, switch to it, and let the segment go after its last share. For the writer's thread.

        Raises Unavailable if the store fails, or has.
        """
        if self._failed:
            raise self._failed.error()
        assert self._work is not None, "what is rewritten was gathered"
        still = [position for position, row in enumerate(share.rows) if self._is_current(row)]
        with self._guard:
            ended = [key for key, _ in share.owed if self._index.find(key) is None]
        shards = [_again(share.rows[position], share.data[position]) for position in still]
        try:
            placed = self._writer.rewrite(shards, ended)
            rows = [row for row in placed[: len(shards)] if isinstance(row, Row)]
            tombs = [row for row in placed[len(shards) :] if isinstance(row, Row)]
            self._switch(share, rows, tombs)
            written = sum(record_bytes(row.length) for row in (*rows, *tombs))
            if len(rows) + len(tombs) < len(placed):  # no room now: drops make some
                return self._end(share.segment, written)
            if not share.last:
                self._work.is_out = False
                return Rewritten(written)
            freed = self._books.collect([share.segment], relieved=share.segment)
        except OSError as error:
            if isinstance(error, DSAError):
                raise
            self._failed.of_write(error)
            raise self._failed.error() from error
        return self._end(share.segment, written, freed)

    def _is_current(self, row: Row) -> bool:
        now = self._reading.find(ShardKey(row.chunk, row.index))
        return now is not None and (now.segment, now.offset) == (row.segment, row.offset)

    def _switch(self, share: Share, rows: list[Row], tombs: list[Row]) -> None:
        moved = {(row.chunk, row.index) for row in rows}
        made = {(row.chunk, row.index): row.segment for row in tombs}
        pins: set[Pin] = set()
        for key, victims in share.owed:
            with self._guard:
                newer = self._index.find(key)
            killer = made.get(key, 0) if newer is None else newer.segment
            if killer:
                pins |= {(victim, killer) for victim in victims if victim != killer}
        if rows or tombs or pins:
            self._books.commit(rows, tombs, [row for row in share.rows if row[:2] in moved], pins)

    def _end(self, segment: int, written: int, freed: int = 0) -> Rewritten:
        self._work = None
        return Rewritten(written, True, segment not in self._writer.segments, freed)


class _Unreadable(Exception):
    """A footer cannot be read. What is in its segment is not known for sure, so it is left alone."""


def emptiest(states: Iterable[tuple[SegmentState, int]], barred: Container[int], share: float, room: int) -> int | None:
    """The segment to rewrite next, of segments and their dead bytes. Pure."""
    best: tuple[int, int] | None = None
    for state, dead in states:
        if not state.sealed or not dead or dead < share * state.size or state.number in barred:
            continue
        needed = state.written - dead + ENTRY_BYTES * (state.live + state.drops)
        if needed <= room and (best is None or (needed, state.number) < best):
            best = (needed, state.number)
    return best[1] if best else None


def _again(row: Row, data: bytes) -> NewShard:
    return NewShard(ShardKey(row.chunk, row.index), row.chunk_length, row.hash, data)
