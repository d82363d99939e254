"""Who is asked for the bytes of a move: one that has them, or as many others as a code needs to make them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dsa_zmq.master.catalog.move_rules import PlannedMove
from dsa_zmq.model.upkeep import Placed, Standing


def readable(plan: PlannedMove, standings: Mapping[int, Standing]) -> tuple[list[Placed], int]:
    """The sources that may be asked, and how many of them it takes; 0: they are not enough."""
    there = [place for place in plan.sources if standings.get(place.node, Standing.AWAY).readable]
    return there, plan.takes(there)


def choose(
    plan: PlannedMove, there: Sequence[Placed], needed: int, standings: Mapping[int, Standing], asked: Mapping[int, int],
    load: Mapping[int, int], may_be_asked: Callable[[int], bool],
) -> list[Placed]:  # fmt: skip
    """The target itself, else the best that have the least to do. Empty: too many are busy.

    ``there`` and ``needed`` as :func:`readable` says; ``asked`` are bytes by source of the same batch, ``load`` its batches.
    If any of them has the very bytes, one like that; else as many different shards as are needed, the chunk's own bytes
    before parity.
    """
    pool = [place for place in there if plan.has_bytes(place)] or there
    near = {plan.node, *asked}
    free = [place for place in pool if place.node in near or may_be_asked(place.node)]
    free.sort(
        key=lambda place: (
            place.node != plan.node, standings[place.node], needed > 1 and place.index >= needed,
            load.get(place.node, 0), asked.get(place.node, 0), place.node,
        )
    )  # fmt: skip
    different: dict[int, Placed] = {}
    for place in free:
        different.setdefault(place.index if needed > 1 else 0, place)
    return list(different.values())[:needed] if len(different) >= needed else []
