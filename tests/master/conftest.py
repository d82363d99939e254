"""A master in the simulator, with scripted clients and nodes around it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from actors.core import ActorSpec, Address, Context, Job, Lane, Message
from actors.sim.disk import SimDisk
from actors.sim.faults import NO_FAULTS, Faults
from actors.sim.runtime import SimHandle, SimRuntime
from actors.testing import Probe, Received
from dsa_zmq.master.actor import MasterActor
from dsa_zmq.master.department import CATALOG_LANE
from dsa_zmq.master.service import MasterSettings, load_or_create_secret, master_spec
from dsa_zmq.model.ids import NONCE_BITS
from dsa_zmq.model.inventory import SHARDS, bucket_of, digests, root
from dsa_zmq.model.macs import receipt_mac
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import (
    ABSENT,
    GOOD,
    PROTOCOL_VERSION,
    Answers,
    AskInventory,
    Call,
    Calls,
    Drop,
    Dropped,
    Examine,
    Examined,
    Fence,
    Fetch,
    Fetched,
    Heartbeat,
    Hint,
    Inventory,
    Noted,
    Probed,
    Refused,
    Register,
    Registered,
)
from dsa_zmq.protocol.messages import Probe as ProbeOrder
from dsa_zmq.protocol.operations import Allocate, Commit, ListNodes, Locate, OpenSession, Operation
from dsa_zmq.protocol.values import FetchOutcome, ProbeOutcome, Receipt, ShardRef, StagedChunk
from dsa_zmq.protocol.volumes import AskVolumes, KeepVolumes, ReadVolume, Ship
from tests.keeper import Keeper

CONTROL = Address("tcp://10.0.0.1:7700")
SETTINGS = MasterSettings(
    listen=CONTROL,
    publish=Address("tcp://10.0.0.1:7701"),
    subscribe=Address("tcp://10.0.0.1:7702"),
    gc_interval_s=0.5,
    gc_grace_s=0.0,
    catalog_history_s=0.0,
)
MS, SECOND = 10**6, 10**9
CAPACITY = 1 << 30


class Client:
    """A scripted client: what it sends is what the test says."""

    def __init__(self, world: MasterWorld, name: str, incarnation: int) -> None:
        self.world = world
        self.probe = Probe()
        self.handle = world.runtime.spawn(ActorSpec(name, incarnation, self.probe, CODEC))
        self.session = 0
        self.number = 0

    def send(self, message: Message) -> None:
        self.handle.call(lambda ctx: ctx.send(CONTROL, message))

    def received(self, kind: type[Any]) -> list[Any]:
        return [got.message for got in self.probe.messages if isinstance(got.message, kind)]

    @property
    def answers(self) -> list[tuple[int, Any]]:
        """(number, result) of all answers so far, in the order in which they came."""
        return [(answer.number, answer.result) for message in self.received(Answers) for answer in message.answers]

    def results(self, number: int) -> list[Any]:
        return [result for answered, result in self.answers if answered == number]

    def calls(self, *operations: Operation, session: int | None = None) -> list[int]:
        """Send these operations in one message; their numbers."""
        numbers = [self.number + offset for offset in range(1, len(operations) + 1)]
        self.number += len(operations)
        calls = [Call(number, operation) for number, operation in zip(numbers, operations, strict=True)]
        self.send(Calls(self.session if session is None else session, 0, calls))
        return numbers

    def repeat(self, number: int, operation: Operation) -> None:
        self.send(Calls(self.session, 0, [Call(number, operation)]))

    def ask(self, operation: Operation) -> Any:
        """Send, resend each second, and wait for the answer."""
        (number,) = self.calls(operation)
        for _ in range(30):
            if self.world.runtime.advance(lambda: self.results(number), SECOND):
                return self.results(number)[0]
            self.repeat(number, operation)
        raise AssertionError(f"no answer to {operation}")

    def again(self, number: int, operation: Operation) -> Any:
        """Repeat a call each second until there is one more answer to it; that answer."""
        before = len(self.results(number))
        for _ in range(30):
            self.repeat(number, operation)
            if self.world.runtime.advance(lambda: len(self.results(number)) > before, SECOND):
                return self.results(number)[before]
        raise AssertionError(f"no answer to {operation}")

    def states(self) -> dict[str, str]:
        """Of the nodes, by name, as the master shows them."""
        return {node.name: node.state for node in self.ask(ListNodes()).nodes}

    def where(self, path: str = "/file") -> tuple[int, dict[int, int]]:
        """Of a file of one chunk: its id, and node -> index of the shards that can be read."""
        (chunk,) = self.ask(Locate(path)).chunks
        return chunk.chunk, {place.node: place.index for place in chunk.places}

    def open_session(self, incarnation: int = 1) -> None:
        self.session = self.ask(OpenSession(self.handle._process.name.encode().ljust(16, b"."), incarnation)).session

    def upload(self, path: str, nodes: Sequence[Node], size: int = 5, redundancy: str = "") -> Any:
        """Allocate and commit a file of one chunk, with receipts of those of ``nodes`` that were chosen."""
        allocated = self.ask(Allocate(0, path, 1 << 20, 0, [size], redundancy=redundancy))
        return self.ask(self.commit_of(path, allocated, nodes, size))

    def commit_of(self, path: str, allocated: Any, nodes: Sequence[Node], size: int = 5) -> Commit:
        digest = self.world.random.randbytes(32)
        by_id = {node.registered.node: node for node in nodes}
        chunks = [
            StagedChunk(
                plan.chunk,
                size,
                digest,
                [by_id[place.node].store(allocated.upload, plan.chunk, place.index, digest) for place in plan.places],
            )
            for plan in allocated.chunks
        ]
        total = size * len(chunks)
        return Commit(allocated.upload, path, total, 1 << 20, len(chunks), allocated.redundancy, chunks, mtime_ns=1)


class Node:
    """A scripted node: registers when told, beats, gives receipts, and drops what it is told to."""

    def __init__(self, world: MasterWorld, number: int, start: int, nonce: int, **changes: Any) -> None:
        self.world = world
        self.drops = True  #: answer Drop
        self.tells = True  #: answer Examine and AskInventory
        self.fetches = False  #: have at once what the master says that it is to fetch
        self.beats = True
        self.keeps = True  #: copies of the catalog
        self.keeper = Keeper()
        self.heard_ns = 0  #: the master, last
        self.reaches: Callable[[int], bool] = lambda node: True  #: other nodes' data ports, when the master asks
        self.hears = True  #: what the master asks about them
        self.registered: Registered = None  # type: ignore[assignment]
        self.shards: set[ShardRef] = set()
        self.form = msgspec.structs.replace(
            Register(
                number=1,
                version=PROTOCOL_VERSION,
                oldest=1,
                cluster=b"",
                name=f"n{number}",
                store_id=bytes([number]) * 16,
                incarnation=start << NONCE_BITS | nonce,
                address=f"tcp://10.0.1.{number}:7710",
                zone="",
                host=f"host{number}",
                path="/data",
                disk=f"disk{number}",
                capacity=CAPACITY,
                used=0,
                free=CAPACITY,
                seen_term=0,
                seen_master=b"",
            ),
            **changes,
        )
        self.probe = Probe(reply=self._reply, at_timer=self._beat)
        self.actor_name = f"node-{self.form.name}-{self.form.path.strip('/')}"
        self.handle = world.runtime.spawn(ActorSpec(self.actor_name, self.form.incarnation, self.probe, CODEC))

    def received(self, kind: type[Any]) -> list[Any]:
        return [got.message for got in self.probe.messages if isinstance(got.message, kind)]

    def _reply(self, ctx: Context, got: Received) -> None:
        self.heard_ns = ctx.now_ns()
        match got.message:
            case Registered() as registered:
                self.registered = registered
                self.form = msgspec.structs.replace(
                    self.form,
                    cluster=registered.cluster,
                    seen_term=registered.term,
                    seen_master=registered.master,
                )
                ctx.join_feed(publish_to=Address(registered.heartbeats), subscribe_to=Address(registered.hints))
                ctx.set_timer("beat", 0)
            case Drop() as drop if self.drops:
                self.shards -= set(drop.shards)
                ctx.send(got.sender.address, Dropped(drop.number, drop.shards))
            case Examine() as question if self.tells and self.registered:
                states = [GOOD if shard in self.shards else ABSENT for shard in question.shards]
                ctx.send(got.sender.address, Examined(question.number, states))
            case Fetch() as fetch if self.fetches:
                outcomes = [
                    FetchOutcome(each.move, self.store(each.move, each.chunk, each.index, each.hash))
                    for each in fetch.shards
                ]
                ctx.send(got.sender.address, Fetched(fetch.number, outcomes))
            case AskInventory() as question if self.tells and self.registered:
                ctx.send(got.sender.address, self.inventory(question))
            case ProbeOrder() as probe if self.hears:
                reached = [
                    ProbeOutcome(node.node, node.incarnation if self.reaches(node.node) else 0) for node in probe.nodes
                ]
                ctx.send(got.sender.address, Probed(probe.number, reached))
            case Hint() as hint if self.registered and hint.term > self.registered.term:
                ctx.send(CONTROL, self.form)
            case Ship() as ship if self.keeps and (shipped := self.keeper.ship(ship, got.payload)) is not None:
                ctx.send(got.sender.address, shipped)
            case AskVolumes() as question if self.keeps:
                ctx.send(got.sender.address, self.keeper.tell(question.number))
            case ReadVolume() as question if self.keeps:
                data, payload = self.keeper.read(question)
                ctx.send(got.sender.address, data, [payload])
            case KeepVolumes() as order if self.keeps and self.keeper.keep(order):
                ctx.send(got.sender.address, Noted(order.number))
            case Fence():
                self.beats = False

    def inventory(self, question: AskInventory) -> Inventory:
        """What this node says that it holds, of what it is asked for."""
        level, within = question.level, set(question.within)
        shards = [each for each in self.shards if level == 0 or bucket_of(each.chunk, level - 1) in within]
        if level == SHARDS:
            return Inventory(question.number, [], [], sorted(shards, key=lambda each: (each.chunk, each.index)))
        found = digests([(each.chunk, each.index) for each in shards], level)
        return Inventory(question.number, list(found), list(found.values()))

    def _beat(self, ctx: Context, token: Any) -> None:
        if self.beats:
            if ctx.now_ns() - self.heard_ns > 3 * SECOND:  # not even hints: the connections have broken
                self.heard_ns = ctx.now_ns()
                ctx.send(CONTROL, self.form)
            ctx.publish("beat", self.heartbeat())
            ctx.set_timer("beat", self.registered.heartbeat_ms * MS)

    def heartbeat(self, **changes: Any) -> Heartbeat:
        used = 10 * len(self.shards)
        beat = Heartbeat(
            self.registered.node, self.form.incarnation, self.registered.term, used, CAPACITY - used,
            len(self.shards), 0, inventory=root(digests(((each.chunk, each.index) for each in self.shards), 0)),
        )  # fmt: skip
        return msgspec.structs.replace(beat, **changes)

    def send(self, message: Message) -> None:
        self.handle.call(lambda ctx: ctx.send(CONTROL, message))

    def publish(self, message: Message) -> None:
        self.handle.call(lambda ctx: ctx.publish("beat", message))

    def resume_beating(self) -> None:
        self.beats = True
        self.handle.call(lambda ctx: ctx.set_timer("beat", 0))

    def register(self, **changes: Any) -> Any:
        """Send the registration, again each second; the answer: Registered or Refused."""
        self.form = msgspec.structs.replace(self.form, **changes)
        before = len(self._replies())
        for _ in range(30):
            self.send(self.form)
            if self.world.runtime.advance(lambda: len(self._replies()) > before, SECOND):
                return self._replies()[before]
        raise AssertionError("no answer to the registration")

    def _replies(self) -> list[Any]:
        return [got.message for got in self.probe.messages if isinstance(got.message, Registered | Refused)]

    def store(self, upload: int, chunk: int, index: int, digest: bytes) -> Receipt:
        """Hold a shard, and say so."""
        self.shards.add(ShardRef(chunk, index))
        mac = receipt_mac(
            self.registered.key, cluster=self.registered.cluster, node=self.registered.node,
            store_id=self.form.store_id, incarnation=self.form.incarnation, upload=upload, chunk=chunk, index=index,
            shard_hash=digest,
        )  # fmt: skip
        return Receipt(self.registered.node, index, self.form.incarnation, mac)


class MasterWorld:
    """A simulated world with one master on one disk."""

    def __init__(self, seed: int, faults: Faults = NO_FAULTS) -> None:
        self.random = random.Random(f"test {seed}")
        self.runtime = SimRuntime(seed, faults=faults, keep_events=20_000)
        self.disk = SimDisk(random.Random(f"disk {seed}"))
        self.batches: list[list[Job]] = []  #: jobs of each catalog batch, once it is committed
        self.settings = SETTINGS
        self.starts = 0
        self.master: SimHandle = None  # type: ignore[assignment]
        self.actor: MasterActor = None  # type: ignore[assignment]

    def start(self, *, take_over: bool = False, **changes: Any) -> None:
        """Start a master on the disk; a restart if there was one."""
        self.settings = dataclasses.replace(self.settings, **changes)
        self.starts += 1
        rng = random.Random(f"{self.runtime.seed} start {self.starts}")
        secret = load_or_create_secret(self.disk, rng)
        spec = master_spec(self.settings, self.disk, rng, secret, take_over=take_over)
        lane = spec.lanes[CATALOG_LANE]

        def run(jobs: Sequence[Job]) -> Sequence[Any]:
            results = lane.handler(jobs)
            self.batches.append(list(jobs))
            return results

        lanes: dict[str, Lane] = {CATALOG_LANE: dataclasses.replace(lane, handler=run)}
        assert isinstance(spec.actor, MasterActor)
        self.actor = spec.actor
        self.master = self.runtime.spawn(dataclasses.replace(spec, lanes=lanes), disks=[self.disk])

    def crash(self) -> None:
        """Power loss of the master's host."""
        self.runtime.crash("master", power_loss=True)

    def client(self, name: str = "client-a", incarnation: int = 1, *, session: bool = True) -> Client:
        client = Client(self, name, incarnation)
        if session:
            client.open_session()
        return client

    def node(self, number: int, start: int = 1, *, nonce: int = 0xABC, **changes: Any) -> Node:
        return Node(self, number, start, nonce, **changes)

    def nodes(self, count: int) -> list[Node]:
        """So many nodes, registered."""
        nodes = [self.node(number) for number in range(1, count + 1)]
        for node in nodes:
            assert isinstance(node.register(), Registered)
        return nodes

    def wait(self, done: Any, timeout_s: float = 60.0) -> None:
        self.runtime.run_until(done, int(timeout_s * SECOND))

    def eventually(self, check: Any, timeout_s: float = 30.0) -> None:
        """As :meth:`wait`, for a check that itself lets the world go on."""
        end_ns = self.runtime.now_ns + int(timeout_s * SECOND)
        while not check():
            assert self.runtime.now_ns < end_ns, "not reached in time"
            self.run_for(0.1)

    def run_for(self, seconds: float) -> None:
        self.runtime.run_for(int(seconds * SECOND))

    def ran(self, kind: type[Job]) -> int:
        """How many jobs of that kind were committed."""
        return sum(isinstance(job, kind) for batch in self.batches for job in batch)


@pytest.fixture
def make_world() -> Iterator[Callable[..., MasterWorld]]:
    """Makes worlds by seed and faults, without a master yet."""
    worlds: list[MasterWorld] = []

    def make(seed: int, faults: Faults = NO_FAULTS) -> MasterWorld:
        worlds.append(MasterWorld(seed, faults))
        return worlds[-1]

    yield make
    for world in worlds:
        world.actor.check_invariants()
        world.crash()  # lets go of the files


@pytest.fixture
def world(make_world: Callable[..., MasterWorld]) -> MasterWorld:
    """A master that has just started, in a world without faults."""
    world = make_world(1)
    world.start()
    return world
