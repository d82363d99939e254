"""Shipping with everything around it: a catalog with a log, nodes that keep volumes, messages that may be lost."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from dsa_zmq.master.catalog.log_jobs import BeginVolume, LogState, ReadLog, Slice, TakeSlice, TrimLog, VolumeBegun
from dsa_zmq.master.desk import Moment
from dsa_zmq.master.ship_effects import Ask, Send
from dsa_zmq.master.ship_set import ShipNode
from dsa_zmq.master.ship_window import WINDOW_BYTES
from dsa_zmq.master.shipping import Shipping
from dsa_zmq.model.records import BEGIN, CHANGES, END, NO_HASH, ROWS, VOLUME_FORMAT, Record, VolumeEnd, VolumeHead, seal
from dsa_zmq.protocol.volumes import AskVolumes, Ship, Shipped, Volumes
from tests.keeper import Keeper

MS, SECOND = 10**6, 10**9
SUSPECT_NS, GATHER_NS = 3 * SECOND, SECOND // 4


class Log:
    """The catalog's side: it lives longer than a master."""

    def __init__(self, rows: int = 3, part_bytes: int = 200) -> None:
        self.records: dict[int, Record] = {}
        self.position, self.hash, self.wall_ns, self.term = 0, NO_HASH, 1_000 * SECOND, 1
        self.volume = 0
        self.rows = rows  #: parts of a snapshot
        self.part_bytes = part_bytes
        self.restored_ns = 0
        self.volumes = 0
        self.random = random.Random(5)

    def change(self, size: int = 40, records: int = 1) -> tuple[bytes, ...]:
        """One transaction."""
        made = []
        for left in reversed(range(records)):
            self.position += 1
            body = self.random.randbytes(size)
            record = seal(CHANGES, self.position, self.term, self.wall_ns, self.hash, body, ends=not left)
            self.hash = record.hash
            self.records[self.position] = record
            made.append(record.data)
        return tuple(made)

    def state(self) -> LogState:
        first = min(self.records, default=self.position + 1)
        size = sum(len(record.data) for record in self.records.values())
        return LogState(self.position, self.hash, first, size, self.volume, self.restored_ns)

    def run(self, job: Any) -> Any:
        match job:
            case ReadLog():
                found: list[bytes] = []
                for position in range(job.first, self.position + 1):
                    if (
                        position not in self.records
                        or sum(map(len, found)) + len(self.records[position].data) > job.limit
                    ):
                        break
                    found.append(self.records[position].data)
                return found
            case TrimLog():
                self.records = {
                    at: record for at, record in self.records.items() if at >= job.below or at == self.position
                }
                return None
            case BeginVolume():
                self.volumes += 1
                self.volume = self.term * 1000 + self.volumes
                head = VolumeHead(VOLUME_FORMAT, "ab" * 16, self.volume, 3, self.position, job.software)
                begin = seal(BEGIN, 0, self.term, self.wall_ns, self.hash, msgspec.json.encode(head))
                return VolumeBegun(self.volume, self.position, begin.data)
            case TakeSlice():
                if job.part <= self.rows:
                    body = self.random.randbytes(self.part_bytes)
                    record = seal(ROWS, job.part, self.term, self.wall_ns, job.previous, body)
                    return Slice([record.data], b"more", job.part + 1, record.hash)
                body = msgspec.json.encode(VolumeEnd(self.position, 9))
                record = seal(END, job.part, self.term, self.wall_ns, job.previous, body)
                return Slice([record.data], b"", job.part + 1, record.hash)
        raise AssertionError(job)


class Harbour:
    """One master's shipping. Nothing happens by itself: ``step`` carries one message or job, ``run`` all there is."""

    def __init__(self, nodes: int = 3, log: Log | None = None, *, window: int = WINDOW_BYTES, **facts: Any) -> None:
        self.log = log or Log()
        self.keepers: dict[int, Keeper] = {}
        self.seen: dict[int, ShipNode] = {}
        self.away: set[int] = set()
        self.cut: set[int] = set()  #: what is sent there is lost, and nobody has noticed yet
        self.lose: Callable[[], bool] = lambda: False
        self.sent: list[tuple[int, Any, int]] = []  #: (node, message, bytes) of all that was sent
        self.asked: list[Any] = []
        self.lines: dict[int, deque[Any]] = {}
        self.jobs: deque[Ask] = deque()
        self.now_ns = 0
        self.wakes = 0
        self.window = window
        for node in range(1, nodes + 1):
            self.join(node, **facts)
        self.ship: Shipping = None  # type: ignore[assignment]

    def start(self) -> Harbour:
        """A master starts; a restart if there was one."""
        self.log.term += 1
        self.lines.clear()
        self.jobs.clear()
        self.ship = Shipping(self.log.term, SUSPECT_NS, GATHER_NS, self.window)
        self.see()
        self.ship.loaded(self.log.state(), self.at)
        for node in self.seen:
            if node not in self.away:
                self.ship.registered(node, self.at)
        self.take()
        return self

    @property
    def at(self) -> Moment:
        return Moment(self.now_ns, self.log.wall_ns)

    def join(self, node: int, **facts: Any) -> None:
        self.keepers.setdefault(node, Keeper())
        known = {"zone": "", "host": f"host{node}", "disk": f"disk{node}"} | facts
        self.seen[node] = ShipNode(node, f"n{node}", **known)

    def see(self) -> None:
        """The master looks at the nodes."""
        nodes = [
            each._replace(why_not=f"'{each.name}' is down") if node in self.away else each
            for node, each in self.seen.items()
        ]
        self.ship.see(nodes, self.at)
        self.take()

    def leave(self, *nodes: int) -> None:
        """They are noticed to be away."""
        self.away |= set(nodes)
        for node in nodes:
            self.lines.pop(node, None)
        self.see()

    def come(self, *nodes: int) -> None:
        """They are back, and have registered."""
        self.away -= set(nodes)
        self.cut -= set(nodes)
        self.see()
        for node in nodes:
            self.lines.pop(node, None)
            self.ship.registered(node, self.at)
        self.take()

    def change(self, size: int = 40, records: int = 1) -> int:
        """A transaction; the position after it."""
        self.ship.committed(self.log.change(size, records), self.at)
        self.take()
        return self.log.position

    def take(self) -> None:
        """Effects of the last turn."""
        for effect in self.ship.effects():
            if isinstance(effect, Send):
                self.sent.append((effect.node, effect.message, sum(map(len, effect.payload))))
                if effect.node not in self.away | self.cut and not self.lose():
                    self.lines.setdefault(effect.node, deque()).append((effect.message, tuple(effect.payload)))
            elif isinstance(effect, Ask):
                self.asked.append(effect.job)
                self.jobs.append(effect)
            else:
                self.wakes += 1
        self.ship.check_invariants()

    def deliver(self, node: int) -> bool:
        """The next message to or from that node."""
        line = self.lines.get(node)
        if not line:
            return False
        message, payload = line.popleft()
        keeper = self.keepers[node]
        answer: Any = None
        match message:
            case Ship():
                answer = keeper.ship(message, payload)
            case AskVolumes():
                answer = keeper.tell(message.number)
        if answer is not None and not self.lose() and node not in self.cut:
            if isinstance(answer, Shipped):
                self.ship.shipped(node, answer, self.at)
            elif isinstance(answer, Volumes):
                self.ship.volumes_told(node, answer, self.at)
            self.take()
        return True

    def carry(self) -> None:
        """All messages, and no jobs."""
        while any(self.deliver(node) for node in list(self.lines)):
            pass

    def work(self) -> bool:
        """The next job of the catalog."""
        if not self.jobs:
            return False
        effect = self.jobs.popleft()
        result = self.log.run(effect.job)
        match effect.token:
            case ("begin",):
                self.ship.volume_begun(result, self.at)
            case ("slice", volume):
                self.ship.slice_read(volume, result, self.at)
            case ("log", volume, node):
                self.ship.read_log(volume, node, result, self.at)
            case ("trim",):
                self.ship.trimmed(False)
        self.take()
        return True

    def run(self) -> None:
        """Until nothing is on its way."""
        while any([self.work(), *[self.deliver(node) for node in list(self.lines)]]):
            if self.wakes:
                self.wakes = 0
                self.ship.wake(self.at)
                self.take()

    def wait(self, seconds: float, step_s: float = 0.25) -> None:
        """Time passes."""
        end_ns = self.now_ns + int(seconds * SECOND)
        self.run()
        while self.now_ns < end_ns:
            self.now_ns += int(step_s * SECOND)
            self.log.wall_ns += int(step_s * SECOND)
            if self.wakes:
                self.wakes = 0
                self.ship.wake(self.at)
            self.see()
            self.ship.tick(self.at)
            self.take()
            self.run()

    # --- what is so -----------------------------------------------------------------------------------------------

    def holding(self, position: int) -> set[int]:
        """Nodes with a usable volume that reaches so far, by what they really have."""
        return {
            node
            for node, keeper in self.keepers.items()
            for kept in keeper.volumes.values()
            if kept.chain.usable and not kept.damage and kept.chain.position >= position
        }

    def members(self) -> set[int]:
        assert self.ship.current is not None
        return set(self.ship.current.copies)

    def count(self, kind: type[Any]) -> int:
        """Jobs of that kind so far."""
        return sum(isinstance(job, kind) for job in self.asked)


def settled(nodes: int = 3, **facts: object) -> Harbour:
    """A master whose first volume is complete."""
    harbour = Harbour(nodes, **facts).start()
    harbour.change()
    harbour.wait(1)
    assert harbour.ship.safe == harbour.log.position
    return harbour
