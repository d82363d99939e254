"""Rows of ``moves``: shards that are to be made on a node. They count nowhere until the node's receipt is applied.

A move's id is the ``upload`` of its receipt, so that a receipt of an earlier attempt proves nothing for a later one. Every
rule may be run again: what was done is found done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from actors.core import Job
from dsa_zmq.errors import Denied
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.places import PlaceChange, change_places, view_of
from dsa_zmq.master.catalog.receipts import is_present
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import (
    BAD_PLACE,
    CHUNKS,
    DROPS,
    LIVE_PLACE,
    MOVES,
    NODES,
    PLACES,
    RESTORED_NS,
    ChunkRow,
    DropRow,
    MoveRow,
    PlaceRow,
)
from dsa_zmq.model.hashes import HASH_BYTES, UNKNOWN_HASH, chunk_hash, shard_hash, with_shard_hash
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, remaining
from dsa_zmq.protocol.values import Receipt, StagedChunk

MOVES_AFTER: Scan[MoveRow] = Scan(
    f"SELECT {MOVES.columns} FROM moves WHERE chunk > ? OR (chunk = ? AND node > ?) ORDER BY chunk, node LIMIT ?",
    MoveRow,
    (MOVES,),
    MOVES,
)


class PlannedMove(msgspec.Struct, frozen=True):
    """A row of ``moves`` with all that is needed to carry it out."""

    chunk: int
    node: int  #: the target
    shard: int
    move: int
    why: int
    source: int  #: chunk whose shards have the bytes
    task: int
    remaining: int  #: how many more shards of the chunk may be lost
    chunk_length: int
    shard_bytes: int
    hash: bytes  #: of the shard; b"" if nobody has made it yet
    redundancy: str
    sources: list[Placed]  #: live places, on whatever nodes: those first that have the very bytes
    source_redundancy: str
    source_hashes: bytes  #: as the chunk of the sources keeps them

    def has_bytes(self, place: Placed) -> bool:
        """Whether that source has what is to be made, and none has to be made from others."""
        if self.source == self.chunk and place.index == self.shard:
            return True
        return parse_redundancy(self.redundancy).alike and parse_redundancy(self.source_redundancy).alike

    def takes(self, places: Sequence[Placed]) -> int:
        """How many of these sources it takes; 0: they are not enough."""
        if any(self.has_bytes(place) for place in places):
            return 1
        needed = self.source_needed
        return needed if len({place.index for place in places}) >= needed else 0

    @property
    def source_needed(self) -> int:
        """So many sources of different indexes are enough, if none has the very bytes."""
        return parse_redundancy(self.source_redundancy).needed

    @property
    def source_bytes(self) -> int:
        """That each source gives."""
        return parse_redundancy(self.source_redundancy).shard_bytes(self.chunk_length)

    @property
    def chunk_hash(self) -> bytes:
        return chunk_hash(self.source_hashes)

    def source_hash(self, place: Placed) -> bytes:
        return shard_hash(self.source_hashes, place.index)


class LoadMoves(Job, frozen=True):
    """The next rows after (chunk, node), as at a start. Result: list[PlannedMove]"""

    standings: Mapping[int, Standing]
    chunk: int = 0
    node: int = 0
    limit: int = 500


class LookAtMoves(Job, frozen=True):
    """These moves as they are now. Result: list[PlannedMove | None]; None: the row is not there any more"""

    standings: Mapping[int, Standing]
    moves: list[tuple[int, int, int]]  #: chunk, node, move


class Arrived(msgspec.Struct, frozen=True):
    """A node's word that a shard has arrived."""

    chunk: int
    move: int
    receipt: Receipt
    hash: bytes = b""  #: of the shard, if nobody knew it


class ApplyReceipts(Job, frozen=True):
    """Shards have arrived on this node. Result: list of Applied, one each"""

    node: int
    arrived: list[Arrived]


class Applied(msgspec.Struct, frozen=True):
    """What became of a receipt."""

    outcome: int  #: one of DONE, GONE, STALE, REFUSED
    unsettled: bool = False  #: something else of the chunk is now to be let go


DONE, GONE, STALE, REFUSED = range(4)
"""A place now; wanted no more; of an earlier process of the node: fetch again; proves nothing."""


class GiveUpMoves(Job, frozen=True):
    """These moves are not to be. Their bytes may have arrived: they are to be dropped. Result: None"""

    moves: list[tuple[int, int, int]]  #: chunk, node, move


def planned(
    row: MoveRow, chunk: ChunkRow, source: ChunkRow, places: Sequence[PlaceRow], view: Mapping[int, NodeView]
) -> PlannedMove:
    """A move with what its chunk, its source and the places of that say."""
    redundancy = parse_redundancy(chunk.redundancy)
    known = shard_hash(chunk.hash, row.shard)
    there = [Placed(place.node, place.shard) for place in places if place.state == LIVE_PLACE]
    is_same = source.chunk == row.chunk
    if not parse_redundancy(source.redundancy).alike:  # the chunk's own bytes need no arithmetic
        there.sort(key=lambda place: (not (is_same and place.index == row.shard), place.index, place.node))
    return PlannedMove(
        chunk=row.chunk,
        node=row.node,
        shard=row.shard,
        move=row.move,
        why=row.why,
        source=source.chunk,
        task=row.task,
        remaining=remaining(there, redundancy, view) if is_same else redundancy.tolerates,
        chunk_length=chunk.length,
        shard_bytes=redundancy.shard_bytes(chunk.length),
        hash=b"" if known == UNKNOWN_HASH else known,
        redundancy=chunk.redundancy,
        sources=there,
        source_redundancy=source.redundancy,
        source_hashes=source.hash,
    )


def load_moves(rows: Rows, facts: Facts, job: LoadMoves) -> list[PlannedMove]:
    found = rows.scan(MOVES_AFTER, job.chunk, job.chunk, job.node, max(1, job.limit))
    return [each for each in _describe(rows, found, job.standings) if each is not None]


def look_at_moves(rows: Rows, facts: Facts, job: LookAtMoves) -> list[PlannedMove | None]:
    found = rows.get_all(MOVES, [(chunk, node) for chunk, node, _ in job.moves])
    kept = [
        row if row is not None and row.move == move else None
        for row, (_, _, move) in zip(found, job.moves, strict=True)
    ]
    described = iter(_describe(rows, [row for row in kept if row is not None], job.standings))
    return [None if row is None else next(described) for row in kept]


def _describe(rows: Rows, moves: Sequence[MoveRow], standings: Mapping[int, Standing]) -> list[PlannedMove | None]:
    view = view_of(rows, standings)
    chunks = rows.get_all(CHUNKS, [row.chunk for row in moves])
    # If what is converted was let go meanwhile, what has arrived of the new chunk may still be enough.
    sources = [
        source or chunk
        for source, chunk in zip(rows.get_all(CHUNKS, [row.source for row in moves]), chunks, strict=True)
    ]
    places = rows.group_all(
        PLACES, [row.chunk if source is None else source.chunk for row, source in zip(moves, sources, strict=True)]
    )
    return [
        None if chunk is None or source is None else planned(row, chunk, source, own, view)
        for row, chunk, source, own in zip(moves, chunks, sources, places, strict=True)
    ]


def apply_receipts(rows: Rows, facts: Facts, job: ApplyReceipts) -> list[Applied]:
    chunk_ids = [each.chunk for each in job.arrived]
    rows.get_all(MOVES, [(chunk, job.node) for chunk in chunk_ids])
    rows.get_all(CHUNKS, chunk_ids)
    rows.group_all(PLACES, chunk_ids)
    rows.get_all(DROPS, [(job.node, each.chunk, each.receipt.index) for each in job.arrived])
    rows.get(NODES, job.node)
    return [_apply(rows, facts, job.node, each) for each in job.arrived]


def _apply(rows: Rows, facts: Facts, node: int, arrived: Arrived) -> Applied:
    move, chunk = rows.get(MOVES, (arrived.chunk, node)), rows.get(CHUNKS, arrived.chunk)
    places = rows.group(PLACES, arrived.chunk)
    own = next((place for place in places if place.node == node), None)
    if move is None or move.move != arrived.move or move.shard != arrived.receipt.index or chunk is None:
        return _unwanted(rows, node, arrived, move, own)
    redundancy, hashes = parse_redundancy(chunk.redundancy), chunk.hash
    if shard_hash(hashes, move.shard) == UNKNOWN_HASH:
        if len(arrived.hash) != HASH_BYTES or arrived.hash == UNKNOWN_HASH:
            return Applied(REFUSED)
        hashes = with_shard_hash(hashes, move.shard, arrived.hash)
    word = StagedChunk(chunk.chunk, chunk.length, hashes, [arrived.receipt])
    try:
        if not is_present(rows, facts, move.move, word, arrived.receipt, redundancy):
            return Applied(STALE)
    except Denied:
        return Applied(REFUSED)
    assert own is None or own.state == BAD_PLACE, "no move goes where a live place is"
    if hashes != chunk.hash:
        chunk = chunk._replace(hash=hashes)
        rows.put(CHUNKS, chunk)
    others = [place for place in places if place.node != node]
    change_places(rows, [PlaceChange(chunk, places, [*others, PlaceRow(chunk.chunk, node, move.shard)])])
    rows.delete(MOVES, (chunk.chunk, node))
    unsettled = len(others) >= redundancy.shards or any(
        place.shard == move.shard or place.state == BAD_PLACE for place in others
    )
    return Applied(DONE, unsettled)


def _unwanted(rows: Rows, node: int, arrived: Arrived, move: MoveRow | None, own: PlaceRow | None) -> Applied:
    """The move is not there any more. If nobody else wants those bytes on that node, they are to be dropped."""
    index = arrived.receipt.index
    if own is not None:
        return Applied(DONE if own.state == LIVE_PLACE and own.shard == index else GONE)
    key = (node, arrived.chunk, index)
    if move is None and rows.get(NODES, node) is not None and rows.get(DROPS, key) is None and not _may_be_older(rows):
        rows.put(DROPS, DropRow(*key))
    return Applied(GONE)


def give_up_moves(rows: Rows, facts: Facts, job: GiveUpMoves) -> None:
    keys = [(chunk, node) for chunk, node, _ in job.moves]
    rows.get_all(MOVES, keys)
    rows.get_all(PLACES, keys)
    for chunk, node, number in job.moves:
        move = rows.get(MOVES, (chunk, node))
        if move is None or move.move != number:
            continue
        rows.delete(MOVES, (chunk, node))
        there = rows.get(PLACES, (chunk, node)) is not None  # then it was to be mended where it is
        if not there and not _may_be_older(rows):
            rows.put(DROPS, DropRow(node, chunk, move.shard))


def _may_be_older(rows: Rows) -> bool:
    """Whether bytes at the target of a move may have been there before it, as the only ones there are: the catalog was
    restored, and an earlier master may have moved them there since the moment that it is of. Then they are left to the
    comparison of inventories, which asks before it drops."""
    return rows.number(RESTORED_NS) != 0
