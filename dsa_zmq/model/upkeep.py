"""The words of upkeep: what a node is good for, why a shard moves, and when a place may go. Pure.

Everything that moves or removes shards (repair, return, drain, rebalance, conversion) speaks in these.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsa_zmq.model.domains import apart
from dsa_zmq.model.redundancy import Redundancy


class Standing(enum.IntEnum):
    """What a node is good for now. The smaller, the better to read from."""

    KEEPS = 0  #: up: its places count, and may justify that another goes; it gets new shards
    LEAVES = 1  #: up and draining: its places count, and are to be replaced
    SILENT = 2  #: suspect, or not probed yet: its places count; nothing new, and nothing is removed because of them
    FAILED = 3  #: it speaks, its store takes nothing: a source, no more
    AWAY = 4  #: down, or removed

    @property
    def counts(self) -> bool:
        """Whether its places are live."""
        return self <= Standing.SILENT

    @property
    def readable(self) -> bool:
        """Whether it is worth asking for bytes."""
        return self <= Standing.FAILED


class Why(enum.IntEnum):
    """Why a shard moves. Ranks moves of equal risk; nothing else depends on it. Stored: never renumber."""

    BAD = 1  #: a shard is damaged
    REPAIR = 2  #: no live place is left
    DRAIN = 3  #: its node is to be emptied
    CONVERT = 4  #: another redundancy
    SPREAD = 5  #: shards share a zone or host, and need not
    REBALANCE = 6  #: its node is fuller than others

    @property
    def heals(self) -> bool:
        """Whether redundancy is missing without it."""
        return self <= Why.REPAIR

    @property
    def can_wait(self) -> bool:
        """Whether everything is where it may stay, and could only lie better."""
        return self in (Why.SPREAD, Why.REBALANCE)


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node, frozen for one job."""

    standing: Standing
    zone: str
    host: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A live place of one chunk."""

    node: int
    index: int  #: of the shard


def live(places: Sequence[Placed], view: Mapping[int, NodeView]) -> list[Placed]:
    """Those that count: of nodes that are there."""
    return [place for place in places if place.node in view and view[place.node].standing.counts]


def remaining(places: Sequence[Placed], redundancy: Redundancy, view: Mapping[int, NodeView]) -> int:
    """How many more shards may be lost: below 0 the chunk cannot be read, at 0 it is endangered."""
    return covered(live(places, view), redundancy) - redundancy.needed


def covered(places: Sequence[Placed], redundancy: Redundancy) -> int:
    """How many of the wanted shards these places cover, see :meth:`Redundancy.covered`."""
    return redundancy.covered([(place.node, place.index) for place in places])


def keepers(
    places: Sequence[Placed],
    leaving: Placed,
    redundancy: Redundancy,
    view: Mapping[int, NodeView],
    *,
    good: bool = True,
) -> list[Placed] | None:
    """The places that make ``leaving`` superfluous, or None if it must stay. Whether it is among ``places`` is the same.

    They are on nodes that keep, cover every wanted shard between them, and as many of them lie as they should, by zones and
    by hosts (:mod:`dsa_zmq.model.domains`), as together with the one that goes, if that is ``good``: a damaged one protects
    nothing. Before its bytes are dropped, one for each shard has to be read and found good.

    While a shard is missing, a good one may go that one of them has, too: nothing is covered because of it, and its node
    may be the only one that can take what is missing. Of shards that are alike none is like that.
    """
    kept = [
        place
        for place in places
        if place.node != leaving.node and place.node in view and view[place.node].standing is Standing.KEEPS
    ]
    if covered(kept, redundancy) < redundancy.shards:
        is_twice = not redundancy.alike and any(place.index == leaving.index for place in kept)
        return kept if good and is_twice else None
    gone = view.get(leaving.node)
    if gone is not None and gone.standing.counts and good:
        zones = [(place.index, view[place.node].zone) for place in kept]
        hosts = [(place.index, view[place.node].host) for place in kept]
        able = [each for each in view.values() if each.standing is Standing.KEEPS]
        # A domain in which no node keeps is lost anyway.
        if any(each.zone == gone.zone for each in able) and _lacks(zones, (leaving.index, gone.zone), redundancy):
            return None
        if any(each.host == gone.host for each in able) and _lacks(hosts, (leaving.index, gone.host), redundancy):
            return None
    return kept


def _lacks(kept: list[tuple[int, str]], leaving: tuple[int, str], redundancy: Redundancy) -> bool:
    """Whether fewer shards lie as they should without this one, by (index, domain)."""
    return apart(kept, redundancy) < apart([*kept, leaving], redundancy)
