"""What follows in the catalog from the words of nodes on their own shards: missing, bad, sent off, restored, adopted."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.places import (
    PlaceChange,
    change_places,
    keepers_of,
    restore,
    send_off,
    view_of,
)
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import (
    BAD_PLACE,
    CHUNKS,
    DROPS,
    MOVES,
    PLACES,
    UNVERIFIED,
    DropRow,
    PlaceRow,
)
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import Placed, Standing
from dsa_zmq.protocol.values import ShardRef

DropKey = tuple[int, int, int]
"""(node, chunk, shard)"""

FIRST_DROP: DropKey = (0, 0, 0)

_SCANNED = 1000  #: drops that one slice of the search for unverified ones may read: a few ms

DROPS_BEHIND: Scan[DropRow] = Scan(
    f"SELECT {DROPS.columns} FROM drops WHERE (node, chunk, shard) > (?, ?, ?) ORDER BY node, chunk, shard LIMIT ?",
    DropRow,
    (DROPS,),
    DROPS,
)
DROPS_OF_CHUNK: Scan[DropRow] = Scan(
    f"SELECT {DROPS.columns} FROM drops WHERE node = ? AND chunk = ? ORDER BY shard", DropRow, (DROPS,), DROPS
)


class Declare(Job, frozen=True):
    """A node's direct word: it does not have these, and these are damaged. Result: the chunks whose places changed"""

    node: int
    absent: list[ShardRef]
    damaged: list[ShardRef]


class Released(msgspec.Struct, frozen=True):
    """A place that ``places.release`` has let go, unverified, and who is to be read before it is dropped."""

    chunk: int
    node: int
    shard: int
    keepers: list[Placed]


class FindUnverified(Job, frozen=True):
    """One slice of the search for what was released and not settled, after a start. Result: Unverified"""

    after: DropKey
    standings: dict[int, Standing]


class Unverified(msgspec.Struct, frozen=True):
    released: list[Released]
    next: DropKey | None  #: go on behind it; None at the end


class SettleReleases(Job, frozen=True):
    """Of each, ``keepers`` are those that were read since, and are good: send it off if they are enough, else it is a place
    again. Result: ReleasesSettled"""

    released: list[Released]
    standings: dict[int, Standing]


class ReleasesSettled(msgspec.Struct, frozen=True):
    sent_off: int
    restored: list[int]  #: chunks


class Adopt(Job, frozen=True):
    """A node was asked for these, which are no places, and has read them: they are, if nothing speaks against it.
    Result: the chunks whose places changed"""

    node: int
    shards: list[ShardRef]


def declare(rows: Rows, facts: Facts, job: Declare) -> list[int]:
    """What is gone or bad already stays so: the word may come twice."""
    said: dict[int, dict[int, int | None]] = {}  # chunk -> shard -> the place's new state; None: it is gone
    for shard in job.damaged:
        said.setdefault(shard.chunk, {})[shard.index] = BAD_PLACE
    for shard in job.absent:
        said.setdefault(shard.chunk, {})[shard.index] = None
    changes = []
    for chunk, before in zip(rows.get_all(CHUNKS, said), rows.group_all(PLACES, said), strict=True):
        if chunk is None:
            continue
        after = [now for place in before if (now := _as_said(place, job.node, said[chunk.chunk])) is not None]
        if after != before:
            changes.append(PlaceChange(chunk, before, after))
    change_places(rows, changes)
    return [change.chunk.chunk for change in changes]


def _as_said(place: PlaceRow, node: int, said: Mapping[int, int | None]) -> PlaceRow | None:
    if place.node != node or place.shard not in said:
        return place
    state = said[place.shard]
    return None if state is None else place._replace(state=state)


def find_unverified(rows: Rows, facts: Facts, job: FindUnverified) -> Unverified:
    drops = rows.scan(DROPS_BEHIND, *job.after, _SCANNED)
    open_ones = [drop for drop in drops if drop.state == UNVERIFIED]
    view = view_of(rows, job.standings)
    ids = [drop.chunk for drop in open_ones]
    found = []
    for drop, chunk, places in zip(open_ones, rows.get_all(CHUNKS, ids), rows.group_all(PLACES, ids), strict=True):
        kept = keepers_of(chunk, places, Placed(drop.node, drop.shard), view) if chunk is not None else None
        found.append(Released(drop.chunk, drop.node, drop.shard, kept or []))
    return Unverified(found, drops[-1][:3] if len(drops) == _SCANNED else None)


def settle_releases(rows: Rows, facts: Facts, job: SettleReleases) -> ReleasesSettled:
    view = view_of(rows, job.standings)
    ids = [each.chunk for each in job.released]
    rows.get_all(CHUNKS, ids)
    rows.group_all(PLACES, ids)
    rows.get_all(DROPS, [(each.node, each.chunk, each.shard) for each in job.released])
    sent_off, restored = 0, []
    for each in job.released:
        if send_off(rows, each.chunk, each.node, each.shard, each.keepers, view):
            sent_off += 1
        elif restore(rows, each.chunk, each.node, each.shard):
            restored.append(each.chunk)
    return ReleasesSettled(sent_off, restored)


def adopt(rows: Rows, facts: Facts, job: Adopt) -> list[int]:
    """The node has the bytes, the chunk wants such a shard, and no other conversation is about this node and chunk. If the
    shard has a live place elsewhere by now, there is one too many, which is nothing new."""
    ids = list(dict.fromkeys(shard.chunk for shard in job.shards))
    chunks = dict(zip(ids, rows.get_all(CHUNKS, ids), strict=True))
    places = dict(zip(ids, rows.group_all(PLACES, ids), strict=True))
    moves = rows.get_all(MOVES, [(chunk, job.node) for chunk in ids])
    drops = rows.scan_all(DROPS_OF_CHUNK, [(job.node, chunk) for chunk in ids])
    barred = {chunk for chunk, move, drop in zip(ids, moves, drops, strict=True) if move is not None or drop}
    changes = []
    for shard in job.shards:
        chunk, before = chunks[shard.chunk], places[shard.chunk]
        if chunk is None or shard.chunk in barred or not 0 <= shard.index < parse_redundancy(chunk.redundancy).shards:
            continue
        if any(place.node == job.node for place in before):
            continue
        barred.add(shard.chunk)  # a node holds one shard of a chunk
        changes.append(PlaceChange(chunk, before, [*before, PlaceRow(chunk.chunk, job.node, shard.index)]))
    change_places(rows, changes)
    return [change.chunk.chunk for change in changes]
