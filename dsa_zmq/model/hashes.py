"""The hashes of a chunk and of its shards, as they travel and are kept: one after the other.

Of copies that is one hash, since a copy's bytes are its chunk's. Of a code, the chunk's comes first and those of its
shards follow in their order; all zeros for one that nobody has made yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsa_zmq.model.redundancy import Redundancy

HASH_BYTES = 32  #: BLAKE3-256
UNKNOWN_HASH = bytes(HASH_BYTES)


def hashes_bytes(redundancy: Redundancy) -> int:
    """How long the hashes of one chunk are."""
    return HASH_BYTES if redundancy.alike else HASH_BYTES * (1 + redundancy.shards)


def join_hashes(chunk: bytes, shards: Sequence[bytes]) -> bytes:
    """Of a code's chunk and all its shards."""
    return b"".join((chunk, *shards))


def chunk_hash(hashes: bytes) -> bytes:
    return hashes[:HASH_BYTES]


def shard_hash(hashes: bytes, index: int) -> bytes:
    """What the bytes of this shard must have."""
    if len(hashes) == HASH_BYTES:
        return hashes
    return hashes[HASH_BYTES * (1 + index) : HASH_BYTES * (2 + index)]


def with_shard_hash(hashes: bytes, index: int, hash_: bytes) -> bytes:
    """The hashes of a code's chunk, with that of one more shard."""
    start = HASH_BYTES * (1 + index)
    return hashes[:start] + hash_ + hashes[start + HASH_BYTES :]
