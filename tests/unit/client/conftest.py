"""The client's actor in a model of the world, and a store over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.errors import Closed
from dsa_zmq.client.store import Store
from dsa_zmq.model import limits
from dsa_zmq.protocol import operations as op
from tests.unit.client.model_master import PAGE_CHUNKS
from tests.unit.client.talk import Talk
from tests.unit.client.world import CHUNK, Faults, World


@pytest.fixture(name="make_world")
def _make_world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Worlds whose pages hold four chunks, so that small files have several."""
    monkeypatch.setattr(limits, "PAGE_BYTES", PAGE_CHUNKS * CHUNK)
    return World


@pytest.fixture(name="Faults")
def _faults() -> type[Faults]:
    return Faults


class WorldHandle:
    """A grip on the client's actor in a world: every call is worked off at once, in the caller's thread."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.RLock()
        self.calls: list[Any] = []
        self.stopped = False

    def call(self, call: Any) -> None:
        with self.lock:
            if self.stopped:
                raise Closed("stopped")
            self.calls.append(call)
            self.world.call(call)
            while len(self.world.events) > 1 or (self.world.events and not self.world.timers):
                self.world.step()  # until only the client's own tick is left

    def endpoint(self, kind: str) -> None:
        return None

    def stop(self, timeout_s: float = 5.0) -> None:
        with self.lock:
            if not self.stopped:
                self.stopped = True
                self.world.client.on_stop(self.world)

    def kill(self) -> None:
        self.stopped = True

    def join(self, timeout_s: float | None = None) -> int | None:
        return 0 if self.stopped else None


@pytest.fixture(name="store")
def _store(make_world: Callable[..., World]) -> Iterator[Store]:
    """A store over a world, with chunks of 4 KiB; ``store.world`` and ``store.handle`` show what is behind it."""
    world = make_world(1)
    handle = WorldHandle(world)
    store = Store(lambda: handle, "dsa://model", chunk_bytes=CHUNK)
    store.world, store.handle = world, handle  # type: ignore[attr-defined]
    yield store
    store.close()


@pytest.fixture(name="talk")
def _talk() -> Talk:
    """A session that was welcomed, with nothing open."""
    talk = Talk()
    talk.ask(op.Stat("/warm"))
    talk.welcome()
    talk.answer(talk.take()[0])
    talk.settled.clear()
    return talk
