"""Who is alive, and for how long: serving time, silence, incarnations, leases. Pure: the caller brings the clock.

A process that was paused (a stopped virtual machine, a long garbage collection) finds on waking that everybody has been
silent, because nobody's messages were read. So silence and leases are measured in *serving time*: the monotonic clock less
the gaps in which we ourselves did nothing.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ServingClock:
    """Nanoseconds during which this process was at work.

    Read it in every turn that cares, and from a timer at least every ``max_gap_ns``: of a longer gap between two
    readings only ``max_gap_ns`` count. Readings never go back.
    """

    def __init__(self, now_ns: int, max_gap_ns: int) -> None:
        self._last_ns = now_ns
        self._max_gap_ns = max_gap_ns
        self._served_ns = 0
        self.missed_ns = 0  #: in all, what did not count

    def read(self, now_ns: int) -> int:
        """Serving time since construction, for the monotonic time ``now_ns``."""
        gap_ns = max(0, now_ns - self._last_ns)
        self._last_ns = max(now_ns, self._last_ns)
        counted_ns = min(gap_ns, self._max_gap_ns)
        self._served_ns += counted_ns
        self.missed_ns += gap_ns - counted_ns
        return self._served_ns

    def __repr__(self) -> str:
        return f"<ServingClock served={self._served_ns / 1e9:.3f}s missed={self.missed_ns / 1e9:.3f}s>"


class Liveness(enum.Enum):
    """What silence says. Soft state: a peer is never *known* to be dead."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


class Sign(enum.Enum):
    """Whose sign of life it was, judged by its incarnation."""

    CURRENT = "current"  #: of the incarnation we know; its silence begins anew
    OLDER = "older"  #: of an earlier process: late, or still running beside the present one
    NEWER = "newer"  #: of a process that has not introduced itself yet
    UNKNOWN = "unknown"  #: of somebody we never heard of


@dataclass(slots=True)
class _Pulse:
    incarnation: int
    heard_ns: int  #: serving time
    confirmed: bool  #: heard of since it was added; else silent since then


class LivenessTable(Generic[K]):
    """The last sign of life of each peer. All times are serving time, in nanoseconds.

    The states by silence: up until ``suspect_ns``, suspect until ``down_ns``, down from then on. A peer that was only
    added, never heard, is suspect at best.
    """

    def __init__(self, suspect_ns: int, down_ns: int) -> None:
        if not 0 < suspect_ns <= down_ns:
            raise ValueError("the times of liveness must satisfy 0 < suspect <= down")
        self._suspect_ns = suspect_ns
        self._down_ns = down_ns
        self._pulses: dict[K, _Pulse] = {}

    def add(self, key: K, incarnation: int, served_ns: int) -> None:
        """Expect signs of life of this peer, of which nothing was heard yet. Its silence starts now."""
        self._pulses[key] = _Pulse(incarnation, served_ns, False)

    def introduce(self, key: K, incarnation: int, served_ns: int) -> None:
        """This incarnation is the present one, and just spoke."""
        self._pulses[key] = _Pulse(incarnation, served_ns, True)

    def heard(self, key: K, incarnation: int, served_ns: int) -> Sign:
        """A sign of life. Only one of the present incarnation ends a silence."""
        pulse = self._pulses.get(key)
        if pulse is None:
            return Sign.UNKNOWN
        if incarnation != pulse.incarnation:
            return Sign.OLDER if incarnation < pulse.incarnation else Sign.NEWER
        pulse.heard_ns = max(pulse.heard_ns, served_ns)
        pulse.confirmed = True
        return Sign.CURRENT

    def forget(self, key: K) -> None:
        """Expect nothing of this peer any more."""
        self._pulses.pop(key, None)

    def silence_ns(self, key: K, served_ns: int) -> int:
        """Since its last sign of life (or since it was added)."""
        return max(0, served_ns - self._pulses[key].heard_ns)

    def confirmed(self, key: K, since_ns: int = -1) -> bool:
        """Whether anything was heard of it at all, and later than ``since_ns``."""
        pulse = self._pulses[key]
        return pulse.confirmed and pulse.heard_ns > since_ns

    def state(self, key: K, served_ns: int) -> Liveness:
        """What its silence says now."""
        silence_ns = self.silence_ns(key, served_ns)
        if silence_ns >= self._down_ns:
            return Liveness.DOWN
        if silence_ns >= self._suspect_ns or not self._pulses[key].confirmed:
            return Liveness.SUSPECT
        return Liveness.UP

    def __contains__(self, key: K) -> bool:
        return key in self._pulses

    def __len__(self) -> int:
        return len(self._pulses)

    def __iter__(self) -> Iterator[K]:
        return iter(self._pulses)


class Leases(Generic[K]):
    """Things that live as long as somebody renews them. All leases are equally long, so the oldest renewal ends first."""

    def __init__(self, duration_ns: int) -> None:
        self._duration_ns = duration_ns
        self._renewed: OrderedDict[K, int] = OrderedDict()  #: serving time of the last renewal, oldest first

    def renew(self, key: K, served_ns: int) -> None:
        """Begin or extend a lease: it now ends a full duration after ``served_ns``."""
        self._renewed[key] = served_ns
        self._renewed.move_to_end(key)

    def end(self, key: K) -> None:
        """End a lease early; unknown keys are fine."""
        self._renewed.pop(key, None)

    def expire(self, served_ns: int, limit: int | None = None) -> list[K]:
        """Remove and return the leases that have run out, the longest ended first, at most ``limit``."""
        ended: list[K] = []
        for key, renewed_ns in self._renewed.items():
            if served_ns - renewed_ns < self._duration_ns or len(ended) == limit:
                break
            ended.append(key)
        for key in ended:
            del self._renewed[key]
        return ended

    def __contains__(self, key: K) -> bool:
        return key in self._renewed

    def __len__(self) -> int:
        return len(self._renewed)

    def __iter__(self) -> Iterator[K]:
        return iter(self._renewed)
