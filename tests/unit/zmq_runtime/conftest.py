"""Fixtures of the tests of the zmq runtime: actors on loopback, and strangers who talk to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import zmq

from actors.core import Address
from actors.zmq.testing import LoopbackHarness


@pytest.fixture
def harness() -> Iterator[LoopbackHarness]:
    """A new set of runtimes."""
    with LoopbackHarness() as harness:
        yield harness


@pytest.fixture
def raw() -> Iterator[Callable[..., zmq.Socket[bytes]]]:
    """Makes connected sockets of a stranger: ``raw(zmq.DEALER, endpoint, b"name/1")``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def connect(kind: int, endpoint: Address, routing_id: bytes | None = None, **options: int) -> zmq.Socket[bytes]:
        socket = context.socket(kind)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        if routing_id is not None:
            socket.setsockopt(zmq.ROUTING_ID, routing_id)
        socket.connect(endpoint)
        return socket

    yield connect
    context.destroy(linger=0)
