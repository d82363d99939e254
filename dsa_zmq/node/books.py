"""What a disk store knows of its segments and tells the index: what is live where, what must outlive what, what may go.

For the writer's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dsa_zmq.node.guard import Guard
from dsa_zmq.node.index import Row
from dsa_zmq.node.lazy_index import LazyIndex
from dsa_zmq.node.segment_files import SegmentFiles
from dsa_zmq.node.space import Space
from dsa_zmq.node.store import ShardKey
from dsa_zmq.node.writer import SegmentWriter

Pin = tuple[int, int]  #: (victim, killer): the latter must not be unlinked before the former


class Books:
    """Shared by the store and its compactor."""

    def __init__(
        self,
        index: LazyIndex,
        guard: Guard,
        writer: SegmentWriter,
        files: SegmentFiles,
        space: Space,
        pins: Iterable[Pin],
    ) -> None:
        self._index = index
        self._guard = guard
        self._writer = writer
        self._files = files
        self._space = space
        self._pins: dict[int, set[int]] = {}  # killer: its victims
        self._note(pins)

    def _note(self, pins: Iterable[Pin]) -> None:
        for victim, killer in pins:
            self._pins.setdefault(killer, set()).add(victim)

    def victims(self, killer: int) -> list[int]:
        """The segments that this one keeps dead shards of dead."""
        with self._guard:
            return sorted(self._pins.get(killer, ()))

    def is_pinned(self, number: int) -> bool:
        return number in self._pins

    def commit(
        self, rows: Sequence[Row], tombs: Sequence[Row] = (), dead: Sequence[Row] = (), pins: Iterable[Pin] = ()
    ) -> None:
        """Tell the index what is durable now: ``rows`` are there, ``dead`` rows were superseded by them or by ``tombs``;
        ``pins`` beside those that follow from it. Errors of the index fail the store."""
        with self._guard:
            segments, changed = self._writer.segments, self._writer.changed
            for row in rows:
                segments[row.segment].gain(row)
            if not dead and not tombs and not pins:
                self._index.add(rows, changed.values(), self._writer.sequence)
                changed.clear()
                return
            killers = {(row.chunk, row.index): row.segment for row in (*rows, *tombs)}
            made = set(pins)
            for row in dead:
                segments[row.segment].lose(row)
                changed[row.segment] = segments[row.segment]
                killer = killers[row.chunk, row.index]
                if killer != row.segment:
                    made.add((row.segment, killer))
            self._index.replace(rows, keys_of(dead), sorted(made), changed.values(), self._writer.sequence)
            changed.clear()
            self._note(made)

    def collect(self, candidates: Iterable[int], *, relieved: int = 0) -> int:
        """Unlink those of the segments that hold nothing that is needed, and those that this sets free. Returns how many.

        ``relieved`` is one whose duty to keep others dead has passed to records elsewhere. OSError of the disk.
        """
        segments = self._writer.segments
        waiting = sorted(set(candidates))
        gone = 0
        while waiting:
            state = segments.get(waiting.pop())
            if state is None or not state.sealed or state.live:
                continue
            if self._pins.get(state.number) and state.number != relieved:
                continue
            if not gone:
                with self._guard:
                    self._index.sync()
            # The file goes first. The other way round, a crash between would leave a file that the index does not know
            # and whose shards a rebuild would believe, since the records of their drops may be gone by then.
            self._files.unlink(state.number)
            gone += 1
            with self._guard:
                self._index.forget_segment(state.number)
                del segments[state.number]
                self._space.allocated -= state.size
                self._pins.pop(state.number, None)
                for killer, victims in self._pins.items():
                    victims.discard(state.number)
                    if not victims:
                        waiting.append(killer)
                self._pins = {killer: victims for killer, victims in self._pins.items() if victims}
        if gone:
            self._writer.refill()
        return gone


def keys_of(rows: Iterable[Row]) -> list[ShardKey]:
    return [ShardKey(row.chunk, row.index) for row in rows]
