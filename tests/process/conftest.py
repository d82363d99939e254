"""Clusters of real processes behind proxies that count messages, so that faults come by count and not by time."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

import dsa_zmq
from actors.zmq.reactor import ZmqRuntime
from dsa_zmq.client.service import client_spec
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.store import Store
from dsa_zmq.config import NodeOptions
from dsa_zmq.model.addresses import parse_url, split_endpoint
from dsa_zmq.model.ids import start_of
from dsa_zmq.protocol.values import NodeInfo

DEADLINE_S = 10.0
GREETING_BYTES = 64  #: of ZMTP 3, each way, before the first frame
MORE, LONG, COMMAND = 1, 2, 4  #: flags of a ZMTP frame

TO_SERVER, TO_CLIENT = "to server", "to client"
CUTS = {"before": 0.0, "half": 0.5, "after": 1.0}  #: how much of the message is passed on before the fault


def _eventually(holds: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    """Poll until ``holds()`` is true; what it gave then."""
    deadline = time.monotonic() + timeout_s
    while not (result := holds()):
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)
    return result


@dataclass
class Trip:
    """Does ``action`` once: at the ``count``-th message in ``direction`` with a frame of at least ``frame_bytes``, before it
    is passed on, when half of its bytes were, or after it (see CUTS). ``action`` is given the name of the proxy."""

    direction: str
    count: int
    when: str
    action: Callable[[str], None]
    frame_bytes: int = 0
    fired: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def counts(self, direction: str, largest_frame: int) -> bool:
        """Whether this message is the one."""
        if direction != self.direction or largest_frame < self.frame_bytes:
            return False
        with self._lock:
            self.count -= 1
            return self.count == 0

    def fire(self, name: str) -> None:
        self.action(name)
        self.fired.set()


class Proxy:
    """Passes whole ZMTP messages between whoever connects and ``target()``, and lets a :class:`Trip` see them."""

    def __init__(self, name: str, target: Callable[[], str | None]) -> None:
        self.name = name
        self.trip: Trip | None = None
        self.messages = {TO_SERVER: 0, TO_CLIENT: 0}
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                host, port = split_endpoint(self._target() or "tcp://127.0.0.1:1")
                far = socket.create_connection((host, port), 5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            for source, sink, direction in ((near, far, TO_SERVER), (far, near, TO_CLIENT)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._pass_on, args=(source, sink, direction), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        try:
            with source.makefile("rb", buffering=1 << 16) as stream:
                for _ in range(GREETING_BYTES):
                    sink.sendall(_exactly(stream, 1))  # each side waits for the other's first bytes
                while True:
                    raw, largest, is_command = _next_message(stream)
                    self._pass_one(sink, direction, raw, largest, is_command)
        except (OSError, EOFError, ValueError):
            pass  # one side has ended: so does the connection
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _pass_one(self, sink: socket.socket, direction: str, raw: bytes, largest: int, is_command: bool) -> None:
        trip = None if is_command else self.trip
        if not is_command:
            self.messages[direction] += 1
        if trip is None or not trip.counts(direction, largest):
            sink.sendall(raw)
            return
        cut = int(len(raw) * CUTS[trip.when])
        with contextlib.suppress(OSError):
            sink.sendall(raw[:cut])
        trip.fire(self.name)
        with contextlib.suppress(OSError):
            sink.sendall(raw[cut:])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _next_message(stream: Any) -> tuple[bytes, int, bool]:
    """One message or command: its bytes, the length of its largest frame, whether it is a command."""
    parts: list[bytes] = []
    largest = 0
    while True:
        flags = _exactly(stream, 1)
        size_bytes = _exactly(stream, 8 if flags[0] & LONG else 1)
        size = struct.unpack(">Q", size_bytes)[0] if flags[0] & LONG else size_bytes[0]
        parts += [flags, size_bytes, _exactly(stream, size)]
        largest = max(largest, size)
        if not flags[0] & MORE:
            return b"".join(parts), largest, bool(flags[0] & COMMAND)


class ProxiedCluster(dsa_zmq.LocalCluster):
    """A cluster of processes whose nodes are reached through proxies, at the same address after a restart; ``front`` is the
    way to its master through another. For a directory that is new."""

    def __init__(self, nodes: int = 4, redundancy: str = "copies=2", **settings: Any) -> None:
        super().__init__(nodes, redundancy, processes=True, **settings)
        self._starts: Counter[str] = Counter()
        self.proxies = {name: Proxy(name, lambda name=name: self._at(name)) for name in ("master", *self.names)}

    def _at(self, name: str) -> str | None:
        server = self._hold.servers.get(name)
        return server.endpoint("listen") if server is not None else None

    def _node_options(self, name: str) -> NodeOptions:
        self._starts[name] += 1
        return msgspec.structs.replace(super()._node_options(name), advertise=self.proxies[name].address)

    def _state(self, node: NodeInfo) -> str:
        server = self._hold.servers.get(node.name)
        if server is None or server.join(0) is not None:
            return "not running"
        return node.state if start_of(node.incarnation) == self._starts[node.name] else "not registered again"

    @property
    def front(self) -> str:
        return f"dsa://{self.proxies['master'].address}"

    def set_trip(self, trip: Trip | None, *names: str) -> None:
        for name in names:
            self.proxies[name].trip = trip

    def stop(self) -> None:
        super().stop()
        for proxy in self.proxies.values():
            proxy.close()


class Client:
    """A store whose settings a test may choose, with the runtime below it. A context manager, as the store is."""

    def __init__(self, url: str, chunk_bytes: int = 1 << 20, **settings: Any) -> None:
        self.runtime: ZmqRuntime | None = None
        self._settings = ClientSettings(hosts=parse_url(url), **settings)
        self.store = Store(self._start, url, chunk_bytes=chunk_bytes)

    def _start(self) -> ZmqRuntime:
        self.runtime = ZmqRuntime(client_spec(self._settings, random.SystemRandom())).start()
        return self.runtime

    @property
    def bytes_in(self) -> int:
        """Of messages and payloads, so far."""
        assert self.runtime is not None
        return int(self.runtime.statistics()["bytes_in"])

    def __enter__(self) -> Client:
        self.store.hello()
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()


@pytest.fixture
def proxied_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ProxiedCluster]]:
    """Makes and starts proxied clusters."""
    with contextlib.ExitStack() as stack:

        def start(nodes: int = 4, redundancy: str = "copies=2", **settings: Any) -> ProxiedCluster:
            directory = tmp_path_factory.mktemp("cluster")
            return stack.enter_context(ProxiedCluster(nodes, redundancy, directory=directory, **settings))

        yield start


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """Makes connected clients, closed with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(Client(*args, **settings))


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Polls until a function gives something true; what it gave then."""
    return _eventually


@pytest.fixture
def trip() -> type[Trip]:
    """A fault that comes at a certain message."""
    return Trip


@pytest.fixture
def content() -> Callable[[int], bytes]:
    """Random bytes, never the same twice; the seed is printed with a failure."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"content seed {seed}")  # noqa: T201 - shown by pytest when the test fails
    generator = random.Random(seed)
    return generator.randbytes


@pytest.fixture
def fresh_name() -> Callable[[], str]:
    """Paths in the store, never the same twice."""
    numbers = itertools.count(1)
    return lambda: f"/file-{next(numbers)}"


@pytest.fixture
def leftovers() -> Callable[[Path], list[str]]:
    """What downloads have left behind in a folder."""
    return lambda folder: [entry.name for entry in folder.iterdir() if entry.name.endswith(".part")]
