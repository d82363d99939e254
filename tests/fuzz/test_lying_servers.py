"""A master and nodes that lie to a client: it ends with an error, or believes what could be so; it never breaks."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.core import Message, Peer
from actors.errors import MessageTooLarge
from dsa_zmq.client import jobs
from dsa_zmq.client.calls import AskMaster, Feed, StartDownload, StartUpload, Supply, Whole
from dsa_zmq.client.service import client_spec
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.target import Target
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import DSAError, InternalError
from dsa_zmq.model.redundancy import Redundancy, kept_as, parse_redundancy
from dsa_zmq.protocol import messages as m
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.values import Attributes, ChunkPlaces, ChunkPlan, Failure, NodeAddress, Place, Receipt, UploadSlot

MASTER = "tcp://10.0.0.1:7700"
NODES = ("tcp://10.0.0.2:7710", "tcp://10.0.0.3:7710", "tcp://10.0.0.4:7710")
CHUNK = 4096
TICK_NS = 100_000_000
LATENCY_NS = 10_000_000  #: so that two who answer each other without an end come to the end of a time-out
LIMIT_NS = 400_000_000_000
CONTENT = random.Random(3).randbytes(3 * CHUNK + 100)
CHUNKS = [CONTENT[at : at + CHUNK] for at in range(0, len(CONTENT), CHUNK)]
FILE = Attributes("file", 5, len(CONTENT), 1, 0o644, 1, 77, CHUNK, len(CHUNKS), "copies=2")
ADDRESSES = [NodeAddress(number, address, 1, f"n{number}") for number, address in enumerate(NODES, 1)]
hurried = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


class Ticket:
    """What a caller hears, and that it hears the end once."""

    def __init__(self) -> None:
        self.result: Any = None
        self.data = b""
        self.wanted = 0

    def finish(self, result: Any) -> None:
        assert self.result is None, "finished twice"
        self.result = result

    def deliver(self, data: Any) -> None:
        self.data += bytes(data)

    def want(self, until: int) -> None:
        self.wanted = until

    def described(self, attributes: Attributes) -> None:
        raise AssertionError("nobody wanted a local file")

    def progress(self, size: int) -> None:
        assert size >= 0


class World:
    """A client's actor and its context, with servers that answer as ``lie`` says. Virtual time, no sockets."""

    def __init__(self, lie: Callable[[Message, list[bytes]], tuple[Message, list[bytes]] | None]) -> None:
        spec = client_spec(ClientSettings(hosts=(MASTER,)), random.Random(1))
        self.actor: Any = spec.actor
        self.self_address = spec.address
        self.random = random.Random(2)
        self.now = 0
        self._lie = lie
        self._timers: set[Any] = set()
        self._events: deque[Callable[[], None]] = deque()

    def now_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.now

    def log(self, event: str, **fields: object) -> None:
        pass

    def disconnect(self, to: str) -> None:
        pass

    def set_timer(self, token: Any, delay_ns: int) -> None:
        self._timers.add(token)

    def cancel_timer(self, token: Any) -> None:
        self._timers.discard(token)

    def run(self, token: Any, lane: str, job: Any) -> None:
        (result,) = jobs.run([job])
        self._events.append(lambda: self.actor.on_result(self, token, result))

    def send(self, to: str, message: Message, payload: Any = ()) -> None:
        data = CODEC.encode(message)
        if len(data) > 1 << 20:
            raise MessageTooLarge("too large")
        self._events.append(lambda: self._answer(to, CODEC.decode(data), [bytes(frame) for frame in payload]))

    def _answer(self, to: str, message: Message, payload: list[bytes]) -> None:
        self.now += LATENCY_NS
        said = self._lie(message, payload)
        if said is not None:
            decoded = CODEC.decode(CODEC.encode(said[0]))
            self.actor.on_message(self, Peer(to, to, 1), decoded, [memoryview(frame) for frame in said[1]])

    def call(self, call: Any) -> None:
        self.actor.on_call(self, call)

    def finish(self, ticket: Ticket) -> Any:
        ticked = self.now
        while ticket.result is None:
            assert self.now < LIMIT_NS, f"it goes on without an end: {self.actor!r}"
            if self._events and self.now < ticked + TICK_NS:
                self._events.popleft()()
            else:
                ticked = self.now = max(self.now, ticked + TICK_NS)
                timers, self._timers = self._timers, set()
                for token in timers:
                    self.actor.on_timer(self, token)
            self.actor.check_invariants()
        if isinstance(ticket.result, DSAError):
            assert not isinstance(ticket.result, InternalError), ticket.result
        return ticket.result


class Honest:
    """Servers that say what is so: a file, and places for new ones, with this redundancy."""

    def __init__(self, redundancy: str = "copies=2") -> None:
        self._redundancy = parse_redundancy(redundancy)
        self._addresses = ADDRESSES[: self._redundancy.shards]
        self.file = msgspec.structs.replace(FILE, redundancy=redundancy)
        self._shards: dict[tuple[int, int], bytes] = {}
        self._rows: list[ChunkPlaces] = []
        for chunk, data in enumerate(CHUNKS, 100):
            hashes, shards = blake3(data).digest(), [data] * self._redundancy.shards
            if not self._redundancy.alike:
                ((hashes, shards),) = jobs.run([jobs.SplitChunk(data, hashes, self._redundancy)])
            self._shards |= {(chunk, index): bytes(shard) for index, shard in enumerate(shards)}
            self._rows.append(ChunkPlaces(chunk, len(data), hashes, self._places(self._redundancy)))

    def _places(self, redundancy: Redundancy) -> list[Place]:
        return [Place(1 + index, index, bytes(16)) for index in range(redundancy.shards)]

    def _truth(self, operation: Any) -> Any:
        """What an honest master would answer."""
        ids = itertools.count(1000)
        match operation:
            case op.Locate():
                return op.Located(self.file, 0, 1, self._rows, self._addresses, 2**40)
            case op.Allocate():
                name = operation.redundancy or self._redundancy.name
                if not operation.upload and len(operation.lengths) == 1:
                    name = kept_as(name, operation.lengths[0], operation.chunk_bytes)
                places = self._places(parse_redundancy(name))
                plans = [ChunkPlan(next(ids) + operation.first, places) for _ in operation.lengths]
                return op.Allocated(77, name, plans, self._addresses, 2**40)
            case op.Reallocate():
                nodes = [address.node for address in self._addresses]
                free = [next((node for node in nodes if node not in held), 0) for held in operation.held]
                if 0 in free:
                    return Failure("too-few-nodes", "no other node")
                moved = [
                    Place(node, shard.index, bytes(16)) for node, shard in zip(free, operation.shards, strict=True)
                ]
                return op.Reallocated(moved, self._addresses, 2**40)
            case op.AllocateSlots():
                places = self._places(parse_redundancy(operation.redundancy))
                slots = [UploadSlot(next(ids), next(ids), places) for _ in range(operation.count)]
                return op.AllocatedSlots(slots, self._addresses, 2**40, 60_000)
            case op.OpenSession():
                return op.SessionOpened(9)
            case op.Stage():
                return op.Staged(operation.upload, operation.page)
            case op.ListNodes():
                return op.Nodes([])
            case op.ListDirectory():
                return op.Listing([], False, 1)
            case op.Renew() | op.ReturnSlots() | op.Abort() | op.CloseSession():
                return op.Done(1)
            case _:
                return op.Found(self.file, 1)

    def __call__(self, message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]]:
        match message:
            case m.Hello():
                return m.Welcome(message.number, 1, bytes(16), 1, "master"), []
            case m.Calls():
                return m.Answers(1, [m.Answer(call.number, self._truth(call.operation)) for call in message.calls]), []
            case m.PutShards():
                outcomes = [
                    m.PutOutcome(put.chunk, put.index, Receipt(1 + put.index, put.index, 1, bytes(16)))
                    for put in message.shards
                ]
                return m.PutDone(message.number, outcomes), []
            case m.ConfirmShards():
                outcomes = [
                    m.PutOutcome(one.chunk, one.index, Receipt(1, one.index, 1, bytes(16))) for one in message.shards
                ]
                return m.PutDone(message.number, outcomes), []
            case m.Ping():
                return m.Pong(message.number, 1, 1), []
            case m.GetShards():
                got = [m.GotShard(grant.chunk, grant.index) for grant in message.shards]
                return m.ShardData(message.number, got), [
                    self._shards.get((grant.chunk, grant.index), b"?") for grant in message.shards
                ]
        raise AssertionError(message)


HONEST, CODED = Honest(), Honest("ec=2+1")


class Liar:
    """Tells the truth with some of it changed."""

    def __init__(self, data: st.DataObject, absurd: Any, lies: int, honest: Honest) -> None:
        self._honest = honest
        self._data = data
        self._absurd = absurd
        self._lies = lies

    def __call__(self, message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]] | None:
        said: Any
        frames: list[bytes]
        said, frames = self._honest(message, payload)
        if self._lies and self._data.draw(st.integers(0, 2)):
            self._lies -= 1
            if isinstance(said, m.Answers) and self._data.draw(st.integers(0, 5)):
                answers = [msgspec.structs.replace(each, result=self._twisted(each.result)) for each in said.answers]
                said = msgspec.structs.replace(said, answers=answers)
            else:
                said = self._twisted(said)
            frames = [self._twisted_bytes(frame) for frame in frames]
            if self._data.draw(st.integers(0, 9)) == 0:
                frames = frames[1:] or [b"x"]
        return said, frames

    def _twisted(self, value: Any) -> Any:
        """The value with one field, somewhere inside, replaced."""
        draw = self._data.draw
        if draw(st.integers(0, 9)) == 0:
            return value
        fields = msgspec.structs.fields(type(value))
        field = draw(st.sampled_from(fields))
        old = getattr(value, field.name)
        if isinstance(old, msgspec.Struct):
            new = self._twisted(old)
        elif isinstance(old, list) and old and draw(st.integers(0, 3)):
            new = self._twisted_list(old)
        else:
            new = draw(self._absurd(field.type))
        return msgspec.structs.replace(value, **{field.name: new})

    def _twisted_list(self, old: list[Any]) -> list[Any]:
        draw = self._data.draw
        at = draw(st.integers(0, len(old) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                return old[:at]
            case 1:
                return [*old, old[at]]
            case 2:
                return old[::-1]
            case _:
                if not isinstance(old[at], msgspec.Struct):
                    return [*old[:at], draw(self._absurd(type(old[at]))), *old[at + 1 :]]
                return [*old[:at], self._twisted(old[at]), *old[at + 1 :]]

    def _twisted_bytes(self, frame: bytes) -> bytes:
        match self._data.draw(st.integers(0, 3)):
            case 0:
                return frame[:-1]
            case 1:
                return bytes([frame[0] ^ 1]) + frame[1:]
            case 2:
                return b""
            case _:
                return frame


@pytest.mark.parametrize("honest", [HONEST, CODED])
def test_an_honest_world_is_believed(honest: Honest) -> None:
    world = World(honest)
    world.call(StartDownload(1, Wanted("/f"), download := Ticket()))
    assert world.finish(download) == honest.file
    assert download.data == CONTENT
    assert world.finish(upload(world, 2)) == honest.file
    for owner in range(3, 40):
        world.call(StartUpload(owner, Target("/f", CHUNK, 1, 1), Whole(blake3(b"x").digest(), b"x"), small := Ticket()))
        assert world.finish(small) == honest.file
    assert world.actor._slots.taken


def upload(world: World, owner: int) -> Ticket:
    ticket = Ticket()
    world.call(StartUpload(owner, Target("/f", CHUNK, None, 1), Feed(), ticket))
    fed = 0
    for _ in range(2000):
        while fed < min(ticket.wanted, len(CHUNKS)) and ticket.result is None:
            chunk = CHUNKS[fed]
            fed += 1
            world.call(Supply(owner, fed - 1, blake3(chunk).digest(), chunk, fed == len(CHUNKS)))
        if ticket.result is not None or fed == len(CHUNKS):
            break
        _a_moment(world)
    return ticket


def _a_moment(world: World) -> None:
    waiting = Ticket()
    world.call(AskMaster(op.Statfs(), waiting, 10**9))
    world.finish(waiting)


@pytest.mark.slow
@hurried
@given(data=st.data(), honest=st.sampled_from([HONEST, CODED]))
def test_a_download_from_liars_gives_the_right_bytes_or_an_error(
    absurd: Any, data: st.DataObject, honest: Honest
) -> None:
    world = World(Liar(data, absurd, 4, honest))
    world.call(StartDownload(1, Wanted("/f"), ticket := Ticket()))
    result = world.finish(ticket)
    if not isinstance(result, DSAError) and len(ticket.data) == len(CONTENT) and result == honest.file:
        assert ticket.data == CONTENT


@pytest.mark.slow
@hurried
@given(data=st.data(), honest=st.sampled_from([HONEST, CODED]))
def test_an_upload_to_liars_ends(absurd: Any, data: st.DataObject, honest: Honest) -> None:
    world = World(Liar(data, absurd, 4, honest))
    world.finish(upload(world, 1))


@pytest.mark.slow
@hurried
@given(data=st.data(), honest=st.sampled_from([HONEST, CODED]))
def test_many_small_uploads_to_liars_end(absurd: Any, data: st.DataObject, honest: Honest) -> None:
    world = World(Liar(data, absurd, 6, honest))
    tickets = []
    for owner in range(1, 25):
        content = bytes([owner]) * owner
        tickets.append(ticket := Ticket())
        target = Target("/f", CHUNK, owner, 1)
        world.call(StartUpload(owner, target, Whole(blake3(content).digest(), content), ticket))
        if owner % 8 == 1:
            world.finish(ticket)
    for ticket in tickets:
        world.finish(ticket)


@pytest.mark.slow
@hurried
@given(
    data=st.data(), operation=st.sampled_from([op.Stat("/f"), op.ListDirectory("/"), op.ListNodes(), op.Remove("/f")])
)
def test_a_question_to_liars_is_answered_or_refused(absurd: Any, data: st.DataObject, operation: Any) -> None:
    world = World(Liar(data, absurd, 4, HONEST))
    world.call(AskMaster(operation, ticket := Ticket()))
    world.finish(ticket)


@pytest.mark.slow
@hurried
@given(data=st.data())
def test_messages_that_nobody_asked_for_are_ignored(absurd: Any, data: st.DataObject) -> None:
    world = World(HONEST)
    world.call(StartDownload(1, Wanted("/f"), ticket := Ticket()))
    for _ in range(5):
        message = data.draw(st.one_of([absurd(kind) for kind in m.AnyMessage.__args__]))
        sender = data.draw(st.sampled_from([MASTER, *NODES, "stranger/1"]))
        world.actor.on_message(world, Peer(sender, sender, 1), message, [memoryview(b"x")])
        world.actor.check_invariants()
    world.finish(ticket)
