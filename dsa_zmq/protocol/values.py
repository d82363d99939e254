"""Values that several messages carry. On the wire they are arrays, so fields may only be appended, with defaults."""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, array_like=True):
    """Base of the values inside messages."""


class Failure(Value, frozen=True, tag=0):
    """An error as it travels: rebuilt by :func:`dsa_zmq.errors.from_code`."""

    code: str
    message: str
    remedy: str = ""
    path: str | None = None


class Attributes(Value, frozen=True):
    """What the catalog knows of a file or directory, without its name."""

    kind: str  #: "file" or "dir"
    inode: int
    size: int = 0  #: bytes of content; 0 for a directory
    mtime_ns: int = 0  #: as the client gave it, wall time
    mode: int = 0  #: permission bits
    version: int = 0  #: grows by one with every new content of this inode; 0 for a directory
    content: int = 0  #: content id; 0 for an empty file or a directory
    chunk_bytes: int = 0
    chunk_count: int = 0
    redundancy: str = ""  #: of this content; for a directory, what new files in it get
    created_ns: int = 0  #: master wall time


class Entry(Value, frozen=True):
    """One row of a listing."""

    name: str
    attributes: Attributes


class NodeAddress(Value, frozen=True):
    """Where to reach a node's data port."""

    node: int
    address: str  #: endpoint, tcp://host:port
    incarnation: int
    name: str = ""


class Place(Value, frozen=True):
    """One shard's place, with the grant to use it."""

    node: int
    index: int  #: shard index
    mac: bytes  #: access grant, see dsa_zmq.model.macs.grant_mac


class ChunkPlan(Value, frozen=True):
    """Where to put the shards of a new chunk."""

    chunk: int
    places: list[Place]


class ChunkPlaces(Value, frozen=True):
    """Where a chunk of a content lies. Only live places of nodes that are not known to be down come first."""

    chunk: int
    length: int  #: bytes
    hash: bytes  #: BLAKE3-256 of the chunk
    places: list[Place]


class Receipt(Value, frozen=True):
    """A node's word that it holds a shard durably, see dsa_zmq.model.macs.receipt_mac."""

    node: int
    index: int
    incarnation: int
    mac: bytes


class StagedChunk(Value, frozen=True):
    """A chunk of an upload whose shards are on their nodes."""

    chunk: int
    length: int
    hash: bytes
    receipts: list[Receipt]


class ShardRef(Value, frozen=True):
    chunk: int
    index: int


class PlacedShard(Value, frozen=True):
    chunk: int
    index: int
    node: int


class NodeInfo(Value, frozen=True):
    """One node as shown to people."""

    node: int
    name: str
    state: str  #: up, suspect, down, failed
    address: str
    zone: str
    host: str
    capacity: int  #: bytes this node offers
    used: int  #: bytes its shards take
    free: int  #: bytes that new shards may still take
    shards: int
    incarnation: int
    silent_ms: int = 0  #: since its last heartbeat
    failure: str = ""  #: why its store has failed
