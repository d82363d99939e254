"""The index of a store, and the rows of its newest shards, which it has not been told yet.

A transaction costs more than the put of a small shard, so plain puts gather here and are told to SQLite together. It is
told at once of everything else (a drop, a replacement, damage, another segment), after what had gathered before. So what
gathered is always in one segment, behind the ``end`` that the index knows of it: whoever dies with it loses nothing, since
the next start reads the records there again.

All methods need the caller's lock, and any thread may call them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import apsw

from dsa_zmq.model.inventory import bucket_of, shard_digest
from dsa_zmq.node.index import Index, Row, SegmentRow, SegmentState, segment_row
from dsa_zmq.node.space import Space
from dsa_zmq.node.store import ShardInfo, ShardKey

RECENT_ROWS = 256  #: kept back at most: some 100 KiB of memory, and 2 ms of the writer when they are told


class LazyIndex:
    """Keeps :attr:`Space.index` and the number of damaged shards in step. Errors as those of :class:`Index`."""

    def __init__(self, index: Index, space: Space) -> None:
        """Owns ``index`` from here on."""
        self._index = index
        self._space = space
        self._recent: dict[tuple[int, int], Row] = {}  # by key; none of them has a row in the index
        self._segments: dict[int, SegmentRow] = {}  # as they were when those rows were all that was in them
        self._sequence = index.sequence
        self._highest = index.highest_chunk()
        self.damaged_count = index.damaged_count()
        space.index = index.size_bytes()

    # --- looking ------------------------------------------------------------------------------------------------------

    def find(self, key: ShardKey) -> Row | None:
        row = self._recent.get(key)
        # Chunk ids grow: most puts are of chunks above all that the index knows.
        return self._index.find(key) if row is None and key[0] <= self._highest else row

    def page(self, after: ShardKey, limit: int) -> list[ShardInfo]:
        """Good shards behind ``after``, in key order."""
        found = {info.key: info for info in self._index.page(after, limit)}
        found.update((info.key, info) for row in self._recent.values() if (info := row.info).key > after)
        return [found[key] for key in sorted(found)[:limit]]

    def digests(self) -> dict[int, int]:
        """The digest of each bucket of level 0 that is not empty."""
        found = self._index.buckets()
        for chunk, index in self._recent:
            bucket = bucket_of(chunk, 0)
            found[bucket] = found.get(bucket, 0) ^ shard_digest(chunk, index)
        return found

    def within(self, after: ShardKey, last: int, limit: int) -> list[ShardInfo]:
        """As :meth:`page`, of chunks up to ``last``."""
        self.tell()
        return self._index.within(after, last, limit)

    def keys(self, after: ShardKey, last: int, limit: int) -> list[tuple[int, int]]:
        """The same, keys alone."""
        self.tell()
        return self._index.keys(after, last, limit)

    def marks(self) -> dict[str, int]:
        return self._index.marks()

    def mark(self, values: Mapping[str, int]) -> None:
        self._change(lambda: self._index.mark(values))

    def damaged(self, after: ShardKey, limit: int) -> list[ShardInfo]:
        """Quarantined shards behind ``after``, in key order."""
        return self._index.damaged(after, limit)

    def measure(self) -> None:
        """Bring :attr:`Space.index` up to date."""
        self._space.index = self._index.size_bytes()

    # --- changing -----------------------------------------------------------------------------------------------------

    def add(self, rows: Iterable[Row], segments: Iterable[SegmentState], sequence: int) -> None:
        """New shards, of which the index knows nothing, and the segments that this changed."""
        for row in rows:
            self._recent[row[:2]] = row
        self._segments.update(_as_now(segments))
        self._sequence = sequence
        if len(self._segments) > 1 or len(self._recent) >= RECENT_ROWS:
            self.tell()

    def replace(
        self, rows: Sequence[Row], dead: Sequence[ShardKey], pins: Sequence[tuple[int, int]],
        segments: Iterable[SegmentState], sequence: int,
    ) -> None:  # fmt: skip
        """Shards that are there anew, the keys of those that they replace and of those that are there no more, what must
        outlive what, and the segments that this changed."""
        gone = set(dead)
        untold = [row for key, row in self._recent.items() if key not in gone]
        self._apply([*untold, *rows], {**self._segments, **_as_now(segments)}, sequence, dead, pins)
        self._sequence = sequence
        self.damaged_count = self._index.damaged_count()

    def tell(self) -> None:
        """Tell the index what has gathered. Nothing of it is forgotten if that fails."""
        if self._segments:
            self._apply(list(self._recent.values()), self._segments, self._sequence)

    def _apply(
        self, rows: Sequence[Row], segments: Mapping[int, SegmentRow], sequence: int, dead: Sequence[ShardKey] = (),
        pins: Sequence[tuple[int, int]] = (),
    ) -> None:  # fmt: skip
        changed = list(segments.values())
        self._change(lambda: self._index.apply(sequence=sequence, segments=changed, rows=rows, dead=dead, pins=pins))
        self._recent.clear()
        self._segments.clear()
        self._highest = max(self._highest, max((row.chunk for row in rows), default=0))
        self.measure()

    def quarantine(self, row: Row) -> None:
        """Mark a shard as damaged, if its entry is still this one."""
        try:
            self.tell()
            self._change(lambda: self._index.quarantine(row))
        finally:
            self.damaged_count = self._index.damaged_count()

    def damaged_segments(self) -> set[int]:
        """Where quarantined shards lie."""
        return self._index.damaged_segments()

    def sync(self) -> None:
        """Tell it everything, and return when it is durable: after a power loss, a segment that has gone must not have
        shards in the index."""
        self.tell()
        self._change(self._index.sync)

    def forget_segment(self, number: int) -> None:
        """The file is gone: so are its pins."""
        self._index.forget_segment(number)

    def close(self) -> None:
        """Tell it the rest, if possible: what it does not know is read from the segments at the next start."""
        try:
            self.tell()
        finally:
            self._index.close()

    def _change(self, change: Callable[[], object]) -> None:
        """Despite a full disk. Changes are repeatable: a commit may have happened although the checkpoint that followed
        it found no room."""
        try:
            change()
        except apsw.FullError:
            try:
                self._index.give_back_room()
                change()
            except apsw.FullError:
                with self._space.ballast_dropped():
                    self._index.give_back_room()  # or the WAL would eat the ballast, bit by bit
                    change()


def _as_now(segments: Iterable[SegmentState]) -> dict[int, SegmentRow]:
    """Their rows. Made at once: the writer moves ``end`` ahead before the shards up to there come here, and meanwhile a
    reader that has met damage may tell the index."""
    return {state.number: segment_row(state) for state in segments}
