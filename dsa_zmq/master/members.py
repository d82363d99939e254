"""The nodes as the master sees them now. Pure: what is durable comes from the catalog's rows, liveness is soft state.

States, and who moves between them::

                  Register accepted                silence >= suspect        silence >= down
    (row loaded) ------------------> up, failed <---------------> suspect ------------------> down
         |                               ^           heartbeat       ^           heartbeat      |
         +--> suspect --silence--> down  +---------------------------+--------------------------+

A node that speaks is yet suspect while its data port is not known to be reachable (*doubted*: see
:mod:`dsa_zmq.master.probing`), or while it does not hear the master (*deaf*).

A node that only its row tells of (the master has just started) is suspect until it registers or its silence has lasted long
enough. *failed* is a node that speaks but whose store refuses writes; it may still be read. Only a node registered under
this term can be up: commands travel over the connection that it registered by.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from actors.core import Address
from actors.liveness import Liveness, LivenessTable, Sign
from dsa_zmq.master.catalog.jobs import NodeRow
from dsa_zmq.model.ids import start_of
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.messages import Heartbeat, Register
from dsa_zmq.protocol.values import NodeAddress, NodeInfo

UP, SUSPECT, FAILED, DOWN = "up", "suspect", "failed", "down"

READ_ORDER = {UP: 0, SUSPECT: 1, FAILED: 2, DOWN: 3}
"""Where to read first. A failed store's bytes are verified like any other's; a down node most likely does not answer."""


DEAF = "it does not answer the master, though its heartbeats come"

STANDINGS = {UP: Standing.KEEPS, SUSPECT: Standing.SILENT, FAILED: Standing.FAILED, DOWN: Standing.AWAY}


@dataclass(slots=True)
class NodeState:
    """One node: its row, and what it last said."""

    row: NodeRow
    peer: Address | None = None  #: its control connection; None until it registers under this term
    used: int = 0  #: bytes
    free: int = 0  #: bytes, as it last said; outstanding allocations are not subtracted
    shards: int = 0
    failure: str = ""
    inventory: int = 0  #: digest of all that it holds, as it last said
    said: Heartbeat | None = None  #: its last heartbeat
    doubted: bool = False  #: nobody reached its data port lately, or nobody has tried yet
    reach: str = ""  #: who could not reach its data port, and why; "" while nobody has tried, or others can
    proved: bool = False  #: some other node has reached the data port of this process
    fresh: bool = True  #: its last registration was the first of this process, or told another address
    deaf: bool = False  #: it does not answer the master, though its heartbeats come
    is_told_to_scrub: bool = False  #: and its heartbeats may not show it yet
    software: str = ""  #: which build it runs, as it said when it registered
    protocol: int = 0  #: the newest that it speaks; 0: it has not registered yet
    shown: str = SUSPECT  #: the state at the last look, to tell changes


@dataclass(frozen=True, slots=True)
class Change:
    """A node's state is no longer what it was at the last look."""

    node: int
    name: str
    before: str
    after: str


class Members:
    """All nodes that are not removed. Times are serving time (:class:`actors.liveness.ServingClock`) in nanoseconds."""

    def __init__(self, suspect_ns: int, down_ns: int) -> None:
        self.suspect_ns = suspect_ns  #: silence after which a node is suspect
        self._down_ns = down_ns
        self._liveness: LivenessTable[int] = LivenessTable(suspect_ns, down_ns)
        self._nodes: dict[int, NodeState] = {}
        self._up: list[NodeState] = []  #: as last told, which is true ...
        self._up_from_ns = self._up_until_ns = 0  #: ... for so long, if nothing happens

    # --- what happens ---------------------------------------------------------------------------------------------

    def load(self, rows: Iterable[NodeRow], served_ns: int) -> None:
        """The catalog's rows, after a start. Nodes that have registered meanwhile stay as they are."""
        for row in rows:
            if not row.removed and row.node not in self._nodes:
                self._nodes[row.node] = NodeState(row)
                self._liveness.add(row.node, row.incarnation, served_ns)
        self._up_until_ns = 0

    def register(self, row: NodeRow, peer: Address, message: Register, served_ns: int) -> Address | None:
        """The catalog has accepted this registration: the node is up. Another node of this name has been replaced.

        Returns the control connection of the node's earlier process if there was one: it is to be fenced.
        """
        if (namesake := self.namesake(row)) is not None:
            self._remove(namesake.row.node)
        for other in self._nodes.values():
            if other.peer == peer and other.row.node != row.node:
                other.peer = None  # one connection speaks for one node: the last that it claimed to be
        known = self._nodes.get(row.node)
        earlier = known.peer if known is not None and known.peer != peer else None
        state = known or NodeState(row)
        before = (state.row.incarnation, state.row.address) if state.peer is not None else None
        state.fresh = before != (row.incarnation, row.address)
        if state.fresh:
            state.doubted = state.proved = state.deaf = False
            state.reach = ""
        state.row = row
        state.peer = peer
        state.used = _bytes(message.used, row.capacity)
        state.free = _bytes(message.free, row.capacity)
        state.failure = ""
        state.software, state.protocol = message.software, message.version
        self._nodes[row.node] = state
        self._liveness.introduce(row.node, row.incarnation, served_ns)
        self._up_until_ns = 0
        return earlier

    def heartbeat(self, message: Heartbeat, served_ns: int) -> Sign:
        """A heartbeat came. It counts only if node and incarnation match. OLDER is of a process to be fenced: of an earlier
        start, or of the same one in a copy of the directory."""
        sign = self._liveness.heard(message.node, message.incarnation, served_ns)
        if sign is Sign.UNKNOWN:
            return sign
        state = self._nodes[message.node]
        if sign is Sign.NEWER and start_of(message.incarnation) == start_of(state.row.incarnation):
            return Sign.OLDER  # the greater of two nonces is not later
        if sign is Sign.CURRENT:
            state.used = _bytes(message.used, state.row.capacity)
            state.free = _bytes(message.free, state.row.capacity)
            state.shards = max(0, message.shards)
            state.failure = message.failure[:500]
            state.said = message
            self._up_until_ns = 0
            state.inventory = message.inventory
        return sign

    def doubt(self, node: int, reach: str = "") -> None:
        """Its data port is not known to be reachable: it was not tried yet, or ``reach`` says who failed to."""
        state = self._nodes[node]
        state.doubted, state.reach = True, reach
        self._up_until_ns = 0

    def trust(self, node: int, *, proved: bool = True) -> None:
        """Another node has reached its data port; or, if that is not proved, there is no other one to try."""
        state = self._nodes[node]
        state.doubted, state.reach = False, ""
        state.proved = state.proved or proved
        self._up_until_ns = 0

    def deafen(self, node: int, deaf: bool) -> None:
        """It does not answer the master, or does so again."""
        self._nodes[node].deaf = deaf
        self._up_until_ns = 0

    def look(self, served_ns: int) -> list[Change]:
        """What has changed since the last look."""
        changes = []
        for node, state in self._nodes.items():
            now = self.state(node, served_ns)
            if now != state.shown:
                changes.append(Change(node, state.row.name, state.shown, now))
                state.shown = now
        return changes

    def update(self, row: NodeRow) -> None:
        """The catalog has this row of a known node now; it is the same process."""
        self._nodes[row.node].row = row
        self._up_until_ns = 0

    def remove(self, node: int) -> None:
        """The catalog has removed this node."""
        self._remove(node)

    def _remove(self, node: int) -> None:
        del self._nodes[node]
        self._liveness.forget(node)
        self._up_until_ns = 0

    # --- what is so -----------------------------------------------------------------------------------------------

    def state(self, node: int, served_ns: int) -> str:
        """up, suspect, failed or down."""
        state = self._nodes[node]
        liveness = self._liveness.state(node, served_ns)
        if liveness is Liveness.DOWN:
            return DOWN
        if liveness is Liveness.SUSPECT or state.peer is None or state.doubted or state.deaf:
            return SUSPECT
        return FAILED if state.failure else UP

    def standing(self, node: int, served_ns: int) -> Standing:
        """What the node is good for now: see :mod:`dsa_zmq.model.upkeep`."""
        if node not in self._nodes:
            return Standing.AWAY
        standing = STANDINGS[self.state(node, served_ns)]
        return Standing.LEAVES if standing is Standing.KEEPS and self._nodes[node].row.draining else standing

    def standings(self, served_ns: int) -> dict[int, Standing]:
        """Of all nodes, frozen for a job of the catalog."""
        return {node: self.standing(node, served_ns) for node in self._nodes}

    def get(self, node: int) -> NodeState | None:
        return self._nodes.get(node)

    def up(self, served_ns: int) -> list[NodeState]:
        """Those that new shards may go to, by node number: not those that are to be emptied.

        The same list, not to be changed, as long as nothing happens: until a node is heard of, or the first of them has
        been silent for too long.
        """
        if not self._up_from_ns <= served_ns < self._up_until_ns:
            self._up = [
                state
                for node, state in sorted(self._nodes.items())
                if not state.row.draining and self.state(node, served_ns) == UP
            ]
            silence_ns = max(
                [self.silence_ns(state.row.node, served_ns) for state in self._up], default=self.suspect_ns
            )
            self._up_from_ns, self._up_until_ns = served_ns, served_ns + self.suspect_ns - silence_ns
        return self._up

    def all_up(self, served_ns: int) -> list[NodeState]:
        """Those that are up, also if they are to be emptied, by node number."""
        return [state for node, state in sorted(self._nodes.items()) if self.state(node, served_ns) == UP]

    def down(self, served_ns: int) -> frozenset[int]:
        """Those whose shards cannot be read now."""
        return frozenset(node for node in self._nodes if self.state(node, served_ns) == DOWN)

    def by_peer(self, peer: Address) -> NodeState | None:
        """The node that registered over this connection."""
        return next((state for state in self._nodes.values() if state.peer == peer), None)

    def all_heard(self, since_ns: int, *, but: Container[int] = ()) -> bool:
        """Whether every node (but for these) is registered under this term, and has spoken later than that; and whether it
        is known if its data port can be reached."""
        return all(
            state.peer is not None
            and self._liveness.confirmed(node, since_ns)
            and (not state.doubted or bool(state.reach))
            for node, state in self._nodes.items()
            if node not in but
        )

    def heard(self, served_ns: int) -> list[NodeState]:
        """Those that can be spoken to, in whatever state, by node number."""
        return [
            state
            for node, state in sorted(self._nodes.items())
            if state.peer is not None and self._liveness.state(node, served_ns) is Liveness.UP
        ]

    def undecided(self) -> bool:
        """Whether it is still being found out if some node's data port can be reached."""
        return any(state.doubted and not state.reach for state in self._nodes.values())

    def heard_since(self, node: int, since_ns: int) -> bool:
        """Whether it gave a sign of life later than that."""
        return self._liveness.confirmed(node, since_ns)

    def silence_ns(self, node: int, served_ns: int) -> int:
        return self._liveness.silence_ns(node, served_ns)

    def rival(self, message: Register, served_ns: int) -> NodeState | None:
        """Another live process with the store id or the name of this registration.

        A process in the same directory of the same host is none: the directory's lock proves that it has ended. A node of
        which nothing was heard since our start is none either, see :meth:`may_have_rival`.
        """
        for state in self._claimed(message):
            node = state.row.node
            if self._liveness.confirmed(node) and self._liveness.state(node, served_ns) is not Liveness.DOWN:
                return state
        return None

    def may_have_rival(self, message: Register, served_ns: int) -> bool:
        """Whether a process with this store id or name may be alive unheard, because we have not listened long enough."""
        return any(
            not self._liveness.confirmed(state.row.node) and self.silence_ns(state.row.node, served_ns) < self._down_ns
            for state in self._claimed(message)
        )

    def lingers(self, message: Register, served_ns: int) -> bool:
        """Whether a process with another store may still run under this name in this very place, since it was heard just
        now. The directory's lock does not prove its end: a disk that is mounted over its place, or taken away below it,
        leaves it running where the next process does not see it.
        """
        return any(
            state.row.name == message.name
            and state.row.store_id != message.store_id
            and (state.row.host, state.row.path) == (message.host, message.path)
            and self.silence_ns(state.row.node, served_ns) < self.suspect_ns
            for state in self._nodes.values()
        )

    def namesake(self, row: NodeRow) -> NodeState | None:
        """The node that has this one's name, if it is another."""
        return next((s for s in self._nodes.values() if s.row.name == row.name and s.row.node != row.node), None)

    def _claimed(self, message: Register) -> Iterator[NodeState]:
        """The nodes whose store id or name this registration claims from elsewhere."""
        for state in self._nodes.values():
            row = state.row
            if (row.store_id == message.store_id or row.name == message.name) and (row.host, row.path) != (
                message.host,
                message.path,
            ):
                yield state

    def address(self, node: int) -> NodeAddress:
        row = self._nodes[node].row
        return NodeAddress(node, row.address, row.incarnation, row.name)

    def describe(self, served_ns: int) -> list[NodeInfo]:
        """All nodes for people, by name."""
        infos = []
        for node, state in self._nodes.items():
            row, said = state.row, state.said
            infos.append(
                NodeInfo(
                    node=node,
                    name=row.name,
                    state=self.state(node, served_ns),
                    address=row.address,
                    zone=row.zone,
                    host=row.host,
                    capacity=row.capacity,
                    used=state.used,
                    free=state.free,
                    shards=state.shards,
                    incarnation=row.incarnation,
                    silent_ms=self.silence_ns(node, served_ns) // 1_000_000,
                    failure=state.failure,
                    draining=row.draining,
                    reach=DEAF if state.deaf and not state.reach else state.reach,
                    damaged=max(0, said.damaged) if said else 0,
                    garbage=max(0, said.garbage) if said else 0,
                    load=max(0, said.load) if said else 0,
                    scrubbed_s=max(0, said.scrubbed_s) if said else 0,
                    scrub_permille=self._scrubbed(state, served_ns),
                    software=state.software,
                    protocol=state.protocol,
                )
            )
        return sorted(infos, key=lambda info: (info.name, info.node))

    def _scrubbed(self, state: NodeState, served_ns: int) -> int:
        """Of the scrub that goes on, in thousandths; 1: just begun. What it said last may be of the one before."""
        if state.is_told_to_scrub and self.state(state.row.node, served_ns) == UP:
            return 1
        return min(max(0, state.said.scrub_permille), 1000) if state.said else 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: int) -> bool:
        return node in self._nodes

    def __iter__(self) -> Iterator[NodeState]:
        return iter(self._nodes.values())

    def __repr__(self) -> str:
        shown = ", ".join(f"{s.row.name}={s.shown}" for s in sorted(self._nodes.values(), key=lambda s: s.row.name))
        return f"<Members {shown or 'none'}>"

    def check_invariants(self) -> None:
        assert set(self._nodes) == set(self._liveness), "every node is watched, and nothing else"
        names = [state.row.name for state in self._nodes.values()]
        assert len(names) == len(set(names)), "node names are unique"
        peers = [state.peer for state in self._nodes.values() if state.peer is not None]
        assert len(peers) == len(set(peers)), "one connection, one node"
        for state in self._nodes.values():
            assert not state.row.removed
            assert not (state.reach and not state.doubted), "who is reached is not said to be out of reach"
            assert 0 <= state.free <= state.row.capacity
            assert state.used >= 0


def _bytes(said: int, capacity: int) -> int:
    """A size that a node reported, made plausible."""
    return min(max(0, said), max(0, capacity))
