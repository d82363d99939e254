"""Digests of sets of shards, so that two sides find what differs without sending all they have. Pure.

The digest of a shard is 63 mixed bits of (chunk id, index). That of a set is their XOR: adding and removing are the same
operation, in any order, so both sides keep theirs up to date with each change. Bytes need not be in it: a (chunk, index) has
one content for ever. It finds accidents; it is no defence against somebody who makes up shards.

A level is a division of all chunk ids into buckets of equal ranges. Level 0 is kept, the lower ones are made when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SHIFTS = (20, 12, 8, 4)
"""Of each level: the bucket of a chunk is its id without so many of the lowest bits."""

SHARDS = len(SHIFTS)  #: the level below the last: the shards themselves

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def shard_digest(chunk: int, index: int) -> int:
    """63 bits, so that it fits a signed SQL integer."""
    value = (chunk + (index << 56) + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) >> 1


def bucket_of(chunk: int, level: int) -> int:
    """The bucket of a chunk at a level."""
    return chunk >> SHIFTS[level]


def id_range(level: int, bucket: int) -> tuple[int, int]:
    """Chunk ids of a bucket: the first, and one past the last."""
    return bucket << SHIFTS[level], (bucket + 1) << SHIFTS[level]


def digests(shards: Iterable[tuple[int, int]], level: int) -> dict[int, int]:
    """The digest of each bucket that is not empty, of (chunk, index) pairs, each given once."""
    found: dict[int, int] = {}
    shift = SHIFTS[level]
    for chunk, index in shards:
        bucket = chunk >> shift
        found[bucket] = found.get(bucket, 0) ^ shard_digest(chunk, index)
    return found


def root(level: Mapping[int, int]) -> int:
    """The digest of everything, from the digests of any level."""
    whole = 0
    for digest in level.values():
        whole ^= digest
    return whole


def differing(ours: Mapping[int, int], theirs: Mapping[int, int]) -> list[int]:
    """The buckets, in order, whose sets cannot be equal. One that a side does not have is empty there."""
    return sorted(bucket for bucket in ours.keys() | theirs.keys() if ours.get(bucket) != theirs.get(bucket))
