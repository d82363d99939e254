"""Who holds a chunk, as one short text, and what follows from it for its safety. Pure.

``1,5;3``: nodes 1 and 5 hold one of its shards, node 3 another. Which shard it is does not matter for counting, so that a
few texts stand for all chunks of a cluster: six for two copies on four nodes. Empty: nobody holds anything. Where shards
are alike, not even joining them matters: a shard that is there twice stands in for one that is not there.
"""

from __future__ import annotations

import enum
from collections.abc import Set as AbstractSet
from functools import lru_cache

from dsa_zmq.model.redundancy import Redundancy


class Safety(enum.IntEnum):
    """How safe a chunk is; a file is as safe as its worst chunk."""

    HEALTHY = 0  #: all shards are there
    DEGRADED = 1  #: fewer, some redundancy is left
    ENDANGERED = 2  #: no redundancy is left: one more loss is final
    LOST = 3  #: unreadable


def safety(shards: int, redundancy: Redundancy) -> Safety:
    """Of a chunk of which so many different shards are there."""
    if shards < redundancy.needed:
        return Safety.LOST
    if shards >= redundancy.shards:
        return Safety.HEALTHY
    return Safety.ENDANGERED if shards == redundancy.needed else Safety.DEGRADED


@lru_cache(maxsize=10_000)  # few texts stand for many chunks
def holders_of(places: tuple[tuple[int, int], ...]) -> str:
    """The text for (node, shard index) pairs of the live places of one chunk."""
    nodes: dict[int, list[int]] = {}
    for node, index in places:
        nodes.setdefault(index, []).append(node)
    return ";".join(",".join(map(str, group)) for group in sorted(sorted(group) for group in nodes.values()))


@lru_cache(maxsize=10_000)
def groups_of(holders: str) -> tuple[frozenset[int], ...]:
    """For each shard that anybody holds, the nodes that do."""
    return tuple(frozenset(map(int, group.split(","))) for group in holders.split(";")) if holders else ()


@lru_cache(maxsize=10_000)
def nodes_of(holders: str) -> frozenset[int]:
    """All that hold something."""
    return frozenset().union(*groups_of(holders))


def shards_held(holders: str, nodes: AbstractSet[int], redundancy: Redundancy) -> int:
    """How many of the wanted shards these nodes hold."""
    if redundancy.alike:
        return min(redundancy.shards, len(nodes_of(holders) & nodes))
    return sum(1 for group in groups_of(holders) if not group.isdisjoint(nodes))
