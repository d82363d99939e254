"""Which nodes are to hold the copies of the catalog. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from dsa_zmq.model.limits import CATALOG_ENOUGH, CATALOG_HOLDERS


class ShipNode(NamedTuple):
    """A node of the cluster, as far as copies of the catalog are concerned."""

    node: int
    name: str
    zone: str
    host: str
    disk: str
    why_not: str = ""  #: why it cannot take records now, as a sentence without its subject; "": it can
    draining: bool = False
    settled: bool = True  #: up, with nothing to be found out about it


def wanted(nodes: int) -> int:
    """So many of these nodes are to hold a copy."""
    return min(CATALOG_HOLDERS, nodes)


def enough(nodes: int) -> int:
    """So many have to hold a change before it counts as safe. Nodes that are away count among all: else the loss of some
    would make the others enough."""
    return min(CATALOG_ENOUGH, nodes)


def choose(nodes: Iterable[ShipNode], count: int, kept: Collection[int] = ()) -> list[int]:
    """Of nodes that can take a copy, so many: of different zones, hosts and disks where there are such; and then rather
    those that are ``kept``. Nodes that are to be emptied come last."""
    left = sorted(nodes, key=lambda each: each.node)
    chosen: list[ShipNode] = []
    while left and len(chosen) < count:
        best = min(left, key=lambda each: _rank(each, chosen, kept))
        left.remove(best)
        chosen.append(best)
    return [each.node for each in chosen]


def _rank(node: ShipNode, chosen: Collection[ShipNode], kept: Collection[int]) -> tuple[object, ...]:
    """The smaller the better."""
    return (
        node.draining,
        any(node.zone == each.zone for each in chosen),
        any(node.host == each.host for each in chosen),
        any(node.disk == each.disk for each in chosen),
        not node.settled,
        node.node not in kept,
        node.node,
    )
