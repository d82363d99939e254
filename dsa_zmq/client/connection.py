"""A client's actor, started at first use, shared by all threads of one process, and never by two processes.

After a fork the child must not touch the parent's sockets, not even to close them. So a connection forgets its actor in the
child, and starts another one when it is used there.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from actors.core import Handle
from actors.errors import Closed
from dsa_zmq.client.calls import AnyCall, AskMaster, Cancel, Connect
from dsa_zmq.client.tickets import Waiter
from dsa_zmq.errors import DSAError, Invalid
from dsa_zmq.protocol.messages import Welcome
from dsa_zmq.protocol.operations import Operation, Result

HandleFactory = Callable[[], Handle]
"""Starts a client's actor and returns the grip on it."""

_owners = itertools.count(1)  # of transfers; unique in the process, whatever connection they use


class Connection:
    """Starts the actor with ``factory`` when it is needed. All methods may be called from any thread."""

    def __init__(self, factory: HandleFactory) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._grip = _Grip()
        self._closed = False
        _connections.add(self)
        # Dropped without close, it would leave the actor's threads and sockets behind.
        weakref.finalize(self, _Grip.release, self._grip).atexit = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._grip.handle is None else "started"
        return f"<Connection {state}>"

    def _started(self) -> Handle:
        handle = self._grip.handle
        if handle is not None:
            return handle
        with self._lock:
            if self._closed:
                raise Invalid("the store is closed", "connect again")
            if self._grip.handle is None:
                self._grip.handle = self._factory()
            return self._grip.handle

    def _replaced(self, ended: Handle) -> Handle:
        """Another actor for one that has died; it is a new client to the servers."""
        with self._lock:
            if self._grip.handle is ended:
                self._grip.handle = None
        return self._started()

    def call(self, call: AnyCall) -> Handle:
        """Hand a call to the actor; returns the one that has taken it. When that one dies, nobody answers its calls, also if
        another one has taken its place meanwhile: so whoever waits for an answer watches this one."""
        handle = self._grip.handle or self._started()
        try:
            handle.call(call)
        except Closed:
            handle = self._replaced(handle)
            handle.call(call)
        return handle

    def started(self) -> Handle:
        """The actor that gets the next calls, as long as it lives."""
        handle = self._started()
        return handle if handle.join(0) is None else self._replaced(handle)

    def ask(self, operation: Operation, timeout_s: float = 0) -> Result:
        """One operation: its answer, or its error raised. ``timeout_s`` 0: the usual time-out."""
        waiter = Waiter()
        actor = self.call(AskMaster(operation, waiter, int(timeout_s * 1e9)))
        result: Result = waiter.wait(actor)
        return result

    def hello(self, timeout_s: float) -> Welcome:
        """Make sure that a master answers; Unavailable if none does in time."""
        waiter = Waiter()
        actor = self.call(Connect(waiter, int(timeout_s * 1e9)))
        welcome: Welcome = waiter.wait(actor)
        return welcome

    def cancel(self, owner: int, error: DSAError | None = None) -> None:
        """Give up a transfer; fine if it or the actor has ended."""
        handle = self._grip.handle
        if handle is not None:
            try:
                handle.call(Cancel(owner, error))
            except Closed:
                return

    @staticmethod
    def new_owner() -> int:
        return next(_owners)

    def close(self) -> None:
        """Orderly end. Idempotent; the connection cannot be used again."""
        with self._lock:
            self._closed = True
        self._grip.release()

    def _after_fork(self) -> None:
        if self._grip.handle is not None:
            _abandoned.append(self._grip.handle)
            self._grip.handle = None
        self._lock = threading.Lock()  # another thread may have held it at the fork


class _Grip:
    """The actor of a connection; apart from it, so that its finalizer can reach it."""

    __slots__ = ("handle",)

    def __init__(self) -> None:
        self.handle: Handle | None = None

    def release(self) -> None:
        """Orderly end. Idempotent."""
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.stop()


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_abandoned: list[Any] = []  # the parent's actors: kept, so that no finalizer touches their sockets


def _forget_all() -> None:
    for connection in list(_connections):
        connection._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
