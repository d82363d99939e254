"""The survey: chunk by chunk, what is missing becomes a row of ``moves``, and what is superfluous is released.

A slice looks at the chunks after a cursor, or at those that it is told. What is to be done is decided by
:mod:`dsa_zmq.model.steps` from rows alone, so a slice that runs twice finds nothing to do in what the first has done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import NamedTuple

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.examine_rules import Released
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.move_rules import PlannedMove, planned
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.places import release, view_of
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import (
    BAD_PLACE,
    CHUNKS,
    DROPS,
    HOLDERS,
    LIVE_PLACE,
    MOVES,
    NODES,
    PLACES,
    ChunkRow,
    DropRow,
    HolderRow,
    MoveRow,
    PlaceRow,
    StoreRow,
)
from dsa_zmq.model.holders import groups_of, nodes_of, shards_held
from dsa_zmq.model.placement import Member, honours_domains
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.model.spread import Spread, chunks_apart
from dsa_zmq.model.steps import Add, Goals, Ground, Holding, Release, Step, Stuck, steps
from dsa_zmq.model.upkeep import NodeView, Placed, Standing, Why, remaining

MAX_SLICE = 2_000  #: chunks: some 5 ms of the catalog worker if nothing is to be done with them
DECISIONS = 128  #: chunks that have to be thought about, in a slice: some 10 ms with what follows

CHUNKS_AFTER: Scan[ChunkRow] = Scan(
    f"SELECT {CHUNKS.columns} FROM chunks WHERE chunk > ? ORDER BY chunk LIMIT ?", ChunkRow, (CHUNKS,)
)
PLACES_BETWEEN: Scan[PlaceRow] = Scan(
    f"SELECT {PLACES.columns} FROM places WHERE chunk BETWEEN ? AND ? ORDER BY chunk, node", PlaceRow, (PLACES,)
)
MOVES_BETWEEN: Scan[MoveRow] = Scan(
    f"SELECT {MOVES.columns} FROM moves WHERE chunk BETWEEN ? AND ? ORDER BY chunk, node", MoveRow, (MOVES,)
)
DROPS_BETWEEN: Scan[DropRow] = Scan(
    "SELECT d.node, d.chunk, d.shard, d.state FROM nodes n JOIN drops d ON d.node = n.node"  # they are kept by node
    " WHERE d.chunk BETWEEN ? AND ? ORDER BY d.chunk, d.node, d.shard",
    DropRow,
    (NODES, DROPS),
)
SOME_BAD: Scan[PlaceRow] = Scan(
    f"SELECT {PLACES.columns} FROM places WHERE state <> 0 ORDER BY chunk LIMIT 1", PlaceRow, (PLACES,)
)
ALL_HOLDERS: Scan[HolderRow] = Scan(
    f"SELECT {HOLDERS.columns} FROM holders ORDER BY redundancy, holders", HolderRow, (HOLDERS,)
)


class Room(msgspec.Struct, frozen=True):
    """What moves may put on a node."""

    heal: int  #: bytes that healing may take
    other: int  #: bytes that anything else may take


class Conditions(msgspec.Struct, frozen=True):
    """The cluster as the master's actor sees it, frozen for one job."""

    standings: Mapping[int, Standing]
    rooms: Mapping[int, Room]  #: of nodes that keep
    goals: Goals
    policy: str
    task: int = 0  #: that wants the excess to go; 0: nobody has asked for it


class TakeStock(Job, frozen=True):
    """How much is left of all chunks. Result: StockTaken"""

    standings: Mapping[int, Standing]
    rooms: Mapping[int, int] = {}  #: bytes that nodes may take of what could lie better


class StockTaken(msgspec.Struct, frozen=True):
    chunks: dict[int, int]  #: how many more shards may be lost -> chunks
    short: dict[int, int]  #: the same, of chunks that are not whole
    untidy: bool  #: more is there than is wanted, damaged ones too, or something lies where it is not to stay
    apart: int = 0  #: chunks that could be spread better


class Survey(Job, frozen=True):
    """One slice. Result: SurveyDone"""

    conditions: Conditions
    after: int = 0  #: chunk id
    limit: int = MAX_SLICE
    at_most: int | None = None  #: only chunks of which no more shards than that may be lost
    chunks: tuple[int, ...] = ()  #: exactly these, instead of those after ``after``
    heal: int = 1_000_000  #: moves that may be planned because redundancy is missing
    other: int = 1_000_000  #: for any other reason


class SurveyDone(msgspec.Struct, frozen=True):
    next: int  #: the chunk after which to go on; 0: nothing is left
    moves: list[PlannedMove]
    released: list[Released]  #: to be verified before they are dropped
    seen: int  #: chunks
    stuck: int  #: shards that should be made and for which there is no node
    known: list[tuple[int, int, int]] = []  #: moves that are there: chunk, node, how many more shards may be lost


def take_stock(rows: Rows, facts: Facts, job: TakeStock) -> StockTaken:
    """From the tallies alone: the order of the passes, and what there is to do."""
    view = view_of(rows, job.standings)
    counting = frozenset(node for node, each in view.items() if each.standing.counts)
    chunks: dict[int, int] = {}
    short: dict[int, int] = {}
    staying = {node for node, each in view.items() if each.standing in (Standing.KEEPS, Standing.SILENT)}
    unwanted = {row.node for row in rows.scan(ALL_NODES) if row.removed}
    unwanted |= {node for node, each in view.items() if each.standing is Standing.LEAVES}
    untidy = bool(rows.scan(SOME_BAD))  # holders do not tell of those
    holders = rows.scan(ALL_HOLDERS)
    for row in holders:
        redundancy = parse_redundancy(row.redundancy)
        held = shards_held(row.holders, counting, redundancy)
        left = held - redundancy.needed
        chunks[left] = chunks.get(left, 0) + row.chunks
        if held < redundancy.shards:
            short[left] = short.get(left, 0) + row.chunks
        untidy = (
            untidy or _is_untidy(row.holders, redundancy, staying) or not nodes_of(row.holders).isdisjoint(unwanted)
        )
    return StockTaken(chunks, short, untidy, chunks_apart(holders, view, job.rooms))


def _is_untidy(holders: str, redundancy: Redundancy, staying: AbstractSet[int]) -> bool:
    """Whether more or fewer nodes that stay have something than is wanted."""
    if redundancy.alike:
        return len(nodes_of(holders) & staying) != redundancy.shards
    return any(len(group & staying) != 1 for group in groups_of(holders))


class _Shards(NamedTuple):
    """All rows of one chunk's shards."""

    places: list[PlaceRow]
    moves: list[MoveRow]
    drops: list[DropRow]


def survey(rows: Rows, facts: Facts, job: Survey) -> SurveyDone:
    nodes = rows.scan(ALL_NODES)
    chunks = _chunks(rows, job)
    if not chunks:
        return SurveyDone(0, [], [], 0, 0)
    shards = _shards(rows, chunks, contiguous=not job.chunks)
    view = view_of(rows, job.conditions.standings)
    ground = _ground(nodes, view, job.conditions)
    staying = frozenset(row.node for row in nodes if view[row.node].standing in (Standing.KEEPS, Standing.SILENT))
    apart = _Apart(ground)
    plans: list[tuple[ChunkRow, list[PlaceRow], list[Step]]] = []
    heal, other, stuck = job.heal, job.other, 0
    next_chunk = chunks[-1].chunk if not job.chunks and len(chunks) == _limit(job) else 0
    seen = decisions = 0
    known: list[tuple[int, int, int]] = []
    for chunk in chunks:
        own = shards.get(chunk.chunk, _NO_SHARDS)
        seen += 1
        if not ground.goals.excess and _is_settled(chunk, own, staying) and not apart.may_be(chunk, own.places):
            continue
        holding = _holding(chunk, own)
        left = remaining(holding.places, holding.redundancy, view)
        known += [(row.chunk, row.node, left) for row in own.moves if row.source == row.chunk]
        if job.at_most is not None and left > job.at_most:
            continue
        if heal <= 0 or other <= 0 or decisions == DECISIONS:
            next_chunk = chunk.chunk - 1  # this one is the next to be looked at
            seen -= 1
            break
        decisions += 1
        todo = steps(holding, ground)
        adds = [step for step in todo if isinstance(step, Add)]
        heal -= sum(step.why.heals for step in adds)
        other -= sum(not step.why.heals for step in adds)
        stuck += sum(isinstance(step, Stuck) for step in todo)
        if len(todo) > sum(isinstance(step, Stuck) for step in todo):
            plans.append((chunk, own.places, todo))
    moves, released = _carry_out(rows, plans, view, job.conditions.task)
    return SurveyDone(next_chunk, moves, released, seen, stuck, known)


def _is_settled(chunk: ChunkRow, shards: _Shards, staying: frozenset[int]) -> bool:
    """Whether each shard lies once, where it may stay: for nearly all chunks that is soon seen."""
    places, redundancy = shards.places, parse_redundancy(chunk.redundancy)
    if shards.moves or shards.drops or len(places) != redundancy.shards:
        return False
    return (redundancy.alike or len({row.shard for row in places}) == len(places)) and all(
        row.state == LIVE_PLACE and row.node in staying for row in places
    )


_NO_SHARDS = _Shards([], [], [])


class _Apart:
    """Whether chunks may be spread better. Few sets of nodes hold nearly all chunks, so each set is thought about once."""

    def __init__(self, ground: Ground) -> None:
        able = [each.node for each in ground.members if each.free > ground.spare.get(each.node, 0)]
        self._spread = Spread(ground.view, able if ground.goals.spread and honours_domains(ground.policy) else [])
        self._known: dict[tuple[str, tuple[int, ...]], bool] = {}

    def may_be(self, chunk: ChunkRow, places: Sequence[PlaceRow]) -> bool:
        key = chunk.redundancy, tuple([row.node for row in places])  # they are loaded in this order
        wanted = self._known.get(key)
        if wanted is None:
            wanted = self._known[key] = self._spread.is_wanted(key[1], parse_redundancy(chunk.redundancy))
        return wanted


def _limit(job: Survey) -> int:
    return max(1, min(job.limit, MAX_SLICE))


def _chunks(rows: Rows, job: Survey) -> list[ChunkRow]:
    if job.chunks:
        ids = sorted(set(job.chunks))
        return [row for row in rows.get_all(CHUNKS, ids) if row is not None]
    return rows.scan(CHUNKS_AFTER, job.after, _limit(job))


def _shards(rows: Rows, chunks: Sequence[ChunkRow], *, contiguous: bool) -> dict[int, _Shards]:
    """The rows of these chunks' shards; all queries at once."""
    if contiguous:
        ranges = [(chunks[0].chunk, chunks[-1].chunk)]
    else:
        ranges = [(chunk.chunk, chunk.chunk) for chunk in chunks]
    rows.ask([(scan, each) for each in ranges for scan in (PLACES_BETWEEN, MOVES_BETWEEN, DROPS_BETWEEN)])
    found = {chunk.chunk: _Shards([], [], []) for chunk in chunks}
    for each in ranges:
        for place in rows.scan(PLACES_BETWEEN, *each):
            if place.chunk in found:
                found[place.chunk].places.append(place)
        for move in rows.scan(MOVES_BETWEEN, *each):
            if move.chunk in found:
                found[move.chunk].moves.append(move)
        for drop in rows.scan(DROPS_BETWEEN, *each):
            if drop.chunk in found:
                found[drop.chunk].drops.append(drop)
    return found


def _ground(nodes: Sequence[StoreRow], view: Mapping[int, NodeView], conditions: Conditions) -> Ground:
    members, spare = [], {}
    for row in nodes:
        standing = view[row.node].standing
        if standing in (Standing.KEEPS, Standing.SILENT):
            room = conditions.rooms.get(row.node, _NO_ROOM) if standing is Standing.KEEPS else _NO_ROOM
            members.append(Member(row.node, row.name, row.capacity, room.heal, row.zone, row.host))
            spare[row.node] = room.heal - room.other
    goals = replace(conditions.goals, removed=frozenset(row.node for row in nodes if row.removed))
    return Ground(view, goals, members, conditions.policy, spare)


_NO_ROOM = Room(0, 0)


def _holding(chunk: ChunkRow, shards: _Shards) -> Holding:
    return Holding(
        chunk.chunk,
        chunk.length,
        parse_redundancy(chunk.redundancy),
        tuple(Placed(row.node, row.shard) for row in shards.places if row.state == LIVE_PLACE),
        tuple(Placed(row.node, row.shard) for row in shards.places if row.state == BAD_PLACE),
        tuple(Placed(row.node, row.shard) for row in shards.moves),
        frozenset(row.node for row in shards.drops),
    )


def _carry_out(
    rows: Rows, plans: Sequence[tuple[ChunkRow, list[PlaceRow], list[Step]]], view: Mapping[int, NodeView], task: int
) -> tuple[list[PlannedMove], list[Released]]:
    releasing = [chunk.chunk for chunk, _, todo in plans if any(isinstance(step, Release) for step in todo)]
    rows.get_all(CHUNKS, releasing)  # before the first write: what is asked for later makes the slice start over
    rows.group_all(PLACES, releasing)
    moves, released = [], []
    for chunk, places, todo in plans:
        for step in todo:
            if isinstance(step, Add):
                wanted_by = task if step.why is Why.REBALANCE else 0
                row = MoveRow(chunk.chunk, step.node, step.index, rows.new_id(), int(step.why), chunk.chunk, wanted_by)
                rows.put(MOVES, row)
                moves.append(planned(row, chunk, chunk, places, view))
            elif isinstance(step, Release):
                place = next(each for each in places if each.node == step.node)
                kept = release(rows, chunk.chunk, step.node, view)
                if kept is not None and place.state == LIVE_PLACE:
                    released.append(Released(chunk.chunk, step.node, place.shard, kept))
    return moves, released
