"""Which records of the log nobody needs any more: those that all copies hold. Pure.

See :mod:`dsa_zmq.master.shipping`. They are removed now and then, many at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from dsa_zmq.master.desk import Moment
from dsa_zmq.master.ship_volume import ShipVolume
from dsa_zmq.master.ship_window import ShipWindow

BRIDGED_BYTES = 64 << 20  #: of log that is kept for copies whose nodes are away
START_KEEP_NS = 60_000_000_000  #: after a start nothing is removed until nodes with copies had time to come
RECORDS = 256  #: that nobody needs, before they are removed, or ...
PAUSE_NS = 2_000_000_000  #: ... after so long


class ShipTrim:
    """See the module. Times are serving time in nanoseconds."""

    def __init__(self) -> None:
        self.below = 0  #: records below this were removed, or are being removed
        self._trimmed_ns = 0
        self._began_ns = 0
        self._is_busy = False

    def begin(self, first: int, at: Moment) -> None:
        """The catalog has the records from there on."""
        self.below, self._began_ns, self._trimmed_ns = first, at.served_ns, at.served_ns

    def due(self, volumes: Iterable[ShipVolume], window: ShipWindow, at: Moment, *, resumes: bool, begun: int) -> int:
        """Records below this position are to be removed now; 0: none. ``resumes``: an earlier master's volume is still
        looked for; ``begun``: so many were since."""
        if self._is_busy:
            return 0
        may_come = resumes or (not begun and at.served_ns - self._began_ns < START_KEEP_NS)
        if may_come and window.bytes_behind(self.below - 1) < BRIDGED_BYTES:
            return 0
        needed = window.position
        for volume in volumes:
            for copy in volume.good():
                needed = min(needed, max(copy.base, copy.state.position))
        if needed <= self.below:
            return 0
        if needed - self.below < RECORDS and at.served_ns - self._trimmed_ns < PAUSE_NS:
            return 0
        self._is_busy = True
        self.below, self._trimmed_ns = needed, at.served_ns
        window.trim(needed)
        return needed

    def done(self, more: bool) -> int | None:
        """Some are removed. If there are more, below which position."""
        self._is_busy = more
        return self.below if more else None
