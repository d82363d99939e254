"""A whole cluster on this machine: for tests, for trying out, and as what ``dsa up`` and ``dsa demo`` run."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dsa_zmq import app
from dsa_zmq.client.store import Store
from dsa_zmq.cluster_directory import node_name, refuse_lost_catalog
from dsa_zmq.cluster_faults import REPORT_AGE_S, ClusterFaults, is_redundant
from dsa_zmq.cluster_servers import MASTER, Hold, Running
from dsa_zmq.config import MasterOptions, NodeOptions, check_nodes, check_placement
from dsa_zmq.directory import make_directory
from dsa_zmq.errors import InternalError, Invalid, Timeout, Unavailable
from dsa_zmq.model import limits
from dsa_zmq.model.addresses import split_endpoint
from dsa_zmq.model.catalog_care import catalog_care
from dsa_zmq.protocol.values import NodeInfo
from dsa_zmq.spawn import spawn

FAST = 20  #: how many times shorter than in life the times of liveness are, so that tests see a death at once
SEGMENT_BYTES = 4 << 20  #: a node's segments are preallocated: a small cluster should fit a small disk
UP_TIMEOUT_S = 10.0
HEALTHY_TIMEOUT_S = 30.0
UNPROTECTED_LEAST_S = 1.0  #: a busy host is slow to sync: that is no reason yet for a master to go on alone
_POLL_S = 0.005


class LocalCluster(ClusterFaults):
    """A master and ``nodes`` nodes on loopback, with real sockets and real files.

    ::

        with dsa_zmq.LocalCluster(nodes=4) as cluster, cluster.connect() as store:
            store.write_bytes("/hello", b"world")
            cluster.kill(0)
            assert store.read_bytes("/hello") == b"world"

    What else can be broken is in :class:`~dsa_zmq.cluster_faults.ClusterFaults`.

    ``redundancy`` is that of the root directory, ``placement`` is ``rendezvous`` or ``chained``. Everything runs in
    threads of this process, or with ``processes=True`` each server in a process of its own, which dies with this one.
    Data is in ``directory``, which is kept and found again, or in a temporary one, which is removed at the end.
    ``port`` is the master's (0: any free one); the nodes take free ones.

    ``catalog_copies`` says when the master answers: ``sync``, once nodes hold the change too, ``async`` or ``off``.
    ``catalog_history_s`` is for how long what was removed is kept, so that the catalog can be had as it was.

    ``speed`` divides the times after which a silent node is suspect and down. The servers start with the ``with``
    block (or :meth:`start`) and end with it (or :meth:`stop`), in any case with the interpreter.

    Nodes are numbered from 0 and named ``node-1``, ``node-2``, ...; each counts as a failure domain of its own.
    """

    _host = "127.0.0.1"  #: of the master

    def __init__(
        self,
        nodes: int = 4,
        redundancy: str = "copies=2",
        placement: str = "rendezvous",
        processes: bool = False,
        directory: str | os.PathLike[str] | None = None,
        *,
        port: int = 0,
        capacity: str | int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        speed: float = FAST,
        catalog_copies: str = limits.CATALOG_COPIES,
        catalog_history_s: float = 0.0,
    ) -> None:
        check_nodes(nodes, redundancy)
        check_placement(placement)
        if not speed > 0:
            raise Invalid(f"speed {speed} is not more than 0", "1 is life, 20 is a test")
        self._count = nodes
        self._redundancy = redundancy
        self._placement = placement
        self._processes = processes
        self._given_directory = None if directory is None else Path(directory).absolute()
        self._port = port
        self._capacity = capacity
        self._segment_bytes = segment_bytes
        self._speed = speed
        self._care = catalog_care({"copies": catalog_copies, "history": catalog_history_s})
        super().__init__()
        self._hold = Hold()
        # Not a __del__: this also runs at the interpreter's end, while threads and modules are still whole.
        self._finalizer = weakref.finalize(self, Hold.release, self._hold)

    def __repr__(self) -> str:
        state = self.url if self._hold.ports else "stopped"
        return f"<LocalCluster {self._count} nodes, {self._redundancy}, {state}>"

    # --- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start all servers; returns once the master and every node serve and the nodes are registered."""
        if self._hold.servers:
            return self
        try:
            self._make_root()
            refuse_lost_catalog(self.directory)
            self._launch({MASTER: self._master_options()})
            master = self._hold.servers[MASTER]
            self._hold.ports = tuple(_port(master, kind) for kind in ("listen", "publish", "subscribe"))
            self._launch({name: self._node_options(name) for name in self.names})
            self.wait_up()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything in order, close the connections, and remove a temporary directory. Faults end. Idempotent."""
        self.forget_faults()
        self._hold.release()

    # --- use ----------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The cluster's address, ``dsa://127.0.0.1:PORT``; it stays the same over restarts."""
        if not self._hold.ports:
            raise Unavailable("the cluster is not running", "start it, or use it in a with block")
        return f"dsa://{self._host}:{self._hold.ports[0]}"

    @property
    def directory(self) -> Path:
        """Where its data is."""
        if self._hold.root is None:
            raise Unavailable("the cluster is not running", "start it, or use it in a with block")
        return self._hold.root

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in the order of their numbers."""
        return tuple(node_name(number) for number in range(1, self._count + 1))

    def add_node(self) -> int:
        """Start one more node, with an empty directory; returns its number once it is up."""
        self._server(MASTER)
        self._count += 1
        self._launch({self.names[-1]: self._node_options(self.names[-1])})
        self.wait_up()
        return self._count - 1

    def connect(self, timeout: float = limits.CONNECT_TIMEOUT_S) -> Store:
        """A new connection, the caller's to close; those still open are closed with the cluster."""
        store = app.connect_watched(self.url, timeout, self._watch_client)
        self._hold.stores.append(store)
        return store

    def wait_up(self, timeout: float = UP_TIMEOUT_S) -> None:
        """Return once every node of this cluster is up, as the process that runs now. Raises Timeout, or Unavailable if a
        server ends meanwhile. Nodes that others have added by hand do not count: they come and go as others like."""
        self._wait(timeout, all_must_run=True)

    def wait_healthy(self, timeout: float = HEALTHY_TIMEOUT_S) -> None:
        """Return once every byte has all the redundancy that it should have: nodes are up, those that were killed, paused
        or cut off from the master are known to be down, and what they held was made anew elsewhere. Raises
        Timeout, which says what is missing, or Unavailable if a server ends meanwhile."""
        deadline = time.monotonic() + timeout
        self._wait(timeout, all_must_run=False)
        all_hear = not any(self._silence(name) for name in self.names)
        changed_s = self._harmed_s if all_hear else time.monotonic()  # the master may just have learned of a loss
        while True:
            asked_s, report = time.monotonic(), self._admin().health()
            if is_redundant(report) and asked_s - changed_s > REPORT_AGE_S:
                return
            if time.monotonic() > deadline:
                missing = ", ".join(
                    f"{count} {state}"
                    for state in ("degraded", "endangered", "lost")
                    if (count := getattr(report, f"{state}_chunks"))
                )
                raise Timeout(f"after {timeout:g} s chunks are {missing}", report.held or "; ".join(report.notes))
            time.sleep(_POLL_S)

    def _wait(self, timeout: float, *, all_must_run: bool) -> None:
        """For nodes to be in the state that they should be in, as the master sees it."""
        deadline = time.monotonic() + timeout
        running = set(self._hold.servers) - set(self.ended())
        states = dict.fromkeys(running - {MASTER}, "not registered")
        while True:
            with contextlib.suppress(ConnectionError, TimeoutError):  # a master that is just coming back
                seen = [node for node in self._admin().nodes() if node.name in self._hold.servers]
                states.update((node.name, self._state(node)) for node in seen)
                if not (wrong := self._wrong(states, all_must_run)):
                    return
            for name in running & set(self.ended()):
                status = self._hold.servers[name].join(0)
                raise Unavailable(f"{name} has ended with status {status}", f"see the logs in {self.directory / 'run'}")
            if time.monotonic() > deadline:
                wrong = self._wrong(states, all_must_run)
                missing = ", ".join(f"{name} is {state}" for name, state in sorted(wrong.items()))
                raise Timeout(f"after {timeout:g} s {missing or 'the master does not answer'}", "restart what is down")
            time.sleep(_POLL_S)

    @staticmethod
    def _wrong(states: Mapping[str, str], all_must_run: bool) -> dict[str, str]:
        """Those that are not as they should be. Only a node with a fault is ever *known to be* down."""
        right = ("up",) if all_must_run else ("up", "known to be down")
        return {name: state for name, state in states.items() if state not in right}

    def _state(self, node: NodeInfo) -> str:
        """As the master sees it, corrected by what we know: it takes a while to notice a death or a quick return."""
        server = self._hold.servers[node.name]
        if silence := self._silence(node.name):
            return "known to be down" if node.state == "down" else silence
        if node.state == "up" and node.address != server.endpoint("listen"):
            return "not registered again"
        return node.state

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _make_root(self) -> None:
        root = self._given_directory
        if root is None:
            root = self._hold.temporary = Path(tempfile.mkdtemp(prefix="dsa-cluster-"))
        make_directory(root / "run")
        self._hold.root = root

    def _master_options(self) -> MasterOptions:
        control, hints, beats = self._hold.ports or (self._port, None, None)
        return MasterOptions(
            dir=str(self.directory / MASTER),
            port=control,
            hints_port=hints,
            heartbeats_port=beats,
            redundancy=self._redundancy,
            placement=self._placement,
            heartbeat_s=limits.HEARTBEAT_S / self._speed,
            suspect_s=limits.SUSPECT_S / self._speed,
            down_s=limits.DOWN_S / self._speed,
            catalog={
                "copies": self._care.copies,
                "history": self._care.history,
                "unprotected_after_s": max(UNPROTECTED_LEAST_S, self._care.unprotected_after_s / self._speed),
            },
        )

    def _node_options(self, name: str) -> NodeOptions:
        return NodeOptions(
            master=f"{self._host}:{self._hold.ports[0]}",
            path=str(self.directory / name),
            capacity=self._capacity,
            name=name,
            host=name,  # a failure domain each: on one machine the real ones would all be the same
            port=0,
            reserve=0,
            segment_bytes=self._segment_bytes,
        )

    def _launch(self, chosen: Mapping[str, MasterOptions | NodeOptions]) -> None:
        """Processes start side by side: most of a start is the interpreter's."""
        children = []
        for name, unchecked in chosen.items():
            options = unchecked.checked()
            if self._processes:
                child = spawn(name, options, self.directory / "run", self.imposed_on(name), self._prefix(name))
                children.append(child)
                self._hold.servers[name] = child
            else:
                self._hold.servers[name] = app.start(options, self.imposed_on(name))
        for child in children:
            child.wait_ready()
        self.impose()  # the others learn its new endpoints

    def _prefix(self, name: str) -> Sequence[str]:
        """What a server's command line begins with; for clusters whose servers live apart."""
        return ()

    def _admin(self) -> Store:
        if self._hold.admin is None:
            self._hold.admin = app.connect(self.url)
        return self._hold.admin


def _port(server: Running, kind: str) -> int:
    endpoint = server.endpoint(kind)
    if endpoint is None:
        raise InternalError(f"the master has no {kind} port")
    return split_endpoint(endpoint)[1]
