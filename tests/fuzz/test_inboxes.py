"""Strangers at the inboxes of a running cluster: whatever they send is refused, counted and forgotten."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import wire
from actors.limits import UNSENT_PEER_BYTES
from dsa_zmq.model.addresses import split_endpoint
from dsa_zmq.protocol import messages as m
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.values import Failure, Receipt, ShardRef, StagedChunk

pytestmark = [pytest.mark.process, pytest.mark.slow]

GROWTH_BYTES = 50 << 20
BOTH = pytest.mark.parametrize("to", ["master", "node"])
GOOD = [
    bytes.fromhex(text)
    for text in json.loads((Path(__file__).parents[1] / "golden" / "protocol_v1.json").read_text()).values()
]
MESSAGES = m.AnyMessage.__args__
OPERATIONS = op.Operation.__args__
quickly = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def process_of(to: str) -> str:
    return "master" if to == "master" else "node-1"


@pytest.fixture(autouse=True)
def unharmed(besieged: Any, request: pytest.FixtureRequest) -> Any:
    """Before and after each test the cluster serves; and no test makes a process grow much."""
    besieged.serves()
    before = {name: besieged.memory(name) for name in besieged.pids}
    yield
    besieged.dismiss()
    besieged.serves()
    grown = {name: besieged.memory(name) - before[name] for name in besieged.pids}
    if "never_read_their_shards" not in request.node.name:  # which has a bound of its own
        assert max(grown.values()) < GROWTH_BYTES, grown
    assert "Traceback" not in besieged.log("master") + besieged.log("node-1")


# --- frames -----------------------------------------------------------------------------------------------------------


@BOTH
def test_random_frames(besieged: Any, to: str) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    generator = random.Random(seed)
    complaints = besieged.complaints(process_of(to))
    for name in (
        None,
        b"",
        b"\x01\xff" * 20,
        b"no-incarnation",
        b"a/b/1",
        b"x" * 255,
        b"stranger/99999999999999999999999",
    ):
        stranger = besieged.stranger(to, name)
        for _ in range(300):
            frames = [
                generator.randbytes(generator.choice((0, 1, 11, 12, 13, 100, 5000)))
                for _ in range(generator.randrange(1, 5))
            ]
            stranger.frames(*frames)
    for _ in range(20):
        stranger = besieged.stranger(to)
        stranger.frames(*[b""] * 5000)
        stranger.frames(wire.direct_header(stranger.incarnation), *[b"x"] * 2000)
    assert besieged.stranger(to).greeted()
    assert besieged.complaints(process_of(to)) > complaints


@BOTH
def test_right_headers_before_garbage(besieged: Any, to: str) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    generator = random.Random(seed)
    stranger = besieged.stranger(to)
    for _ in range(2000):
        stranger.body(generator.randbytes(generator.randrange(100)))
    for good in GOOD:
        for _ in range(30):
            body = bytearray(good)
            body[generator.randrange(len(body))] = generator.randrange(256)
            stranger.body(bytes(body), *[b"x" * generator.randrange(50)] * generator.randrange(3))
        stranger.body(good[: len(good) // 2])
        stranger.body(good + generator.randbytes(10))
    assert stranger.greeted()


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 1_000_000,  # arrays in arrays
        b"\x81\x01" * 500_000,  # maps in maps
        b"\x93\x04\x01\x91" + b"\x92\x01\x92\x02" * 200_000,  # nested where calls are expected
        b"\x95\x01\x01\x01\x01\xa1x" + b"\x91" * 900_000,  # a field that a later version may have added
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million elements that do not come
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",  # bytes
        b"\xdb\xff\xff\xff\xff",  # text
        b"\x92\x19\xdd\x00\x0f\x42\x40" + b"\xc0" * 1_000_000,
        b"\xc9\xff\xff\xff\xff\x01",  # an extension
    ],
    ids=lambda body: body[:6].hex(),
)
def test_bodies_made_to_exhaust(besieged: Any, to: str, body: bytes) -> None:
    stranger = besieged.stranger(to)
    for _ in range(20):
        stranger.body(body)
    assert stranger.greeted()


@BOTH
def test_frames_beyond_the_limits_end_the_connection_only(besieged: Any, to: str) -> None:
    for size in (17 << 20, 64 << 20):
        besieged.stranger(to).frames(bytes(size))
        besieged.dismiss()
    besieged.stranger(to).body(bytes(2 << 20))
    for _ in range(4):
        stranger = besieged.stranger(to)
        stranger.body(GOOD[0], *[bytes(4 << 20)] * 5)  # each frame is right; the sum is not
        assert stranger.greeted()


# --- messages ---------------------------------------------------------------------------------------------------------


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


# --- feeds ------------------------------------------------------------------------------------------------------------


def test_garbage_on_the_feeds(besieged: Any, absurd: Any) -> None:
    _, hints, beats = besieged.cluster._hold.ports
    publisher = besieged.context.socket(zmq.PUB)
    publisher.setsockopt(zmq.LINGER, 0)
    publisher.connect(f"tcp://127.0.0.1:{beats}")
    subscriber = besieged.context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.LINGER, 0)
    for topic in (b"", b"x" * 5000, *(os.urandom(20) for _ in range(2000))):
        subscriber.setsockopt(zmq.SUBSCRIBE, topic)
    subscriber.connect(f"tcp://127.0.0.1:{hints}")
    assert subscriber.poll(5000), "hints come"
    header = wire.feed_header("stranger", 1)

    @quickly
    @given(absurd(m.Heartbeat) | absurd(m.Hint) | absurd(m.Drop), st.binary(max_size=20))
    def attack(message: Any, junk: bytes) -> None:
        if isinstance(message, m.Heartbeat) and message.node in (1, 2):
            return  # the feeds of an open cluster are open: a whole forgery is no garbage
        publisher.send_multipart([b"heartbeat", header + CODEC.encode(message)])
        publisher.send_multipart([b"heartbeat", header + junk])
        publisher.send_multipart([junk])
        publisher.send_multipart([junk, junk, junk])

    attack()
    assert besieged.stranger("master").greeted()
    publisher.close(0)
    subscriber.close(0)


# --- connections ------------------------------------------------------------------------------------------------------


@BOTH
def test_five_hundred_connections(besieged: Any, to: str) -> None:
    strangers = [besieged.stranger(to) for _ in range(500)]
    for stranger in strangers:
        stranger.say(m.Hello(1, 1, 1, "x"))
    besieged.serves()
    assert all(stranger.greeted() for stranger in strangers[::50])


@BOTH
def test_bytes_that_are_no_zeromq(besieged: Any, to: str) -> None:
    host, port = split_endpoint(besieged.endpoints[to])
    seeded = random.Random(7)
    signature = b"\xff" + bytes(8) + b"\x7f"
    greeting = signature + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
    ready = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    openings = [
        b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", signature, greeting,
        greeting[:30], greeting + b"\x04\xff" + bytes(255), greeting + ready + b"\x02" + struct.pack(">Q", 2**63),
        greeting + ready + b"\x01\xff", seeded.randbytes(5000), greeting + seeded.randbytes(5000),
    ]  # fmt: skip
    connections = []
    for opening in openings * 10:
        connection = socket.create_connection((host, port))
        connection.setblocking(False)
        connection.send(opening)
        connections.append(connection)
    besieged.serves()
    assert besieged.stranger(to).greeted()
    for connection in connections:
        connection.close()


@BOTH
def test_peers_that_never_read_their_answers(besieged: Any, to: str) -> None:
    deaf = [besieged.stranger(to, RCVHWM=1, RCVBUF=4096) for _ in range(5)]
    ask = m.Calls(0, 0, [m.Call(number, op.ListNodes()) for number in range(1, 200)]) if to == "master" else m.Ping(1)
    for stranger in deaf:
        for _ in range(300 if to == "master" else 20_000):
            stranger.say(ask)
    besieged.serves()
    assert besieged.stranger(to).greeted()


def test_readers_that_never_read_their_shards_do_not_fill_the_node(besieged: Any) -> None:
    with besieged.cluster.connect() as store:
        store.write_bytes("/large", os.urandom(1 << 20))
    located = besieged.stranger("master").ask(op.Locate("/large"))
    (chunk,) = located.chunks
    node = next(known.node for known in located.nodes if known.address == besieged.endpoints["node"])
    place = next(place for place in chunk.places if place.node == node)
    grant = m.ShardGrant(chunk.chunk, place.index, chunk.length, located.expires_s, place.mac)
    deaf = besieged.stranger("node", RCVHWM=1, RCVBUF=4096)
    other = besieged.stranger("node")
    before = besieged.memory("node-1")
    for number in range(1, 401):
        deaf.say(m.GetShards(number, [grant]))
        if number % 10 == 0:  # so that its earlier answers are ready, and wait in the socket
            assert other.greeted()
            other.say(m.GetShards(number, [grant]))
            assert other.hear(m.ShardData) is not None, "others are served"
    assert besieged.memory("node-1") - before < 3 * UNSENT_PEER_BYTES


def test_others_are_served_during_a_flood(besieged: Any) -> None:
    stop = threading.Event()
    garbage = os.urandom(200)

    def flood(to: str) -> None:
        stranger = besieged.stranger(to)
        while not stop.is_set():
            for _ in range(50):
                stranger.body(garbage)
            assert stranger.greeted()

    threads = [threading.Thread(target=flood, args=(to,)) for to in ("master", "node", "master", "node")]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            besieged.serves()
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
