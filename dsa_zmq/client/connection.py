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
        self._handle: Handle | None = None
        self._closed = False
        _connections.add(self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._handle is None else "started"
        return f"<Connection {state}>"

    def _started(self) -> Handle:
        handle = self._handle
        if handle is not None:
            return handle
        with self._lock:
            if self._closed:
                raise Invalid("the store is closed", "connect again")
            if self._handle is None:
                self._handle = self._factory()
            return self._handle

    def call(self, call: AnyCall) -> None:
        """Hand a call to the actor."""
        handle = self._started()
        try:
            handle.call(call)
        except Closed:
            with self._lock:
                if self._handle is handle:
                    self._handle = None  # it has died; the next one is a new client to the servers
            self._started().call(call)

    def alive(self) -> bool:
        """Whether the actor runs."""
        handle = self._handle
        return handle is not None and handle.join(0) is None

    def ask(self, operation: Operation, timeout_s: float = 0) -> Result:
        """One operation: its answer, or its error raised. ``timeout_s`` 0: the usual time-out."""
        waiter = Waiter()
        self.call(AskMaster(operation, waiter, int(timeout_s * 1e9)))
        result: Result = waiter.wait(self.alive)
        return result

    def hello(self, timeout_s: float) -> Welcome:
        """Make sure that a master answers; Unavailable if none does in time."""
        waiter = Waiter()
        self.call(Connect(waiter, int(timeout_s * 1e9)))
        welcome: Welcome = waiter.wait(self.alive)
        return welcome

    def cancel(self, owner: int, error: DSAError | None = None) -> None:
        """Give up a transfer; fine if it or the actor has ended."""
        handle = self._handle
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
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.stop()

    def _after_fork(self) -> None:
        if self._handle is not None:
            _abandoned.append(self._handle)
            self._handle = None
        self._lock = threading.Lock()  # another thread may have held it at the fork


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_abandoned: list[Any] = []  # the parent's actors: kept, so that no finalizer touches their sockets


def _forget_all() -> None:
    for connection in list(_connections):
        connection._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
