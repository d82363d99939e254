"""Results of the catalog wait here until enough copies hold what they have seen. Pure.

Each result tells the position of the log that it saw. In ``sync`` it passes when the log is safe up to there; in ``async``
at once, unless the oldest record that is not safe is older than the lag allowed. Results pass in the order in which they
came.

The gate is *unprotected* when copies were missing, or records not safe, for a time: everything passes then, and health says
so, until there are enough copies again that hold all but the last moment. It is *fenced* while there are nodes and none
has been heard under our term within the lease: nothing passes, since another master may have taken over.

What must not happen at any level before the copies know of it (drops) waits in a line of its own, for safety itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from dsa_zmq.master.desk import Moment

SYNC, ASYNC, OFF = "sync", "async", "off"
ALL = (1 << 63) - 1  #: a limit above every position
NONE = -1
MARK_NS = 5_000_000  #: records that came within so long share a mark
MAX_MARKS = 1_000
AT_ONCE = 2_000  #: results that pass in one turn: some 100 ms of answers, after a pause


class Gate:
    """See the module. Times are serving time in nanoseconds, but for those of the wall."""

    def __init__(self, level: str, lag_ns: int, unprotected_after_ns: int) -> None:
        self.level = level
        self._lag_ns = lag_ns
        self._unprotected_after_ns = unprotected_after_ns
        self.limit = ALL if level == OFF else NONE  #: results up to this position pass now
        self.unprotected_ns = 0  #: since when, by the wall; 0: it is protected
        self.is_fenced = False
        self.safe = NONE  #: as was last told
        self._marks: deque[tuple[int, int]] = deque()  #: (position, since when a record at or below it was not safe)
        self._thin_ns = NONE  #: since when there are too few copies
        self._line: deque[tuple[int, Any, Any]] = deque()  #: (position, token, result)
        self._later: deque[tuple[int, Callable[..., None]]] = deque()  #: (position, what is to be done)

    # --- what happens ---------------------------------------------------------------------------------------------

    def committed(self, position: int, served_ns: int) -> None:
        """The log has records up to there, which are not safe yet."""
        marks = self._marks
        if position <= self.safe:
            return
        if marks and (served_ns - marks[-1][1] < MARK_NS or len(marks) >= MAX_MARKS):
            marks[-1] = (position, marks[-1][1])
        else:
            marks.append((position, served_ns))
        if self.level == ASYNC:
            self._set_limit(served_ns)

    def is_safe(self, safe: int, served_ns: int) -> None:
        """The log is safe up to there."""
        self.safe = safe
        while self._marks and self._marks[0][0] <= safe:
            self._marks.popleft()
        self._set_limit(served_ns)

    def look(self, at: Moment, *, is_thin: bool, is_fenced: bool, is_vain: bool = False) -> bool:
        """Time has passed; whether there are too few copies, whether waiting for more is in vain, and whether nobody is to
        be heard. Returns whether it has become protected, or is it no more."""
        if not is_thin:
            self._thin_ns = NONE
        elif self._thin_ns == NONE:
            self._thin_ns = at.served_ns
        missing_ns = max(at.served_ns - self._thin_ns if is_thin else 0, self.lag_ns(at.served_ns))
        before, self.is_fenced = self.unprotected_ns, is_fenced
        if not self.unprotected_ns and ((is_thin and is_vain) or missing_ns >= self._unprotected_after_ns):
            self.unprotected_ns = max(1, at.wall_ns - missing_ns)
        elif self.unprotected_ns and not is_thin and missing_ns < self._unprotected_after_ns // 2:
            self.unprotected_ns = 0
        self._set_limit(at.served_ns)
        return bool(before) != bool(self.unprotected_ns)

    def fence(self) -> None:
        """Nothing passes from now on, until a look says otherwise."""
        self.is_fenced, self.limit = True, NONE

    def _set_limit(self, served_ns: int) -> None:
        if self.is_fenced:
            self.limit = NONE
        elif self.unprotected_ns or (self.level == ASYNC and self.lag_ns(served_ns) <= self._lag_ns):
            self.limit = ALL
        else:
            self.limit = self.safe

    def lag_ns(self, served_ns: int) -> int:
        """Age of the oldest record that is not safe; 0 if all are."""
        return served_ns - self._marks[0][1] if self._marks else 0

    # --- who waits ------------------------------------------------------------------------------------------------

    def passes(self, position: int) -> bool:
        """Whether a result that has come now, and saw the log up to there, passes at once."""
        return position <= self.limit and not self._line

    def keep(self, position: int, token: Any, result: Any) -> None:
        """It waits, behind those that do."""
        self._line.append((position, token, result))

    def keep_until_safe(self, position: int, then: Callable[..., None]) -> None:
        """At any level, this is to be done when the log is safe up to there."""
        self._later.append((position, then))

    def is_open_for(self, position: int) -> bool:
        """Whether what is kept until it is safe may be done now."""
        return position <= self.safe and not self.is_fenced and not self._later

    def release(self) -> tuple[Any, Any] | None:
        """The next result that may pass, with its token."""
        if self._line and self._line[0][0] <= self.limit:
            _, token, result = self._line.popleft()
            return token, result
        return None

    def release_safe(self) -> Callable[..., None] | None:
        """The next of what was kept until it is safe."""
        if self._later and self._later[0][0] <= self.safe and not self.is_fenced:
            return self._later.popleft()[1]
        return None

    @property
    def is_waiting(self) -> bool:
        """Whether time has something to decide."""
        return bool(self._line or self._later or self._marks)

    def statistics(self) -> dict[str, int]:
        return {
            "results_waiting": len(self._line),
            "drops_waiting": len(self._later),
            "catalog_unprotected": int(bool(self.unprotected_ns)),
        }

    def __repr__(self) -> str:
        return f"<Gate {self.level} open to {self.limit}, {len(self._line)} waiting>"

    def check_invariants(self) -> None:
        positions = [position for position, _, _ in self._line]
        assert positions == sorted(positions), "who came later has seen more"
        assert not self._marks or self._marks[0][0] > self.safe
        assert len(self._marks) <= MAX_MARKS
