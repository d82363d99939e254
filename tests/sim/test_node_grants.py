"""A node serves by grants only: each is for one shard, one right, one length and a time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from blake3 import blake3

from dsa_zmq.model.limits import GRANT_SLACK_S
from dsa_zmq.model.macs import READ, WRITE
from dsa_zmq.protocol.messages import ConfirmShards, PutShard, PutShards, ShardGrant
from tests.sim.conftest import LATER_S, NODE, NOW_S, UPLOAD, NodeWorld

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
def test_a_write_grant_that_is_not_for_this_is_refused(world: NodeWorld, data: bytes, name: str) -> None:
    mac = world.mac(WRITE, 10, 5000, **FORGERIES[name])
    bad = PutShard(UPLOAD, 10, 0, 5000, 5000, blake3(data).digest(), LATER_S, mac)
    answer, _ = world.ask(PutShards(1, [bad, world.put_shard(11, data)]), [data, data])
    assert answer.outcomes[0].failure.code == "denied"
    assert answer.outcomes[1].receipt == world.receipt(11, data)
    assert world.get(world.grant(10, 5000))[0].shards[0].failure.code == "not-found"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in FORGERIES if name != "for another upload"])
def test_a_read_grant_that_is_not_for_this_is_refused(world: NodeWorld, data: bytes, name: str) -> None:
    world.put((10, data))
    bad = ShardGrant(10, 0, 5000, LATER_S, world.mac(READ, 10, 5000, **FORGERIES[name]))
    answer, frames = world.get(bad)
    assert answer.shards[0].failure is not None
    assert answer.shards[0].failure.code == "denied"
    assert frames == []


def test_a_write_grant_does_not_read_and_a_read_grant_does_not_write(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    as_read = ShardGrant(10, 0, 5000, LATER_S, world.mac(WRITE, 10, 5000))
    assert world.get(as_read)[0].shards[0].failure.code == "denied"  # type: ignore[union-attr]
    mac = world.mac(READ, 11, 5000, upload=UPLOAD)
    as_write = PutShard(UPLOAD, 11, 0, 5000, 5000, blake3(data).digest(), LATER_S, mac)
    assert world.ask(PutShards(1, [as_write]), [data])[0].outcomes[0].failure.code == "denied"


def test_a_replayed_grant_with_a_later_time_is_refused(world: NodeWorld, data: bytes) -> None:
    mac = world.mac(READ, 10, 5000, expires_s=NOW_S)
    assert world.get(ShardGrant(10, 0, 5000, LATER_S, mac))[0].shards[0].failure.code == "denied"  # type: ignore[union-attr]


def test_an_expired_grant_is_refused_and_a_little_late_one_is_not(world: NodeWorld, data: bytes) -> None:
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


def test_a_grant_for_another_length_than_the_shard_has_reads_nothing(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    answer, frames = world.get(world.grant(10, 4000))
    assert answer.shards[0].failure is not None
    assert answer.shards[0].failure.code == "conflict"
    assert frames == []


@pytest.mark.parametrize("length", [1, 999, 1000])
def test_a_grant_to_write_is_an_upper_bound(world: NodeWorld, data: bytes, length: int) -> None:
    piece = data[:length]
    put = PutShard(
        UPLOAD, 10, 0, length, length, blake3(piece).digest(), LATER_S, world.mac(WRITE, 10, 1000), granted=1000
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
    world: NodeWorld, data: bytes, length: int, granted: int, mac_for: int
) -> None:
    piece, mac = data[:length], world.mac(WRITE, 10, mac_for)
    put = PutShard(UPLOAD, 10, 0, 1000, length, blake3(piece).digest(), LATER_S, mac, granted=granted)
    answer, _ = world.ask(PutShards(1, [put]), [piece])
    assert answer.outcomes[0].failure.code in ("denied", "invalid")
    assert world.get(world.grant(10, length or 1))[0].shards[0].failure.code == "not-found"  # type: ignore[union-attr]


def test_one_message_may_carry_shards_of_several_uploads(world: NodeWorld, data: bytes) -> None:
    shards = []
    for chunk, upload in ((10, UPLOAD), (11, UPLOAD + 1)):
        mac = world.mac(WRITE, chunk, len(data), upload=upload)
        hash_ = blake3(data).digest()
        shards.append(PutShard(upload, chunk, 0, len(data), len(data), hash_, LATER_S, mac))
    answer, _ = world.ask(PutShards(1, shards), [data, data])
    receipts = [outcome.receipt for outcome in answer.outcomes]
    assert receipts[0] == world.receipt(10, data)
    assert receipts[1] == world.receipt(11, data, upload=UPLOAD + 1)
    crossed = [msgspec.structs.replace(shards[0], upload=UPLOAD + 1)]
    assert world.ask(PutShards(2, crossed), [data])[0].outcomes[0].failure.code == "denied"


def test_a_confirmation_needs_a_write_grant_and_sound_bytes(world: NodeWorld, data: bytes) -> None:
    world.put((10, data), (11, data))
    world.rot(data)
    grants = [world.grant(10, 5000, WRITE), ShardGrant(11, 0, 5000, LATER_S, world.mac(READ, 11, 5000), UPLOAD)]
    answer, _ = world.ask(ConfirmShards(7, grants))
    assert [outcome.failure.code for outcome in answer.outcomes] == ["corrupt", "denied"]
