"""The zmq runtime keeps the contract of the bus, over real sockets and threads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from actors.core import ActorSpec, Address, Handle
from actors.testing import FeedConformance, JobConformance, LifeConformance, MessageConformance, TimerConformance
from actors.zmq import ZmqRuntime

POLL_S = 0.0005  #: between two looks at a predicate: short, since most tests wait for a loopback round trip


class ZmqHarness:
    """Actors with a context of their own each, as in separate processes, on loopback."""

    virtual_time = False

    def __init__(self) -> None:
        self._handles: list[Handle] = []

    def start(self, spec: ActorSpec) -> Handle:
        handle = ZmqRuntime(spec).start()
        self._handles.append(handle)
        return handle

    def wait_for(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(POLL_S)

    def listen_at(self) -> Address:
        return Address("tcp://127.0.0.1:0")

    def unused_endpoint(self) -> Address:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return Address(f"tcp://127.0.0.1:{server.getsockname()[1]}")

    def close(self) -> None:
        for handle in self._handles:
            handle.kill()
            assert handle.join(5.0) is not None, f"{handle} does not end"


@pytest.fixture
def harness() -> Iterator[ZmqHarness]:
    """A new set of runtimes."""
    harness = ZmqHarness()
    yield harness
    harness.close()


class TestMessages(MessageConformance):
    pass


class TestFeeds(FeedConformance):
    pass


class TestTimers(TimerConformance):
    pass


class TestJobs(JobConformance):
    pass


class TestLife(LifeConformance):
    pass
