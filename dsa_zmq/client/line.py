"""How fast bytes move between this client and all nodes together. Pure.

Everything under way shares one line. On a slow one a node may have nothing to say for a long time, only because its bytes
have not arrived yet; so time-outs are longer by the time that the line needs for what is under way.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
FIRST_RATE = 1 << 20  #: bytes/s, assumed until something was measured: a slow uplink
LEAST_RATE = 1 << 16  #: bytes/s
MARGIN = 2  #: the line is shared with others, and its rate changes
MOST_NS = 15 * SECOND_NS  #: added to a time-out: half of what a transfer may stand still


class Line:
    """Measures over a second and more; seconds without any traffic say nothing."""

    def __init__(self) -> None:
        self._rate = float(FIRST_RATE)
        self._moved = 0
        self._since_ns: int | None = None

    def __repr__(self) -> str:
        return f"Line({self._rate / 1e6:.1f} MB/s)"

    def moved(self, size: int) -> None:
        """So many bytes were answered for."""
        self._moved += size

    def drain_ns(self, size: int, now_ns: int) -> int:
        """How long ``size`` bytes may take, with a margin. Call it now and then."""
        if self._since_ns is None:
            self._since_ns = now_ns
        elapsed_ns = now_ns - self._since_ns
        if elapsed_ns >= SECOND_NS and (self._moved or not size):  # while nothing comes, the second grows longer
            if self._moved:
                sample = self._moved * SECOND_NS / elapsed_ns
                self._rate = max(LEAST_RATE, sample, (self._rate + sample) / 2)
            self._moved, self._since_ns = 0, now_ns
        return min(MOST_NS, int(MARGIN * size * SECOND_NS / self._rate))

    def move_ns(self, size: int) -> int:
        """How long ``size`` bytes usually take."""
        return min(MOST_NS, int(size * SECOND_NS / self._rate))
