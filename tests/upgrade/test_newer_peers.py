"""Peers of a newer build say what a server or a client has never heard of: that is counted and logged, and does no harm."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
import zmq

import dsa_zmq
from actors import wire
from dsa_zmq import app
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import PROTOCOL_VERSION, AnyMessage, Hello, Welcome
from dsa_zmq.protocol.operations import Operation
from tests.fuzz.conftest import Stranger
from tests.golden.make import HERE, ROOT
from tests.upgrade.builds import PREVIOUS_PROTOCOL, Build

pytestmark = [pytest.mark.process, pytest.mark.slow]

_pack = msgspec.msgpack.encode
MESSAGE_TAGS = {cls.__struct_config__.tag for cls in typing.get_args(AnyMessage)}
OPERATION_TAGS = {cls.__struct_config__.tag for cls in typing.get_args(Operation)}
UNKNOWN = next(tag for tag in itertools.count(46) if tag not in MESSAGE_TAGS)  #: most likely the next message of all
UNHEARD_OF = {
    "a message": _pack([UNKNOWN, 1, 2, ["x"]]),
    "a message with a large tag": _pack([100_000, b"x" * 1000]),
    "an operation": _pack([4, 0, 0, [[1, [max(OPERATION_TAGS) + 100, "/x"]]]]),
    "an answer": _pack([5, 1, [[1, [10_000, "x"]]]]),
}


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as made:
        yield made


def sayings(version: int) -> dict[str, bytes]:
    """One of each message of a protocol version."""
    stored: dict[str, str] = json.loads((HERE / f"protocol_v{version}.json").read_text())
    return {name: bytes.fromhex(text) for name, text in stored.items()}


def news() -> dict[str, bytes]:
    """What this build may say that the previous one has never heard of."""
    known = sayings(PREVIOUS_PROTOCOL)
    return {name: body for name, body in sayings(PROTOCOL_VERSION).items() if name not in known}


def harass(stranger: Stranger, bodies: Mapping[str, bytes] = UNHEARD_OF) -> None:
    """Say all that; each is followed by a question that has to be answered."""
    for body in bodies.values():
        for payload in ((), (b"small",), (os.urandom(100_000),)):
            stranger.body(body, *payload)
        assert stranger.greeted()
    stranger.close()


def test_what_servers_have_never_heard_of_is_counted_and_they_go_on(context: zmq.Context[Any]) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1") as cluster, cluster.connect() as store:
        store.write_bytes("/before", b"x" * 1000)
        (node,) = store.nodes()
        header = wire.feed_header("node-of-tomorrow", 1)
        publisher = context.socket(zmq.PUB)
        publisher.connect(f"tcp://127.0.0.1:{cluster._hold.ports[2]}")
        for name, endpoint in (("master", cluster.url.replace("dsa://", "tcp://")), ("node-1", node.address)):
            runtime = cluster._hold.servers[name]._handle  # type: ignore[attr-defined]
            before = runtime.statistics()["protocol_errors"].get("codec", 0)
            harass(Stranger(context, endpoint))
            assert runtime.statistics()["protocol_errors"]["codec"] == before + 3 * len(UNHEARD_OF)
        master = cluster._hold.servers["master"]._handle  # type: ignore[attr-defined]
        before = master.statistics()["protocol_errors"]["codec"]
        deadline = time.monotonic() + 10
        while master.statistics()["protocol_errors"]["codec"] == before:
            publisher.send_multipart([b"heartbeat", header + UNHEARD_OF["a message"]])
            assert time.monotonic() < deadline, "the feed has not arrived"
            time.sleep(0.01)
        publisher.close(0)
        store.write_bytes("/after", b"y" * 1000)
        assert store.read_bytes("/before") + store.read_bytes("/after") == b"x" * 1000 + b"y" * 1000
        assert cluster.ended() == []


@pytest.mark.parametrize("build", ["old", "new"])
def test_processes_of_each_build_complain_and_live_on(
    request: pytest.FixtureRequest, servers: Callable[..., Any], context: zmq.Context[Any], build: str
) -> None:
    """The previous build has to bear what this one says, until it is replaced."""
    chosen: Build = request.getfixturevalue(build)
    cluster = servers(master=chosen, nodes=chosen, names=("node-1", "node-2"))
    (address,) = (node.address for node in cluster.store.nodes() if node.name == "node-1")
    for name, endpoint in (("master", cluster.url.replace("dsa://", "tcp://")), ("node-1", address)):
        harass(Stranger(context, endpoint), UNHEARD_OF if chosen.root == ROOT else {**UNHEARD_OF, **news()})
        assert "protocol error" in cluster.log(name)
        assert "Traceback" not in cluster.log(name)
    cluster.store.write_bytes("/after", b"y" * 1000)
    assert cluster.store.read_bytes("/after") == b"y" * 1000
    cluster.wait_up({})


def test_a_client_bears_what_a_newer_master_says(context: zmq.Context[Any]) -> None:
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    seen = []

    def serve() -> None:
        peer, frame = router.recv_multipart()
        hello = CODEC.decode(wire.unpack([frame]).body)
        assert isinstance(hello, Hello)
        for body in UNHEARD_OF.values():
            router.send_multipart([peer, wire.direct_header(1) + body])
        welcome = Welcome(hello.number, 99, b"c" * 16, 1, "master")
        router.send_multipart([peer, wire.direct_header(1) + CODEC.encode(welcome)])
        seen.append(hello)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    runtimes: list[Any] = []
    with app.connect_watched(f"dsa://127.0.0.1:{port}", 5, runtimes.append) as store:
        assert store.hello().version == 99
        assert runtimes[0].statistics()["protocol_errors"] == {"codec": len(UNHEARD_OF)}
    thread.join(10)
    assert seen
    router.close(0)
