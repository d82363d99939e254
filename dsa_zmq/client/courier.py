"""Carries shards to nodes and from them: byte credit, batching, numbering, time-outs. Pure; shared by all transfers.

A transfer hands in tasks; the courier decides when each leaves. Tasks wait in a queue per node until both credit windows
have room. Small ones that wait together leave together in one message. Every task ends in exactly one final
:class:`Outcome`, unless its transfer is cancelled; a read may bring a *late* outcome before that.

Time-outs count from the last answer of the node, not from the send, and a slow line with many megabytes under way is not a
dead node: what it takes to move them comes on top. A silent node is pinged: a living process answers that whatever its disk
does, so a node that hangs is given up much sooner than a slow one. It loses everything under way and waiting for it at once,
and its connection. Where a process has ended nobody waits for any time-out: the connection is lost (:meth:`Courier.lost`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from actors.core import Address
from actors.credit import Credit
from dsa_zmq.client.line import Line
from dsa_zmq.client.pace import Pace
from dsa_zmq.client.tasks import Outcome, Outgoing, Read, Slot, Task, go_together, key_of, message_of
from dsa_zmq.model import limits
from dsa_zmq.model.ids import start_of
from dsa_zmq.protocol.messages import (
    Ping,
    Pong,
    PutDone,
    ShardData,
)
from dsa_zmq.protocol.values import Failure, NodeAddress

BATCH_BYTES = 256 << 10  #: small shards go together up to this; larger messages would delay what comes behind
AGAIN_NS = 2_000_000_000  #: of silence of a living node before it is asked the same once more
SMALL_BYTES = 32 << 10  #: messages below this cost more than their bytes
SMALL_FLIGHTS = 2  #: small messages under way to one node: one being worked on, one that arrives meanwhile
BATCH_SHARDS = 128  #: far below the frame limit of a message
_NEVER = 1 << 63
MAX_FLIGHTS = 256  #: messages under way to one node: well below the queue of a connection, which drops what exceeds it


@dataclass(slots=True)
class _Flight:
    number: int
    tasks: list[Task]
    size: int  #: of all of them
    sent_ns: int
    small: bool
    told_late: bool = False
    again: bool = False  #: it was sent a second time


@dataclass(slots=True)
class _Node:
    address: Address
    incarnation: int
    name: str
    waiting: deque[Task] = field(default_factory=deque)
    flights: dict[int, _Flight] = field(default_factory=dict)  # in the order they were sent
    heard_ns: int = 0  #: its last answer, or when there was first something to answer
    ahead: int = 0  #: bytes that were under way to all nodes then: on a slow line its next answer is behind them
    alive_ns: int = 0  #: its last sign of life without an answer
    pinged_ns: int = 0
    newest_answered: int = 0
    small_flights: int = 0
    pace: Pace = field(default_factory=Pace)  #: of these
    hurry: bool = False  #: a large shard waits: small ones before it do not gather


class Courier:
    """The client's side of the data plane."""

    def __init__(
        self,
        *,
        node_credit: int = limits.NODE_CREDIT_BYTES,
        client_credit: int = limits.CLIENT_CREDIT_BYTES,
        dead_ns: int = int(limits.NODE_SILENT_S * 1e9),
        timeout_ns: int = int(limits.REQUEST_TIMEOUT_S * 1e9),
        late_ns: int = int(limits.HEDGE_S * 1e9),
    ) -> None:
        self._credit = Credit(node_credit, client_credit)
        self._line = Line()
        self._dead_ns = dead_ns
        self._ping_ns = dead_ns // 2  #: of silence before a node is asked whether it lives, and between such questions
        self._timeout_ns = timeout_ns
        self._late_ns = late_ns
        self._nodes: dict[int, _Node] = {}
        self._by_address: dict[str, int] = {}
        self._flying: dict[int, int] = {}  # number -> node
        self._ready: dict[int, None] = {}  # nodes with tasks waiting, in the order to be served
        self._number = 0
        self._look_ns = 0  #: before this time nothing more may leave, unless something happens that sets it to 0

    def __repr__(self) -> str:
        waiting = sum(len(node.waiting) for node in self._nodes.values())
        return f"Courier({waiting} tasks waiting, {len(self._flying)} messages under way, {self._credit})"

    @property
    def busy(self) -> bool:
        return bool(self._flying or self._ready)

    @property
    def credit_out(self) -> int:
        """Bytes under way or being processed."""
        return self._credit.total

    def name(self, node: int) -> str:
        """What people call the node."""
        known = self._nodes.get(node)
        return known.name if known and known.name else f"node {node}"

    def incarnation(self, node: int) -> int:
        """Of the process that we know by this node id; 0 if we know none."""
        known = self._nodes.get(node)
        return known.incarnation if known else 0

    def know(self, nodes: Iterable[NodeAddress]) -> list[Outcome]:
        """Addresses as the master tells them. A node that has moved or was restarted loses what was under way to it.

        The master's word also decides between two processes of the same start (of a directory and of its copy).
        """
        lost: list[Outcome] = []
        for told in nodes:
            node = self._nodes.get(told.node)
            if node is not None and told.incarnation == node.incarnation and told.address == node.address:
                continue  # nearly always
            if node is None:
                self._nodes[told.node] = _Node(Address(told.address), told.incarnation, told.name)
            elif start_of(told.incarnation) < start_of(node.incarnation):
                continue  # an older answer, overtaken by a newer one
            else:
                lost += self._fail_node(told.node, node, _failure(f"node {told.name} was restarted"))
                node.address, node.incarnation, node.name = Address(told.address), told.incarnation, told.name
            self._by_address[told.address] = told.node
        return lost

    def submit(self, task: Task) -> None:
        """Take charge of a task. Its node must be known."""
        node = self._nodes[task.node]
        if not node.waiting:
            self._ready[task.node] = None
        node.waiting.append(task)
        if task.size >= SMALL_BYTES:
            node.hurry = True
        self._look_ns = 0

    def flush(self, now_ns: int) -> list[Outgoing]:
        """The messages that may leave now."""
        sent: list[Outgoing] = []
        if not self._ready or now_ns < self._look_ns:
            return sent
        self._look_ns = _NEVER
        for node_id in list(self._ready):
            node, served = self._nodes[node_id], False
            while node.waiting and len(node.flights) < MAX_FLIGHTS:
                if node.waiting[0].size < SMALL_BYTES and not self._small_may_leave(node, now_ns):
                    break
                batch, size = self._take_batch(node_id, node.waiting)
                if not batch:
                    break
                small = batch[0].size < SMALL_BYTES
                if small:
                    node.small_flights += 1
                    node.pace.sent(now_ns)
                self._number += 1
                if not node.flights:
                    node.heard_ns, node.ahead = now_ns, 0
                node.flights[self._number] = _Flight(self._number, batch, size, now_ns, small)
                self._flying[self._number] = node_id
                sent.append(message_of(node.address, self._number, batch))
                served = True
            # Who was served goes to the end, so that a full client window is shared fairly.
            if served:
                del self._ready[node_id]
                if node.waiting:
                    self._ready[node_id] = None
                else:
                    node.hurry = False
        return sent

    def _small_may_leave(self, node: _Node, now_ns: int) -> bool:
        """Small shards gather behind one message with small ones, as calls to the master do."""
        if node.small_flights >= SMALL_FLIGHTS:
            return False
        if not node.small_flights or node.hurry or node.pace.late(now_ns):
            return True
        self._look_ns = min(self._look_ns, node.pace.late_ns)
        return False

    def _take_batch(self, node_id: int, waiting: deque[Task]) -> tuple[list[Task], int]:
        """The tasks of the next message, and their size; none if there is no credit."""
        first = waiting[0]
        if not self._credit.take(node_id, first.size):
            return [], 0
        batch, size = [waiting.popleft()], first.size
        keys = {key_of(first)} if waiting else set()
        while waiting and len(batch) < BATCH_SHARDS:
            task = waiting[0]
            key = key_of(task)
            # Two readers of one file want the same shard, and a request names each shard once.
            if size + task.size > BATCH_BYTES or key in keys or not go_together(first, task):
                break
            if not self._credit.take(node_id, task.size):
                break
            size += task.size
            keys.add(key)
            batch.append(waiting.popleft())
        return batch, size

    # --- what comes back -------------------------------------------------------------------------------------------

    def put_done(self, message: PutDone, now_ns: int) -> list[Outcome]:
        """Receipts and failures of writes and confirmations. Unknown numbers (late, repeated) give nothing."""
        flight = self._land(message.number, now_ns)
        if flight is None:
            return []
        told = {(outcome.chunk, outcome.index): outcome for outcome in message.outcomes}
        outcomes: list[Outcome] = []
        for task in flight.tasks:
            outcome = told.get(key_of(task))
            self._credit.give(task.node, task.size)
            if outcome is None or (outcome.receipt is None and outcome.failure is None):
                outcomes.append(Outcome(task, failure=_failure(f"{self.name(task.node)} left a shard unanswered")))
            else:
                outcomes.append(Outcome(task, receipt=outcome.receipt, failure=outcome.failure))
        return outcomes

    def shard_data(self, message: ShardData, payload: Sequence[memoryview], now_ns: int) -> list[Outcome]:
        """Bytes of reads. Their credit stays taken until :meth:`release`: it is given back on *processed*."""
        flight = self._land(message.number, now_ns)
        if flight is None:
            return []
        frames = iter(payload)
        told: dict[Slot, tuple[memoryview | None, Failure | None]] = {}
        for shard in message.shards:
            data = None if shard.failure is not None else next(frames, None)
            told[(shard.chunk, shard.index)] = (data, shard.failure)
        outcomes: list[Outcome] = []
        for task in flight.tasks:
            data, failure = told.get(key_of(task), (None, None))
            if data is None:
                self._credit.give(task.node, task.size)
                failure = failure or _failure(f"{self.name(task.node)} left a shard unanswered")
            outcomes.append(Outcome(task, data=data, failure=failure))
        return outcomes

    def release(self, task: Task) -> None:
        """The data of this read has been processed or dropped."""
        self._credit.give(task.node, task.size)
        self._look_ns = 0

    def _land(self, number: int, now_ns: int) -> _Flight | None:
        node_id = self._flying.pop(number, None)
        if node_id is None:
            return None
        node = self._nodes[node_id]
        node.heard_ns, node.ahead = now_ns, self._credit.total
        node.newest_answered = max(node.newest_answered, number)
        flight = node.flights.pop(number)
        self._look_ns = 0
        self._line.moved(flight.size)
        if flight.small:
            node.small_flights -= 1
            node.pace.answered(flight.sent_ns, now_ns)
        return flight

    # --- what goes wrong -------------------------------------------------------------------------------------------

    def lost(self, address: str) -> list[Outcome]:
        """The transport says that this peer is gone: what was under way to it will not be answered."""
        node_id = self._by_address.get(address, -1)
        node = self._nodes.get(node_id)
        if node is None or node.address != address:
            return []
        return self._fail_node(node_id, node, _failure(f"the connection to {node.name or address} was lost"))

    def pong(self, message: Pong, now_ns: int) -> tuple[list[Outcome], list[Outgoing]]:
        """A node's process lives. If it was asked long ago and has said nothing since, the question may have been lost with
        a connection: ask once more, since every request may be repeated. A new process knows of no question, and that an
        earlier one, or a copy of the node, lives at its address is no sign of life of the one that was asked."""
        node = self._nodes.get(message.node)
        if node is None:
            return [], []
        if message.incarnation != node.incarnation:
            if start_of(message.incarnation) <= start_of(node.incarnation):
                return [], []
            node.incarnation = message.incarnation
            return self._fail_node(message.node, node, _failure(f"node {node.name} was restarted")), []
        node.alive_ns = now_ns
        patience_ns = AGAIN_NS + self._line.drain_ns(self._credit.total, now_ns)
        if now_ns - node.heard_ns < patience_ns:
            return [], []
        again = [
            flight for flight in node.flights.values() if not flight.again and now_ns - flight.sent_ns >= patience_ns
        ]
        for flight in again:
            flight.again = True
        return [], [message_of(node.address, flight.number, flight.tasks) for flight in again]

    def tick(self, now_ns: int) -> tuple[list[Outcome], list[Outgoing]]:
        """Call some ten times a second: late reads, dead and stuck nodes, single requests that were overtaken and forgotten;
        pings to those that are silent."""
        outcomes: list[Outcome] = []
        sends: list[Outgoing] = []
        self._look_ns = 0
        line_ns = self._line.drain_ns(self._credit.total, now_ns)
        for node_id, node in self._nodes.items():
            if not node.flights:
                continue
            silent_ns = now_ns - node.heard_ns
            dead_ns = self._dead_ns + max(line_ns, self._line.move_ns(node.ahead))
            dead = now_ns - max(node.heard_ns, node.alive_ns) >= dead_ns
            if dead or silent_ns >= self._timeout_ns + line_ns:
                sends.append(Outgoing(node.address, None))
                problem = f"{node.name or node.address} was silent for {silent_ns / 1e9:.0f} s"
                outcomes += self._fail_node(node_id, node, _failure(problem))
                continue
            if silent_ns >= self._ping_ns and now_ns - node.pinged_ns >= self._ping_ns:
                node.pinged_ns = now_ns
                sends.append(Outgoing(node.address, Ping(node_id)))
            outcomes += self._overdue(node, now_ns, self._timeout_ns + line_ns)
            if node.waiting and now_ns - max(node.heard_ns, node.alive_ns) >= self._late_ns + line_ns:
                outcomes += self._turn_away(node_id, node)
        return outcomes, sends

    def _turn_away(self, node_id: int, node: _Node) -> list[Outcome]:
        """Reads that wait for a silent node may look for another copy now; they cost nothing yet. Behind a dead node they
        would wait until it counts as dead, while those that were sent before them were hedged long ago."""
        failure = _failure(f"{node.name or node.address} is silent")
        outcomes = [Outcome(task, failure=failure) for task in node.waiting if isinstance(task, Read)]
        if outcomes:
            node.waiting = deque(task for task in node.waiting if not isinstance(task, Read))
            if not node.waiting:
                self._ready.pop(node_id, None)
        return outcomes

    def _overdue(self, node: _Node, now_ns: int, timeout_ns: int) -> list[Outcome]:
        """Requests that the node should have answered by now."""
        outcomes: list[Outcome] = []
        for flight in list(node.flights.values()):
            age_ns = now_ns - flight.sent_ns
            if age_ns < self._late_ns:
                break
            overtaken = flight.number < node.newest_answered
            if overtaken and age_ns >= timeout_ns:
                outcomes += self._fail_flight(node, flight, _failure(f"{node.name or node.address} did not answer"))
            elif not flight.told_late and (overtaken or now_ns - node.heard_ns >= self._late_ns):
                flight.told_late = True
                outcomes += [Outcome(task, late=True) for task in flight.tasks if isinstance(task, Read)]
        return outcomes

    def cancel(self, owner: int) -> None:
        """Forget what this transfer still has waiting; what is under way lands as usual."""
        for node_id in list(self._ready):
            node = self._nodes[node_id]
            node.waiting = deque(task for task in node.waiting if task.owner != owner)
            if not node.waiting:
                del self._ready[node_id]

    def _fail_node(self, node_id: int, node: _Node, failure: Failure) -> list[Outcome]:
        """Everything for this node fails, also what waits: it would only wait for the next time-out."""
        outcomes = [each for flight in list(node.flights.values()) for each in self._fail_flight(node, flight, failure)]
        outcomes += [Outcome(task, failure=failure) for task in node.waiting]
        node.waiting.clear()
        self._ready.pop(node_id, None)
        return outcomes

    def _fail_flight(self, node: _Node, flight: _Flight, failure: Failure) -> list[Outcome]:
        self._look_ns = 0
        del node.flights[flight.number]
        node.small_flights -= flight.small
        del self._flying[flight.number]
        for task in flight.tasks:
            self._credit.give(task.node, task.size)
        return [Outcome(task, failure=failure) for task in flight.tasks]

    def check(self) -> None:
        """AssertionError if the books do not balance."""
        self._credit.check()
        assert all(node.small_flights == sum(f.small for f in node.flights.values()) for node in self._nodes.values())
        assert sum(len(node.flights) for node in self._nodes.values()) == len(self._flying)
        assert all(bool(node.waiting) == (node_id in self._ready) for node_id, node in self._nodes.items())


def _failure(message: str) -> Failure:
    return Failure("unavailable", message)
