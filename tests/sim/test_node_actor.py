"""The node actor in the simulator, on the disk store, with a scripted master and client."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from actors.core import Actor, ActorSpec, Address, Context, Message, Peer
from actors.sim.disk import SimDisk
from actors.sim.process import EPOCH_NS
from actors.sim.runtime import SimHandle, SimRuntime
from dsa_zmq.errors import ConfigError, Corrupt
from dsa_zmq.model.ids import start_of
from dsa_zmq.model.inspection import Inspect
from dsa_zmq.model.inventory import SHARDS, digests, root
from dsa_zmq.model.limits import GRANT_SLACK_S, MAX_CHUNK_BYTES
from dsa_zmq.model.macs import READ, WRITE, grant_mac, receipt_mac
from dsa_zmq.node.service import NodeSettings, node_spec
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import (
    ABSENT,
    DAMAGED,
    GOOD,
    UNREADABLE,
    AskInventory,
    ConfirmShards,
    Drop,
    Dropped,
    Examine,
    Examined,
    Fence,
    GetShards,
    Heartbeat,
    Hello,
    Hint,
    Inventory,
    Ping,
    Pong,
    Probed,
    PutDone,
    PutOutcome,
    PutShard,
    PutShards,
    Refused,
    Register,
    Registered,
    ShardData,
    ShardGrant,
    Welcome,
)
from dsa_zmq.protocol.values import Failure, Receipt, ShardRef

MS = 1_000_000
SECOND = 1_000_000_000
MASTER = Address("tcp://master:7700")
DATA = Address("tcp://node:7710")
CLUSTER, KEY = b"c" * 16, b"k" * 32
NODE = 3
UPLOAD = 77
NOW_S = EPOCH_NS // SECOND


class Script(Actor):
    """Keeps what it is told; says what it is asked to say; a master answers registrations as ``answer`` says."""

    def __init__(self) -> None:
        self.heard: list[tuple[Peer, Message, list[bytes]]] = []
        self.answer: Any = None

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        self.heard.append((sender, message, [bytes(frame) for frame in payload]))
        if isinstance(message, Register) and self.answer is not None:
            reply = self.answer(message)
            if reply is not None:
                ctx.send(sender.address, reply)

    def on_call(self, ctx: Context, call: Any) -> None:
        call(ctx)

    def heard_messages(self) -> list[Message]:
        """In the order in which they came."""
        return [message for _, message, _ in self.heard]

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, message, _ in self.heard if isinstance(message, kind)]


class World:
    """A master, a client, and one node on a simulated disk."""

    def __init__(self, seed: int = 1, **settings: Any) -> None:
        self.sim = SimRuntime(seed, keep_events=200)
        self.disk = SimDisk(random.Random(seed))
        self.rng = random.Random(seed + 1)
        self.settings = settings
        self.term, self.master_id = 5, b"m" * 16
        self.master, self.client = Script(), Script()
        self.master.answer = self.registered
        self.master_handle = self.sim.spawn(
            ActorSpec("master", 1, self.master, CODEC, {}, MASTER, Address("tcp://master:1"), Address("tcp://master:2"))
        )
        self.client_handle = self.sim.spawn(ActorSpec("client", 9, self.client, CODEC))
        self.node: SimHandle
        self.start()

    def start(self) -> None:
        wanted: dict[str, Any] = {"capacity": 4 << 20, "segment_bytes": 64 << 10, "name": "n3", **self.settings}
        spec = node_spec(NodeSettings(master=MASTER, listen=DATA, **wanted), self.disk, self.rng)
        self.spec = spec
        self.actor: Any = spec.actor
        self.node = self.sim.spawn(spec, disks=[self.disk])

    def registered(self, message: Register) -> Message | None:
        self.store_id = message.store_id
        return Registered(
            message.number, CLUSTER, NODE, self.term, self.master_id, KEY, "tcp://0.0.0.0:2", "tcp://*:1", 100
        )

    def until_registered(self) -> World:
        self.sim.run_until(lambda: self.actor._data.authority is not None and not self.actor._registration.asking)
        return self

    def ask(self, message: Any, payload: Sequence[bytes] = ()) -> tuple[Any, list[bytes]]:
        """One request of the client, and its answer."""
        before = len(self.client.heard)
        for _ in range(20):  # the connection may have been lost with an earlier process
            self.client_handle.call(lambda ctx: ctx.send(DATA, message, payload))
            if self.sim.advance(lambda: len(self.client.heard) > before, 2 * SECOND):
                break
        _, answer, frames = self.client.heard[-1]
        assert answer.number == message.number
        return answer, frames

    def tell(self, message: Message) -> None:
        """The master says something over the connection that the node opened."""
        peer = next(s.address for s, m, _ in reversed(self.master.heard) if isinstance(m, Register))
        self.master_handle.call(lambda ctx: ctx.send(peer, message))

    def mac(self, right: bytes, chunk: int, length: int, /, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "cluster": CLUSTER, "node": NODE, "store_id": self.store_id, "upload": UPLOAD if right == WRITE else 0,
            "chunk": chunk, "index": 0, "length": length, "expires_s": NOW_S + 900,
        }  # fmt: skip
        return grant_mac(changes.pop("key", KEY), right, **{**fields, **changes})

    def put_shard(self, chunk: int, data: bytes, **changes: Any) -> PutShard:
        expires_s = changes.pop("expires_s", NOW_S + 900)
        mac = self.mac(WRITE, chunk, len(data), expires_s=expires_s, **changes)
        return PutShard(UPLOAD, chunk, 0, len(data), len(data), blake3(data).digest(), expires_s, mac)

    def put(self, *news: tuple[int, bytes], number: int = 1) -> list[PutOutcome]:
        shards = [self.put_shard(chunk, data) for chunk, data in news]
        answer, _ = self.ask(PutShards(number, shards), [data for _, data in news])
        assert isinstance(answer, PutDone)
        return answer.outcomes

    def grant(self, chunk: int, length: int, right: bytes = READ, **changes: Any) -> ShardGrant:
        expires_s = changes.pop("expires_s", NOW_S + 900)
        mac = self.mac(right, chunk, length, expires_s=expires_s, **changes)
        return ShardGrant(chunk, 0, length, expires_s, mac, UPLOAD if right == WRITE else 0)

    def get(self, *grants: ShardGrant) -> tuple[ShardData, list[bytes]]:
        return self.ask(GetShards(2, list(grants)))

    def receipt(self, chunk: int, data: bytes, upload: int = UPLOAD) -> Receipt:
        """Of the present process."""
        incarnation = self.spec.incarnation
        mac = receipt_mac(
            KEY, cluster=CLUSTER, node=NODE, store_id=self.store_id, incarnation=incarnation, upload=upload, chunk=chunk,
            index=0, shard_hash=blake3(data).digest(),
        )  # fmt: skip
        return Receipt(NODE, 0, incarnation, mac)


@pytest.fixture
def world() -> World:
    return World().until_registered()


@pytest.fixture
def data() -> Iterator[bytes]:
    return random.Random("data").randbytes(5000)  # type: ignore[return-value]


# --- shards -----------------------------------------------------------------------------------------------------------


def test_a_put_is_answered_with_a_valid_receipt_and_the_bytes_come_back(world: World, data: bytes) -> None:
    assert world.put((10, data), (11, data[:9])) == [
        PutOutcome(10, 0, receipt=world.receipt(10, data)),
        PutOutcome(11, 0, receipt=world.receipt(11, data[:9])),
    ]
    answer, frames = world.get(world.grant(10, 5000), world.grant(12, 5), world.grant(11, 9))
    assert [shard.failure and shard.failure.code for shard in answer.shards] == [None, "not-found", None]
    assert [shard.hash for shard in answer.shards][::2] == [blake3(data).digest(), blake3(data[:9]).digest()]
    assert frames == [data, data[:9]]


def test_a_receipt_is_given_after_the_bytes_are_durable(world: World, data: bytes) -> None:
    assert world.put((10, data))[0].receipt
    world.sim.crash(world.spec.name, power_loss=True)
    world.start()
    world.until_registered()
    assert world.get(world.grant(10, 5000))[1] == [data]


def test_the_same_put_again_gives_a_valid_receipt(world: World, data: bytes) -> None:
    first = world.put((10, data))
    assert world.put((10, data), number=2) == first == [PutOutcome(10, 0, receipt=world.receipt(10, data))]


def test_other_bytes_under_a_chunk_id_conflict(world: World, data: bytes) -> None:
    world.put((10, data))
    failure = world.put((10, data[::-1]), number=2)[0].failure
    assert failure is not None
    assert failure.code == "conflict"


def test_bytes_that_do_not_match_their_hash_are_refused(world: World, data: bytes) -> None:
    answer, _ = world.ask(PutShards(1, [world.put_shard(10, data)]), [data[:-1] + b"!"])
    assert answer.outcomes[0].failure.code == "corrupt"


def test_damaged_bytes_are_not_served(world: World, data: bytes) -> None:
    world.put((10, data))
    path = "segments/00000001.seg"
    file = world.disk.open(path)
    at = file.pread(file.size(), 0).find(data)
    world.disk.flip_bit(path, at + 77)
    answer, frames = world.get(world.grant(10, 5000))
    assert answer.shards[0].failure is not None
    assert answer.shards[0].failure.code == "corrupt"
    assert frames == []


# --- grants -----------------------------------------------------------------------------------------------------------

FORGERIES: dict[str, dict[str, Any]] = {
    "forged": {"key": b"x" * 32},
    "for another node": {"node": NODE + 1},
    "for another store": {"store_id": b"s" * 16},
    "for another upload": {"upload": UPLOAD + 1},
    "for another chunk": {"chunk": 99},
    "for another index": {"index": 1},
    "for another length": {"length": 4999},
    "for another cluster": {"cluster": b"d" * 16},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_write_grant_that_is_not_for_this_is_refused(world: World, data: bytes, name: str) -> None:
    mac = world.mac(WRITE, 10, 5000, **FORGERIES[name])
    bad = PutShard(UPLOAD, 10, 0, 5000, 5000, blake3(data).digest(), NOW_S + 900, mac)
    answer, _ = world.ask(PutShards(1, [bad, world.put_shard(11, data)]), [data, data])
    assert answer.outcomes[0].failure.code == "denied"
    assert answer.outcomes[1].receipt == world.receipt(11, data)
    assert world.get(world.grant(10, 5000))[0].shards[0].failure.code == "not-found"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in FORGERIES if name != "for another upload"])
def test_a_read_grant_that_is_not_for_this_is_refused(world: World, data: bytes, name: str) -> None:
    world.put((10, data))
    bad = ShardGrant(10, 0, 5000, NOW_S + 900, world.mac(READ, 10, 5000, **FORGERIES[name]))
    answer, frames = world.get(bad)
    assert answer.shards[0].failure is not None
    assert answer.shards[0].failure.code == "denied"
    assert frames == []


def test_a_write_grant_does_not_read_and_a_read_grant_does_not_write(world: World, data: bytes) -> None:
    world.put((10, data))
    as_read = ShardGrant(10, 0, 5000, NOW_S + 900, world.mac(WRITE, 10, 5000))
    assert world.get(as_read)[0].shards[0].failure.code == "denied"  # type: ignore[union-attr]
    mac = world.mac(READ, 11, 5000, upload=UPLOAD)
    as_write = PutShard(UPLOAD, 11, 0, 5000, 5000, blake3(data).digest(), NOW_S + 900, mac)
    assert world.ask(PutShards(1, [as_write]), [data])[0].outcomes[0].failure.code == "denied"


def test_a_replayed_grant_with_a_later_time_is_refused(world: World, data: bytes) -> None:
    mac = world.mac(READ, 10, 5000, expires_s=NOW_S)
    assert world.get(ShardGrant(10, 0, 5000, NOW_S + 900, mac))[0].shards[0].failure.code == "denied"  # type: ignore[union-attr]


def test_an_expired_grant_is_refused_and_a_little_late_one_is_not(world: World, data: bytes) -> None:
    answer, _ = world.ask(
        PutShards(
            1,
            [
                world.put_shard(10, data, expires_s=NOW_S - GRANT_SLACK_S - 1),
                world.put_shard(11, data, expires_s=NOW_S - GRANT_SLACK_S + 10),
            ],
        ),
        [data, data],
    )
    assert answer.outcomes[0].failure.code == "denied"
    assert "expired" in answer.outcomes[0].failure.message
    assert answer.outcomes[1].receipt is not None


def test_a_grant_for_another_length_than_the_shard_has_reads_nothing(world: World, data: bytes) -> None:
    world.put((10, data))
    answer, frames = world.get(world.grant(10, 4000))
    assert answer.shards[0].failure is not None
    assert answer.shards[0].failure.code == "conflict"
    assert frames == []


@pytest.mark.parametrize("length", [1, 999, 1000])
def test_a_grant_to_write_is_an_upper_bound(world: World, data: bytes, length: int) -> None:
    piece = data[:length]
    put = PutShard(
        UPLOAD, 10, 0, length, length, blake3(piece).digest(), NOW_S + 900, world.mac(WRITE, 10, 1000), granted=1000
    )
    answer, _ = world.ask(PutShards(1, [put]), [piece])
    assert answer.outcomes[0].receipt == world.receipt(10, piece)
    assert world.get(world.grant(10, length))[1] == [piece]


@pytest.mark.parametrize(
    ("length", "granted", "mac_for"),
    [
        (1001, 1000, 1000),  # longer than granted
        (1001, 1001, 1000),  # granted by itself
        (1001, 0, 1000),
        (999, 0, 1000),  # a shorter one, without a word of what was granted
        (0, 1000, 1000),
        (5, -1, 1000),
        (5, 2**63 - 1, 2**63 - 1),  # more than any chunk has
    ],
)
def test_a_shard_that_is_longer_than_granted_is_refused(
    world: World, data: bytes, length: int, granted: int, mac_for: int
) -> None:
    piece, mac = data[:length], world.mac(WRITE, 10, mac_for)
    put = PutShard(UPLOAD, 10, 0, 1000, length, blake3(piece).digest(), NOW_S + 900, mac, granted=granted)
    answer, _ = world.ask(PutShards(1, [put]), [piece])
    assert answer.outcomes[0].failure.code in ("denied", "invalid")
    assert world.get(world.grant(10, length or 1))[0].shards[0].failure.code == "not-found"  # type: ignore[union-attr]


def test_one_message_may_carry_shards_of_several_uploads(world: World, data: bytes) -> None:
    shards = []
    for chunk, upload in ((10, UPLOAD), (11, UPLOAD + 1)):
        mac = world.mac(WRITE, chunk, len(data), upload=upload)
        hash_ = blake3(data).digest()
        shards.append(PutShard(upload, chunk, 0, len(data), len(data), hash_, NOW_S + 900, mac))
    answer, _ = world.ask(PutShards(1, shards), [data, data])
    receipts = [outcome.receipt for outcome in answer.outcomes]
    assert receipts[0] == world.receipt(10, data)
    assert receipts[1] == world.receipt(11, data, upload=UPLOAD + 1)
    crossed = [msgspec.structs.replace(shards[0], upload=UPLOAD + 1)]
    assert world.ask(PutShards(2, crossed), [data])[0].outcomes[0].failure.code == "denied"


# --- nonsense ---------------------------------------------------------------------------------------------------------


def test_absurd_puts_get_failures_and_the_node_lives_on(world: World, data: bytes) -> None:
    good = world.put_shard(10, data)
    big = 1 << 63
    absurd: list[tuple[list[PutShard], list[bytes]]] = [
        ([good], []),
        ([good], [data, data]),
        ([good, good], [data, data]),
        ([], []),
        ([good], [data[:-1]]),
    ]
    for chunk, index, chunk_length, length, expires, hash_, mac in [
        (-1, 0, 1, 5000, NOW_S, b"", b""),
        (0, 0, 1, 5000, NOW_S, b"", b""),
        (big, 0, 1, 5000, NOW_S, b"h" * 32, b"m" * 16),
        (10, 256, 1, 5000, NOW_S, b"h" * 32, b"m" * 16),
        (10, -1, 1, 5000, NOW_S, b"h" * 32, b"m" * 16),
        (10, 0, 1, -5, NOW_S, b"h" * 32, b"m" * 16),
        (10, 0, 1, 0, NOW_S, b"h" * 32, b"m" * 16),
        (10, 0, 1, MAX_CHUNK_BYTES + 1, NOW_S, b"h" * 32, b"m" * 16),
        (10, 0, 1, big, NOW_S, b"h" * 32, b"m" * 16),
        (10, 0, 1, 5000, -1, b"h" * 32, b"m" * 16),
        (10, 0, 1, 5000, NOW_S, b"h" * 32, b""),
        (10, 0, -1, 5000, NOW_S + 900, blake3(data).digest(), world.mac(WRITE, 10, 5000)),
        (10, 0, 1, 5000, NOW_S + 900, b"h", world.mac(WRITE, 10, 5000)),
    ]:
        absurd.append(([PutShard(UPLOAD, chunk, index, chunk_length, length, hash_, expires, mac)], [data]))
    for number, (shards, payload) in enumerate(absurd, 1):
        answer, _ = world.ask(PutShards(number, shards), payload)
        assert len(answer.outcomes) == len(shards)
        assert all(outcome.receipt is None and outcome.failure is not None for outcome in answer.outcomes)
    for upload in (-1, 0, (1 << 64) - 1):
        answer, _ = world.ask(PutShards(50, [msgspec.structs.replace(good, upload=upload)]), [data])
        assert answer.outcomes[0].failure.code in ("invalid", "denied")
    assert world.actor.statistics()["shards_refused"] > 0
    assert world.put((10, data), number=60) == [PutOutcome(10, 0, receipt=world.receipt(10, data))]


def test_absurd_gets_get_failures_and_the_node_lives_on(world: World, data: bytes) -> None:
    world.put((10, data))
    good = world.grant(10, 5000)
    giant = [world.grant(chunk, MAX_CHUNK_BYTES) for chunk in (1, 2)]
    for grants in ([], [good, good], giant, [ShardGrant(-1, -1, -1, -1, b"")]):
        answer, frames = world.get(*grants)
        assert len(answer.shards) == len(grants)
        assert all(shard.failure is not None for shard in answer.shards)
        assert frames == []
    answer, _ = world.ask(GetShards(3, [good]), [b"what is this"])
    assert answer.shards[0].failure.code == "invalid"
    assert world.get(good)[1] == [data]


def test_messages_of_others_are_ignored_and_counted(world: World) -> None:
    store_id = world.store_id
    before = world.actor.statistics()["messages_ignored"]
    for message in (
        Fence("go away"),
        Drop(1, 9, [ShardRef(10, 0)]),
        Hint(CLUSTER, 9, b"x" * 16),
        Probed(1, []),
        Heartbeat(1, 1, 1, 1, 1, 1, 1),
        Registered(1, CLUSTER, 4, 99, b"x" * 16, KEY, "", "", 1),
    ):
        world.client_handle.call(lambda ctx, message=message: ctx.send(DATA, message))
    world.sim.run_for(SECOND)
    assert world.node.alive
    assert world.actor.statistics()["messages_ignored"] == before + 6
    assert world.actor._office.identity.seen_term == 5
    assert world.store_id == store_id


# --- load -------------------------------------------------------------------------------------------------------------


def test_puts_beyond_the_bound_are_answered_overloaded(data: bytes) -> None:
    world = World(pending_bytes=13_000).until_registered()
    world.sim.slow_down(world.spec.name, 1000)
    for chunk in range(10, 14):
        message = PutShards(chunk, [world.put_shard(chunk, data)])
        world.client_handle.call(lambda ctx, message=message: ctx.send(DATA, message, [data]))
    world.sim.run_until(lambda: len(world.client.of(PutDone)) == 4)
    failures = [done.outcomes[0].failure for done in sorted(world.client.of(PutDone), key=lambda done: done.number)]
    assert [failure and failure.code for failure in failures] == [None, None, "overloaded", "overloaded"]
    assert world.actor.statistics()["pending_put_bytes"] == 0
    assert world.put((12, data), number=20)[0].receipt is not None


def test_gets_beyond_the_bound_are_answered_overloaded(data: bytes) -> None:
    world = World(pending_bytes=13_000).until_registered()
    world.put((10, data))
    world.sim.slow_down(world.spec.name, 1000)
    for number in range(4):
        message = GetShards(number, [world.grant(10, 5000)])
        world.client_handle.call(lambda ctx, message=message: ctx.send(DATA, message))
    world.sim.run_until(lambda: len(world.client.of(ShardData)) == 4)
    failures = [answer.shards[0].failure for answer in world.client.of(ShardData)]
    assert [failure and failure.code for failure in failures].count("overloaded") == 2


def test_the_number_of_tiny_shards_under_way_is_bounded_too(data: bytes) -> None:
    world = World(pending_bytes=13_000).until_registered()
    world.sim.slow_down(world.spec.name, 1000)
    for number in range(40):
        message = PutShards(number, [world.put_shard(100 + number, data[:1])])
        world.client_handle.call(lambda ctx, message=message: ctx.send(DATA, message, [data[:1]]))
    world.sim.run_until(lambda: len(world.client.of(PutDone)) == 40)
    failures = [done.outcomes[0].failure for done in world.client.of(PutDone)]
    assert [failure and failure.code for failure in failures].count(None) == 12


def test_a_confirmation_weighs_what_it_holds_at_a_time_so_that_it_neither_shuts_out_reads_nor_waits_for_their_end(
    data: bytes,
) -> None:
    world = World(pending_bytes=24_000).until_registered()
    world.put(*((chunk, data) for chunk in range(10, 16)))
    world.sim.slow_down(world.spec.name, 1000)
    grants = [world.grant(chunk, 5000, WRITE) for chunk in range(10, 16)]  # 30,000 bytes
    for message in (
        GetShards(1, [world.grant(10, 5000)]),
        ConfirmShards(2, grants),
        GetShards(3, [world.grant(11, 5000)]),
    ):
        world.client_handle.call(lambda ctx, message=message: ctx.send(DATA, message))
    world.sim.run_until(lambda: len(world.client.of(ShardData)) == 2 and world.client.of(PutDone)[-1].number == 2)
    assert all(outcome.receipt for outcome in world.client.of(PutDone)[-1].outcomes)
    assert all(answer.shards[0].failure is None for answer in world.client.of(ShardData))


def test_waiting_puts_of_many_clients_share_one_sync(data: bytes) -> None:
    world = World().until_registered()
    world.sim.slow_down(world.spec.name, 50)
    before = world.disk.counts["datasync"]
    for chunk in range(10, 40):
        message = PutShards(chunk, [world.put_shard(chunk, data[:100])])
        world.client_handle.call(lambda ctx, message=message: ctx.send(DATA, message, [data[:100]]))
    world.sim.run_until(lambda: len(world.client.of(PutDone)) == 30)
    assert all(done.outcomes[0].receipt for done in world.client.of(PutDone))
    assert world.disk.counts["datasync"] - before < 10


# --- the life of a process --------------------------------------------------------------------------------------------


def test_a_restart_gives_receipts_of_a_new_incarnation(world: World, data: bytes) -> None:
    world.put((10, data))
    world.sim.crash(world.spec.name)
    world.start()
    world.until_registered()
    answer, _ = world.ask(ConfirmShards(7, [world.grant(10, 5000, WRITE), world.grant(11, 5000, WRITE)]))
    assert answer.outcomes[0] == PutOutcome(10, 0, receipt=world.receipt(10, data))
    assert answer.outcomes[1].failure.code == "not-found"
    registers = world.master.of(Register)
    assert [(start_of(r.incarnation), r.cluster, r.seen_term) for r in (registers[0], registers[-1])] == [
        (1, b"", 0),
        (2, CLUSTER, 5),
    ]
    assert registers[0].store_id == registers[-1].store_id


def test_a_confirmation_needs_a_write_grant_and_sound_bytes(world: World, data: bytes) -> None:
    world.put((10, data), (11, data))
    file = world.disk.open("segments/00000001.seg")
    world.disk.flip_bit("segments/00000001.seg", file.pread(file.size(), 0).find(data))
    grants = [world.grant(10, 5000, WRITE), ShardGrant(11, 0, 5000, NOW_S + 900, world.mac(READ, 11, 5000), UPLOAD)]
    answer, _ = world.ask(ConfirmShards(7, grants))
    assert [outcome.failure.code for outcome in answer.outcomes] == ["corrupt", "denied"]


def test_before_it_is_registered_a_node_answers_unavailable(data: bytes) -> None:
    world = World()
    world.master.answer = None
    world.sim.run_for(SECOND)
    world.store_id = world.master.of(Register)[0].store_id
    failure = world.put((10, data))[0].failure
    assert failure is not None
    assert failure.code == "unavailable"
    assert world.get(world.grant(10, 5000))[0].shards[0].failure.code == "unavailable"  # type: ignore[union-attr]
    assert world.ask(Ping(4))[0] == Pong(4, 0, world.spec.incarnation)


def test_a_node_asks_until_the_master_answers(data: bytes) -> None:
    world = World()
    world.master.answer = None
    world.sim.run_for(30 * SECOND)
    asked = world.master.of(Register)
    assert 5 <= len(asked) <= 60
    assert len({register.number for register in asked}) == len(asked)
    world.master.answer = lambda m: Refused(m.number, Failure("overloaded", "busy"))
    world.sim.run_for(20 * SECOND)
    assert world.node.alive
    world.master.answer = world.registered
    world.until_registered()
    assert world.put((10, data))[0].receipt is not None


@pytest.mark.parametrize(("code", "status"), [("incompatible", 2), ("config", 2), ("conflict", 4), ("denied", 5)])
def test_a_definite_refusal_ends_the_node_with_its_status(code: str, status: int) -> None:
    world = World()
    world.master.answer = lambda m: Refused(m.number, Failure(code, "no", "another way"))
    world.sim.run_until(lambda: not world.node.alive)
    assert world.node.status == status


def test_a_master_of_another_cluster_ends_the_node(world: World) -> None:
    world.sim.crash(world.spec.name)
    world.master.answer = lambda m: Registered(m.number, b"d" * 16, NODE, 6, b"x" * 16, KEY, "", "", 100)
    world.start()
    world.sim.run_until(lambda: not world.node.alive)
    assert world.node.status == 2


@pytest.mark.parametrize(("term", "master"), [(4, b"m" * 16), (5, b"x" * 16)], ids=["older", "twin"])
def test_an_older_or_a_twin_master_is_not_obeyed(world: World, term: int, master: bytes) -> None:
    world.sim.crash(world.spec.name, power_loss=True)
    right, (world.term, world.master_id) = (world.term, world.master_id), (term, master)
    world.start()
    world.sim.run_for(5 * SECOND)
    assert world.actor._data.authority is None
    world.term, world.master_id = right
    world.until_registered()


def test_a_hint_of_a_new_master_makes_the_node_register_again(world: World, data: bytes) -> None:
    world.term, world.master_id = 6, b"n" * 16
    world.sim.run_for(SECOND)
    world.master_handle.call(lambda ctx: ctx.publish("hint", Hint(CLUSTER, 6, b"n" * 16)))
    world.sim.run_until(lambda: world.actor._office.identity.seen_term == 6)
    assert world.put((10, data))[0].receipt is not None
    asked = len(world.master.of(Register))
    for hint in (Hint(CLUSTER, 5, b"m" * 16), Hint(b"d" * 16, 9, b"z" * 16), Hint(CLUSTER, 6, b"n" * 16)):
        world.master_handle.call(lambda ctx, hint=hint: ctx.publish("hint", hint))
    world.sim.run_for(SECOND)
    assert len(world.master.of(Register)) == asked


def test_a_silent_master_is_asked_and_data_is_served_meanwhile(world: World, data: bytes) -> None:
    asked = len(world.master.of(Register))
    world.master.answer = None
    world.sim.run_until(lambda: len(world.master.of(Register)) > asked + 2)
    assert world.put((10, data))[0].receipt is not None


def test_heartbeats_tell_what_the_store_has(world: World, data: bytes) -> None:
    world.put((10, data))
    world.sim.run_until(lambda: world.master.of(Heartbeat) and world.master.of(Heartbeat)[-1].shards == 1)
    first, last = world.master.of(Heartbeat)[0], world.master.of(Heartbeat)[-1]
    assert (last.node, last.incarnation, last.term, last.failure) == (NODE, world.spec.incarnation, 5, "")
    assert last.free <= first.free - 5000
    assert last.used >= first.used + 5000


def test_a_failed_store_is_told_puts_are_refused_and_gets_served(world: World, data: bytes) -> None:
    world.put((10, data))
    world.disk.failing_syncs = 1
    failure = world.put((11, data))[0].failure
    assert failure is not None
    assert failure.code == "unavailable"
    world.sim.run_until(lambda: any(beat.failure for beat in world.master.of(Heartbeat)))
    assert world.master.of(Heartbeat)[-1].free == 0
    assert world.put((12, data))[0].failure is not None
    assert world.get(world.grant(10, 5000))[1] == [data]


def test_what_a_failed_sync_left_behind_is_never_confirmed(world: World, data: bytes) -> None:
    world.put((10, data))
    world.disk.failing_syncs = 1
    assert world.put((11, data))[0].failure is not None
    for _ in range(2):
        answer, _ = world.ask(ConfirmShards(7, [world.grant(10, 5000, WRITE), world.grant(11, 5000, WRITE)]))
        assert [outcome.receipt for outcome in answer.outcomes] == [None, None]
        assert answer.outcomes[0].failure.code == "unavailable"
        world.sim.crash(world.spec.name)  # the page cache survives, and shows what the disk may lack
        world.start()
        world.until_registered()


def test_the_master_can_drop_shards_durably(world: World, data: bytes) -> None:
    world.put((10, data), (11, data))
    refs = [ShardRef(10, 0), ShardRef(12, 0), ShardRef(-4, 300)]
    for _ in range(2):
        world.tell(Drop(70, 5, refs))
        world.tell(Drop(70, 5, refs))
        world.sim.run_until(lambda: bool(world.master.of(Dropped)))
    world.sim.run_for(SECOND)
    assert {dropped.number for dropped in world.master.of(Dropped)} == {70}
    assert world.master.of(Dropped)[0].shards == refs
    world.sim.crash(world.spec.name, power_loss=True)
    world.start()
    world.until_registered()
    answer, frames = world.get(world.grant(10, 5000), world.grant(11, 5000))
    assert [shard.failure and shard.failure.code for shard in answer.shards] == ["not-found", None]
    assert frames == [data]


def test_a_repeated_drop_does_not_take_what_has_come_back(world: World, data: bytes) -> None:
    world.put((10, data))
    world.tell(Drop(70, 5, [ShardRef(10, 0)]))
    world.sim.run_until(lambda: bool(world.master.of(Dropped)))
    world.put((10, data))
    for number in (70, 69):
        world.tell(Drop(number, 5, [ShardRef(10, 0)]))
        world.sim.run_for(SECOND)
        assert world.get(world.grant(10, 5000))[1] == [data]
    assert [dropped.number for dropped in world.master.of(Dropped)] == [70, 70], "the repeat is answered all the same"
    world.tell(Drop(71, 5, [ShardRef(10, 0)]))
    world.sim.run_until(lambda: len(world.master.of(Dropped)) == 3)
    assert world.get(world.grant(10, 5000))[1] == []


def test_a_drop_of_an_earlier_term_is_not_obeyed(world: World, data: bytes) -> None:
    world.put((10, data))
    world.tell(Drop(70, 4, [ShardRef(10, 0)]))
    world.sim.run_for(2 * SECOND)
    assert world.master.of(Dropped) == []
    assert world.get(world.grant(10, 5000))[1] == [data]


# --- what is here -----------------------------------------------------------------------------------------------------


def examine(world: World, number: int, *chunks: int, read: bool = False) -> list[int]:
    """What the node says of the first shard of each chunk."""
    world.tell(Examine(number, world.term, [ShardRef(chunk, 0) for chunk in chunks], read))
    world.sim.run_until(lambda: any(answer.number == number for answer in world.master.of(Examined)))
    return next(answer.states for answer in world.master.of(Examined) if answer.number == number)


def turn_a_bit(world: World, data: bytes) -> None:
    """Of these bytes, in the first segment."""
    path = "segments/00000001.seg"
    file = world.disk.open(path)
    world.disk.flip_bit(path, file.pread(file.size(), 0).find(data) + 77)


def test_a_node_says_what_it_has_and_with_reading_what_of_it_is_good(world: World, data: bytes) -> None:
    world.put((10, data), (11, data[1:]))
    turn_a_bit(world, data)
    assert examine(world, 1, 10, 11, 12) == [GOOD, GOOD, ABSENT]
    assert examine(world, 2, 12, 11, 10, read=True) == [ABSENT, GOOD, DAMAGED]
    assert examine(world, 3, 10) == [DAMAGED], "it is in quarantine now"
    assert examine(world, 4, read=True) == []


def test_a_question_of_an_earlier_term_or_for_too_many_is_not_answered(world: World, data: bytes) -> None:
    world.put((10, data))
    world.tell(Examine(1, world.term - 1, [ShardRef(10, 0)]))
    world.tell(AskInventory(1, world.term - 1, 0, []))
    world.tell(Examine(2, world.term, [ShardRef(10, 0)] * 2000))
    world.tell(AskInventory(2, world.term, 1, [0] * 2000))
    world.tell(AskInventory(3, world.term, 9, [0]))
    world.sim.run_for(2 * SECOND)
    assert world.master.of(Examined) == world.master.of(Inventory) == []


def test_a_failed_store_does_not_say_that_something_is_missing(world: World, data: bytes) -> None:
    world.put((10, data))
    world.disk.failing_syncs = 1
    world.put((11, data))
    assert examine(world, 1, 10, 11, 12) == [UNREADABLE] * 3
    assert examine(world, 2, 10, 11, 12, read=True) == [UNREADABLE] * 3


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_said_to_be_good_after_its_drop_was_confirmed(seed: int, data: bytes) -> None:
    """The drop overtakes the reading of many shards."""
    world = World(seed, capacity=64 << 20, segment_bytes=1 << 20).until_registered()
    shards = [(chunk, data * 100 + bytes([chunk])) for chunk in range(20, 50)]
    for number, pair in enumerate(shards):
        world.put(pair, number=number + 1)
    world.tell(Examine(1, world.term, [ShardRef(chunk, 0) for chunk, _ in shards], True))
    examining = world.actor._named["examine"]
    world.sim.run_until(lambda: examining._read)
    assert examining._read[0] == GOOD
    world.tell(Drop(70, world.term, [ShardRef(20, 0)]))
    world.sim.run_until(lambda: bool(world.master.of(Dropped) and world.master.of(Examined)))
    kinds = [type(message) for message in world.master.heard_messages() if isinstance(message, Dropped | Examined)]
    (examined,) = world.master.of(Examined)
    assert kinds == [Dropped, Examined], "or this shows nothing"
    assert examined.states[0] == UNREADABLE
    assert set(examined.states[1:]) == {GOOD}


def test_a_question_that_comes_twice_is_worked_on_once_and_a_newer_one_first(world: World, data: bytes) -> None:
    world.put((10, data))
    for number in (1, 1, 3, 2, 3):
        world.tell(Examine(number, world.term, [ShardRef(10, 0)], True))
    world.sim.run_for(2 * SECOND)
    assert [answer.number for answer in world.master.of(Examined)] == [3]


def test_heartbeats_and_inventories_tell_the_digests_of_all_good_shards(world: World, data: bytes) -> None:
    chunks = [3, 17, 300, 5000, 5001, (1 << 20) + 7, (7 << 20) + 9, (1 << 62) + 5]
    world.put(*((chunk, data[:50] + bytes([number])) for number, chunk in enumerate(chunks)))
    world.put((77, data), number=2)
    turn_a_bit(world, data)
    examine(world, 1, 77, read=True)
    pairs = [(chunk, 0) for chunk in chunks]
    beaten = lambda: world.master.of(Heartbeat)  # noqa: E731
    world.sim.run_until(lambda: beaten() and beaten()[-1].inventory == root(digests(pairs, 0)))
    within: list[int] = []
    for number, level in enumerate(range(SHARDS), 1):
        world.tell(AskInventory(number, world.term, level, within))
        world.sim.run_until(lambda number=number: len(world.master.of(Inventory)) == number)  # type: ignore[misc]
        answer = world.master.of(Inventory)[-1]
        assert dict(zip(answer.buckets, answer.digests, strict=True)) == digests(pairs, level)
        within = answer.buckets
    world.tell(AskInventory(9, world.term, SHARDS, [*within[2:], -1, 1 << 62]))
    world.sim.run_until(lambda: world.master.of(Inventory)[-1].number == 9)
    assert world.master.of(Inventory)[-1].shards == [ShardRef(chunk, 0) for chunk in chunks[2:]]


def test_the_outside_is_told_the_statistics(world: World) -> None:
    told: list[dict[str, int]] = []
    world.node.call(Inspect(told.append))
    world.sim.run_until(lambda: bool(told))
    assert set(told[0]) >= {"requests", "drops"}, "its own and those of its departments"


def test_a_fenced_node_stops(world: World) -> None:
    world.tell(Fence("another process has taken your place"))
    world.sim.run_until(lambda: not world.node.alive)
    assert world.node.status == 4


def test_an_orderly_stop_closes_the_store(world: World, data: bytes) -> None:
    world.put((10, data))
    world.node.stop()
    assert world.node.status == 0
    assert not world.disk.exists("index.sqlite-wal")
    world.start()
    world.until_registered()
    assert world.get(world.grant(10, 5000))[1] == [data]


def test_a_node_says_who_it_is(world: World) -> None:
    assert world.ask(Ping(4))[0] == Pong(4, NODE, world.spec.incarnation)
    assert world.ask(Hello(5, 1, 1, "test"))[0] == Welcome(5, 1, CLUSTER, 5, "node", "n3")
    refused, _ = world.ask(Hello(6, 0, 0, "old"))
    assert refused.failure.code == "incompatible"
    register = world.master.of(Register)[0]
    assert (register.address, register.name) == (DATA, "n3")


def test_an_advertised_port_0_means_the_bound_one() -> None:
    world = World(advertise=Address("tcp://outside.example:0")).until_registered()
    assert world.master.of(Register)[0].address == "tcp://outside.example:7710"


def test_settings_that_nobody_could_reach_are_refused() -> None:
    disk = SimDisk(random.Random(1))
    settings = NodeSettings(MASTER, "n", Address("tcp://0.0.0.0:7710"), 1 << 30)
    with pytest.raises(ConfigError, match="advertise"):
        node_spec(settings, disk, random.Random(1))
    assert disk.listdir("") == []


def test_a_damaged_identity_stops_the_start() -> None:
    world = World().until_registered()
    world.sim.crash(world.spec.name)
    world.disk.flip_bit("node.json", 80)
    with pytest.raises(Corrupt):
        world.start()


def test_equal_seeds_give_equal_histories(data: bytes) -> None:
    def history() -> str:
        world = World(seed=4).until_registered()
        world.put((10, data))
        world.sim.crash(world.spec.name, power_loss=True)
        world.start()
        world.until_registered()
        world.get(world.grant(10, 5000))
        return world.sim.trace_hash()

    assert history() == history()
