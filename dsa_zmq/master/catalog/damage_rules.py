"""What follows in the catalog from a node's word that shards of it are damaged: bad places, and what nobody needs goes.

================================================  ==============================================================
named by the node, and                            then
================================================  ==============================================================
its place is there                                it is bad: it counts nowhere, and its bytes stay until the
                                                  chunk is whole without them
another place, a move or a drop of it is there    nothing: its own conversation goes on
no chunk row, id below the horizon                nobody will ever need it: dropping
no chunk row, id above                            an upload under way: nothing
a chunk row, no place; the shard is on a node     dropping
that keeps
a chunk row, no place; it is not                  nothing: damaged bytes are better than none
================================================  ==============================================================

Shards in quarantine are in no inventory, so no comparison would ever find those without a place. Nodes tell of all of them
again and again: what is above the horizon today is below it another day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.examine_rules import DROPS_OF_CHUNK, Declare, declare
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.places import view_of
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    DROPS,
    HORIZON,
    LIVE_PLACE,
    MOVES,
    PLACES,
    RESTORED_NS,
    SENT_OFF,
    ChunkRow,
    DropRow,
    PlaceRow,
)
from dsa_zmq.master.reconciling import keeps_unknown
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Standing
from dsa_zmq.protocol.values import ShardRef


class TakeDamage(Job, frozen=True):
    """A node's word that these are damaged. Result: DamageTaken"""

    node: int
    shards: list[ShardRef]
    standings: dict[int, Standing]
    wall_ns: int = 0
    spares: bool = False  #: nothing is to be dropped yet: see dsa_zmq.master.reconciling


class DamageTaken(msgspec.Struct, frozen=True):
    chunks: list[int]  #: of places that are bad from now on
    dropping: int  #: shards that were no places, and are dropped


def take_damage(rows: Rows, facts: Facts, job: TakeDamage) -> DamageTaken:
    """What is bad already stays so: the word comes again and again."""
    ids = list(dict.fromkeys(shard.chunk for shard in job.shards))
    rows.ask([(ALL_NODES, ())] + [(DROPS_OF_CHUNK, (job.node, chunk)) for chunk in ids])
    horizon, view = rows.number(HORIZON), view_of(rows, job.standings)
    keeps = job.spares or keeps_unknown(rows.number(RESTORED_NS), job.wall_ns)
    chunks = dict(zip(ids, rows.get_all(CHUNKS, ids), strict=True))
    places = dict(zip(ids, rows.group_all(PLACES, ids), strict=True))
    moves = rows.get_all(MOVES, [(chunk, job.node) for chunk in ids])
    drops = rows.scan_all(DROPS_OF_CHUNK, [(job.node, chunk) for chunk in ids])
    busy = {chunk for chunk, move, drop in zip(ids, moves, drops, strict=True) if move is not None or drop}
    busy |= {chunk for chunk in ids if any(place.node == job.node for place in places[chunk])}
    useless = []
    for shard in dict.fromkeys(job.shards):
        chunk = chunks[shard.chunk]
        if shard.chunk in busy:
            continue
        if chunk is None:
            if 0 < shard.chunk < horizon and not keeps:
                useless.append(shard)
        elif not job.spares and _is_useless(chunk, places[shard.chunk], shard.index, view):
            useless.append(shard)
    bad = declare(rows, facts, Declare(job.node, [], job.shards))
    for shard in useless:
        rows.put(DROPS, DropRow(job.node, shard.chunk, shard.index, SENT_OFF))
    return DamageTaken(bad, len(useless))


def _is_useless(chunk: ChunkRow, places: Sequence[PlaceRow], shard: int, view: Mapping[int, NodeView]) -> bool:
    """Whether it is no shard of the chunk, or a node that keeps has it. What could stand in for another were it good is not
    waited for: once its node gets that other one, nobody would ever drop it."""
    if not 0 <= shard < parse_redundancy(chunk.redundancy).shards:
        return True
    return any(
        place.shard == shard
        and place.state == LIVE_PLACE
        and place.node in view
        and view[place.node].standing is Standing.KEEPS
        for place in places
    )
