"""What each node may have under way, as target and as source, and how fast. Pure.

Bytes that are taken beyond a node's rate are a debt: nothing more leaves until time has paid it. So a batch need not fit
into what is left, and the rate holds over some batches. Times are serving time in nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from dsa_zmq.model.pace import HealingPace

SECOND_NS = 1_000_000_000
SOON_NS = 1_000_000  #: nobody comes back for less


@dataclass(slots=True)
class _Bucket:
    """Bytes that may still leave now; below 0: a debt."""

    left: float
    since_ns: int


class Rates:
    """One bucket a node, of a second's bytes."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._buckets: dict[int, _Bucket] = {}

    def may(self, node: int, now_ns: int) -> bool:
        """Whether something may leave now."""
        return self._filled(node, now_ns).left > 0

    def take(self, node: int, size_bytes: int, now_ns: int) -> None:
        self._filled(node, now_ns).left -= size_bytes

    def due_ns(self) -> Iterator[int]:
        """When each node that is in debt will have paid it."""
        for bucket in self._buckets.values():
            if bucket.left <= 0:
                yield bucket.since_ns + int(-bucket.left / self._bytes_s * SECOND_NS) + SOON_NS

    def _filled(self, node: int, now_ns: int) -> _Bucket:
        bucket = self._buckets.get(node)
        if bucket is None:
            bucket = self._buckets[node] = _Bucket(self._bytes_s, now_ns)
        gained = self._bytes_s * (now_ns - bucket.since_ns) / SECOND_NS
        bucket.left, bucket.since_ns = min(self._bytes_s, bucket.left + gained), now_ns
        return bucket


class Budget:
    """Counts batches under way and bytes of all nodes."""

    def __init__(self, pace: HealingPace) -> None:
        self._batches = pace.move_batches
        self._rates = Rates(pace.node_bytes_s)
        self._trickles = Rates(pace.node_bytes_s * pace.trickle_rate)
        self.as_target: Counter[int] = Counter()
        self.as_source: Counter[int] = Counter()

    def may_be_target(self, node: int, now_ns: int) -> bool:
        return self.as_target[node] < self._batches and self._rates.may(node, now_ns)

    def may_be_source(self, node: int, now_ns: int) -> bool:
        return self.as_source[node] < self._batches and self._rates.may(node, now_ns)

    def may_trickle(self, node: int, now_ns: int) -> bool:
        """Whether the node may get one more shard that nobody is in want of."""
        return self._trickles.may(node, now_ns)

    def trickled(self, node: int, size_bytes: int, now_ns: int) -> None:
        self._trickles.take(node, size_bytes, now_ns)

    def begin(self, target: int, size_bytes: int, asked: dict[int, int], now_ns: int) -> None:
        """A batch leaves: so many bytes are to be written, and so many of them are asked of each source. What the target
        has itself is asked of nobody, and yet its disk has to do with it."""
        self.as_target[target] += 1
        self.as_source.update(asked.keys())
        self._rates.take(target, size_bytes, now_ns)
        for source, size_bytes in asked.items():
            self._rates.take(source, size_bytes, now_ns)

    def end(self, target: int, sources: set[int]) -> None:
        self.as_target[target] -= 1
        self.as_source.subtract(sources)

    def due_ns(self) -> Iterator[int]:
        """Times at which more may leave."""
        yield from self._rates.due_ns()
        yield from self._trickles.due_ns()
