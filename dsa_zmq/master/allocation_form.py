"""Whether questions for places make sense, before anything is looked up for them. Each raises Invalid if not. Pure."""

from __future__ import annotations

from dsa_zmq.errors import Invalid
from dsa_zmq.model.limits import MAX_CHUNK_BYTES, MAX_PAGE_CHUNKS, MAX_SLOTS, MIN_CHUNK_BYTES, SLOT_SIZES
from dsa_zmq.model.redundancy import MAX_SHARDS, Redundancy, kept_as, parse_redundancy
from dsa_zmq.protocol.operations import Allocate, AllocateSlots, Reallocate

_MAX_ID = (1 << 63) - 1  #: ids are signed SQL integers
_MAX_NODES_NAMED = 1_000  #: in ``avoid`` and ``held``: more than a cluster has


def check_allocate(asked: Allocate) -> None:
    """Chunks and numbers are such as there can be."""
    if not MIN_CHUNK_BYTES <= asked.chunk_bytes <= MAX_CHUNK_BYTES:
        raise Invalid(
            f"chunks of {asked.chunk_bytes} bytes are not possible",
            f"use {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES} bytes",
        )
    if not 1 <= len(asked.lengths) <= MAX_PAGE_CHUNKS:
        raise Invalid(f"{len(asked.lengths)} chunks cannot be allocated at once", f"ask for 1 to {MAX_PAGE_CHUNKS}")
    if min(asked.lengths) < 1 or max(asked.lengths) > asked.chunk_bytes:
        raise Invalid(f"a chunk's length must be 1 to {asked.chunk_bytes} bytes")
    numbers = (asked.upload, asked.first, asked.anchor)
    if min(numbers) < 0 or max(numbers) > _MAX_ID or len(asked.avoid) > _MAX_NODES_NAMED:
        raise Invalid("an allocation's numbers are out of range")
    if asked.redundancy:
        parse_redundancy(asked.redundancy)


def check_slots(asked: AllocateSlots) -> Redundancy:
    """The same; what files of that size are kept as."""
    if not 1 <= asked.count <= MAX_SLOTS:
        raise Invalid(f"{asked.count} slots cannot be given at once", f"ask for 1 to {MAX_SLOTS}")
    if not 1 <= asked.slot_bytes <= SLOT_SIZES[-1]:
        raise Invalid(f"slots for {asked.slot_bytes} bytes are not possible", f"use 1 to {SLOT_SIZES[-1]} bytes")
    if len(asked.avoid) > _MAX_NODES_NAMED:
        raise Invalid("an allocation's numbers are out of range")
    return parse_redundancy(kept_as(asked.redundancy, asked.slot_bytes, MAX_CHUNK_BYTES))


def check_reallocate(asked: Reallocate) -> None:
    """Shards, lengths and nodes go together, and are such as there can be."""
    count = len(asked.shards)
    if not 1 <= count <= MAX_PAGE_CHUNKS * MAX_SHARDS:
        raise Invalid(f"{count} shards cannot be moved at once", f"ask for 1 to {MAX_PAGE_CHUNKS * MAX_SHARDS}")
    if len(asked.lengths) != count or len(asked.held) != count:
        raise Invalid("shards, lengths and held must be equally many")
    if not 0 < asked.upload <= _MAX_ID:
        raise Invalid("there is no such upload")
    in_range = all(
        0 < shard.chunk <= _MAX_ID and 0 <= shard.index < MAX_SHARDS and 0 < length <= MAX_CHUNK_BYTES
        for shard, length in zip(asked.shards, asked.lengths, strict=True)
    )
    if not in_range or any(len(nodes) > _MAX_NODES_NAMED for nodes in (asked.avoid, *asked.held)):
        raise Invalid("a shard's numbers are out of range")
