"""A client's actor in a model of the world: a master and nodes of a few lines each, a lossy network, one clock, one seed.

The models keep the rules that the real servers keep (sessions and kept answers, receipts that bind an incarnation, pages
before the commit), and complain when the client breaks one.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from blake3 import blake3

from actors.core import Message, Peer, PeerEvent
from actors.errors import Closed
from dsa_zmq.client import jobs
from dsa_zmq.client.calls import Feed, StartDownload, StartUpload, Supply, Whole
from dsa_zmq.client.service import client_spec
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.store import Store
from dsa_zmq.client.target import Target
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import DSAError
from dsa_zmq.model import limits
from dsa_zmq.model.ids import NONCE_BITS, next_incarnation
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import (
    Answer,
    Answers,
    Calls,
    ConfirmShards,
    GetShards,
    GotShard,
    Hello,
    Ping,
    Pong,
    PutDone,
    PutOutcome,
    PutShards,
    ShardData,
    Welcome,
)
from dsa_zmq.protocol.values import (
    Attributes,
    ChunkPlaces,
    ChunkPlan,
    Failure,
    NodeAddress,
    NodeInfo,
    Place,
    PlacedShard,
    Receipt,
    StagedChunk,
    UploadSlot,
)

MASTER = "tcp://master:7700"
SECOND = 1_000_000_000
CHUNK = limits.MIN_CHUNK_BYTES
PAGE_CHUNKS = 4  # set by the fixture


def mac_of(*said: Any) -> bytes:
    """Of as many bytes as a real one."""
    return blake3(repr(said).encode()).digest(16)


@dataclass
class Faults:
    """Chances per message."""

    loss: float = 0.0
    repeat: float = 0.0
    delay_ns: int = 2_000_000
    corrupt: float = 0.0
    refuse: float = 0.0


class ModelNode:
    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.incarnation = next_incarnation(0, world.rng.getrandbits(NONCE_BITS))
        self.address = f"tcp://node{number}:7710"
        self.shards: dict[tuple[int, int], bytes] = {}
        self.up = True
        self.asked: list[int] = []  # chunk ids, one per read

    def restart(self, keep: bool) -> None:
        """A new incarnation; without ``keep`` it has lost what no page and no file holds yet."""
        self.incarnation = next_incarnation(self.incarnation, self.world.rng.getrandbits(NONCE_BITS))
        if not keep:
            master = self.world.master
            pages = [page for upload in master.uploads.values() for page in upload.pages.values()]
            pages += [rows for _, rows in master.files.values()]
            kept = {row.chunk for page in pages for row in page}
            self.shards = {key: shard for key, shard in self.shards.items() if key[0] in kept}

    def receipt(self, upload: int, chunk: int, index: int) -> Receipt:
        held = blake3(self.shards[chunk, index]).digest()
        mac = mac_of(self.number, self.incarnation, upload, chunk, index, held)
        return Receipt(self.number, index, self.incarnation, mac)

    def handle(self, message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]] | None:
        rng, faults = self.world.rng, self.world.faults
        if isinstance(message, PutShards):
            outcomes = []
            for put, data in zip(message.shards, payload, strict=True):
                assert put.length == len(data)
                assert not put.granted or put.length <= put.granted
                if rng.random() < faults.refuse:
                    code = rng.choice(["no-space", "overloaded", "failed"])
                    outcomes.append(PutOutcome(put.chunk, put.index, failure=Failure(code, "no")))
                elif rng.random() < faults.corrupt:
                    outcomes.append(PutOutcome(put.chunk, put.index, failure=Failure("corrupt", "bits fell")))
                else:
                    assert blake3(data).digest() == put.hash
                    assert not any(chunk == put.chunk and index != put.index for chunk, index in self.shards)
                    self.shards[put.chunk, put.index] = bytes(data)
                    receipt = self.receipt(put.upload, put.chunk, put.index)
                    outcomes.append(PutOutcome(put.chunk, put.index, receipt=receipt))
            return PutDone(message.number, outcomes), []
        if isinstance(message, ConfirmShards):
            return PutDone(message.number, [self.confirm(grant) for grant in message.shards]), []
        if isinstance(message, Ping):
            return Pong(message.number, self.number, self.incarnation), []
        assert isinstance(message, GetShards)
        got, frames = [], []
        for grant in message.shards:
            self.asked.append(grant.chunk)
            data = self.shards.get((grant.chunk, grant.index))
            if data is None:
                got.append(GotShard(grant.chunk, grant.index, failure=Failure("not-found", "no such shard")))
                continue
            if rng.random() < faults.corrupt:
                data = bytes([data[0] ^ 1]) + data[1:]
            got.append(GotShard(grant.chunk, grant.index, blake3(data).digest()))
            frames.append(data)
        return ShardData(message.number, got), frames

    def confirm(self, grant: Any) -> PutOutcome:
        if (grant.chunk, grant.index) in self.shards:
            return PutOutcome(grant.chunk, grant.index, receipt=self.receipt(grant.upload, grant.chunk, grant.index))
        return PutOutcome(grant.chunk, grant.index, failure=Failure("not-found", "no such shard"))


@dataclass
class _Upload:
    plans: dict[int, dict[int, int]] = field(default_factory=dict)  # chunk -> index -> node
    pages: dict[int, list[StagedChunk]] = field(default_factory=dict)
    born_ns: int = -1  #: of a slot: when it was given


class ModelMaster:
    def __init__(self, world: World, copies: int) -> None:
        self.world, self.copies = world, copies
        self.term = 1
        self.ids = itertools.count(100)
        self.sessions: dict[int, dict[int, Any]] = {}
        self.uploads: dict[int, _Upload] = {}
        self.files: dict[str, tuple[Attributes, list[StagedChunk]]] = {}
        self.contents: dict[int, list[StagedChunk]] = {}
        self.calls: list[op.Operation] = []
        self.messages = 0
        self.commits = 0
        self.slots_last_ms = 60_000
        self.given: set[int] = set()  # slots
        self.returned: set[int] = set()

    def handle(self, message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]] | None:
        if isinstance(message, Hello):
            return Welcome(message.number, 1, b"c" * 16, self.term, "master"), []
        assert isinstance(message, Calls)
        self.messages += 1
        answers = []
        for call in message.calls:
            self.calls.append(call.operation)
            if isinstance(call.operation, op.STORED):
                kept = self.sessions.get(message.session)
                if kept is None:
                    answers.append(Answer(call.number, Failure("outcome-unknown", "no such session")))
                    continue
                for number in [number for number in kept if number < message.done_below]:
                    del kept[number]
                if call.number not in kept:
                    kept[call.number] = self.run(call.operation)
                answers.append(Answer(call.number, kept[call.number]))
            else:
                answers.append(Answer(call.number, self.run(call.operation)))
        return Answers(self.term, answers), []

    def run(self, operation: op.Operation) -> op.Result:
        return getattr(self, "on_" + type(operation).__name__.lower())(operation)

    def on_opensession(self, operation: op.OpenSession) -> op.Result:
        session = next(self.ids)
        self.sessions[session] = {}
        return op.SessionOpened(session)

    def on_closesession(self, operation: op.CloseSession) -> op.Result:
        return op.Done(int(self.sessions.pop(operation.session, None) is not None))

    def on_report(self, operation: op.Report) -> op.Result:
        return op.Done()

    def on_renew(self, operation: op.Renew) -> op.Result:
        return op.Done(len(operation.uploads))

    def on_listnodes(self, operation: op.ListNodes) -> op.Result:
        nodes = self.world.nodes.values()
        return op.Nodes(
            [
                NodeInfo(node.number, f"n{node.number}", "up", node.address, "", "", 0, 0, 0, 0, node.incarnation)
                for node in nodes
            ]
        )

    def addresses(self) -> list[NodeAddress]:
        nodes = self.world.nodes.values()
        return [NodeAddress(node.number, node.address, node.incarnation, f"n{node.number}") for node in nodes]

    def choose(self, count: int, barred: set[int], avoid: list[int]) -> list[int]:
        usable = [number for number in self.world.nodes if number not in barred]
        good = [number for number in usable if number not in avoid]
        rest = [number for number in usable if number in avoid]
        self.world.rng.shuffle(good)
        return (good + rest)[:count]

    def on_allocate(self, operation: op.Allocate) -> op.Result:
        number = operation.upload or next(self.ids)
        upload = self.uploads.setdefault(number, _Upload())
        copies = int(operation.redundancy.removeprefix("copies=") or self.copies)
        plans = []
        for _ in operation.lengths:
            chosen = self.choose(copies, set(), operation.avoid)
            if len(chosen) < copies:
                return Failure("too-few-nodes", "too few nodes")
            chunk = next(self.ids)
            upload.plans[chunk] = dict(enumerate(chosen))
            plans.append(ChunkPlan(chunk, [Place(node, index, b"m" * 16) for index, node in enumerate(chosen)]))
        return op.Allocated(number, f"copies={copies}", plans, self.addresses(), 0)

    def on_allocateslots(self, operation: op.AllocateSlots) -> op.Result:
        copies = int(operation.redundancy.removeprefix("copies="))
        slots = []
        for _ in range(operation.count):
            chosen = self.choose(copies, set(), operation.avoid)
            if len(chosen) < copies:
                return Failure("too-few-nodes", "too few nodes")
            number, chunk = next(self.ids), next(self.ids)
            self.uploads[number] = _Upload({chunk: dict(enumerate(chosen))}, born_ns=self.world.now)
            self.given.add(number)
            places = [Place(node, index, b"m" * 16) for index, node in enumerate(chosen)]
            slots.append(UploadSlot(number, chunk, places))
        return op.AllocatedSlots(slots, self.addresses(), 0, self.slots_last_ms)

    def on_returnslots(self, operation: op.ReturnSlots) -> op.Result:
        for number in operation.uploads:
            assert number in self.given
            assert number not in self.contents, "a slot was returned that was used"
            self.returned.add(number)
        return op.Done(sum(self.uploads.pop(number, None) is not None for number in operation.uploads))

    def on_reallocate(self, operation: op.Reallocate) -> op.Result:
        upload = self.uploads.get(operation.upload)
        if upload is None:
            return Failure("outdated", "upload expired")
        places = []
        for shard, held in zip(operation.shards, operation.held, strict=True):
            others = {node for index, node in upload.plans[shard.chunk].items() if index != shard.index}
            others |= {node for moved, node in places if moved.chunk == shard.chunk}
            chosen = self.choose(1, set(held) | others, operation.avoid)
            if not chosen:
                return Failure("too-few-nodes", "no other node")
            places.append((shard, chosen[0]))
        for shard, node in places:
            upload.plans[shard.chunk][shard.index] = node
        answer = [Place(node, shard.index, b"m" * 16) for shard, node in places]
        return op.Reallocated(answer, self.addresses(), 0)

    def check(self, number: int, redundancy: str, chunks: list[StagedChunk]) -> op.Result | None:
        """Confirm if receipts are of earlier incarnations; Denied if they are wrong."""
        assert number not in self.returned, "a slot was used that had been returned"
        assert number not in self.contents, "an upload is published twice"
        stale: list[PlacedShard] = []
        for chunk in chunks:
            nodes = {receipt.node for receipt in chunk.receipts}
            assert redundancy == f"copies={len(nodes)}" == f"copies={len(chunk.receipts)}"
            for receipt in chunk.receipts:
                node = self.world.nodes[receipt.node]
                if receipt.incarnation != node.incarnation:
                    stale.append(PlacedShard(chunk.chunk, receipt.index, receipt.node))
                    continue
                said = (receipt.node, receipt.incarnation, number, chunk.chunk, receipt.index, chunk.hash)
                assert receipt.mac == mac_of(*said), "a receipt for something else"
        if stale:
            return op.Confirm(stale, [b"m" * 16] * len(stale), self.addresses(), 0)
        return None

    def on_stage(self, operation: op.Stage) -> op.Result:
        upload = self.uploads.get(operation.upload)
        if upload is None:
            return Failure("conflict", "upload expired")
        assert len(operation.chunks) == PAGE_CHUNKS, "a staged page is full"
        if operation.page not in upload.pages:
            confirm = self.check(operation.upload, operation.redundancy, operation.chunks)
            if confirm is not None:
                return confirm
            upload.pages[operation.page] = operation.chunks
        return op.Staged(operation.upload, operation.page)

    def on_commit(self, operation: op.Commit) -> op.Result:
        if operation.if_absent and operation.path in self.files:
            return Failure("already-exists", "taken")
        rows: list[StagedChunk] = []
        if operation.upload:
            if operation.upload in self.contents:
                return Failure("conflict", "published already")
            if operation.inherits and operation.redundancy != f"copies={self.copies}":
                return Failure("outdated", "another redundancy")
            upload = self.uploads.get(operation.upload)
            if upload is None:
                return Failure("outdated", "upload expired")
            confirm = self.check(operation.upload, operation.redundancy, operation.chunks)
            if confirm is not None:
                return confirm
            rows = [row for page in sorted(upload.pages) for row in upload.pages[page]] + operation.chunks
            assert sorted(upload.pages) == list(range(len(upload.pages)))
            del self.uploads[operation.upload]
        assert len(rows) == operation.chunk_count
        assert sum(row.length for row in rows) == operation.length
        self.commits += 1
        attributes = Attributes(
            "file", 7, operation.length, operation.mtime_ns, operation.mode, self.commits, operation.upload,
            operation.chunk_bytes, operation.chunk_count, operation.redundancy,
        )  # fmt: skip
        self.files[operation.path] = attributes, rows
        self.contents[operation.upload] = rows
        return op.Found(attributes)

    def on_abort(self, operation: op.Abort) -> op.Result:
        assert operation.upload not in {attributes.content for attributes, _ in self.files.values()}, "aborted a file"
        return op.Done(int(self.uploads.pop(operation.upload, None) is not None))

    def on_stat(self, operation: op.Stat) -> op.Result:
        found = self.files.get(operation.path)
        return op.Found(found[0]) if found else Failure("not-found", "no such file", path=operation.path)

    def on_locate(self, operation: op.Locate) -> op.Result:
        found = self.files.get(operation.path)
        if found is None:
            return Failure("not-found", "no such file", path=operation.path)
        rows = found[1][operation.page * PAGE_CHUNKS :][:PAGE_CHUNKS]
        chunks = []
        for row in rows:
            places = [Place(receipt.node, receipt.index, b"m" * 16) for receipt in row.receipts]
            chunks.append(ChunkPlaces(row.chunk, row.length, row.hash, places))
        pages = -(-len(found[1]) // PAGE_CHUNKS)
        return op.Located(found[0], operation.page, pages, chunks, self.addresses(), 0)

    def bytes_of(self, path: str) -> bytes:
        """The content as any one copy of each chunk has it; every copy must be right."""
        parts = []
        for row in self.files[path][1]:
            for receipt in row.receipts:
                data = self.world.nodes[receipt.node].shards[row.chunk, receipt.index]
                assert blake3(data).digest() == row.hash
            parts.append(data)
        return b"".join(parts)


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
        self, seed: int, nodes: int = 4, copies: int = 2, faults: Faults | None = None, **settings: Any
    ) -> None:
        self.rng = random.Random(seed)
        self.random = self.rng
        self.faults = faults or Faults()
        self.now = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.timers: dict[Any, int] = {}
        self.nodes = {number: ModelNode(self, number) for number in range(1, nodes + 1)}
        self.master = ModelMaster(self, copies)
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

    def put(self, path: str, data: bytes, **options: Any) -> ListTicket:
        """Begin an upload of bytes that are there as a whole."""
        ticket = ListTicket(self)
        target = Target(path, max(CHUNK, len(data)), len(data), 1, **options)
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
        ticket = self.upload(path, data)
        self.run_until(lambda: ticket.result is not None)
        assert not isinstance(ticket.result, DSAError), ticket.result
        self.faults = faults


@pytest.fixture(name="make_world")
def _make_world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Worlds whose pages hold four chunks, so that small files have several."""
    monkeypatch.setattr(limits, "PAGE_BYTES", PAGE_CHUNKS * CHUNK)
    return World


@pytest.fixture(name="Faults")
def _faults() -> type[Faults]:
    return Faults


class WorldHandle:
    """A grip on the client's actor in a world: every call is worked off at once, in the caller's thread."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.RLock()
        self.calls: list[Any] = []
        self.stopped = False

    def call(self, call: Any) -> None:
        with self.lock:
            if self.stopped:
                raise Closed("stopped")
            self.calls.append(call)
            self.world.call(call)
            while len(self.world.events) > 1 or (self.world.events and not self.world.timers):
                self.world.step()  # until only the client's own tick is left

    def endpoint(self, kind: str) -> None:
        return None

    def stop(self, timeout_s: float = 5.0) -> None:
        with self.lock:
            if not self.stopped:
                self.stopped = True
                self.world.client.on_stop(self.world)

    def kill(self) -> None:
        self.stopped = True

    def join(self, timeout_s: float | None = None) -> int | None:
        return 0 if self.stopped else None


@pytest.fixture(name="store")
def _store(make_world: Callable[..., World]) -> Iterator[Store]:
    """A store over a world, with chunks of 4 KiB; ``store.world`` and ``store.handle`` show what is behind it."""
    world = make_world(1)
    handle = WorldHandle(world)
    store = Store(lambda: handle, "dsa://model", chunk_bytes=CHUNK)
    store.world, store.handle = world, handle  # type: ignore[attr-defined]
    yield store
    store.close()
