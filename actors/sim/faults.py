"""What may go wrong in a simulated world, and how fast it is when nothing does.

Probabilities are per message or per batch, times are virtual nanoseconds. Crashes, pauses and partitions are not here:
a scenario causes them itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors import limits

US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Faults:
    """The rates of a world's faults."""

    latency_ns: int = 100 * US  #: least time of a message on its way
    jitter_ns: int = 400 * US  #: at most this much more, uniformly
    bytes_per_second: int = 0  #: of one connection in one direction; 0: bytes take no time
    queue_messages: int = limits.SEND_QUEUE_MESSAGES  #: undelivered per connection and direction; more are BUSY

    loss: float = 0.0  #: a message vanishes
    duplicate: float = 0.0  #: a message arrives a second time, later
    spike: float = 0.0  #: a message (and those behind it) is late by up to ``spike_ns``
    spike_ns: int = 2 * SECOND
    reset: float = 0.0  #: the connection breaks, with all that is under way in both directions
    unnoticed: float = 0.0  #: a lost or refused connection is not reported to the side that opened it

    batch_min_ns: int = 20 * US  #: duration of a batch on a lane
    batch_max_ns: int = 2 * MS
    slow_batch: float = 0.0  #: a batch takes up to ``slow_batch_ns`` (a disk that hesitates)
    slow_batch_ns: int = 3 * SECOND

    timer_late_ns: int = 0  #: a timer comes up to this much late
    drift_ppm: int = 0  #: monotonic clocks run too fast or too slow by up to this
    skew_ns: int = 0  #: wall clocks differ from the truth by up to this

    heartbeat_ns: int = (limits.HEARTBEAT_INTERVAL_MS + limits.HEARTBEAT_TIMEOUT_MS) * MS
    """A connection whose peer is silent (paused, cut off, without power) for so long breaks."""
    reconnect_min_ns: int = limits.RECONNECT_MIN_MS * MS
    reconnect_max_ns: int = limits.RECONNECT_MAX_MS * MS

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "spike", "reset", "unnoticed", "slow_batch"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, not {getattr(self, name)}")

    @property
    def hits_messages(self) -> bool:
        """Whether a message has to be drawn for at all."""
        return bool(self.loss or self.duplicate or self.spike or self.reset)


NO_FAULTS = Faults()

ROUGH = Faults(
    loss=0.01,
    duplicate=0.01,
    spike=0.01,
    reset=0.002,
    unnoticed=0.5,
    slow_batch=0.02,
    timer_late_ns=2 * MS,
    drift_ppm=200,
    skew_ns=5 * SECOND,
)
"""A bad day: everything happens, nothing so often that work cannot go on."""
