"""Carries shards to nodes and from them: byte credit, batching, numbering, time-outs. Pure; shared by all transfers.

A transfer hands in tasks; the courier decides when each leaves. Tasks wait in a queue per node until both credit windows
have room. Small ones that wait together leave together in one message. Every task ends in exactly one final
:class:`Outcome`, unless its transfer is cancelled; a read may bring a *late* outcome before that.

Time-outs count from the last sign of the node, not from the send: a slow line with eight megabytes under way is not a
dead node. A node that was silent too long loses everything under way to it at once, and its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from actors.core import Address, Message
from actors.credit import Credit
from dsa_zmq.model import limits
from dsa_zmq.protocol.messages import (
    ConfirmShards,
    GetShards,
    PutDone,
    PutShard,
    PutShards,
    ShardData,
    ShardGrant,
)
from dsa_zmq.protocol.values import Failure, NodeAddress, Receipt

BATCH_BYTES = 256 << 10  #: small shards go together up to this; larger messages would delay what comes behind
SMALL_BYTES = 32 << 10  #: messages below this cost more than their bytes
SMALL_FLIGHTS = 2  #: small messages under way to one node: one being worked on, one that arrives meanwhile
GATHER_NS = 1_000_000  #: small shards gather behind the first for so long, as calls to the master do
BATCH_SHARDS = 128  #: far below the frame limit of a message
MAX_FLIGHTS = 256  #: messages under way to one node: well below the queue of a connection, which drops what exceeds it

Slot = tuple[int, int]
"""(index of the chunk in its file, shard index)."""


class Task(msgspec.Struct, frozen=True, gc=False):
    """One shard to be moved. ``owner`` is the transfer, ``node`` the node id; ``size`` is what it costs in credit."""

    owner: int
    slot: Slot
    node: int
    size: int


class Write(Task, frozen=True):
    put: PutShard
    data: bytes | memoryview  #: read-only; referenced until the node has answered


class Read(Task, frozen=True, gc=False):
    grant: ShardGrant


class Reconfirm(Task, frozen=True, gc=False):
    """Ask the node for a new receipt of a shard that it holds."""

    grant: ShardGrant


class Outcome(NamedTuple):
    """What became of a task: one of receipt, data, failure; or ``late``, after which a final outcome still comes."""

    task: Task
    receipt: Receipt | None = None
    data: memoryview | bytes | None = None
    failure: Failure | None = None
    late: bool = False


class Outgoing(NamedTuple):
    """A message to be sent, or with ``message`` None a connection to be dropped."""

    address: Address
    message: Message | None
    payload: Sequence[bytes | memoryview] = ()


@dataclass(slots=True)
class _Flight:
    number: int
    tasks: list[Task]
    sent_ns: int
    small: bool
    told_late: bool = False


@dataclass(slots=True)
class _Node:
    address: Address
    incarnation: int
    name: str
    waiting: deque[Task] = field(default_factory=deque)
    flights: dict[int, _Flight] = field(default_factory=dict)  # in the order they were sent
    heard_ns: int = 0
    newest_answered: int = 0
    small_flights: int = 0
    small_sent_ns: int = 0  #: the newest of these


class Courier:
    """The client's side of the data plane."""

    def __init__(
        self,
        *,
        node_credit: int = limits.NODE_CREDIT_BYTES,
        client_credit: int = limits.CLIENT_CREDIT_BYTES,
        timeout_ns: int = 5_000_000_000,
        late_ns: int = int(limits.HEDGE_S * 1e9),
    ) -> None:
        self._credit = Credit(node_credit, client_credit)
        self._timeout_ns = timeout_ns
        self._late_ns = late_ns
        self._nodes: dict[int, _Node] = {}
        self._by_address: dict[str, int] = {}
        self._flying: dict[int, int] = {}  # number -> node
        self._ready: dict[int, None] = {}  # nodes with tasks waiting, in the order to be served
        self._number = 0
        self.gathering = False  #: small shards wait for a moment only: flush again soon

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

    def know(self, nodes: Iterable[NodeAddress]) -> list[Outcome]:
        """Addresses as the master tells them. A node that has moved or was restarted loses what was under way to it."""
        lost: list[Outcome] = []
        for told in nodes:
            node = self._nodes.get(told.node)
            if node is None:
                self._nodes[told.node] = _Node(Address(told.address), told.incarnation, told.name)
            elif told.incarnation < node.incarnation:
                continue  # an older answer, overtaken by a newer one
            elif told.incarnation > node.incarnation or told.address != node.address:
                lost += self._fail_flights(node, _failure(f"node {told.name} was restarted"))
                node.address, node.incarnation, node.name = Address(told.address), told.incarnation, told.name
            else:
                continue
            self._by_address[told.address] = told.node
        return lost

    def submit(self, task: Task) -> None:
        """Take charge of a task. Its node must be known."""
        self._nodes[task.node].waiting.append(task)
        self._ready[task.node] = None

    def flush(self, now_ns: int) -> list[Outgoing]:
        """The messages that may leave now."""
        self.gathering = False
        if not self._ready:
            return []
        sent: list[Outgoing] = []
        for node_id in list(self._ready):
            node, served = self._nodes[node_id], False
            while node.waiting and len(node.flights) < MAX_FLIGHTS:
                if node.waiting[0].size < SMALL_BYTES and not self._small_may_leave(node, now_ns):
                    break
                batch = self._take_batch(node_id, node.waiting)
                if not batch:
                    break
                small = batch[0].size < SMALL_BYTES
                if small:
                    node.small_flights += 1
                    node.small_sent_ns = now_ns
                self._number += 1
                if not node.flights:
                    node.heard_ns = now_ns
                node.flights[self._number] = _Flight(self._number, batch, now_ns, small)
                self._flying[self._number] = node_id
                sent.append(_message(node.address, self._number, batch))
                served = True
            # Who was served goes to the end, so that a full client window is shared fairly.
            if served:
                del self._ready[node_id]
                if node.waiting:
                    self._ready[node_id] = None
        return sent

    def _small_may_leave(self, node: _Node, now_ns: int) -> bool:
        if not node.small_flights:
            return True
        if node.small_flights >= SMALL_FLIGHTS:
            return False
        if now_ns - node.small_sent_ns >= GATHER_NS:
            return True
        self.gathering = True
        return False

    def _take_batch(self, node_id: int, waiting: deque[Task]) -> list[Task]:
        first = waiting[0]
        batch: list[Task] = []
        size = 0
        while waiting and len(batch) < BATCH_SHARDS:
            task = waiting[0]
            if batch and (size + task.size > BATCH_BYTES or not _go_together(first, task)):
                break
            if not self._credit.take(node_id, task.size):
                break
            size += task.size
            batch.append(waiting.popleft())
        return batch

    # --- what comes back -------------------------------------------------------------------------------------------

    def put_done(self, message: PutDone, now_ns: int) -> list[Outcome]:
        """Receipts and failures of writes and confirmations. Unknown numbers (late, repeated) give nothing."""
        flight = self._land(message.number, now_ns)
        if flight is None:
            return []
        told = {(outcome.chunk, outcome.index): outcome for outcome in message.outcomes}
        outcomes: list[Outcome] = []
        for task in flight.tasks:
            outcome = told.get(_key(task))
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
            data, failure = told.get(_key(task), (None, None))
            if data is None:
                self._credit.give(task.node, task.size)
                failure = failure or _failure(f"{self.name(task.node)} left a shard unanswered")
            outcomes.append(Outcome(task, data=data, failure=failure))
        return outcomes

    def release(self, task: Task) -> None:
        """The data of this read has been processed or dropped."""
        self._credit.give(task.node, task.size)

    def _land(self, number: int, now_ns: int) -> _Flight | None:
        node_id = self._flying.pop(number, None)
        if node_id is None:
            return None
        node = self._nodes[node_id]
        node.heard_ns = now_ns
        node.newest_answered = max(node.newest_answered, number)
        flight = node.flights.pop(number)
        node.small_flights -= flight.small
        return flight

    # --- what goes wrong -------------------------------------------------------------------------------------------

    def lost(self, address: str) -> list[Outcome]:
        """The transport says that this peer is gone: what was under way to it will not be answered."""
        node = self._nodes.get(self._by_address.get(address, -1))
        if node is None or node.address != address:
            return []
        return self._fail_flights(node, _failure(f"the connection to {node.name or address} was lost"))

    def tick(self, now_ns: int) -> tuple[list[Outcome], list[Outgoing]]:
        """Call some ten times a second: late reads, silent nodes, single requests that were overtaken and forgotten."""
        outcomes: list[Outcome] = []
        drops: list[Outgoing] = []
        for node in self._nodes.values():
            if not node.flights:
                continue
            if now_ns - node.heard_ns >= self._timeout_ns:
                drops.append(Outgoing(node.address, None))
                seconds = (now_ns - node.heard_ns) / 1e9
                outcomes += self._fail_flights(
                    node, _failure(f"{node.name or node.address} was silent for {seconds:.0f} s")
                )
                continue
            for flight in list(node.flights.values()):
                if now_ns - flight.sent_ns < self._late_ns:
                    break
                overtaken = flight.number < node.newest_answered
                if overtaken and now_ns - flight.sent_ns >= 2 * self._timeout_ns:
                    outcomes += self._fail_flight(node, flight, _failure(f"{node.name or node.address} did not answer"))
                elif not flight.told_late and (overtaken or now_ns - node.heard_ns >= self._late_ns):
                    flight.told_late = True
                    outcomes += [Outcome(task, late=True) for task in flight.tasks if isinstance(task, Read)]
        return outcomes, drops

    def cancel(self, owner: int) -> None:
        """Forget what this transfer still has waiting; what is under way lands as usual."""
        for node_id in list(self._ready):
            node = self._nodes[node_id]
            node.waiting = deque(task for task in node.waiting if task.owner != owner)
            if not node.waiting:
                del self._ready[node_id]

    def _fail_flights(self, node: _Node, failure: Failure) -> list[Outcome]:
        return [
            outcome for flight in list(node.flights.values()) for outcome in self._fail_flight(node, flight, failure)
        ]

    def _fail_flight(self, node: _Node, flight: _Flight, failure: Failure) -> list[Outcome]:
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


def _key(task: Task) -> Slot:
    if isinstance(task, Write):
        return task.put.chunk, task.put.index
    assert isinstance(task, Read | Reconfirm)
    return task.grant.chunk, task.grant.index


def _go_together(first: Task, other: Task) -> bool:
    """One message holds one kind of task."""
    return type(first) is type(other)


def _message(address: Address, number: int, batch: list[Task]) -> Outgoing:
    first = batch[0]
    if isinstance(first, Write):
        writes = [task for task in batch if isinstance(task, Write)]
        message = PutShards(number, [task.put for task in writes])
        return Outgoing(address, message, [task.data for task in writes])
    if isinstance(first, Read):
        return Outgoing(address, GetShards(number, [task.grant for task in batch if isinstance(task, Read)]))
    assert isinstance(first, Reconfirm)
    grants = [task.grant for task in batch if isinstance(task, Reconfirm)]
    return Outgoing(address, ConfirmShards(number, grants))
