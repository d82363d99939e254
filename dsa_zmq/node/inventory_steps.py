"""What a store holds, as digests or as a list, in small steps: see :mod:`dsa_zmq.model.inventory`."""

from __future__ import annotations

from actors.core import Job
from dsa_zmq.model.inventory import SHARDS, digests
from dsa_zmq.node.store import ShardKey, ShardStore

STEP_SHARDS = 4096  #: as many ids as a range of a step may have: some 10 ms of the index


class DigestStore(Job, frozen=True):
    """-> the digest of each bucket of level 0 that is not empty: a dict"""


class ReadRanges(Job, frozen=True):
    """Go through ranges of chunk ids, each of at most STEP_SHARDS ids, until that many shards were seen. -> RangesRead"""

    level: int  #: of the digests wanted; SHARDS: the shards
    ranges: tuple[tuple[int, int], ...]  #: the first id, and one past the last


class RangesRead(Job, frozen=True):
    """What was found in the first ``done`` of the ranges."""

    done: int
    digests: dict[int, int]
    shards: list[ShardKey]


def digest_store(store: ShardStore, job: DigestStore) -> dict[int, int]:
    return store.digests(0)


def read_ranges(store: ShardStore, job: ReadRanges) -> RangesRead:
    found: dict[int, int] = {}
    shards: list[ShardKey] = []
    seen = done = 0
    for first, end in job.ranges:
        keys = [info.key for info in store.range(first, end)]
        seen, done = seen + len(keys), done + 1
        if job.level == SHARDS:
            shards += keys
        else:
            found.update(digests(keys, job.level))  # a bucket lies in one range
        if seen >= STEP_SHARDS:
            break
    return RangesRead(done, found, shards)
