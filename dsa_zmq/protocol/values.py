"""Values that several messages carry. On the wire they are arrays, so fields may only be appended, with defaults."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Value(msgspec.Struct, frozen=True, array_like=True):
    """Base of the values inside messages."""

    since: ClassVar[int] = 1  #: the protocol version that brought it: who speaks an earlier one is not sent it


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


class UploadSlot(Value, frozen=True):
    """An upload of one chunk whose content and path are not known yet."""

    upload: int
    chunk: int
    places: list[Place]  #: with write grants for shards of at most as many bytes as a chunk of the slot's size makes


class ChunkPlaces(Value, frozen=True):
    """Where a chunk of a content lies. Only live places of nodes that are not known to be down come first."""

    chunk: int
    length: int  #: bytes
    hash: bytes  #: BLAKE3-256 of the chunk; of a code, those of its shards follow: see dsa_zmq.model.hashes
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
    hash: bytes  #: as in ChunkPlaces
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
    draining: bool = False  #: it is being emptied, and gets nothing new
    reach: str = ""  #: who could not reach its data port, and why; "" while others can
    damaged: int = 0  #: shards in quarantine
    garbage: int = 0  #: bytes on its disk that compaction would give back
    load: int = 0  #: bytes received and asked for that it has not yet dealt with
    scrubbed_s: int = 0  #: seconds since its last whole scrub ended; 0: there was none
    scrub_permille: int = 0  #: of the scrub that goes on
    software: str = ""  #: which build it runs: "dsa-zmq 0.1.0"; "" if it did not say
    protocol: int = 0  #: the newest protocol version that it speaks; 0: it has not registered with this master yet


class RepairWait(Value, frozen=True):
    """Chunks that lack a shard since a node is down, and are not made whole yet, since it may come back."""

    node: str  #: its name
    chunks: int
    seconds: int  #: until repair begins


class ShardSource(Value, frozen=True):
    """Where bytes for a shard can be read, with a read grant: the very shard, or a part of what it can be made from. It has
    an index and a length that there are with ``FetchShard.source_redundancy``."""

    node: int
    chunk: int  #: may be another one with the same bytes
    index: int
    length: int
    expires_s: int
    mac: bytes
    hash: bytes = b""  #: BLAKE3-256 of its bytes; may be b"" of a copy, and of the very shard, if the command says it


class FetchShard(Value, frozen=True):
    """A shard that a node is to get for itself, from the data ports of others, or from what it has.

    A source has *the very shard* if both redundancies are copies, or both the same code and the indexes equal. Any one such
    source is enough, and these are asked first. The shard is made from the others: so many of different indexes as
    ``source_redundancy`` needs. They are asked in the order given, the next ones when one has failed, and each has to match
    its hash. From shards of the same code and with ``hash`` known, the shard is rebuilt and has to match it. Otherwise the
    whole chunk is joined and has to match ``chunk_hash``; it is the copy, or is split, and ``hash`` has to match if it
    is known. If what was made does not match although every source did, nobody is blamed and the failure is ``corrupt``.
    """

    move: int  #: id of the move: stands for the upload in its receipt
    chunk: int
    index: int
    chunk_length: int  #: of the whole chunk
    length: int  #: bytes of the shard: what its redundancy makes of ``chunk_length``
    hash: bytes  #: BLAKE3-256 of the shard; b"" if only the chunk's is known: then the outcome says it
    redundancy: str  #: of its chunk
    sources: list[ShardSource]  #: best first
    chunk_hash: bytes = b""  #: BLAKE3-256 of the whole chunk; b"" only if ``hash`` is known
    source_redundancy: str = ""  #: of the chunk that the sources are of; "": the same


class FetchOutcome(Value, frozen=True):
    """Exactly one of receipt and failure is set."""

    move: int
    receipt: Receipt | None = None
    failure: Failure | None = None
    blamed: list[int] = []  #: sources that did not answer, or gave damaged bytes
    hash: bytes = b""  #: BLAKE3-256 of the shard, as in the receipt, if the command did not say it


class ProbeOutcome(Value, frozen=True):
    """What became of one node's data port."""

    node: int
    incarnation: int = 0  #: that answered; 0: none in time
    round_trip_us: int = 0


class Plan(Value, frozen=True):
    """What a task would do."""

    kind: str  #: drain, rebalance, convert, remove, scrub, gc
    subject: str  #: a node's name, a path, or ""
    argument: str  #: a redundancy, or ""
    moves: int  #: shards to be copied or dropped
    bytes: int  #: to be copied, or given back
    seconds: int  #: about; -1: not known
    lines: list[str]  #: the plan in words: what, where to, the risk while it runs
    refusal: Failure | None = None  #: why it cannot be begun


class TaskInfo(Value, frozen=True):
    """A task, and how far it is."""

    task: int
    plan: Plan  #: as it was made when the task began
    state: str  #: running, done, cancelled, failed
    began_ns: int  #: master wall time
    moves_done: int = 0
    bytes_done: int = 0
    seconds_left: int = -1
    note: str = ""  #: what it waits for, why it failed, or what may be done now


class RiskyFile(Value, frozen=True):
    """A file with a chunk that is not healthy."""

    path: str
    size: int
    state: str  #: of its worst chunk: degraded, endangered, lost
    chunks: int  #: that are in this state
