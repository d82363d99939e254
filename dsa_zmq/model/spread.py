"""Whether more shards of a chunk could lie as they should: no more in one zone, or on one host, than may lie together. Pure.

How many may is :attr:`Redundancy.together`: of copies no two, of a code as many as it can lose.

They may have been placed when nothing better was there: a node is in another zone since, a zone has got nodes, or room. A
shard goes from one node to another only if it then lies as it should by its zone or by its host, and worse by neither. So
whatever was moved is never moved back for the same reason, and it comes to an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from dsa_zmq.model.holders import nodes_of, shards_held
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Standing


class Located(Protocol):
    """A node with its failure domains."""

    @property
    def zone(self) -> str: ...
    @property
    def host(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Gain:
    """A shard that goes from one node to another, and how many more lie as they should then, by zones and by hosts."""

    leaving: int
    target: int
    zones: int
    hosts: int


class Spread:
    """The nodes that may get a shard, among all. ``nodes`` has all that are asked about."""

    def __init__(self, nodes: Mapping[int, Located], able: Iterable[int]) -> None:
        self._nodes = nodes
        self._able = sorted(set(able))
        self._zones = frozenset(nodes[node].zone for node in self._able)
        self._hosts = frozenset(nodes[node].host for node in self._able)

    def is_wanted(self, held: Collection[int], redundancy: Redundancy) -> bool:
        """Whether shards on these nodes could lie better."""
        return next(self.gains(held, redundancy), None) is not None

    def gains(self, held: Collection[int], redundancy: Redundancy) -> Iterator[Gain]:
        """All single moves after which shards on these nodes lie better."""
        nodes, together = self._nodes, redundancy.together
        zones, hosts = Counter(nodes[node].zone for node in held), Counter(nodes[node].host for node in held)
        if _is_best(zones, self._zones, together) and _is_best(hosts, self._hosts, together):
            return  # as it nearly always is
        for leaving in sorted(held):
            for target in self._able:
                if target not in held:
                    more_zones = _more(zones, nodes[leaving].zone, nodes[target].zone, together)
                    more_hosts = _more(hosts, nodes[leaving].host, nodes[target].host, together)
                    if more_zones >= 0 and more_hosts >= 0 and more_zones + more_hosts > 0:
                        yield Gain(leaving, target, more_zones, more_hosts)


def keeps_domains(
    nodes: Mapping[int, Located], held: Collection[int], leaving: int, target: int, redundancy: Redundancy
) -> bool:
    """Whether as many shards on these nodes lie as they should, by zones and by hosts, once one of them has moved."""
    zones, hosts = Counter(nodes[node].zone for node in held), Counter(nodes[node].host for node in held)
    there, then = nodes[leaving], nodes[target]
    together = redundancy.together
    return _more(zones, there.zone, then.zone, together) >= 0 and _more(hosts, there.host, then.host, together) >= 0


def _is_best(domains: Counter[str], able: Collection[str], together: int) -> bool:
    """Whether no domain has too many, or none of the others may get one more."""
    return max(domains.values(), default=0) <= together or all(domains[domain] >= together for domain in able)


def _more(domains: Counter[str], leaving: str, target: str, together: int) -> int:
    """How many more shards lie as they should, if one goes from one domain to another."""
    return 0 if leaving == target else (domains[leaving] > together) - (domains[target] >= together)


def chunks_apart(
    rows: Iterable[tuple[str, str, int, int]], view: Mapping[int, NodeView], rooms: Mapping[int, int]
) -> int:
    """How many chunks could be spread better, by the tallies: (redundancy, holders, chunks, bytes of content). ``rooms``:
    the bytes that nodes which keep may take for that."""
    keeping = frozenset(node for node, each in view.items() if each.standing is Standing.KEEPS)
    everywhere = Spread(view, rooms)
    apart = 0
    for name, holders, chunks, size in rows:
        redundancy = parse_redundancy(name)
        held = nodes_of(holders) & keeping
        if len(held) != redundancy.shards or shards_held(holders, held, redundancy) < redundancy.shards:
            continue  # what is missing is made first, and what is too much goes
        if everywhere.is_wanted(held, redundancy):
            each = redundancy.shard_bytes(size // max(1, chunks))
            roomy = Spread(view, [node for node, room in rooms.items() if room >= each])
            apart += chunks * roomy.is_wanted(held, redundancy)
    return apart
