"""Timers by token: a heap whose cancelled entries stay until they surface."""

from __future__ import annotations

import heapq
from typing import Final

from actors.core import Token

_COMPACT_ABOVE: Final = 64  #: entries; below, dead entries are not worth a pass


class Timers:
    """Tokens and when they come due (monotonic nanoseconds). Setting a pending token replaces it."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Token]] = []
        self._live: dict[Token, int] = {}  # token -> the serial of its only valid entry
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def set(self, token: Token, due_ns: int) -> None:
        """Arm, or re-arm."""
        self._serial += 1  # also decides between equal times, so that tokens are never compared
        self._live[token] = self._serial
        heapq.heappush(self._heap, (due_ns, self._serial, token))
        if len(self._heap) > _COMPACT_ABOVE and len(self._heap) > 2 * len(self._live):
            live = self._live
            self._heap = [entry for entry in self._heap if live.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def cancel(self, token: Token) -> None:
        """Disarm; an unknown token is fine."""
        self._live.pop(token, None)

    def next_due_ns(self) -> int | None:
        """When the first timer comes due, or None."""
        heap = self._heap
        while heap and self._live.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def mark(self) -> int:
        """Timers set after this moment have a later serial: see :meth:`pop_due`."""
        return self._serial

    def pop_due(self, now_ns: int, mark: int) -> tuple[Token] | None:
        """The next token due at ``now_ns`` that was armed before ``mark`` was taken, in a tuple, or None.

        Without the mark, a handler that re-arms its timer with delay 0 would never let the reactor go.
        """
        due = self.next_due_ns()
        if due is None or due > now_ns or self._heap[0][1] > mark:
            return None
        token = heapq.heappop(self._heap)[2]
        del self._live[token]
        return (token,)
