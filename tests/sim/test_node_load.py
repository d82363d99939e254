"""What a node is asked in bad faith or beyond its bounds is answered, and it lives on."""

from __future__ import annotations

import msgspec
from blake3 import blake3

from dsa_zmq.model.limits import MAX_CHUNK_BYTES
from dsa_zmq.model.macs import WRITE
from dsa_zmq.protocol.messages import (
    ConfirmShards,
    Drop,
    Fence,
    GetShards,
    Heartbeat,
    Hint,
    Probed,
    PutDone,
    PutOutcome,
    PutShard,
    PutShards,
    Registered,
    ShardData,
    ShardGrant,
)
from dsa_zmq.protocol.values import ShardRef
from tests.sim.conftest import CLUSTER, KEY, LATER_S, NOW_S, SECOND, UPLOAD, NodeWorld

# --- nonsense ---------------------------------------------------------------------------------------------------------


def test_absurd_puts_get_failures_and_the_node_lives_on(world: NodeWorld, data: bytes) -> None:
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
        (10, 0, -1, 5000, LATER_S, blake3(data).digest(), world.mac(WRITE, 10, 5000)),
        (10, 0, 1, 5000, LATER_S, b"h", world.mac(WRITE, 10, 5000)),
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


def test_absurd_gets_get_failures_and_the_node_lives_on(world: NodeWorld, data: bytes) -> None:
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


def test_messages_of_others_are_ignored_and_counted(world: NodeWorld) -> None:
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
        world.send(message)
    world.sim.run_for(SECOND)
    assert world.node.alive
    assert world.actor.statistics()["messages_ignored"] == before + 6
    assert world.actor._office.identity.seen_term == 5
    assert world.store_id == store_id


# --- load -------------------------------------------------------------------------------------------------------------


def test_puts_beyond_the_bound_are_answered_overloaded(data: bytes) -> None:
    world = NodeWorld(pending_bytes=13_000).up()
    world.sim.slow_down(world.spec.name, 1000)
    for chunk in range(10, 14):
        message = PutShards(chunk, [world.put_shard(chunk, data)])
        world.send(message, [data])
    world.sim.run_until(lambda: len(world.client.of(PutDone)) == 4)
    failures = [done.outcomes[0].failure for done in sorted(world.client.of(PutDone), key=lambda done: done.number)]
    assert [failure and failure.code for failure in failures] == [None, None, "overloaded", "overloaded"]
    assert world.actor.statistics()["pending_put_bytes"] == 0
    assert world.put((12, data), number=20)[0].receipt is not None


def test_gets_beyond_the_bound_are_answered_overloaded(data: bytes) -> None:
    world = NodeWorld(pending_bytes=13_000).up()
    world.put((10, data))
    world.sim.slow_down(world.spec.name, 1000)
    for number in range(4):
        message = GetShards(number, [world.grant(10, 5000)])
        world.send(message)
    world.sim.run_until(lambda: len(world.client.of(ShardData)) == 4)
    failures = [answer.shards[0].failure for answer in world.client.of(ShardData)]
    assert [failure and failure.code for failure in failures].count("overloaded") == 2


def test_the_number_of_tiny_shards_under_way_is_bounded_too(data: bytes) -> None:
    world = NodeWorld(pending_bytes=13_000).up()
    world.sim.slow_down(world.spec.name, 1000)
    for number in range(40):
        message = PutShards(number, [world.put_shard(100 + number, data[:1])])
        world.send(message, [data[:1]])
    world.sim.run_until(lambda: len(world.client.of(PutDone)) == 40)
    failures = [done.outcomes[0].failure for done in world.client.of(PutDone)]
    assert [failure and failure.code for failure in failures].count(None) == 12


def test_a_confirmation_weighs_what_it_holds_at_a_time_so_that_it_neither_shuts_out_reads_nor_waits_for_their_end(
    data: bytes,
) -> None:
    world = NodeWorld(pending_bytes=24_000).up()
    world.put(*((chunk, data) for chunk in range(10, 16)))
    world.sim.slow_down(world.spec.name, 1000)
    grants = [world.grant(chunk, 5000, WRITE) for chunk in range(10, 16)]  # 30,000 bytes
    for message in (
        GetShards(1, [world.grant(10, 5000)]),
        ConfirmShards(2, grants),
        GetShards(3, [world.grant(11, 5000)]),
    ):
        world.send(message)
    world.sim.run_until(lambda: len(world.client.of(ShardData)) == 2 and world.client.of(PutDone)[-1].number == 2)
    assert all(outcome.receipt for outcome in world.client.of(PutDone)[-1].outcomes)
    assert all(answer.shards[0].failure is None for answer in world.client.of(ShardData))


def test_waiting_puts_of_many_clients_share_one_sync(data: bytes) -> None:
    world = NodeWorld().up()
    world.sim.slow_down(world.spec.name, 50)
    before = world.disk.counts["datasync"]
    for chunk in range(10, 40):
        message = PutShards(chunk, [world.put_shard(chunk, data[:100])])
        world.send(message, [data[:100]])
    world.sim.run_until(lambda: len(world.client.of(PutDone)) == 30)
    assert all(done.outcomes[0].receipt for done in world.client.of(PutDone))
    assert world.disk.counts["datasync"] - before < 10
