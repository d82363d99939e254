"""Carrying out the moves of the catalog: nodes are told what to fetch from whom, and their receipts are applied.

A batch is one conversation with its target::

    Fetch (repeated with growing pauses) ... Fetched --ApplyReceipts--> done, or looked at again, or given up

A node carries out each number once and answers a repeat from memory. Who is another process now, or does not answer for
long, is left; what has not arrived is tried again later, as the catalog says then. All rows are in memory: after a restart
they are loaded, and it goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.core import Context, Message, Peer
from dsa_zmq.master.catalog.move_rules import (
    DONE,
    GONE,
    STALE,
    Applied,
    ApplyReceipts,
    Arrived,
    GiveUpMoves,
    LoadMoves,
    LookAtMoves,
    PlannedMove,
)
from dsa_zmq.master.department import CATALOG_LANE, Department, OnMessage
from dsa_zmq.master.moves import Batch, Moves, Pending
from dsa_zmq.master.office import Office
from dsa_zmq.master.settings import SECOND_NS
from dsa_zmq.model.upkeep import Standing, Why
from dsa_zmq.protocol.messages import Fetch, Fetched
from dsa_zmq.protocol.values import Failure, FetchShard, NodeAddress, PlacedShard, ShardSource

REPEAT_FIRST_NS = 5_000_000_000  #: a batch takes its target a fraction of that, unless a source is dead
REPEAT_MAX_NS = 20_000_000_000
PATIENCE_NS = 60_000_000_000  #: with one batch: the target hangs, or has forgotten it
RATE_TICKS = 10  #: over which the rate is measured
LOAD_AT_ONCE = 500  #: rows: some 10 ms of the catalog worker

Row = tuple[int, int, int]
"""Chunk, node, move."""

_GO = ("moves", "go")


@dataclass(slots=True)
class _Talk:
    """One batch that is out."""

    batch: Batch
    incarnation: int  #: of the target when it was told
    message: Fetch
    again_ns: int  #: serving time of the next repeat
    pause_ns: int
    until_ns: int


class Mover(Department):
    """See the module. Others find it as ``office.mover``."""

    name = "moves"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self.moves = Moves(office.settings.pace, office.uploads.hold)
        self.is_loaded = False
        self._talks: dict[int, _Talk] = {}
        self._applying: dict[int, Batch] = {}
        self._last = 0  #: number of the last ApplyReceipts
        self._measured: deque[tuple[int, int]] = deque([(0, 0)], RATE_TICKS)  #: serving time, bytes done by then
        office.mover = self
        office.when_registered.append(self._on_registered)

    # --- what happens ---------------------------------------------------------------------------------------------

    def start(self, ctx: Context) -> None:
        self._load(ctx, 0, 0)

    def _load(self, ctx: Context, chunk: int, node: int) -> None:
        ctx.run(("moves", "load"), CATALOG_LANE, LoadMoves(self._standings(ctx), chunk, node, LOAD_AT_ONCE))

    def planned(self, ctx: Context, plans: Sequence[PlannedMove]) -> None:
        """These rows are in the catalog now."""
        self.moves.add(plans)
        self._go(ctx)

    def call_off(self, ctx: Context, why: Why) -> None:
        """Nothing more is to be moved for this reason; what is under way arrives."""
        moves = self.moves.take(lambda plan: plan.why == why)
        for first in range(0, len(moves), LOAD_AT_ONCE):
            self._give_up(ctx, moves[first : first + LOAD_AT_ONCE])

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Fetched: self._on_fetched}

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        for talk in list(self._talks.values()):
            if served_ns >= talk.until_ns or self._standing(talk.batch.target, served_ns) > Standing.SILENT:
                ctx.log("fetch-not-answered", node=talk.batch.target, number=talk.batch.number)
                self._leave(ctx, talk, served_ns)
            elif served_ns >= talk.again_ns:
                talk.pause_ns = min(2 * talk.pause_ns, REPEAT_MAX_NS)
                talk.again_ns = served_ns + talk.pause_ns
                self.office.tell(ctx, talk.batch.target, talk.message)
        hopeless = (Standing.LEAVES, Standing.FAILED, Standing.AWAY)
        self._give_up(ctx, self.moves.to(lambda node: self._standing(node, served_ns) in hopeless))
        self._measured.append((served_ns, self.moves.done_bytes))
        self._go(ctx)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        self._go(ctx)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        """A job has ended. A Failure (a full disk of the master) leaves the rows as they were."""
        match token:
            case (_, "load"):
                self._on_loaded(ctx, result)
            case (_, "apply", serial, moves):
                self._on_applied(ctx, self._applying.pop(serial), moves, result)
            case (_, "look", rows):
                self._on_looked(ctx, rows, result)
            case (_, "give-up", rows):
                if isinstance(result, Failure):
                    self.moves.not_given_up(rows)
                else:
                    self.moves.given_up(rows)
                    self.office.survey.look_at(ctx, [chunk for chunk, _, _ in rows])
        self._go(ctx)

    def _on_loaded(self, ctx: Context, result: list[PlannedMove] | Failure) -> None:
        if isinstance(result, Failure):
            self._load(ctx, 0, 0)
            return
        self.moves.add(result)
        if len(result) == LOAD_AT_ONCE:
            self._load(ctx, result[-1].chunk, result[-1].node)
            return
        self.is_loaded = True
        if len(self.moves):
            ctx.log("moves-loaded", moves=len(self.moves))
        self.office.survey.begin(ctx)

    def _on_registered(self, ctx: Context, node: int) -> None:
        """It is another process, or has come back: it may not know what it was told, and may wait for nothing."""
        state = self.office.members.get(node)
        for talk in list(self._talks.values()):
            if talk.batch.target == node and (state is None or state.row.incarnation != talk.incarnation):
                self._leave(ctx, talk, self.office.at(ctx).served_ns, again=True)
        self._go(ctx)

    # --- batches --------------------------------------------------------------------------------------------------

    def _go(self, ctx: Context) -> None:
        """Send what may leave now, and come back when more may."""
        if not self.is_loaded:
            return
        at = self.office.at(ctx)
        held = bool(self.office.haste.held(at.served_ns))
        for batch in self.moves.batches(self._standings(ctx), at.served_ns, held=held):
            self._send(ctx, batch, at.served_ns, at.wall_ns)
        blind, self.moves.blind = self.moves.blind, []
        self._look(ctx, [(pending.plan.chunk, pending.plan.node, pending.plan.move) for pending in blind])
        wait_ns = self.moves.wait_ns(at.served_ns)
        if wait_ns is not None:
            ctx.set_timer(_GO, wait_ns)

    def _send(self, ctx: Context, batch: Batch, served_ns: int, wall_ns: int) -> None:
        state = self.office.members.get(batch.target)
        assert state is not None, "a target is a member"
        message = Fetch(batch.number, self.office.term, *self._shards(batch, wall_ns))
        self._talks[batch.number] = _Talk(
            batch, state.row.incarnation, message, served_ns + REPEAT_FIRST_NS, REPEAT_FIRST_NS, served_ns + PATIENCE_NS
        )
        self.office.tell(ctx, batch.target, message)

    def _shards(self, batch: Batch, wall_ns: int) -> tuple[list[FetchShard], list[NodeAddress]]:
        office = self.office
        expires_s = office.granter.expires_s(wall_ns)
        shards, nodes = [], set()
        for move, pending in batch.moves.items():
            plan, sources = pending.plan, []
            for place in batch.asked[move]:
                state = office.members.get(place.node)
                if state is not None:
                    nodes.add(place.node)
                    size, hash_ = plan.source_bytes, b"" if plan.has_bytes(place) else plan.source_hash(place)
                    mac = office.granter.read(state.row, plan.source, place.index, size, expires_s)
                    sources.append(ShardSource(place.node, plan.source, place.index, size, expires_s, mac, hash_))
            is_made = any(source.hash for source in sources)
            shards.append(
                FetchShard(
                    move,
                    plan.chunk,
                    plan.shard,
                    plan.chunk_length,
                    plan.shard_bytes,
                    plan.hash,
                    plan.redundancy,
                    sources,
                    plan.chunk_hash if is_made else b"",
                    "" if plan.source_redundancy == plan.redundancy else plan.source_redundancy,
                )
            )
        return shards, [office.members.address(node) for node in sorted(nodes)]

    def _on_fetched(self, ctx: Context, sender: Peer, message: Fetched) -> None:
        """A node says what has arrived. Only the connection that it registered by is believed."""
        talk = self._talks.get(message.number)
        if talk is None or talk.batch.target != self.office.node_of(sender.address):
            return
        batch = talk.batch
        self._end(talk)
        served_ns = self.office.at(ctx).served_ns
        arrived, missing, suspected = [], dict(batch.moves), []
        for outcome in message.outcomes:
            pending = missing.get(outcome.move)
            if pending is None:
                continue
            suspected += _blamed(pending.plan, outcome.blamed)
            if outcome.receipt is not None:
                del missing[outcome.move]
                arrived.append(Arrived(pending.plan.chunk, outcome.move, outcome.receipt, outcome.hash))
        if suspected:  # what they have, they have to say themselves; the catalog is told of it there
            self.office.examiner.ask(ctx, suspected, True, lambda ctx, states: None)
        if arrived:
            self._last += 1
            self._applying[self._last] = batch
            moves = tuple(each.move for each in arrived)
            ctx.run(("moves", "apply", self._last, moves), CATALOG_LANE, ApplyReceipts(batch.target, arrived))
        else:
            self.moves.nothing_arrived(batch.target, served_ns)
        if missing:
            why = next((outcome.failure for outcome in message.outcomes if outcome.failure is not None), None)
            ctx.log("fetch-failed", node=batch.target, shards=len(missing), why=why.message if why else "no outcome")
            self._failed(ctx, batch, list(missing), served_ns)
        self._go(ctx)

    def _on_applied(self, ctx: Context, batch: Batch, moves: Sequence[int], result: list[Applied] | Failure) -> None:
        served_ns = self.office.at(ctx).served_ns
        if isinstance(result, Failure):
            ctx.log("receipts-not-applied", why=result.message)
            self._failed(ctx, batch, moves, served_ns)
            return
        refused, unsettled = [], []
        for move, applied in zip(moves, result, strict=True):
            if applied.unsettled:
                unsettled.append(batch.moves[move].plan.chunk)
            if applied.outcome == DONE:
                self.moves.done(batch, move)
            elif applied.outcome == GONE:
                self.moves.gone(batch, move)
            elif applied.outcome == STALE:
                self.moves.again(batch, move)
            else:
                refused.append(move)
        if refused:
            ctx.log("receipts-refused", node=batch.target, count=len(refused))
            self._failed(ctx, batch, refused, served_ns)
        if unsettled:
            self.office.survey.look_at(ctx, unsettled)
        self.office.survey.moved(ctx)

    def _leave(self, ctx: Context, talk: _Talk, served_ns: int, *, again: bool = False) -> None:
        """Nothing more is expected of this batch."""
        self._end(talk)
        if again:
            for move in talk.batch.moves:
                self.moves.again(talk.batch, move)
        else:
            self.moves.nothing_arrived(talk.batch.target, served_ns)
            self._failed(ctx, talk.batch, list(talk.batch.moves), served_ns)

    def _end(self, talk: _Talk) -> None:
        del self._talks[talk.batch.number]
        self.moves.end(talk.batch)

    def _failed(self, ctx: Context, batch: Batch, moves: Sequence[int], served_ns: int) -> None:
        """They are tried again as the catalog shows them by then; or for the last time."""
        spent = self.moves.failed(batch, moves, served_ns)
        self._give_up(ctx, spent)
        ended = {pending.plan.move for pending in spent}
        rows = [
            (pending.plan.chunk, pending.plan.node, move)
            for move in moves
            if move not in ended and (pending := batch.moves.get(move)) is not None
        ]
        self._look(ctx, rows)

    def _look(self, ctx: Context, rows: Sequence[Row]) -> None:
        """What does the catalog say of these now?"""
        for first in range(0, len(rows), LOAD_AT_ONCE):
            some = list(rows[first : first + LOAD_AT_ONCE])
            ctx.run(("moves", "look", tuple(some)), CATALOG_LANE, LookAtMoves(self._standings(ctx), some))

    def _on_looked(self, ctx: Context, rows: Sequence[Row], result: list[PlannedMove | None] | Failure) -> None:
        """What has failed, as the catalog has it now: its sources may be others, and it may be gone. One that nobody can
        ever be asked for, as when the file that is converted was overwritten, would keep others waiting for good."""
        if not isinstance(result, Failure):
            self.moves.refresh(plan for plan in result if plan is not None)
            self.moves.given_up(row for row, plan in zip(rows, result, strict=True) if plan is None)
            hopeless = {plan.move for plan in result if plan is not None and not plan.takes(plan.sources)}
            if hopeless:
                self._give_up(ctx, self.moves.take(lambda plan: plan.move in hopeless))

    def _give_up(self, ctx: Context, moves: Sequence[Pending]) -> None:
        if moves:
            rows = [(pending.plan.chunk, pending.plan.node, pending.plan.move) for pending in moves]
            ctx.log("moves-given-up", count=len(rows))
            ctx.run(("moves", "give-up", tuple(rows)), CATALOG_LANE, GiveUpMoves(rows))

    # --- what is so -----------------------------------------------------------------------------------------------

    def _standings(self, ctx: Context) -> dict[int, Standing]:
        return self.office.members.standings(self.office.at(ctx).served_ns)

    def _standing(self, node: int, served_ns: int) -> Standing:
        return self.office.members.standing(node, served_ns)

    def statistics(self) -> dict[str, int]:
        (began_ns, before), (ended_ns, after) = self._measured[0], self._measured[-1]
        rate = (after - before) * SECOND_NS // (ended_ns - began_ns) if ended_ns > began_ns else 0
        return {**self.moves.statistics(), "moves_batches": len(self._talks), "moves_rate": rate}

    def __repr__(self) -> str:
        return f"<Mover {self.moves!r}>"

    def check_invariants(self) -> None:
        self.moves.check_invariants()
        assert {batch.number for batch in self.moves.under_way()} == set(self._talks), "a batch is out or ended"


def _blamed(plan: PlannedMove, nodes: Sequence[int]) -> list[PlacedShard]:
    """The shards that these nodes were asked for in vain."""
    return [PlacedShard(plan.source, place.index, place.node) for place in plan.sources if place.node in nodes]
