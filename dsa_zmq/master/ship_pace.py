"""When a new volume of the catalog is begun: soon where copies are missing, and never as often as nodes flap. Pure.

A volume is begun

* when there is no volume, or an earlier master's is on no node;
* when fewer nodes hold the current one than have to, and another could: at once, but for the time in which those that are
  silent may come back;
* when fewer hold it than are wanted, after a time that goes with its size: a short absence is bridged by the log;
* when its log has outgrown its snapshot.

However nodes come and go, only so many are begun in a time.

See :mod:`dsa_zmq.master.shipping`. Times are serving time in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from dsa_zmq.master.desk import Moment
from dsa_zmq.master.ship_resume import ShipResume
from dsa_zmq.master.ship_set import ShipNode
from dsa_zmq.master.ship_volume import ShipVolume

GROWN_BYTES = 16 << 20  #: of log, before a volume is worth a new snapshot, however small the last one was
REPLACE_NS_PER_BYTE = 1_000  #: a missing copy is replaced after so long: a snapshot costs all members
REPLACE_MAX_NS = 600_000_000_000
AVOID_NS = 60_000_000_000  #: a node that had no room, or was too slow, is not chosen; twice as long each time
AVOID_MAX_NS = 3_600_000_000_000
MAX_BEGINS = 5  #: volumes begun in a row; then one in ``REFILL_SUSPECTS`` times the silence that makes a node suspect
REFILL_SUSPECTS = 10


class Situation(Protocol):
    """What is looked at."""

    @property
    def nodes(self) -> Mapping[int, ShipNode]: ...
    @property
    def current(self) -> ShipVolume | None: ...
    @property
    def resuming(self) -> ShipResume: ...
    @property
    def wanted(self) -> int: ...
    @property
    def enough(self) -> int: ...


class ShipPace:
    """``suspect_ns`` is the silence after which nodes are suspect, ``gather_ns`` how long a first volume waits for more
    nodes."""

    def __init__(self, suspect_ns: int, gather_ns: int) -> None:
        self._suspect_ns = suspect_ns
        self._gather_ns = gather_ns
        self._since: dict[str, int] = {}  #: since when something is so
        self._avoided: dict[int, tuple[int, int]] = {}  #: by node: until when it is not chosen, how long that is
        self._tokens: float = MAX_BEGINS
        self._tokens_ns = 0

    def avoid(self, node: int, at: Moment) -> None:
        """This node is not chosen for a while."""
        until_ns, pause_ns = self._avoided.get(node, (0, AVOID_NS // 2))
        if until_ns <= at.served_ns:
            pause_ns = min(2 * pause_ns, AVOID_MAX_NS)
            self._avoided[node] = (at.served_ns + pause_ns, pause_ns)

    def settled(self, nodes: Iterable[int]) -> None:
        """There is a new volume, on these nodes: what is missing is missing from now on."""
        self._since.clear()
        for node in nodes:
            self._avoided.pop(node, None)

    def candidates(self, nodes: Iterable[ShipNode], at: Moment) -> list[ShipNode]:
        """Nodes that a new volume may go to."""
        return [each for each in nodes if not each.why_not and self._avoided.get(each.node, (0, 0))[0] <= at.served_ns]

    def should_begin(self, now: Situation, at: Moment) -> bool:
        """Whether it is time for a new volume; if so, it is taken to be begun."""
        candidates = self.candidates(now.nodes.values(), at)
        if not candidates:
            return False
        due = self._is_first_due(now, candidates, at) if now.current is None else self._is_due(now, candidates, at)
        return due and self._may_begin(at)

    def _is_first_due(self, now: Situation, candidates: Collection[ShipNode], at: Moment) -> bool:
        waits_ns = self._lasts(f"{len(candidates)} candidates", True, at)
        if now.resuming.volume:  # a node that holds it may be about to come
            return waits_ns >= self._suspect_ns or now.resuming.told.keys() >= now.nodes.keys()
        return waits_ns >= self._gather_ns or len(candidates) == len(now.nodes) >= now.wanted

    def _is_due(self, now: Situation, candidates: Collection[ShipNode], at: Moment) -> bool:
        assert now.current is not None
        good, away = [], 0
        for copy in now.current.good():
            if now.nodes[copy.node].why_not:
                away += 1
            else:
                good.append(copy.node)
        fresh = [each for each in candidates if each.node not in good]
        thin_ns = self._lasts("thin", len(good) < now.enough and bool(fresh), at)
        may_come = away or any(each.node not in now.resuming.told for each in fresh)  # with a copy that can go on
        if thin_ns >= (self._suspect_ns if may_come else 0):
            return True
        stays = sum(not now.nodes[node].draining for node in good)
        few_ns = self._lasts("few", stays < now.wanted and any(not each.draining for each in fresh), at)
        if few_ns >= 2 * self._suspect_ns + min(REPLACE_MAX_NS, now.current.size * REPLACE_NS_PER_BYTE):
            return True
        grown = now.current.log_bytes > max(GROWN_BYTES, now.current.snapshot_bytes)
        return grown and len(good) >= now.enough

    def _lasts(self, what: str, so: bool, at: Moment) -> int:
        """For how long something has been so, as far as it was looked at; -1: it is not."""
        if not so:
            self._since.pop(what, None)
            return -1
        return at.served_ns - self._since.setdefault(what, at.served_ns)

    def _may_begin(self, at: Moment) -> bool:
        earned = (at.served_ns - self._tokens_ns) / (REFILL_SUSPECTS * self._suspect_ns)
        self._tokens, self._tokens_ns = min(MAX_BEGINS, self._tokens + earned), at.served_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
