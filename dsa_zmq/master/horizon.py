"""The horizon: ids below it that are in no content are dead for good. Pure.

An id was drawn before some moment exactly if it is below the id that was upcoming then. So marks (moment, upcoming id) are
kept, and the horizon is the mark of one lease plus one grant lifetime ago: an upload that began earlier has either ended, or
is still alive, and then the horizon stays below its id. In the first such span after a start it does not move at all:
uploads of earlier terms may still speak up.
"""

from __future__ import annotations

from collections import deque

MARKS = 32  #: in one span: the horizon lags by up to a 32nd of it


class Horizon:
    """Times are serving time in nanoseconds. ``floor`` is the first id of this term."""

    def __init__(self, span_ns: int, floor: int) -> None:
        self._span_ns = span_ns
        self._marks: deque[tuple[int, int]] = deque([(0, floor)])
        self.value = 0  #: 0: as it was before this start

    def advance(self, served_ns: int, upcoming: int, oldest_live: int | None) -> int:
        """The horizon now. ``upcoming`` is the next id to be drawn, ``oldest_live`` the smallest upload in progress."""
        if served_ns - self._marks[-1][0] >= self._span_ns // MARKS:
            self._marks.append((served_ns, upcoming))
        while len(self._marks) > 1 and served_ns - self._marks[1][0] >= self._span_ns:
            self._marks.popleft()
        marked_ns, marked = self._marks[0]
        if served_ns - marked_ns >= self._span_ns:
            reached = marked if oldest_live is None else min(marked, oldest_live)
            self.value = max(self.value, reached)
        return self.value

    def __repr__(self) -> str:
        return f"<Horizon {self.value:#x}, {len(self._marks)} marks>"
