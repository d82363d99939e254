"""Whether the shards of a chunk could lie in more zones, or on more hosts, than they do. Pure.

They may have been placed when nothing better was there: a node is in another zone since, a zone has got nodes, or room. A
shard goes from one node to another only if there are more zones or more hosts then, and fewer of neither. So whatever was
moved is never moved back for the same reason, and it comes to an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from dsa_zmq.model.holders import nodes_of, shards_held
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Standing


class Located(Protocol):
    """A node with its failure domains."""

    @property
    def zone(self) -> str: ...
    @property
    def host(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Gain:
    """A shard that goes from one node to another, and of how many more domains there are then."""

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

    def is_wanted(self, held: Collection[int]) -> bool:
        """Whether shards on these nodes could lie better."""
        return next(self.gains(held), None) is not None

    def gains(self, held: Collection[int]) -> Iterator[Gain]:
        """All single moves after which shards on these nodes lie better."""
        nodes = self._nodes
        zones, hosts = Counter(nodes[node].zone for node in held), Counter(nodes[node].host for node in held)
        if (len(zones) == len(held) or self._zones <= zones.keys()) and (
            len(hosts) == len(held) or self._hosts <= hosts.keys()
        ):
            return  # as it nearly always is
        for leaving in sorted(held):
            for target in self._able:
                if target not in held:
                    more_zones = _more(zones, nodes[leaving].zone, nodes[target].zone)
                    more_hosts = _more(hosts, nodes[leaving].host, nodes[target].host)
                    if more_zones >= 0 and more_hosts >= 0 and more_zones + more_hosts > 0:
                        yield Gain(leaving, target, more_zones, more_hosts)


def keeps_domains(nodes: Mapping[int, Located], held: Collection[int], leaving: int, target: int) -> bool:
    """Whether shards on these nodes lie in as many zones and on as many hosts once one of them has moved."""
    zones, hosts = Counter(nodes[node].zone for node in held), Counter(nodes[node].host for node in held)
    there, then = nodes[leaving], nodes[target]
    return _more(zones, there.zone, then.zone) >= 0 and _more(hosts, there.host, then.host) >= 0


def _more(domains: Counter[str], leaving: str, target: str) -> int:
    """How many more domains are used, if one shard goes from one to another."""
    return (domains[target] == (target == leaving)) - (domains[leaving] == 1)


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
        if everywhere.is_wanted(held):
            each = redundancy.shard_bytes(size // max(1, chunks))
            roomy = Spread(view, [node for node, room in rooms.items() if room >= each])
            apart += chunks * roomy.is_wanted(held)
    return apart
