"""A cluster of real processes, and strangers who talk to it over raw sockets."""

from __future__ import annotations

import functools
import itertools
import json
import os
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import dsa_zmq
from actors import wire
from actors.core import Message
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import Answer, Answers, Call, Calls, Hello, Welcome
from dsa_zmq.protocol.operations import OpenSession, Operation, SessionOpened

WAIT_MS = 5000
GROWTH_BYTES = 50 << 20  #: of a process, by one test
BOTH = pytest.mark.parametrize("to", ["master", "node"])
GOOD = [  # bodies: each message as it is on the wire
    bytes.fromhex(text)
    for text in json.loads((Path(__file__).parents[1] / "golden" / "protocol_v1.json").read_text()).values()
]
quickly = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
_numbers = itertools.count(1)


def process_of(to: str) -> str:
    return "master" if to == "master" else "node-1"


class Stranger:
    """A DEALER of a test: it says what it is told to, and hears the answers if it wants to."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, name: bytes | None = None, **options: int) -> None:
        number = next(_numbers)
        self.incarnation = number
        self.name = name if name is not None else f"stranger-{number}/{number}".encode()
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        for option, value in options.items():
            self.socket.setsockopt(getattr(zmq, option), value)
        if self.name:
            self.socket.setsockopt(zmq.ROUTING_ID, self.name)
        self.socket.connect(endpoint)
        self.session = 0
        self._number = 0

    def frames(self, *frames: bytes) -> None:
        """Send these frames as they are."""
        self.socket.send_multipart(frames)

    def body(self, body: bytes, *payload: bytes) -> None:
        """Send a body behind a right header."""
        self.frames(wire.direct_header(self.incarnation) + body, *payload)

    def say(self, message: Message, *payload: bytes) -> None:
        self.body(CODEC.encode(message), *payload)

    def hear(self, kind: type[Any], timeout_ms: int = WAIT_MS) -> Any:
        """The next message of this kind; others are dropped. None if none comes in time."""
        while self.socket.poll(timeout_ms):
            message = CODEC.decode(wire.unpack(self.socket.recv_multipart()).body)
            if isinstance(message, kind):
                return message
        return None

    def greeted(self) -> bool:
        """Whether the other side answers a greeting, after all that was sent before it."""
        number = next(_numbers)
        self.say(Hello(number, 1, 1, "stranger"))
        while (welcome := self.hear(Welcome)) is not None:
            if welcome.number == number:
                return True
        return False

    def ask(self, operation: Operation) -> Any:
        """One operation's result; None if no answer comes."""
        self._number += 1
        self.say(Calls(self.session, 0, [Call(self._number, operation)]))
        while (answers := self.hear(Answers)) is not None:
            for answer in answers.answers:
                assert isinstance(answer, Answer)
                if answer.number == self._number:
                    return answer.result
        return None

    def open_session(self) -> None:
        opened = self.ask(OpenSession(os.urandom(16), 1))
        assert isinstance(opened, SessionOpened)
        self.session = opened.session

    def close(self) -> None:
        self.socket.close(0)


class Besieged:
    """The cluster under attack."""

    def __init__(self, cluster: dsa_zmq.LocalCluster, context: zmq.Context[Any]) -> None:
        self.cluster = cluster
        self.context = context
        self.pids = cluster.pids()
        with cluster.connect() as store:
            self.nodes = {node.name: node.address for node in store.nodes()}
        self.endpoints = {"master": cluster.url.replace("dsa://", "tcp://"), "node": self.nodes["node-1"]}
        self._opened: list[Stranger] = []

    def stranger(self, to: str, name: bytes | None = None, **options: int) -> Stranger:
        """One who has connected to the ``master`` or a ``node``."""
        self._opened.append(Stranger(self.context, self.endpoints[to], name, **options))
        return self._opened[-1]

    def dismiss(self) -> None:
        """Close all strangers' connections."""
        while self._opened:
            self._opened.pop().close()

    def memory(self, name: str) -> int:
        """Resident bytes of a server's process."""
        status = Path(f"/proc/{self.pids[name]}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) << 10

    def complaints(self, name: str) -> int:
        """Protocol errors in a server's log so far."""
        return (self.cluster.directory / "run" / f"{name}.log").read_text().count("protocol error")

    def log(self, name: str) -> str:
        return (self.cluster.directory / "run" / f"{name}.log").read_text()

    def serves(self) -> None:
        """Everybody lives, and others are served as ever."""
        assert self.cluster.ended() == []
        assert self.cluster.pids() == self.pids
        path, data = f"/served/{next(_numbers)}", os.urandom(300_000)
        with self.cluster.connect() as store:
            store.write_bytes(path, data)
            assert store.read_bytes(path) == data


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    """A master and two nodes in processes, at the same addresses for a whole module."""
    with (
        zmq.Context() as context,
        dsa_zmq.LocalCluster(2, processes=True, directory=tmp_path_factory.mktemp("besieged"), speed=2) as cluster,
    ):
        besieged = Besieged(cluster, context)
        yield besieged
        besieged.dismiss()


@pytest.fixture
def unharmed(besieged: Besieged, request: pytest.FixtureRequest) -> Iterator[None]:
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


# --- values that no peer of ours would send ---------------------------------------------------------------------------

INTEGERS = st.sampled_from(
    [-(2**63), -(2**31), -1, 0, 1, 2, 3, 255, 256, 4096, 1 << 20, 2**31, 2**32, 2**53, 2**63 - 1, 2**64 - 1]
) | st.integers(-(2**63), 2**64 - 1)
BYTES = st.sampled_from([b"", bytes(16), bytes(32), b"\xff" * 32, bytes(33), bytes(300)]) | st.binary(max_size=40)
TEXTS = st.sampled_from(
    ["", "/", "//", "/a", "/a/../b", "..", "\0", "/a\0b", "/" + "x" * 256, "/x" * 2100, "x" * 300, "/\n", "copies=2",
     "copies=0", "copies=99999999999999999999", "ec=4+2", "tcp://", "tcp://0.0.0.0:0", "tcp://[::1", "a b"]
) | st.text(max_size=20)  # fmt: skip


@functools.cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, the absurd ones most often."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(each) for each in typing.get_args(kind)])
    if origin is list:
        (item,) = typing.get_args(kind)
        some = st.lists(st.deferred(lambda: values(item)), max_size=3)
        return some | values(item).map(lambda one: [one] * 1500) if item in (int, bool) else some
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: INTEGERS, bytes: BYTES, str: TEXTS, bool: st.booleans(), type(None): st.none(),
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **{name: st.deferred(lambda of=of: values(of)) for name, of in fields.items()})


@pytest.fixture(scope="session")
def absurd() -> Callable[[Any], st.SearchStrategy[Any]]:
    """Makes a strategy for values of a type."""
    return values
