"""Runtimes on loopback for tests: the :class:`~actors.testing.probe.Harness` of the zmq runtime."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from actors.core import ActorSpec, Address
from actors.testing.probe import Running
from actors.zmq.reactor import ZmqRuntime

POLL_S = 0.0005  #: between two looks at a predicate: short, since most tests wait for one loopback round trip


class LoopbackHarness:
    """Starts actors on loopback, each with a context of its own unless ``options`` (of ZmqRuntime) say otherwise."""

    virtual_time = False

    def __init__(self, **options: Any) -> None:
        self.runtimes: list[ZmqRuntime] = []
        self._cuts: list[tuple[ZmqRuntime, ZmqRuntime]] = []  # sender, receiver
        self._options = options

    def __enter__(self) -> LoopbackHarness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, spec: ActorSpec) -> ZmqRuntime:
        """Start an actor; it is killed with the harness at the latest."""
        runtime = ZmqRuntime(spec, **self._options).start()
        self.runtimes.append(runtime)
        return runtime

    def wait_for(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        """Poll until ``predicate()`` is true; AssertionError on timeout."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s")
            time.sleep(POLL_S)

    def listen_at(self) -> Address:
        """Any free port."""
        return Address("tcp://127.0.0.1:0")

    def unused_endpoint(self) -> Address:
        """A port that was free a moment ago."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            return Address(f"tcp://127.0.0.1:{server.getsockname()[1]}")

    def partition(self, a: Running, b: Running, *, one_way: bool = False) -> None:
        """Make both ends throw away what they would send to or hear from the other."""
        if not one_way:
            self.partition(b, a, one_way=True)
        sender, receiver = (next(one for one in self.runtimes if one is side.handle) for side in (a, b))
        self._cuts += [(sender, receiver)]
        self._impose()

    def heal(self) -> None:
        """Undo all partitions."""
        self._cuts.clear()
        self._impose()

    def _impose(self) -> None:
        for runtime in self.runtimes:
            runtime.cut(
                deaf_to=[name for sender, receiver in self._cuts if receiver is runtime for name in sender.names],
                mute_to=[name for sender, receiver in self._cuts if sender is runtime for name in receiver.names],
            )

    def close(self) -> None:
        """Kill every actor; AssertionError if one does not end."""
        for runtime in self.runtimes:
            runtime.kill()
        for runtime in self.runtimes:
            if runtime.join(5.0) is None:
                raise AssertionError(f"{runtime} does not end")
