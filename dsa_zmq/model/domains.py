"""How many shards of a chunk lie as they should: no more in one zone, or on one host, than may lie together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dsa_zmq.model.redundancy import Redundancy


def apart(held: Iterable[tuple[int, str]], redundancy: Redundancy) -> int:
    """Of the wanted shards, by (shard index, domain) of all places of one chunk.

    A shard that is in several domains is counted for the one in which it does most good. Of shards that are alike, one in
    each domain counts, whichever it is.
    """
    if redundancy.alike:
        return min(redundancy.shards, len({domain for _, domain in held}))
    domains: dict[int, set[str]] = {}
    for index, domain in held:
        domains.setdefault(index, set()).add(domain)
    if all(len(each) == 1 for each in domains.values()):  # nothing is there twice: nearly always
        counts = Counter(domain for each in domains.values() for domain in each)
        return sum(min(count, redundancy.together) for count in counts.values())
    chosen: dict[str, list[int]] = {}
    return sum(_choose(index, domains, chosen, redundancy.together, set()) for index in sorted(domains))


def fit(domains: Iterable[str], shards: int, together: int) -> bool:
    """Whether nodes in these domains can take so many shards, no more than ``together`` of them in one."""
    return sum(min(count, together) for count in Counter(domains).values()) >= shards


def _choose(
    index: int, domains: dict[int, set[str]], chosen: dict[str, list[int]], together: int, seen: set[str]
) -> bool:
    """Count this shard for one of its domains, others for others of theirs if need be: an augmenting path (Kuhn 1955)."""
    for domain in sorted(domains[index] - seen):
        seen.add(domain)
        there = chosen.setdefault(domain, [])
        if len(there) < together:
            there.append(index)
            return True
        for other in there:
            if _choose(other, domains, chosen, together, seen):
                there[there.index(other)] = index
                return True
    return False
