"""Numbered updates over a lossy feed (the Clone pattern of the ZeroMQ guide, chapter 5). Pure.

The publisher numbers its updates from 1 in each term. A follower subscribes first, then asks for a snapshot, and holds
back the updates that come meanwhile; the snapshot names the last update it contains. A gap, or a new term, means that
something was missed: the follower asks for a snapshot again. An update is only ever a hint that saves a question.
"""

from __future__ import annotations

from typing import Generic, TypeVar

U = TypeVar("U")


class Numbering:
    """The publisher's side: one counter a term."""

    def __init__(self, term: int) -> None:
        self.term = term
        self.last = 0  #: number of the latest update; what a snapshot taken now contains

    def next(self) -> int:
        """The number of a new update."""
        self.last += 1
        return self.last


class Follower(Generic[U]):
    """The other side: hands updates on in order, each once, and says when a snapshot is needed.

    At most ``max_held`` updates wait for a snapshot; more are given up, and the next snapshot has to cover them.
    """

    def __init__(self, max_held: int = 1000) -> None:
        self._max_held = max_held
        self._term = 0
        self._applied: int | None = None  #: number of the last update handed on; None: a snapshot is needed
        self._held: dict[int, U] = {}

    @property
    def needs_snapshot(self) -> bool:
        return self._applied is None

    @property
    def position(self) -> tuple[int, int]:
        """(term, number) up to which everything was handed on; number -1 while a snapshot is needed."""
        return self._term, -1 if self._applied is None else self._applied

    def update(self, term: int, number: int, value: U) -> list[U]:
        """An update came by the feed. Returns what may be applied now, in order: usually just that, or nothing."""
        if term < self._term:
            return []
        if term > self._term:
            self._restart(term)
        if self._applied is None:
            self._hold(number, value)
            return []
        if number <= self._applied:
            return []
        if number == self._applied + 1:
            self._applied = number
            return [value]
        self._restart(term)
        self._hold(number, value)
        return []

    def snapshot(self, term: int, number: int) -> list[U] | None:
        """A snapshot that contains all updates up to ``number`` came. None: it is too old, ask again. Else replace the
        state by it, then apply what is returned, in order."""
        if term < self._term:
            return None
        if term > self._term:
            self._restart(term)
        elif self._applied is not None and number <= self._applied:
            return None
        later = sorted(held for held in self._held if held > number)
        if later and later != list(range(number + 1, later[-1] + 1)):
            return None
        ready = [self._held[held] for held in later]
        self._held.clear()
        self._applied = later[-1] if later else number
        return ready

    def _restart(self, term: int) -> None:
        self._term = term
        self._applied = None
        self._held.clear()

    def _hold(self, number: int, value: U) -> None:
        if len(self._held) >= self._max_held:
            self._held.clear()
        self._held[number] = value
