"""Strangers send messages with absurd values, giant ones, and what only others may say: refused, and nothing is obeyed."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.protocol import messages as m
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.values import Failure, Receipt, ShardRef, StagedChunk
from tests.fuzz.conftest import BOTH, quickly

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.usefixtures("unharmed")]
MESSAGES = m.AnyMessage.__args__
OPERATIONS = op.Operation.__args__


@BOTH
def test_messages_with_absurd_values(besieged: Any, absurd: Any, to: str) -> None:
    stranger = besieged.stranger(to)

    @quickly
    @given(
        st.one_of([absurd(kind) for kind in MESSAGES if kind is not m.Calls]),
        st.lists(st.binary(max_size=20), max_size=3),
    )
    def attack(message: Any, payload: list[bytes]) -> None:
        stranger.say(message, *payload)
        assert stranger.greeted(), f"{to} does not answer after {message!r:.500}"

    attack()


def test_operations_with_absurd_values(besieged: Any, absurd: Any) -> None:
    with besieged.cluster.connect() as store:
        store.write_bytes("/a", b"x" * 5000)
    stranger = besieged.stranger("master")
    stranger.open_session()

    @settings(quickly, max_examples=600)
    @given(st.one_of([absurd(kind) for kind in OPERATIONS if kind not in (op.OpenSession, op.CloseSession)]))
    def attack(operation: Any) -> None:
        result = stranger.ask(operation)
        assert result is not None, f"no answer to {operation!r:.500}"
        if isinstance(result, Failure):
            assert result.code != "internal", f"{operation!r:.500}: {result}"

    attack()


def test_calls_with_absurd_numbers(besieged: Any, absurd: Any) -> None:
    stranger = besieged.stranger("master")

    @quickly
    @given(absurd(m.Calls))
    def attack(calls: Any) -> None:
        stranger.say(calls)
        assert stranger.greeted(), f"the master does not answer after {calls!r:.500}"

    attack()


@pytest.mark.parametrize(
    "operation",
    [
        op.Renew([1] * 1_000_000),
        op.Allocate(0, "/f", 1 << 20, 0, [1] * 900_000),
        op.Allocate(0, "/f", 1, 0, [1] * 1000),
        op.Allocate(0, "/f", 1 << 20, 0, [1] * 1000, avoid=[1] * 500_000),
        op.AllocateSlots(2**63 - 1, 2**63 - 1, "copies=16", [1] * 500_000),
        op.AllocateSlots(128, 64 << 10, "copies=2"),
        op.ReturnSlots(list(range(1, 100_000))),
        op.ReturnSlots([-1, 2**63, 2**64 - 1]),
        op.Reallocate(1, [], [1] * 300_000, [[1]] * 200_000),
        op.Stage(1, 0, 1 << 20, "copies=2", [StagedChunk(1, 1, bytes(32), [])] * 20_000),
        op.Stage(1, 0, 1 << 20, "copies=2", [StagedChunk(1, 1, bytes(32), [Receipt(1, 0, 1, b"")] * 150_000)]),
        op.Commit(1, "/f", 2**63 - 1, 1 << 20, 2**63 - 1, "copies=2", [], -(2**63)),
        op.ListDirectory("/", limit=2**63 - 1),
        op.ListDirectory("/", limit=-1),
        op.ListDirectory("/" + "a/" * 2000),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_operations_of_a_giant(besieged: Any, operation: Any) -> None:
    stranger = besieged.stranger("master")
    stranger.open_session()
    for _ in range(5):
        assert stranger.ask(operation) is not None


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("master", m.Calls(0, 0, [m.Call(1, op.Statfs())] * 100_000)),
        ("master", m.Calls(0, 0, [m.Call(number, op.Stat("/")) for number in range(256)])),
        ("master", m.Dropped(1, [ShardRef(1, 1)] * 200_000)),
        ("node", m.GetShards(1, [m.ShardGrant(1, 0, 1 << 20, 2**40, bytes(32))] * 15_000)),
        ("node", m.GetShards(1, [m.ShardGrant(number, 0, 16 << 20, 2**40, bytes(32)) for number in range(1, 1025)])),
        ("node", m.PutShards(1, [m.PutShard(1, 1, 0, 1, 1, bytes(32), 2**40, bytes(32))] * 9000)),
        ("node", m.ConfirmShards(1, [m.ShardGrant(1, 0, 1, 2**40, bytes(32), 1)] * 15_000)),
        ("node", m.Drop(1, 2**62, [ShardRef(number, 0) for number in range(100_000)])),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_messages_of_a_giant(besieged: Any, to: str, message: Any) -> None:
    stranger = besieged.stranger(to)
    for _ in range(10):
        stranger.say(message)
    assert stranger.greeted()


def test_what_only_a_master_or_a_node_may_say_is_not_obeyed_from_a_stranger(besieged: Any) -> None:
    with besieged.cluster.connect() as store:
        store.write_bytes("/guarded", data := os.urandom(50_000))
    to_node, to_master = besieged.stranger("node"), besieged.stranger("master")
    everything = [ShardRef(chunk, index) for chunk in range(1, 2000) for index in range(2)]
    located = to_master.ask(op.Locate("/guarded"))
    everything += [ShardRef(chunk.chunk, place.index) for chunk in located.chunks for place in chunk.places]
    for term in (0, 1, 2, 2**62):
        to_node.say(m.Drop(1, term, everything))
        to_node.say(
            m.Registered(1, bytes(16), 1, term, bytes(16), bytes(32), "tcp://127.0.0.1:1", "tcp://127.0.0.1:1", 1)
        )
    for stranger in (to_node, to_master):
        stranger.say(m.Fence("go"))
        stranger.say(m.Refused(1, Failure("denied", "no")))
        stranger.say(m.Hint(bytes(16), 2**62, bytes(16)))
        stranger.say(m.Heartbeat(1, 2**62, 2**62, 0, 0, 0, 0, "broken"))
        stranger.say(m.Welcome(1, 1, bytes(16), 2**62, "master"))
        stranger.say(m.Answers(2**62, []))
        stranger.say(m.Registered(1, bytes(16), 1, 2**62, bytes(16), bytes(32), "", "", 1))
        stranger.say(m.PutShards(1, []))
        stranger.say(m.PutDone(1, []))
        stranger.say(m.ShardData(1, []), b"")
        stranger.say(m.Dropped(1, everything))
        stranger.say(m.Calls(0, 0, [m.Call(1, op.ListNodes())]))
        assert stranger.greeted()
    with besieged.cluster.connect() as store:
        assert {node.state for node in store.nodes()} == {"up"}
        assert store.read_bytes("/guarded") == data


def test_shards_are_given_and_taken_with_a_right_grant_only(besieged: Any) -> None:
    with besieged.cluster.connect() as store:
        store.write_bytes("/guarded", os.urandom(50_000))
    master = besieged.stranger("master")
    located = master.ask(op.Locate("/guarded"))
    chunk = located.chunks[0]
    place = next(
        place
        for place in chunk.places
        if place.node == next(n.node for n in located.nodes if n.address == besieged.endpoints["node"])
    )
    right = m.ShardGrant(chunk.chunk, place.index, chunk.length, located.expires_s, place.mac)
    wrong = [
        m.ShardGrant(chunk.chunk + 1, place.index, chunk.length, located.expires_s, place.mac),
        m.ShardGrant(chunk.chunk, place.index + 1, chunk.length, located.expires_s, place.mac),
        m.ShardGrant(chunk.chunk, place.index, chunk.length - 1, located.expires_s, place.mac),
        m.ShardGrant(chunk.chunk, place.index, chunk.length, located.expires_s + 1, place.mac),
        m.ShardGrant(chunk.chunk, place.index, chunk.length, located.expires_s, bytes(32)),
        m.ShardGrant(chunk.chunk, place.index, chunk.length, located.expires_s, b""),
        m.ShardGrant(chunk.chunk, place.index, chunk.length, located.expires_s, place.mac + b"x"),
    ]
    node = besieged.stranger("node")
    node.say(m.GetShards(1, [right]))
    assert node.hear(m.ShardData).shards[0].failure is None
    for number, grant in enumerate(wrong, 2):
        node.say(m.GetShards(number, [grant]))
        assert node.hear(m.ShardData).shards[0].failure.code in ("denied", "invalid")
        put = m.PutShard(1, grant.chunk, grant.index, grant.length, grant.length, bytes(32), grant.expires_s, grant.mac)
        node.say(m.PutShards(number, [put]), bytes(max(0, grant.length)))
        assert node.hear(m.PutDone).outcomes[0].failure.code in ("denied", "invalid")
