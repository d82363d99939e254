"""Cuts a history into episodes that can be explained one after the other.

An episode is a set of operations that meet (see :mod:`~dsa_zmq.sim.history.footprint`), directly or through others, while
some of them are under way. Of two episodes that mind a common name one is over before the other minds it, and leaves behind
what the other finds. So explanations of all episodes make one of the whole: each operation has its instant, and those
instants are the order (Herlihy and Wing, 1990, on locality). What nobody else meets is an episode of its own; an operation
that may happen at any later time keeps its names in one episode for good.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from dsa_zmq.sim.history.footprint import Footprint, Names
from dsa_zmq.sim.history.operation import NEVER, Operation


@dataclass(slots=True)
class Episode:
    """``operations`` in the order of their calls. Names are bits."""

    operations: list[Operation]
    footprints: list[Footprint]
    begun_ns: int
    ended_ns: int
    read: int = 0  #: minded by operations that change nothing
    written: int = 0  #: minded by operations that may change it
    read_way: int = 0
    written_way: int = 0

    @property
    def minds(self) -> int:
        return self.read | self.written

    @property
    def names(self) -> int:
        """All, ways included."""
        return self.read | self.written | self.read_way | self.written_way

    @property
    def changes(self) -> bool:
        return any(footprint.changes for footprint in self.footprints)

    def add(self, footprint: Footprint) -> None:
        """Mind these names too."""
        if footprint.changes:
            self.written |= footprint.minds
            self.written_way |= footprint.way
        else:
            self.read |= footprint.minds
            self.read_way |= footprint.way

    def meets(self, footprint: Footprint) -> bool:
        """Whether one of its operations does."""
        if self.written & (footprint.minds | footprint.way) or self.written_way & footprint.minds:
            return True
        return footprint.changes and bool(
            self.read & (footprint.minds | footprint.way) or self.read_way & footprint.minds
        )

    def take(self, other: Episode) -> None:
        """Both are one."""
        self.operations += other.operations
        self.footprints += other.footprints
        self.begun_ns = min(self.begun_ns, other.begun_ns)
        self.ended_ns = max(self.ended_ns, other.ended_ns)
        self.read |= other.read
        self.written |= other.written
        self.read_way |= other.read_way
        self.written_way |= other.written_way


def end_of(operation: Operation) -> int:
    """The latest instant at which it can have taken effect."""
    return operation.ended_ns if operation.is_certain else NEVER


def cut(operations: Sequence[Operation], names: Names) -> list[Episode]:
    """The episodes of these operations, which all count, in the order in which they end: who is over before another one
    minds a name also ends before it, though it may have begun later."""
    closed: list[Episode] = []
    open_ones: list[Episode] = []
    for operation in sorted(operations, key=lambda each: (each.begun_ns, each.number)):
        still_open: list[Episode] = []
        for episode in open_ones:
            (closed if episode.ended_ns < operation.begun_ns else still_open).append(episode)
        footprint = names.footprint(operation)
        mine = Episode([operation], [footprint], operation.begun_ns, end_of(operation))
        mine.add(footprint)
        open_ones = []
        for episode in still_open:
            if episode.meets(footprint):
                episode.take(mine)
                mine = episode
            else:
                open_ones.append(episode)
        open_ones.append(mine)
    episodes = sorted(closed + open_ones, key=lambda episode: (episode.ended_ns, episode.begun_ns))
    for episode in episodes:
        _sort(episode)
    return episodes


def _sort(episode: Episode) -> None:
    pairs = sorted(
        zip(episode.operations, episode.footprints, strict=True), key=lambda pair: (pair[0].begun_ns, pair[0].number)
    )
    episode.operations = [operation for operation, _ in pairs]
    episode.footprints = [footprint for _, footprint in pairs]


class Sources:
    """Of each name who may have changed it, and who may have made it as a directory on the way to something else."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._episodes = episodes
        self._writers: dict[int, list[int]] = {}
        self._makers: dict[int, list[int]] = {}
        for number, episode in enumerate(episodes):
            for bit in bits_of(episode.written):
                self._writers.setdefault(bit, []).append(number)
            for bit in bits_of(episode.written_way & ~episode.written):
                self._makers.setdefault(bit, []).append(number)

    def writer(self, bit: int, number: int) -> int:
        """The last one before that episode that minds and may have changed the name; -1: nobody."""
        return _last_before(self._writers.get(bit, []), number)

    def makers(self, bit: int, number: int) -> Sequence[int]:
        """Those since then that may have made it, if that episode minds it: on the way it is as good missing."""
        if not self._episodes[number].minds & bit:
            return ()
        makers = self._makers.get(bit, [])
        return makers[bisect_left(makers, self.writer(bit, number) + 1) : bisect_left(makers, number)]


def _last_before(numbers: Sequence[int], number: int) -> int:
    at = bisect_left(numbers, number)
    return numbers[at - 1] if at else -1


def bits_of(mask: int) -> list[int]:
    """One by one."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low)
        mask ^= low
    return found
