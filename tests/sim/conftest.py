"""One node in the simulator, on the disk store, with a scripted master and a scripted client around it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Self

import pytest
from blake3 import blake3

from actors.core import ActorSpec, Address, Context, Message, Token
from actors.sim.disk import SimDisk
from actors.sim.process import EPOCH_NS
from actors.sim.runtime import SimHandle, SimRuntime
from actors.testing import Probe, Received
from dsa_zmq.model.macs import READ, WRITE, grant_mac, receipt_mac
from dsa_zmq.node.service import NodeSettings, node_spec
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import (
    GetShards,
    Hint,
    PutDone,
    PutOutcome,
    PutShard,
    PutShards,
    Register,
    Registered,
    ShardData,
    ShardGrant,
)
from dsa_zmq.protocol.values import Receipt

SECOND = 1_000_000_000
MASTER, DATA = Address("tcp://master:7700"), Address("tcp://node:7710")
CLUSTER, KEY = b"c" * 16, b"k" * 32
NODE, TERM = 3, 5
UPLOAD = 77
NOW_S = EPOCH_NS // SECOND
LATER_S = NOW_S + 900  #: when the grants of these tests expire

Says = Message | tuple[Message, list[bytes]] | None
"""A message, or one with a payload, or nothing."""


class Script(Probe):
    """Keeps what it is told, and answers a message as ``answers`` says for its kind; all others not at all."""

    def __init__(
        self,
        answers: dict[type[Any], Callable[[Any], Says]] | None = None,
        at_timer: Callable[[Context, Token], object] | None = None,
    ) -> None:
        super().__init__(reply=self._answer, at_timer=at_timer)
        self.answers = answers or {}

    def _answer(self, ctx: Context, got: Received) -> None:
        answer = self.answers.get(type(got.message), lambda message: None)(got.message)
        if answer is not None:
            message, frames = answer if isinstance(answer, tuple) else (answer, [])
            ctx.send(got.sender.address, message, frames)

    def of(self, kind: type[Any]) -> list[Any]:
        """The messages of this kind, in the order in which they came."""
        return [got.message for got in self.messages if isinstance(got.message, kind)]


class NodeWorld:
    """A master, a client, and one node on a simulated disk, which is not running yet."""

    def __init__(self, seed: int = 1, **settings: Any) -> None:
        self.sim = SimRuntime(seed, keep_events=300)
        self.disk = SimDisk(random.Random(seed))
        self.rng = random.Random(seed + 1)
        self.settings = {"capacity": 4 << 20, "segment_bytes": 64 << 10, "name": "n3", **settings}
        self.term, self.master_id = TERM, b"m" * 16
        self.heartbeat_ms = 100
        self.master = Script({Register: self.registered}, lambda ctx, _: self._hint(ctx))
        self.client = Script()
        feeds = Address("tcp://master:1"), Address("tcp://master:2")
        self.master_handle = self.sim.spawn(ActorSpec("master", 1, self.master, CODEC, {}, MASTER, *feeds))
        self.client_handle = self.sim.spawn(ActorSpec("client", 9, self.client, CODEC))
        self.node: SimHandle
        self.store_id: bytes

    # --- the node -----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start a process of the node on its disk."""
        settings = NodeSettings(master=MASTER, listen=DATA, **self.settings)
        self.spec = node_spec(settings, self.disk, self.rng)
        self.actor: Any = self.spec.actor
        self.node = self.sim.spawn(self.spec, disks=[self.disk])
        return self

    def up(self) -> Self:
        """Start a process of the node; until it is registered."""
        self.start()
        self.until_registered()
        return self

    def until_registered(self) -> None:
        self.sim.run_until(lambda: self.actor._data.authority is not None and not self.actor._registration.asking)

    def rot(self, data: bytes) -> None:
        """Turn a bit in these bytes on the node's disk."""
        for name in self.disk.listdir("segments"):
            at = self.disk.read_bytes(f"segments/{name}").find(data)
            if at >= 0:
                self.disk.flip_bit(f"segments/{name}", at + len(data) // 2)
                return
        raise AssertionError("these bytes are nowhere")

    # --- the master ---------------------------------------------------------------------------------------------------

    def registered(self, message: Register) -> Message | None:
        self.store_id = message.store_id
        feeds = "tcp://0.0.0.0:2", "tcp://*:1"
        return Registered(
            message.number, CLUSTER, NODE, self.term, self.master_id, KEY, *feeds, heartbeat_ms=self.heartbeat_ms
        )

    def tell(self, message: Message, payload: Sequence[bytes] = ()) -> None:
        """The master says something over the connection that the node opened."""
        peer = next(got.sender.address for got in reversed(self.master.messages) if isinstance(got.message, Register))
        self.master_handle.call(lambda ctx: ctx.send(peer, message, payload))

    def keep_hinting(self) -> None:
        """From now on the master is heard of as often as it wants to hear of the node."""
        self.master_handle.call(self._hint)

    def _hint(self, ctx: Context) -> None:
        ctx.publish("hint", Hint(CLUSTER, self.term, self.master_id))
        ctx.set_timer("hint", self.heartbeat_ms * 1_000_000)

    # --- the client ---------------------------------------------------------------------------------------------------

    def send(self, message: Message, payload: Sequence[bytes] = ()) -> None:
        """The client says something to the data port."""
        self.client_handle.call(lambda ctx: ctx.send(DATA, message, payload))

    def ask(self, message: Any, payload: Sequence[bytes] = ()) -> tuple[Any, list[bytes]]:
        """One request of the client, and its answer."""
        before = len(self.client.messages)
        for _ in range(20):  # the connection may have been lost with an earlier process
            self.send(message, payload)
            if self.sim.advance(lambda: len(self.client.messages) > before, 2 * SECOND):
                break
        got: Any = self.client.messages[-1]
        assert got.message.number == message.number
        return got.message, [bytes(frame) for frame in got.payload]

    def mac(self, right: bytes, chunk: int, length: int, /, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "cluster": CLUSTER, "node": NODE, "store_id": self.store_id, "upload": UPLOAD if right == WRITE else 0,
            "chunk": chunk, "index": 0, "length": length, "expires_s": LATER_S,
        }  # fmt: skip
        return grant_mac(changes.pop("key", KEY), right, **{**fields, **changes})

    def put_shard(self, chunk: int, data: bytes, *, expires_s: int = LATER_S, **changes: Any) -> PutShard:
        mac = self.mac(WRITE, chunk, len(data), expires_s=expires_s, **changes)
        return PutShard(UPLOAD, chunk, 0, len(data), len(data), blake3(data).digest(), expires_s, mac)

    def put(self, *news: tuple[int, bytes], number: int = 1) -> list[PutOutcome]:
        shards = [self.put_shard(chunk, data) for chunk, data in news]
        answer, _ = self.ask(PutShards(number, shards), [data for _, data in news])
        assert isinstance(answer, PutDone)
        return answer.outcomes

    def grant(self, chunk: int, length: int, right: bytes = READ) -> ShardGrant:
        mac = self.mac(right, chunk, length)
        return ShardGrant(chunk, 0, length, LATER_S, mac, UPLOAD if right == WRITE else 0)

    def get(self, *grants: ShardGrant) -> tuple[ShardData, list[bytes]]:
        return self.ask(GetShards(2, list(grants)))

    def receipt(self, chunk: int, data: bytes, upload: int = UPLOAD, index: int = 0) -> Receipt:
        """Of the present process."""
        incarnation = self.spec.incarnation
        mac = receipt_mac(
            KEY, cluster=CLUSTER, node=NODE, store_id=self.store_id, incarnation=incarnation, upload=upload, chunk=chunk,
            index=index, shard_hash=blake3(data).digest(),
        )  # fmt: skip
        return Receipt(NODE, index, incarnation, mac)


@pytest.fixture
def world() -> NodeWorld:
    """With a node that is registered."""
    return NodeWorld().up()


@pytest.fixture
def data() -> bytes:
    """The 5,000 bytes of a shard."""
    return random.Random("data").randbytes(5000)
