"""A client's actor in a model of the world: a master and nodes of a few lines each, a lossy network, one clock, one seed.

The models keep the rules that the real servers keep (sessions and kept answers, receipts that bind an incarnation, pages
before the commit), and complain when the client breaks one.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from actors.core import Message, Peer, PeerEvent
from dsa_zmq.client import jobs
from dsa_zmq.client.calls import Feed, StartDownload, StartUpload, Supply, Whole
from dsa_zmq.client.service import client_spec
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.target import Target
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import DSAError
from dsa_zmq.model import limits
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.values import Attributes
from tests.unit.client.model_master import ModelMaster
from tests.unit.client.model_node import ModelNode

MASTER = "tcp://master:7700"
SECOND = 1_000_000_000
CHUNK = limits.MIN_CHUNK_BYTES


@dataclass
class Faults:
    """Chances per message."""

    loss: float = 0.0
    repeat: float = 0.0
    delay_ns: int = 2_000_000
    corrupt: float = 0.0
    refuse: float = 0.0


class ListTicket:
    """Records what a call hears."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.result: Any = None
        self.data = bytearray()
        self.wanted = 0
        self.safe = 0
        self.ended_ns = 0

    def finish(self, result: Any) -> None:
        assert self.result is None, "finished twice"
        self.result, self.ended_ns = result, self.world.now

    def deliver(self, data: memoryview | bytes) -> None:
        self.data += data

    def described(self, attributes: Attributes) -> None:
        raise AssertionError("nobody wanted a file")

    def want(self, until: int) -> None:
        self.wanted = until

    def progress(self, size: int) -> None:
        self.safe += size


class World:
    """Also the client's Context."""

    def __init__(
        self, seed: int, nodes: int = 4, redundancy: str = "copies=2", faults: Faults | None = None, **settings: Any
    ) -> None:
        self.rng = random.Random(seed)
        self.random = self.rng
        self.faults = faults or Faults()
        self.now = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.timers: dict[Any, int] = {}
        self.nodes = {number: ModelNode(self, number) for number in range(1, nodes + 1)}
        self.master = ModelMaster(self, redundancy)
        self.spec = client_spec(ClientSettings((MASTER,), **settings), random.Random(seed))
        self.client: Any = self.spec.actor
        self.self_address = self.spec.address
        self.owners = itertools.count(1)
        self.most_held = 0
        self.sent: list[tuple[str, Message]] = []

    def now_ns(self) -> int:
        return self.now

    def send(self, to: str, message: Message, payload: Any = ()) -> None:
        self.sent.append((to, message))
        data, frames = CODEC.encode(message), [bytes(frame) for frame in payload]
        self.travel(lambda: self.arrive(to, data, frames))

    def disconnect(self, to: str) -> None:
        pass

    def set_timer(self, token: Any, delay_ns: int) -> None:
        number = self.timers[token] = next(self.serial)

        def due() -> None:
            if self.timers.get(token) == number:
                self.client.on_timer(self, token)

        self.at(delay_ns, due)

    def run(self, token: Any, lane: str, job: Any) -> None:
        result = jobs.run([job])[0]
        self.at(self.rng.randrange(1_000_000), lambda: self.client.on_result(self, token, result))

    def at(self, delay_ns: int, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay_ns, next(self.serial), event))

    def travel(self, event: Callable[[], None]) -> None:
        """A message on its way: lost, late, repeated."""
        if self.rng.random() < self.faults.loss:
            return
        self.at(self.rng.randrange(self.faults.delay_ns) + 1000, event)
        if self.rng.random() < self.faults.repeat:
            self.at(self.rng.randrange(50 * self.faults.delay_ns) + 1000, event)

    def arrive(self, to: str, data: bytes, frames: list[bytes]) -> None:
        server: Any = self.master if to == MASTER else next((n for n in self.nodes.values() if n.address == to), None)
        if server is not self.master and (server is None or not server.up):
            return
        reply = server.handle(CODEC.decode(data), frames)
        if reply is not None:
            encoded, back = CODEC.encode(reply[0]), [memoryview(frame) for frame in reply[1]]
            peer = Peer(to, to, 1)
            self.travel(lambda: self.client.on_message(self, peer, CODEC.decode(encoded), back))

    def lose(self, node: ModelNode) -> None:
        """The transport notices that a node is gone."""
        node.up = False
        self.client.on_peer(self, node.address, PeerEvent.GONE)

    def step(self) -> bool:
        if not self.events:
            return False
        time, _, event = heapq.heappop(self.events)
        self.now = max(self.now, time)
        event()
        self.client.check_invariants()
        self.most_held = max(self.most_held, self.client.held_bytes)
        return True

    def run_until(self, done: Callable[[], bool], limit_s: float = 300) -> None:
        limit = self.now + int(limit_s * SECOND)
        while not done():
            assert self.step(), "nothing more will happen"
            assert self.now < limit, f"not done after {limit_s} s: {self.client!r}"

    def drain(self) -> None:
        """Until nothing is under way."""
        while self.step():
            pass

    def call(self, call: Any) -> None:
        self.client.on_call(self, call)
        self.client.check_invariants()

    def ask(self, operation: op.Operation, timeout_s: float = 0) -> ListTicket:
        from dsa_zmq.client.calls import AskMaster

        ticket = ListTicket(self)
        self.call(AskMaster(operation, ticket, int(timeout_s * SECOND)))
        return ticket

    def upload(self, path: str, data: bytes, **options: Any) -> ListTicket:
        """Begin an upload of a stream; the chunks are supplied as they are wanted."""
        ticket = ListTicket(self)
        owner = next(self.owners)
        self.call(StartUpload(owner, Target(path, CHUNK, None, 1, **options), Feed(), ticket))
        chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        fed = 0

        def feed() -> None:
            nonlocal fed
            while fed < min(ticket.wanted, len(chunks)):
                part = chunks[fed]
                fed += 1
                self.call(Supply(owner, fed - 1, blake3(part).digest(), part, fed == len(chunks)))
            if ticket.result is None and fed < len(chunks):
                self.at(1_000_000, feed)

        feed()
        ticket.owner = owner  # type: ignore[attr-defined]
        return ticket

    def put(self, path: str, data: bytes, chunk_bytes: int = 0, **options: Any) -> ListTicket:
        """Begin an upload of bytes that are there as a whole, in one chunk, by default one that they fill."""
        ticket = ListTicket(self)
        target = Target(path, chunk_bytes or max(CHUNK, len(data)), len(data), 1, **options)
        self.call(StartUpload(next(self.owners), target, Whole(blake3(data).digest(), data), ticket))
        return ticket

    def download(self, path: str, start: int = 0, stop: int | None = None) -> ListTicket:
        ticket = ListTicket(self)
        ticket.owner = next(self.owners)  # type: ignore[attr-defined]
        self.call(StartDownload(ticket.owner, Wanted(path, start, stop, window=1 << 60), ticket))  # type: ignore[attr-defined]
        return ticket

    def store(self, path: str, data: bytes) -> None:
        """A file that is there, without faults on the way."""
        faults, self.faults = self.faults, Faults()
        result = finish(self, self.upload(path, data))
        assert not isinstance(result, DSAError), result
        self.faults = faults


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def finish(world: World, ticket: ListTicket) -> Any:
    """Until a call is over: what it came to."""
    world.run_until(lambda: ticket.result is not None)
    return ticket.result


def nothing_left(world: World) -> None:
    """All books are balanced."""
    world.drain()
    assert world.client.held_bytes == 0
    assert world.client.credit_out == 0
