"""What the catalog says that a node holds, and what follows where the node says otherwise. Nothing is believed because of a
listing: it may be older than a put or a drop, so whatever could cost a place is asked of the node first.

===========================================================  ===================================================
listed by the node, and                                      then
===========================================================  ===================================================
a place, a pending move or a drop of the chunk there         nothing: its own conversation goes on
listed, and a live place of another shard of the chunk       to be dropped, if that place's own shard is listed too
no chunk row, id below the horizon                           an orphan: to be dropped
no chunk row, id above                                       an upload under way: nothing
a chunk row, no place; nobody that stays has the shard       to be read, and then a place: what is wanted counts
a chunk row, no place; a node that keeps has it              to be dropped; of shards that are alike, only if there are
                                                             enough of them
not listed, but a live place                                 the node is asked
===========================================================  ===================================================

In a catalog that was restored from copies, orphans are kept for days; and nothing at all is to be dropped while the job says
``spares``: see :mod:`dsa_zmq.master.reconciling`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.places import view_of
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    DROPS,
    HORIZON,
    INVENTORIES,
    LIVE_PLACE,
    MOVES,
    PLACES,
    RESTORED_NS,
    SENT_OFF,
    ChunkRow,
    DropRow,
    InventoryRow,
    PlaceRow,
)
from dsa_zmq.master.reconciling import keeps_unknown
from dsa_zmq.model.hashes import UNKNOWN_HASH, shard_hash
from dsa_zmq.model.inventory import SHARDS, bucket_of, digests, id_range
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Standing
from dsa_zmq.protocol.values import ShardRef

SLICE_ROWS = 2500  #: places that one job reads: some 10 ms

IdRange = tuple[int, int]
"""The first chunk id, and one past the last."""

INVENTORY_OF: Scan[InventoryRow] = Scan(
    f"SELECT {INVENTORIES.columns} FROM inventories WHERE node = ? ORDER BY bucket", InventoryRow, (INVENTORIES,)
)
PLACES_BETWEEN: Scan[PlaceRow] = Scan(
    f"SELECT {PLACES.columns} FROM places WHERE chunk >= ? AND chunk < ? ORDER BY chunk, node LIMIT {SLICE_ROWS + 1}",
    PlaceRow,
    (PLACES,),
    PLACES,
)
ALL_PLACES_BETWEEN: Scan[PlaceRow] = Scan(
    f"SELECT {PLACES.columns} FROM places WHERE chunk >= ? AND chunk < ? ORDER BY chunk, node",
    PlaceRow,
    (PLACES,),
    PLACES,
)
DROPS_BETWEEN: Scan[DropRow] = Scan(
    f"SELECT {DROPS.columns} FROM drops WHERE node = ? AND chunk >= ? AND chunk < ? ORDER BY chunk, shard",
    DropRow,
    (DROPS,),
    DROPS,
)


class NodeDigests(Job, frozen=True):
    """The digests of level 0 of what a node should hold, as they are kept. Result: bucket -> digest"""

    node: int


class BucketDigests(Job, frozen=True):
    """One slice of the digests of a lower level, made from the places in these ranges. Result: DigestsMade"""

    node: int
    level: int
    ranges: list[IdRange]


class DigestsMade(msgspec.Struct, frozen=True):
    digests: dict[int, int]  #: to be joined with those of other slices by XOR: a bucket may be cut
    rest: list[IdRange]  #: still to be done


class JudgeInventory(Job, frozen=True):
    """Decide on all that differs in these buckets of the last level. Result: Judged"""

    node: int
    buckets: list[int]
    listed: list[ShardRef]  #: what the node says that it has of them
    standings: dict[int, Standing]
    wall_ns: int = 0
    spares: bool = False  #: nothing is to be dropped yet


class Judged(msgspec.Struct, frozen=True):
    """``dropping`` have been entered as drops; the others are to be asked of the node."""

    missing: list[ShardRef]  #: places of which the node said nothing
    adoptable: list[ShardRef]  #: no places, and wanted
    dropping: int


def node_digests(rows: Rows, facts: Facts, job: NodeDigests) -> dict[int, int]:
    return {row.bucket: row.digest for row in rows.scan(INVENTORY_OF, job.node)}


def bucket_digests(rows: Rows, facts: Facts, job: BucketDigests) -> DigestsMade:
    made: dict[int, int] = {}
    left = SLICE_ROWS
    for position, (first, end) in enumerate(job.ranges):
        if left <= 0:
            return DigestsMade(made, job.ranges[position:])
        places = rows.scan(PLACES_BETWEEN, first, end)
        left -= len(places)
        cut = (
            places[-1].chunk if len(places) > SLICE_ROWS else end
        )  # the last chunk may not be there with all its places
        held = [(p.chunk, p.shard) for p in places if p.node == job.node and p.state == LIVE_PLACE and p.chunk < cut]
        for bucket, digest in digests(held, job.level).items():
            made[bucket] = made.get(bucket, 0) ^ digest
        if cut < end:
            return DigestsMade(made, [(cut, end), *job.ranges[position + 1 :]])
    return DigestsMade(made, [])


def judge_inventory(rows: Rows, facts: Facts, job: JudgeInventory) -> Judged:
    """See the module's table."""
    horizon = rows.number(HORIZON)
    keeps = keeps_unknown(rows.number(RESTORED_NS), job.wall_ns)
    view = view_of(rows, job.standings)
    buckets = set(job.buckets)
    listed = {each for each in job.listed if each.chunk > 0 and bucket_of(each.chunk, SHARDS - 1) in buckets}
    ids = sorted({shard.chunk for shard in listed})
    ranges = [id_range(SHARDS - 1, bucket) for bucket in sorted(buckets)]
    rows.ask([(ALL_PLACES_BETWEEN, each) for each in ranges] + [(DROPS_BETWEEN, (job.node, *each)) for each in ranges])
    held = [place for each in ranges for place in rows.scan(ALL_PLACES_BETWEEN, *each)]
    busy = {drop.chunk for each in ranges for drop in rows.scan(DROPS_BETWEEN, job.node, *each)}
    chunks = dict(zip(ids, rows.get_all(CHUNKS, ids), strict=True))
    busy |= {move.chunk for move in rows.get_all(MOVES, [(chunk, job.node) for chunk in ids]) if move is not None}
    own = {place.chunk: place for place in held if place.node == job.node}
    places: dict[int, list[PlaceRow]] = {}
    for place in held:
        places.setdefault(place.chunk, []).append(place)
    adoptable: list[ShardRef] = []
    orphans: list[ShardRef] = []
    for shard in sorted(listed, key=lambda shard: (shard.chunk, shard.index)):
        if shard.chunk in busy:
            continue
        if (mine := own.get(shard.chunk)) is not None:
            # As an older copy of its disk brings back: nobody would ever ask for it, or drop it, again.
            is_second = mine.state == LIVE_PLACE and mine.shard != shard.index
            if is_second and ShardRef(mine.chunk, mine.shard) in listed:
                orphans.append(shard)
            continue
        chunk = chunks[shard.chunk]
        if chunk is None:
            if shard.chunk < horizon and not keeps:
                orphans.append(shard)
        elif (wanted := is_wanted(chunk, places.get(shard.chunk, ()), shard.index, view)) is not None:
            (adoptable if wanted else orphans).append(shard)
    if job.spares:
        orphans = []
    for shard in orphans:
        rows.put(DROPS, DropRow(job.node, shard.chunk, shard.index, SENT_OFF))
    missing = [
        ShardRef(place.chunk, place.shard)
        for place in held
        if place.node == job.node and place.state == LIVE_PLACE and ShardRef(place.chunk, place.shard) not in listed
    ]
    return Judged(missing, adoptable, len(orphans))


def is_wanted(chunk: ChunkRow, places: Sequence[PlaceRow], shard: int, view: dict[int, NodeView]) -> bool | None:
    """Whether a shard of a node without a place should be one: whether more is covered with it. None: that cannot be said
    now, since it depends on nodes that are silent, or nobody has said yet what bytes the shard has."""
    redundancy = parse_redundancy(chunk.redundancy)
    if shard_hash(chunk.hash, shard) == UNKNOWN_HASH:
        return None
    there = [place for place in places if place.state == LIVE_PLACE and place.node in view]
    held: list[tuple[int, int]] = []
    for standing in (Standing.KEEPS, Standing.SILENT):
        held += [(place.node, place.shard) for place in there if view[place.node].standing is standing]
        if redundancy.covered([*held, (_YET_ANOTHER, shard)]) == redundancy.covered(held):
            return False if standing is Standing.KEEPS else None
    return True


_YET_ANOTHER = 0  #: no node has this number
