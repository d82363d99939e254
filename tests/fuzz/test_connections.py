"""Strangers at the ports: too many, no ZeroMQ, deaf ones, floods. Everybody else is served."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from actors import wire
from actors.limits import UNSENT_PEER_BYTES
from dsa_zmq.model.addresses import split_endpoint
from dsa_zmq.protocol import messages as m
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.codec import CODEC
from tests.fuzz.conftest import BOTH, quickly

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.usefixtures("unharmed")]


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
