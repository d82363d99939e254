"""The only writer of places: with each change the tallies of who holds what change in the same transaction, once a batch.

One shard on one node is in one of these states::

    nothing --Stage, Commit--------------------> live --release--> unverified --send_off--> sent off --Dropped--> nothing
    nothing --planned--> pending --receipt-----^  |  ^                |
                            |                     |  +----restore-----+
                            +--> sent off         +--damage--> bad --release--> sent off
                                                  +--the node's direct NO--> nothing

pending: a row in ``moves``. live, bad: ``places``. unverified, sent off: ``drops``. :func:`release` is the one way in which
a place of a chunk that is wanted goes because others have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import (
    BAD_PLACE,
    CHUNKS,
    DROPS,
    HOLDERS,
    INVENTORIES,
    LIVE_PLACE,
    PLACES,
    SENT_OFF,
    UNVERIFIED,
    ChunkRow,
    DropRow,
    HolderRow,
    InventoryRow,
    K,
    PlaceRow,
    R,
    Table,
)
from dsa_zmq.model.holders import holders_of
from dsa_zmq.model.inventory import bucket_of, shard_digest
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, keepers


class PlaceChange(NamedTuple):
    """All places of one chunk as they were and as they are to be. None: the chunk is not there then."""

    chunk: ChunkRow
    before: Sequence[PlaceRow] | None
    after: Sequence[PlaceRow] | None


class Tallies:
    """Sums, or differences, of what the tables ``holders`` and ``inventories`` count."""

    def __init__(self) -> None:
        self.holders: dict[tuple[str, str], tuple[int, int]] = {}  #: chunks, bytes
        self.inventories: dict[tuple[int, int], tuple[int, int, int]] = {}  #: shards, bytes, digest

    def count(self, chunk: ChunkRow, places: Sequence[PlaceRow], sign: int) -> None:
        """Add (1) or take away (-1) a chunk with all its places."""
        there = [place for place in places if place.state == LIVE_PLACE]
        key = (chunk.redundancy, holders_of(tuple([(place.node, place.shard) for place in there])))
        chunks, size = self.holders.get(key, (0, 0))
        self.holders[key] = (chunks + sign, size + sign * chunk.length)
        shard_bytes, bucket = parse_redundancy(chunk.redundancy).shard_bytes(chunk.length), bucket_of(chunk.chunk, 0)
        for place in there:
            at = (place.node, bucket)
            shards, held, digest = self.inventories.get(at, (0, 0, 0))
            digest ^= shard_digest(chunk.chunk, place.shard)
            self.inventories[at] = (shards + sign, held + sign * shard_bytes, digest)


def change_places(rows: Rows, changes: Sequence[PlaceChange]) -> None:
    """Make all places what they are to be. A chunk is named once; its row is the caller's to write."""
    for change in changes:
        _write(rows, change.before or (), change.after or ())
        rows.defer(change, (HOLDERS, INVENTORIES))


def fold_places(rows: Rows, changes: Sequence[PlaceChange]) -> None:
    """Bring the tallies up to date with all changes of a batch: a few rows, however many chunks there were."""
    tallies = Tallies()
    for chunk, before, after in changes:
        if before is not None:
            tallies.count(chunk, before, -1)
        if after is not None:
            tallies.count(chunk, after, 1)
    rows.load(HOLDERS, tallies.holders)
    rows.load(INVENTORIES, tallies.inventories)
    for key, (chunks, size) in tallies.holders.items():
        row = rows.get(HOLDERS, key) or HolderRow(*key, 0, 0)
        _tell(rows, HOLDERS, row, row._replace(chunks=row.chunks + chunks, bytes=row.bytes + size), row.chunks + chunks)
    for at, (shards, held, digest) in tallies.inventories.items():
        was = rows.get(INVENTORIES, at) or InventoryRow(*at, 0, 0, 0)
        now = was._replace(shards=was.shards + shards, bytes=was.bytes + held, digest=was.digest ^ digest)
        _tell(rows, INVENTORIES, was, now, now.shards)


def _tell(rows: Rows, table: Table[R, K], was: R, now: R, count: int) -> None:
    """Write a tally's row; one that counts nothing is not there."""
    assert count >= 0, f"{table.name} would count fewer than nothing: {now}"
    if count and now != was:
        rows.put(table, now)
    elif not count and rows.get(table, table.key_of(was)) is not None:
        rows.delete(table, table.key_of(was))


def _write(rows: Rows, before: Sequence[PlaceRow], after: Sequence[PlaceRow]) -> None:
    was, now = {row.node: row for row in before}, {row.node: row for row in after}
    assert len(now) == len(after), "a node holds one shard of a chunk"
    if not was:  # of a new chunk: nearly always
        for row in after:
            rows.put(PLACES, row)
        return
    for node, row in was.items():
        if node not in now:
            rows.delete(PLACES, row[:2])
    for node, row in now.items():
        if was.get(node) != row:
            rows.put(PLACES, row)


def recount(database: Database) -> Tallies:
    """What the tallies should say. Reads all places."""
    tallies = Tallies()
    places: dict[int, list[PlaceRow]] = {}
    for values in database.execute(f"SELECT {PLACES.columns} FROM places ORDER BY chunk, node"):
        places.setdefault(values[0], []).append(PlaceRow._make(values))
    for values in database.execute(f"SELECT {CHUNKS.columns} FROM chunks ORDER BY chunk"):
        chunk = ChunkRow._make(values)
        tallies.count(chunk, places.get(chunk.chunk, ()), 1)
    return tallies


def tally(database: Database) -> None:
    """Write the tallies of a catalog that did not keep them, inside the open transaction."""
    tallies = recount(database)
    database.apply(HOLDERS.insert, [HolderRow(*key, *sums) for key, sums in tallies.holders.items()])
    database.apply(INVENTORIES.insert, [InventoryRow(*at, *sums) for at, sums in tallies.inventories.items()])


# --- removing ---------------------------------------------------------------------------------------------------------


def view_of(rows: Rows, standings: Mapping[int, Standing]) -> dict[int, NodeView]:
    """The nodes as a decision may see them: what is durable from the rows, the rest as the master saw it a moment ago."""
    view = {}
    for row in rows.scan(ALL_NODES):
        standing = Standing.AWAY if row.removed else standings.get(row.node, Standing.AWAY)
        if row.draining and standing is Standing.KEEPS:
            standing = Standing.LEAVES
        view[row.node] = NodeView(standing, row.zone, row.host)
    return view


def release(rows: Rows, chunk_id: int, node: int, view: Mapping[int, NodeView]) -> list[Placed] | None:
    """Let a place go because others have what is wanted; returns those others, or None and no change if it must stay.

    It counts nowhere from now on. Its bytes stay until one of the others for each shard has been read and found good
    (:func:`send_off`), or not (:func:`restore`). A bad place has nothing to come back to.
    """
    chunk = rows.get(CHUNKS, chunk_id)
    places = rows.group(PLACES, chunk_id)
    place = next((place for place in places if place.node == node), None)
    if chunk is None or place is None:
        return None
    kept = keepers_of(chunk, places, Placed(node, place.shard), view)
    if kept is None:
        return None
    change_places(rows, [PlaceChange(chunk, places, [other for other in places if other.node != node])])
    rows.put(DROPS, DropRow(node, chunk_id, place.shard, SENT_OFF if place.state == BAD_PLACE else UNVERIFIED))
    return kept


def send_off(
    rows: Rows, chunk_id: int, node: int, shard: int, good: Sequence[Placed], view: Mapping[int, NodeView]
) -> bool:
    """These places were read after the release, and are good. If they are enough, the node may be told to drop.

    It may, too, if the chunk is gone meanwhile. False: nothing has changed.
    """
    drop = rows.get(DROPS, (node, chunk_id, shard))
    if drop is None or drop.state != UNVERIFIED:
        return False
    chunk = rows.get(CHUNKS, chunk_id)
    if chunk is not None:
        read = set(good)
        places = [place for place in rows.group(PLACES, chunk_id) if Placed(place.node, place.shard) in read]
        if keepers_of(chunk, places, Placed(node, shard), view) is None:
            return False
    rows.put(DROPS, drop._replace(state=SENT_OFF))
    return True


def restore(rows: Rows, chunk_id: int, node: int, shard: int) -> bool:
    """What was released is a place again: one of those that were to make it superfluous is not good."""
    drop = rows.get(DROPS, (node, chunk_id, shard))
    chunk = rows.get(CHUNKS, chunk_id)
    if drop is None or drop.state != UNVERIFIED or chunk is None:
        return False
    places = rows.group(PLACES, chunk_id)
    assert all(place.node != node for place in places), "what is to be dropped is no place"
    change_places(rows, [PlaceChange(chunk, places, [*places, PlaceRow(chunk_id, node, shard)])])
    rows.delete(DROPS, drop[:3])
    return True


def keepers_of(
    chunk: ChunkRow, places: Sequence[PlaceRow], leaving: Placed, view: Mapping[int, NodeView]
) -> list[Placed] | None:
    """Those of the places that make ``leaving`` superfluous, see :func:`dsa_zmq.model.upkeep.keepers`."""
    there = [Placed(place.node, place.shard) for place in places if place.state == LIVE_PLACE]
    good = not any(place.node == leaving.node and place.state == BAD_PLACE for place in places)
    return keepers(there, leaving, parse_redundancy(chunk.redundancy), view, good=good)
