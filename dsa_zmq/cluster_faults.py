"""What can be broken in a local cluster, and how it is undone: real faults for tests of software that uses the store."""

from __future__ import annotations

import math
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from dsa_zmq.cluster_servers import MASTER, Client, Hold, Running
from dsa_zmq.config import MasterOptions, NodeOptions
from dsa_zmq.errors import Invalid, NotFound, Unavailable
from dsa_zmq.faults import Imposed
from dsa_zmq.node.segment_search import find_payload
from dsa_zmq.protocol import operations as op
from dsa_zmq.spawn import ServerProcess

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

REPORT_AGE_S = 1.0  #: how old a report of health may be
CLIENTS = "clients"  #: in a partition: every store that :meth:`LocalCluster.connect` has given

Who = int | str
"""A node by its number or its name, or the master as ``"master"``."""


class ClusterFaults(ABC):
    """The faults of :class:`~dsa_zmq.cluster.LocalCluster`. Each can be made again after it was undone, in both modes.

    ======================  =================================================  ============================================
    call                    processes                                          threads
    ======================  =================================================  ============================================
    ``kill``, ``restart``   SIGKILL; a new process with the same directory     an abrupt stop: no farewell, nothing flushed
    ``pause``, ``resume``   SIGSTOP, SIGCONT                                   no turns: a process that hangs, whose sockets
                                                                               still answer to the network
    ``partition``,          both ends throw away what the other one sends and  the same
    ``heal``                what they would send to it; connections stay up
    ``corrupt``             one byte of one copy is flipped in its file        the same
    ``fill_disk``,          the node's disk says ENOSPC                        the same
    ``empty_disk``
    ``wipe``                killed, its directory emptied, started             the same
    ======================  =================================================  ============================================

    Partitions and full disks outlast restarts; they end with :meth:`heal` and :meth:`empty_disk`, and with the cluster.
    """

    _hold: Hold

    def __init__(self) -> None:
        self.forget_faults()

    def forget_faults(self) -> None:
        """As if none had been made."""
        self._cuts: list[tuple[frozenset[str], frozenset[str]]] = []  # (senders, receivers), by the servers' names
        self._rooms: dict[str, tuple[int | None, int]] = {}  # of a node's disk: bytes left, number of the filling
        self._changes = 0
        self._harmed_s = -math.inf  # when bytes were last taken away, monotonic

    # --- deaths ---------------------------------------------------------------------------------------------------------

    def kill(self, node: Who) -> None:
        """End a server at once, as a crash would: SIGKILL, or the nearest thing within one process."""
        self._server(self._name(node)).kill()
        self._harmed_s = time.monotonic()

    def restart(self, node: Who) -> None:
        """Start a server again, with its directory; if it still runs, it is stopped in order first."""
        name = self._name(node)
        self._server(name).stop()
        self._launch({name: self._options(name)})

    def kill_master(self) -> None:
        """End the master at once, as a crash would."""
        self.kill(MASTER)

    def restart_master(self) -> None:
        """Start the master again, with its directory and at the same ports."""
        self.restart(MASTER)

    def restart_server(self, name: str) -> None:
        """Start any server again that :meth:`ended` has named."""
        self.restart(name)

    def wipe(self, node: Who) -> None:
        """Kill a node, lose all that is on its disk, and start it with the empty directory."""
        name = self._name(node, master_too=False)
        self._server(name).kill()
        shutil.rmtree(self.directory / name)
        self._harmed_s = time.monotonic()
        self._launch({name: self._options(name)})

    def ended(self) -> list[str]:
        """The servers that do not run (any more): ``master``, or nodes by name."""
        return [name for name, server in self._hold.servers.items() if server.join(0) is not None]

    def pids(self) -> dict[str, int]:
        """The process id of each server; of this process for those in threads."""
        return {
            name: server.pid if isinstance(server, ServerProcess) else os.getpid()
            for name, server in self._hold.servers.items()
        }

    # --- silence --------------------------------------------------------------------------------------------------------

    def pause(self, node: Who) -> None:
        """Let a server stand still until :meth:`resume`; returns once it does. It can be killed and restarted like that."""
        self._server(self._name(node)).pause()

    def resume(self, node: Who) -> None:
        """Let a server go on that was paused."""
        self._server(self._name(node)).resume()

    def partition(self, *groups: Iterable[Who], one_way: bool = False) -> None:
        """From now on nothing gets from a server of one group to one of another; returns once that is so.

        Whoever is in no group reaches everybody. ``"master"`` is the master, ``"clients"`` are the stores that
        :meth:`~dsa_zmq.cluster.LocalCluster.connect` has given and will give. With ``one_way``, only what earlier groups
        send to later ones is lost. Partitions add up until :meth:`heal`.
        """
        named = [frozenset(self._name(who, clients_too=True) for who in group) for group in groups]
        if len(named) < 2:
            raise Invalid("a partition needs two groups", "write partition([0], [1, 2])")
        for a, b in combinations(named, 2):
            if both := a & b:
                raise Invalid(f"{min(both)} is on both sides of the partition", "put each server into one group")
            self._cuts.append((a, b))
            if not one_way:
                self._cuts.append((b, a))
        self.impose()

    def heal(self) -> None:
        """End all partitions."""
        self._cuts.clear()
        self.impose()

    def _silence(self, name: str) -> str:
        """Why the master hears nothing of a node, even if it does not know it yet; "" if it hears it."""
        server = self._server(name)
        if server.join(0) is not None:
            return "not running"
        if server.paused:
            return "paused"
        if any(name in senders and MASTER in receivers for senders, receivers in self._cuts):
            return "cut off"
        return ""

    # --- disks ----------------------------------------------------------------------------------------------------------

    def fill_disk(self, node: Who, free: int = 0) -> None:
        """Let a node's disk have only ``free`` bytes left, as if other programs had taken the rest. Room that the node's own
        files give up is free again. The index (SQLite's files) still finds room."""
        self._set_room(node, free)

    def empty_disk(self, node: Who) -> None:
        """Let a node have the disk's real room again."""
        self._set_room(node, None)

    def _set_room(self, node: Who, room: int | None) -> None:
        name = self._name(node, master_too=False)
        self._server(name)
        self._rooms[name] = (room, self._changes + 1)
        self.impose()

    def corrupt(self, path: str, node: Who | None = None) -> str:
        """Flip one byte of one copy of a stored file, in the middle of its first chunk that ``node`` holds (None: any node);
        returns the node's name. The node does not notice until that shard is read, or scrubbed."""
        wanted = None if node is None else self._name(node, master_too=False)
        located = self._admin().admin.ask(op.Locate(path), op.Located)
        names = {address.node: address.name for address in located.nodes}
        for chunk in located.chunks:
            for place in chunk.places:
                name = names.get(place.node)
                if name not in self.names or wanted not in (None, name):
                    continue
                if self._flip(self.directory / name, chunk.chunk, place.index):
                    return name
        raise NotFound(
            f"{path} has no bytes on {wanted or 'any node of this cluster'}", "store some, or name another node", path
        )

    @staticmethod
    def _flip(directory: Path, chunk: int, index: int) -> bool:
        """One byte of a shard's newest record."""
        found = find_payload(directory, chunk, index)
        if found is None:
            return False
        file, offset, length = found
        with file.open("r+b", buffering=0) as stream:
            stream.seek(offset + length // 2)
            byte = stream.read(1)
            stream.seek(offset + length // 2)
            stream.write(bytes([byte[0] ^ 1]))
        return True

    # --- what holds -----------------------------------------------------------------------------------------------------

    def impose(self) -> None:
        """Tell every server and client of this cluster which faults hold, after a change."""
        if not self._cuts and not self._rooms and not self._changes:
            return
        self._changes += 1
        for name, server in self._hold.servers.items():
            server.impose(self.imposed_on(name))
        self._hold.clients = [client for client in self._hold.clients if client.join(0) is None]
        for client in self._hold.clients:
            self._impose_on_client(client)

    def imposed_on(self, name: str) -> Imposed:
        """The faults that hold for a server, or for the clients."""
        room, filling = self._rooms.get(name, (None, 0))
        return Imposed(
            number=self._changes,
            deaf_to=self._peers(sender for sender, receiver in self._cuts if name in receiver),
            mute_to=self._peers(receiver for sender, receiver in self._cuts if name in sender),
            room=room,
            filling=filling,
        )

    def _peers(self, groups: Iterable[frozenset[str]]) -> tuple[str, ...]:
        """All that these servers are known by. Clients are not known to anybody: they impose a cut on themselves."""
        servers = self._hold.servers
        chosen = {name for group in groups for name in group if name in servers}
        return tuple(sorted({known for name in chosen for known in servers[name].names}))

    def _watch_client(self, client: Client) -> None:
        self._hold.clients.append(client)
        self._impose_on_client(client)

    def _impose_on_client(self, client: Client) -> None:
        imposed = self.imposed_on(CLIENTS)
        client.cut(imposed.deaf_to, imposed.mute_to)

    # --- the cluster ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]: ...

    @property
    @abstractmethod
    def directory(self) -> Path: ...

    @abstractmethod
    def _admin(self) -> Store: ...

    @abstractmethod
    def _launch(self, chosen: Mapping[str, MasterOptions | NodeOptions]) -> None: ...

    @abstractmethod
    def _master_options(self) -> MasterOptions: ...

    @abstractmethod
    def _node_options(self, name: str) -> NodeOptions: ...

    def _options(self, name: str) -> MasterOptions | NodeOptions:
        return self._master_options() if name == MASTER else self._node_options(name)

    def _name(self, who: Who, *, master_too: bool = True, clients_too: bool = False) -> str:
        if isinstance(who, str):
            if who in self.names or (who == MASTER and master_too) or (who == CLIENTS and clients_too):
                return who
            raise Invalid(f"there is no node '{who}'", f"the nodes are {', '.join(self.names)}")
        if not 0 <= who < len(self.names):
            raise Invalid(f"there is no node number {who}", f"they are numbered from 0 to {len(self.names) - 1}")
        return self.names[who]

    def _server(self, name: str) -> Running:
        if name not in self._hold.servers:
            raise Unavailable("the cluster is not running", "start it, or use it in a with block")
        return self._hold.servers[name]


def is_redundant(report: op.HealthReport) -> bool:
    """Every byte has all the redundancy that it should have, as the master knew when it made the report: that may be
    :data:`REPORT_AGE_S` ago."""
    return not (report.degraded_chunks or report.endangered_chunks or report.lost_chunks)
