"""When the survey of all chunks begins, in which order it goes, and what becomes of its findings.

An event (a node is down for long enough, back, failed, draining; places are found to be others) only makes it begin. First
the tallies tell how many chunks have how much redundancy left; then there is one pass over the catalog for each such class,
the lowest first, and a last one for all that is superfluous, on nodes that are to be emptied, or could be spread better.
Slices follow each other only as fast as the catalog answers, so clients' requests go in between. While enough moves are
pending, it pauses where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from actors.core import Context
from dsa_zmq.master.catalog.survey_rules import (
    DECISIONS,
    MAX_SLICE,
    Conditions,
    Room,
    StockTaken,
    Survey,
    SurveyDone,
    TakeStock,
)
from dsa_zmq.master.department import CATALOG_LANE, Department
from dsa_zmq.master.members import DOWN, SUSPECT, Change
from dsa_zmq.master.office import Office
from dsa_zmq.master.settings import nanoseconds
from dsa_zmq.model.placement import honours_domains
from dsa_zmq.model.steps import Goals
from dsa_zmq.model.upkeep import Why
from dsa_zmq.protocol.values import Failure

CHUNKS_AT_ONCE = 100  #: named ones in a slice: each is a few queries of its own
MAX_NAMED = 20_000  #: chunks to be looked at; beyond that everything is

_AGAIN = ("survey", "again")


class SurveyDesk(Department):
    """See the module. Others find it as ``office.survey``."""

    name = "survey"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        pace = office.settings.pace
        self._delays_ns = nanoseconds(pace.endangered_delay_s), nanoseconds(pace.degraded_delay_s)
        self._again_ns = nanoseconds(pace.retry_max_s)
        self._down_since: dict[int, int] = {}  #: serving time, by node
        self._held_ns = 0  #: serving time when healing was last known to be held
        self._delayed: Goals = Goals()  #: as at the last tick: who is away too briefly
        self._excess: Mapping[int, float] = {}
        self._task = 0  #: that wants this excess
        self._held = ""
        self._busy = False  #: a job is at work
        self._wanted = False  #: to begin anew
        self._thorough = True  #: even if the tallies show nothing to do: what nobody knows is looked for once
        self._passes: list[int | None] = []  #: still to be made; None: everything
        self._limit = MAX_SLICE  #: chunks in the next slice
        self._after = 0  #: cursor of the first of them
        self._named: dict[int, None] = {}  #: chunks to be looked at, in this order
        self._resting: dict[int, None] = {}  #: to be named at the next tick
        self._stuck = 0  #: shards without a node for them, in the passes that are made
        self._short = 0  #: chunks that can be read and are not whole, by the last stock
        self._apart = 0  #: chunks that could be spread better, by the last stock
        self._apart_in_vain = 0  #: so many of them were there when a whole pass could do nothing about it
        self._spread = 0  #: moves planned for that, in the passes that are made
        self._spread_delay_ns = nanoseconds(pace.spread_delay_s)
        self._homes: frozenset[tuple[int, str, str]] = frozenset()  #: all nodes with zone and host
        self._homes_ns = 0  #: when they have changed, serving time
        self._look_ns = self._delays_ns[1]  #: when to take stock although nothing has happened: room may have come
        self._slices = 0
        self._planned = 0
        self._released = 0
        office.survey = self
        office.when_registered.append(lambda ctx, node: self.begin(ctx))
        office.when_changed.append(self._on_changed)
        office.when_places.append(self._rest)

    # --- for others -----------------------------------------------------------------------------------------------

    def begin(self, ctx: Context, *, thorough: bool = False) -> None:
        """Something has changed that may concern any chunk: look at all of them soon, those at risk first."""
        self._wanted = True
        self._thorough = self._thorough or thorough
        self._go_on(ctx)

    def look_at(self, ctx: Context, chunks: Iterable[int]) -> None:
        """Something about these chunks has changed."""
        self._named.update(dict.fromkeys(chunks))
        if len(self._named) > MAX_NAMED:
            self._named.clear()
            self._wanted = self._thorough = True
        self._go_on(ctx)

    def aim(self, ctx: Context, excess: Mapping[int, float], task: int) -> None:
        """From now on so large a share of each of these nodes' places is to go elsewhere; empty: none. ``task`` has wanted
        it, 0: nobody."""
        self._excess, self._task = dict(excess), task
        self.begin(ctx)

    @property
    def is_idle(self) -> bool:
        """Whether all that is known has been looked at."""
        return not (self._busy or self._wanted or self._passes or self._named)

    def moved(self, ctx: Context) -> None:
        """Moves have ended: there may be room for more."""
        self._go_on(ctx)

    # --- what happens ---------------------------------------------------------------------------------------------

    def _on_changed(self, ctx: Context, change: Change) -> None:
        if change.after == DOWN:
            self._down_since[change.node] = self.office.at(ctx).served_ns
            return
        self._down_since.pop(change.node, None)
        if change.after != SUSPECT:
            self.begin(ctx)

    def _rest(self, ctx: Context, chunks: Iterable[int]) -> None:
        """Places are found to be others than was known. What was restored would be released at once, again and again, while
        a keeper cannot be read: so not before the next tick."""
        self._resting.update(dict.fromkeys(chunks))

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        """Delays run out; a hold ends."""
        self._look_at_homes(ctx, served_ns)
        held, goals = self.office.haste.held(served_ns), self._goals(served_ns)
        if held != self._held:
            ctx.log("healing-held", why=held or "not any more")
            self._thorough = self._thorough or not held  # a pass that was made meanwhile has let nothing go
        self._held = held
        if goals != self._delayed:
            self._delayed = goals
            self.begin(ctx)
        if served_ns >= self._look_ns and self.is_idle:
            self.begin(ctx)
        if self._resting:
            resting, self._resting = self._resting, {}
            self.look_at(ctx, resting)

    def _look_at_homes(self, ctx: Context, served_ns: int) -> None:
        """What was to move because of other zones and hosts than those that are said now is to be thought about anew."""
        homes = frozenset((state.row.node, state.row.zone, state.row.host) for state in self.office.members)
        if homes != self._homes:
            if self._homes:  # else this master has just learnt them: what an earlier one has planned goes on
                self.office.mover.call_off(ctx, Why.SPREAD)
            self._homes, self._homes_ns, self._apart_in_vain = homes, served_ns, 0

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        """What could not be done some time ago may be possible now."""
        if len(self.office.mover.moves):
            ctx.set_timer(_AGAIN, self._again_ns)
        else:
            self.begin(ctx)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        self._busy = False
        match token:
            case (_, "stock"):
                self._on_stock(ctx, result)
            case (_, "slice"):
                self._on_slice(ctx, result)
            case (_, "named", chunks):
                self._on_named(ctx, chunks, result)
        if isinstance(result, Failure):
            ctx.log("survey-failed", why=result.message)
            ctx.set_timer(_AGAIN, self._again_ns)
        else:
            self._go_on(ctx)

    # --- the passes -----------------------------------------------------------------------------------------------

    def _go_on(self, ctx: Context) -> None:
        """The next job, unless one is at work or there is nothing to do."""
        if self._busy or not self.office.mover.is_loaded:
            return
        heal, other = self.office.mover.moves.room
        served_ns = self.office.at(ctx).served_ns
        if self._wanted:
            self._wanted = False
            rooms = self.rooms_apart(served_ns) if self._goals(served_ns).spread else {}
            stock = TakeStock(self.office.members.standings(served_ns), rooms)
            self._run(ctx, ("survey", "stock"), stock)
        elif self._named and heal and other:
            chunks = tuple(self._named)[:CHUNKS_AT_ONCE]
            for chunk in chunks:
                del self._named[chunk]
            job = Survey(self.conditions(served_ns), chunks=chunks, heal=heal, other=other)
            self._run(ctx, ("survey", "named", chunks), job)
        elif self._passes and heal and (other or self._passes[0] is not None):
            at_most = self._passes[0]
            allowed = heal if at_most is not None else other  # risk does not wait for what is no risk
            job = Survey(
                self.conditions(served_ns), self._after, self._limit, at_most=at_most, heal=heal, other=allowed
            )
            self._run(ctx, ("survey", "slice"), job)

    def _run(self, ctx: Context, token: tuple[Any, ...], job: TakeStock | Survey) -> None:
        self._busy = True
        ctx.run(token, CATALOG_LANE, job)

    def _on_stock(self, ctx: Context, result: StockTaken | Failure) -> None:
        if isinstance(result, Failure):
            return
        at_risk = sorted(left for left in result.short if left >= 0)
        self._short = sum(result.short[left] for left in at_risk)
        self._apart = result.apart
        self._passes = list(at_risk)
        is_apart = result.apart > 0 and result.apart != self._apart_in_vain
        if at_risk or result.untidy or self._thorough or self._excess or is_apart:
            self._passes.append(None)
        self._after = self._stuck = self._spread = 0
        self._look_ns = self.office.at(ctx).served_ns + self._delays_ns[1]
        self._thorough = self._thorough and bool(self.office.haste.held(self.office.at(ctx).served_ns))

    def _on_slice(self, ctx: Context, result: SurveyDone | Failure) -> None:
        if isinstance(result, Failure):
            return
        self._take(ctx, result)
        self._after = result.next
        self._limit = min(MAX_SLICE, max(DECISIONS, 2 * result.seen))  # what is loaded and not come to is lost work
        if not result.next and self._passes:
            self._passes.pop(0)
            if not self._passes:
                self._finish(ctx)

    def _finish(self, ctx: Context) -> None:
        ctx.log("surveyed", short=self._short, stuck=self._stuck, moves=len(self.office.mover.moves))
        self._apart_in_vain = 0 if self._spread else self._apart
        if self._stuck or self._short or self._spread:
            ctx.set_timer(_AGAIN, self._again_ns)

    def _on_named(self, ctx: Context, chunks: tuple[int, ...], result: SurveyDone | Failure) -> None:
        if isinstance(result, Failure):
            self._named.update(dict.fromkeys(chunks))
            return
        self._take(ctx, result)
        if result.next:
            self._named.update(dict.fromkeys(chunk for chunk in chunks if chunk > result.next))

    def _take(self, ctx: Context, result: SurveyDone) -> None:
        self._slices += 1
        self._stuck += result.stuck
        self._planned += len(result.moves)
        self._spread += sum(move.why == Why.SPREAD for move in result.moves)
        self._released += len(result.released)
        self.office.mover.moves.rank(result.known)
        if result.moves:
            self.office.mover.planned(ctx, result.moves)
        if result.released:
            self.office.removals.verify(ctx, result.released)

    # --- what is so -----------------------------------------------------------------------------------------------

    def _goals(self, served_ns: int) -> Goals:
        """What is to wait, and what else is wanted. Delays count from the end of a hold: who went together comes back one
        after another, and what the others have is not made anew as soon as the first of them is there."""
        members = self.office.members
        held = bool(self.office.haste.held(served_ns))
        if held:
            self._held_ns = served_ns
        self._down_since = {node: since for node, since in self._down_since.items() if node in members}
        waiting = {node: self._delay(node, served_ns) for node in self._down_since}
        return Goals(
            held,
            frozenset(node for node, (endangered, _) in waiting.items() if endangered),
            frozenset(node for node, (_, degraded) in waiting.items() if degraded),
            spread=served_ns - self._homes_ns >= self._spread_delay_ns,
            excess=self._excess,
        )

    def delays(self, served_ns: int) -> dict[int, tuple[int, int]]:
        """How long, in nanoseconds, the repair of what lies on a node that is down still waits: of chunks without redundancy
        left, and of the others. Nodes for which nothing waits are left out."""
        found = {}
        for node in self.office.members.down(served_ns):
            endangered, degraded = self._delay(node, served_ns)
            if endangered or degraded:
                found[node] = endangered, max(endangered, degraded)
        return found

    def _delay(self, node: int, served_ns: int) -> tuple[int, int]:
        since_ns = self._down_since.get(node, served_ns)  # the next tick will notice it
        endangered_ns, degraded_ns = self._delays_ns
        return (
            max(0, max(since_ns, self._held_ns) + endangered_ns - served_ns),
            max(0, since_ns + degraded_ns - served_ns),
        )

    def rooms(self, served_ns: int) -> dict[int, Room]:
        """What moves may put on nodes that keep."""
        office, pace = self.office, self.office.settings.pace
        rooms = {}
        for state in office.members.up(served_ns):
            node = state.row.node
            size, free = state.used + state.free, state.free - office.uploads.reserved_bytes(node)
            rooms[node] = Room(
                max(0, int(free - (1 - pace.fill_repair) * size)), max(0, int(free - (1 - pace.fill_other) * size))
            )
        return rooms

    def rooms_apart(self, served_ns: int) -> dict[int, int]:
        """The bytes that nodes may take of shards that could lie in another zone or on another host."""
        if not honours_domains(self.office.settings.placement):
            return {}
        return {node: room.other for node, room in self.rooms(served_ns).items() if not self._excess.get(node)}

    def conditions(self, served_ns: int) -> Conditions:
        """What decisions about places depend on, frozen for one job."""
        office = self.office
        return Conditions(
            office.members.standings(served_ns),
            self.rooms(served_ns),
            self._goals(served_ns),
            office.settings.placement,
            self._task,
        )

    def statistics(self) -> dict[str, int]:
        return {
            "survey_slices": self._slices,
            "survey_planned": self._planned,
            "survey_released": self._released,
            "survey_stuck": self._stuck,
            "survey_apart": self._apart,
            "survey_named": len(self._named),
        }

    def __repr__(self) -> str:
        return f"<Survey passes {self._passes} after {self._after:#x}, {len(self._named)} chunks named>"

    def check_invariants(self) -> None:
        assert len(self._named) <= MAX_NAMED
