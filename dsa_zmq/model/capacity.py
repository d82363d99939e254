"""How much still fits: the room of several nodes together, when no node may hold two shards of a chunk."""

from __future__ import annotations

from collections.abc import Sequence


def storable_bytes(free: Sequence[int], shards: int) -> int:
    """The largest ``x`` such that ``shards`` shards of ``x`` bytes each fit, no two shards of a byte on one node.

    That is the largest ``x`` with ``sum(min(f, x) for f in free) >= shards * x`` (McNaughton's wrap-around rule: a node can
    hold at most ``x`` bytes of different content, and that is enough). So one node of 10 TB beside two of 1 TB takes 2 TB
    at two copies, not 6. With redundancy ``copies=n`` the result is bytes of content; chunk granularity is left out.
    """
    if shards < 1:
        raise ValueError(f"{shards} shards")
    # sum(min(f, x)) is the least of: some nodes counted as full, the others as x. So for each number of full nodes, smallest
    # first, full + others * x >= shards * x must hold; that bounds x where the others are fewer than the shards.
    bounds = [0] if len(free) < shards else []
    full = 0
    for others, room in zip(range(len(free) - 1, -1, -1), sorted(free), strict=True):
        full += max(0, room)
        if others < shards:
            bounds.append(full // (shards - others))
    return min(bounds)
