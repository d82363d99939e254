"""A store's connection: what becomes of its actor when the store is dropped, and of waiting callers when the actor dies."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest

from actors.errors import Closed
from dsa_zmq.client.calls import Cancel
from dsa_zmq.client.connection import Connection
from dsa_zmq.client.store import Store
from dsa_zmq.errors import InternalError
from dsa_zmq.protocol import operations as op


class SilentHandle:
    """A grip on an actor that takes calls and never answers."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.ended: int | None = None

    def call(self, call: Any) -> None:
        if self.ended is not None:
            raise Closed("it has ended")
        self.called.set()

    def endpoint(self, kind: str) -> None:
        return None

    def stop(self, timeout_s: float = 5.0) -> None:
        self.ended = 0

    def kill(self) -> None:
        self.ended = 137

    def join(self, timeout_s: float | None = None) -> int | None:
        return self.ended


def test_a_store_that_is_dropped_ends_its_actor() -> None:
    handle = SilentHandle()
    store = Store(lambda: handle, "dsa://model")
    store._connection.call(Cancel(1))
    assert handle.called.is_set()
    del store
    gc.collect()
    assert handle.ended == 0


@pytest.mark.slow
def test_a_caller_of_an_actor_that_died_does_not_wait_for_its_successor() -> None:
    handles = [SilentHandle(), SilentHandle()]
    made = iter(handles)
    connection = Connection(lambda: next(made))
    heard: list[BaseException] = []

    def ask() -> None:
        try:
            connection.ask(op.Stat("/a"))
        except InternalError as error:
            heard.append(error)

    caller = threading.Thread(target=ask, daemon=True)
    caller.start()
    assert handles[0].called.wait(5)
    handles[0].kill()
    connection.call(Cancel(1))  # another thread's call finds it dead, and goes to the next one
    assert handles[1].called.is_set()
    deadline = time.monotonic() + 5
    while caller.is_alive() and time.monotonic() < deadline:
        caller.join(0.01)
    assert [str(error) for error in heard] == [
        "the client's own thread has ended; see the log, and report this as a bug"
    ]
    connection.close()
