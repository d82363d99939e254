"""A node's data port: what is receipted is durable, what is given is what was put, and a failed store says so."""

from __future__ import annotations

import pytest
from blake3 import blake3
from msgspec.structs import replace

from dsa_zmq.model.erasure import split
from dsa_zmq.model.macs import READ, WRITE
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.messages import ConfirmShards, Heartbeat, PutOutcome, PutShards
from tests.sim.conftest import NodeWorld


def test_a_put_is_answered_with_a_valid_receipt_and_the_bytes_come_back(world: NodeWorld, data: bytes) -> None:
    assert world.put((10, data), (11, data[:9])) == [
        PutOutcome(10, 0, receipt=world.receipt(10, data)),
        PutOutcome(11, 0, receipt=world.receipt(11, data[:9])),
    ]
    answer, frames = world.get(world.grant(10, 5000), world.grant(12, 5), world.grant(11, 9))
    assert [shard.failure and shard.failure.code for shard in answer.shards] == [None, "not-found", None]
    assert [shard.hash for shard in answer.shards][::2] == [blake3(data).digest(), blake3(data[:9]).digest()]
    assert frames == [data, data[:9]]


def test_a_receipt_is_given_after_the_bytes_are_durable(world: NodeWorld, data: bytes) -> None:
    assert world.put((10, data))[0].receipt
    world.sim.crash(world.spec.name, power_loss=True)
    world.up()
    assert world.get(world.grant(10, 5000))[1] == [data]


@pytest.mark.parametrize("length", [1, 33, 5000])
def test_a_shard_of_a_code_is_taken_and_given_like_a_copy(world: NodeWorld, data: bytes, length: int) -> None:
    """Its length is not that of its chunk; of a tiny one it is longer."""
    code = parse_redundancy("ec=4+2")
    for index, part in enumerate(map(bytes, split(data[:length], code))):
        put = replace(world.put_shard(10 + index, part, index=index), index=index, chunk_length=length)
        grant = replace(
            world.grant(10 + index, len(part)), index=index, mac=world.mac(READ, 10 + index, len(part), index=index)
        )
        answer, _ = world.ask(PutShards(1, [put]), [part])
        receipt = world.receipt(10 + index, part, index=index)
        assert answer.outcomes == [PutOutcome(10 + index, index, receipt=receipt)]
        assert world.get(grant)[1] == [part]


def test_the_same_put_again_gives_a_valid_receipt(world: NodeWorld, data: bytes) -> None:
    first = world.put((10, data))
    assert world.put((10, data), number=2) == first == [PutOutcome(10, 0, receipt=world.receipt(10, data))]


def test_other_bytes_under_a_chunk_id_conflict(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    failure = world.put((10, data[::-1]), number=2)[0].failure
    assert failure is not None
    assert failure.code == "conflict"


def test_bytes_that_do_not_match_their_hash_are_refused(world: NodeWorld, data: bytes) -> None:
    answer, _ = world.ask(PutShards(1, [world.put_shard(10, data)]), [data[:-1] + b"!"])
    assert answer.outcomes[0].failure.code == "corrupt"


def test_damaged_bytes_are_not_served(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.rot(data)
    answer, frames = world.get(world.grant(10, 5000))
    assert answer.shards[0].failure is not None
    assert answer.shards[0].failure.code == "corrupt"
    assert frames == []


def test_a_failed_store_is_told_puts_are_refused_and_gets_served(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.disk.failing_syncs = 1
    failure = world.put((11, data))[0].failure
    assert failure is not None
    assert failure.code == "unavailable"
    world.sim.run_until(lambda: any(beat.failure for beat in world.master.of(Heartbeat)))
    assert world.master.of(Heartbeat)[-1].free == 0
    assert world.put((12, data))[0].failure is not None
    assert world.get(world.grant(10, 5000))[1] == [data]


def test_what_a_failed_sync_left_behind_is_never_confirmed(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.disk.failing_syncs = 1
    assert world.put((11, data))[0].failure is not None
    for _ in range(2):
        answer, _ = world.ask(ConfirmShards(7, [world.grant(10, 5000, WRITE), world.grant(11, 5000, WRITE)]))
        assert [outcome.receipt for outcome in answer.outcomes] == [None, None]
        assert answer.outcomes[0].failure.code == "unavailable"
        world.sim.crash(world.spec.name)  # the page cache survives, and shows what the disk may lack
        world.up()
