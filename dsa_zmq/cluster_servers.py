"""The servers of a local cluster, in threads or in processes of their own, and everything else of it that must be let go."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from dsa_zmq.client.store import Store
from dsa_zmq.faults import Imposed
from dsa_zmq.spawn import ServerProcess

MASTER = "master"


class Running(Protocol):
    """One server, in this process (:class:`dsa_zmq.app.Server`) or in its own (:class:`dsa_zmq.spawn.ServerProcess`)."""

    def endpoint(self, kind: str) -> str | None: ...

    @property
    def names(self) -> frozenset[str]: ...

    @property
    def paused(self) -> bool: ...

    def impose(self, imposed: Imposed) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def join(self, timeout_s: float | None = None) -> int | None: ...


class Client(Protocol):
    """A client's actor."""

    def cut(self, deaf_to: Iterable[str] = (), mute_to: Iterable[str] = ()) -> None: ...

    def join(self, timeout_s: float | None = None) -> int | None: ...


class Hold:
    """Everything of a cluster that must be let go; apart from the cluster, so that its finalizer can reach it."""

    def __init__(self) -> None:
        self.servers: dict[str, Running] = {}  # the master under MASTER, nodes under their names
        self.clients: list[Client] = []  # of the stores
        self.stores: list[Store] = []  # those that nobody else holds any more, too: their threads go on
        self.admin: Store | None = None
        self.ports: tuple[int, ...] = ()  # of the master: control, hints, heartbeats
        self.root: Path | None = None
        self.temporary: Path | None = None
        self._pid = os.getpid()

    def release(self) -> None:
        """Nodes before the master, all of it whatever fails on the way. Idempotent."""
        if os.getpid() != self._pid:
            return  # a forked child: the servers are its parent's
        servers, self.servers = self.servers, {}
        stores, self.stores = self.stores, []
        self.clients = []
        temporary, self.temporary = self.temporary, None
        admin, self.admin = self.admin, None
        self.ports = ()
        with contextlib.ExitStack() as stack:  # last in, first out
            if temporary is not None:
                stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            for server in servers.values():  # the master is the first in
                stack.callback(server.stop)
            for server in servers.values():
                if isinstance(server, ServerProcess):
                    stack.callback(server.request_stop)  # all at once: an orderly stop takes a moment
            for store in [*stores, *([admin] if admin is not None else [])]:
                stack.callback(store.close)
