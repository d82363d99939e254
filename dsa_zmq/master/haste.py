"""When not to hurry: repair and trims wait while silence may have another cause than deaths. Pure."""

from __future__ import annotations

from dsa_zmq.master.members import Members
from dsa_zmq.model.pace import HealingPace

SECOND_NS = 1_000_000_000


class Haste:
    """Times are serving time in nanoseconds."""

    def __init__(self, members: Members, pace: HealingPace) -> None:
        self._members = members
        self._start_hold_ns = int(pace.start_hold_s * SECOND_NS)

    def held(self, served_ns: int) -> str:
        """Why repair and trims wait now; "" if they do not."""
        if served_ns < self._start_hold_ns and not self._members.all_heard(0):
            return "the master has just started, and has not heard all nodes yet"
        return ""
