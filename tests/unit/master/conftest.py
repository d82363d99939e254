"""Nodes as the master's rooms know them: rows, registrations, heartbeats, tables of members, and a desk that allocates."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.core import Address
from dsa_zmq.master.allocation import Allocator
from dsa_zmq.master.catalog.jobs import NodeRow
from dsa_zmq.master.grants import Granter
from dsa_zmq.master.members import Members
from dsa_zmq.master.uploads import Uploads
from dsa_zmq.model.ids import next_incarnation
from dsa_zmq.model.macs import grant_mac, node_key
from dsa_zmq.protocol.messages import Heartbeat, Register
from dsa_zmq.protocol.operations import Allocate, AllocateSlots, Reallocate

MIB = 1 << 20
SUSPECT_NS, DOWN_NS = 30, 100
CAPACITY = 1_000
SECRET, CLUSTER, TERM = b"s" * 32, b"c" * 16, 3
WALL_NS = 1_700_000_000 * 10**9 + 5
LEASE_NS = 600
HUGE = [-1, 2**63, 2**64 - 1]  #: numbers that nothing has


def node_row(node: int, **changes: Any) -> NodeRow:
    row = NodeRow(
        node=node,
        name=f"n{node}",
        store_id=bytes([node]) * 16,
        incarnation=next_incarnation(0, 0xABC),
        generation=1,
        zone="",
        host=f"host{node}",
        path="/data",
        disk=f"disk{node}",
        address=f"tcp://10.0.0.{node}:7710",
        capacity=CAPACITY,
    )
    return msgspec.structs.replace(row, **changes)


def registration(row: NodeRow, **changes: Any) -> Register:
    message = Register(
        number=1,
        version=1,
        oldest=1,
        cluster=b"",
        name=row.name,
        store_id=row.store_id,
        incarnation=row.incarnation,
        address=row.address,
        zone=row.zone,
        host=row.host,
        path=row.path,
        disk=row.disk,
        capacity=row.capacity,
        used=100,
        free=900,
        seen_term=0,
        seen_master=b"",
    )
    return msgspec.structs.replace(message, **changes)


def heartbeat(row: NodeRow, **changes: Any) -> Heartbeat:
    beat = Heartbeat(row.node, row.incarnation, term=1, used=200, free=800, shards=3, pending_bytes=0)
    return msgspec.structs.replace(beat, **changes)


def peer_of(row: NodeRow) -> Address:
    return Address(f"node-{row.name}/{row.incarnation}")


def register(members: Members, row: NodeRow, now: int = 0, **changes: Any) -> None:
    """A node registers, with its usual words or others."""
    members.register(row, peer_of(row), registration(row, **changes), now)


def registered(*rows: NodeRow, now: int = 0) -> Members:
    members = Members(SUSPECT_NS, DOWN_NS)
    for row in rows:
        register(members, row, now)
    return members


class Desk:
    """Nodes that are up, and what allocates on them."""

    def __init__(
        self, nodes: int = 4, free: int = 100 * MIB, *, placement: str = "rendezvous", lease_ns: int = LEASE_NS
    ) -> None:
        self.members = Members(SUSPECT_NS, DOWN_NS)
        for node in range(1, nodes + 1):
            self.add(node, free)
        self.uploads = Uploads(lease_ns)
        self.granter = Granter(SECRET, CLUSTER)
        self.allocator = Allocator(placement, TERM, self.granter, self.uploads, lease_ns)

    def add(self, node: int, free: int) -> None:
        row = node_row(node, incarnation=1, generation=2, capacity=200 * MIB)
        register(self.members, row, used=0, free=free)

    def allocate(self, inherited: str = "copies=2", now: int = 0, **changes: Any) -> Any:
        asked = msgspec.structs.replace(Allocate(0, "/f", MIB, 0, [MIB, MIB, 5]), **changes)
        known = self.allocator.redundancy_of(asked)
        return self.allocator.allocate(asked, known or inherited, self.members.up(now), now, WALL_NS)

    def reallocate(self, asked: Reallocate, now: int = 0) -> Any:
        return self.allocator.reallocate(asked, self.members.up(now), now, WALL_NS)

    def slots(self, count: int = 16, slot_bytes: int = 4096, now: int = 0) -> Any:
        asked = AllocateSlots(count, slot_bytes, "copies=2")
        return self.allocator.allocate_slots(asked, self.members.up(now), now, WALL_NS)

    def row(self, node: int) -> NodeRow:
        state = self.members.get(node)
        assert state is not None
        return state.row

    def mac(self, right: bytes, node: int, upload: int, chunk: int, index: int, length: int, expires_s: int) -> bytes:
        """What the node computes for itself."""
        row = self.row(node)
        key = node_key(SECRET, node, row.store_id, row.generation)
        return grant_mac(
            key, right, cluster=CLUSTER, node=node, store_id=row.store_id, upload=upload, chunk=chunk, index=index,
            length=length, expires_s=expires_s,
        )  # fmt: skip

    def reserved(self) -> dict[int, int]:
        """Bytes, by node."""
        self.uploads.check_invariants()
        return {node: size for node in range(1, 9) if (size := self.uploads.reserved_bytes(node))}


def nodes_of(allocated: Any) -> list[tuple[int, ...]]:
    """Of each chunk."""
    return [tuple(place.node for place in plan.places) for plan in allocated.chunks]
