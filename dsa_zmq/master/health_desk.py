"""Answers ``Health``: from tallies that are at most a second old, and from the nodes as they are now; and ``FilesAtRisk``.

See :mod:`dsa_zmq.master.health`. Nothing is waited for but the few rows of the tallies: files are counted by the census
(:mod:`dsa_zmq.master.census`), whose last result is added with its age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import structs

from actors.core import Context
from dsa_zmq.errors import DSAError
from dsa_zmq.master.calls import CallInFlight, failure
from dsa_zmq.master.catalog.census_rules import CensusTaken
from dsa_zmq.master.catalog.health import TakeTally, Tally
from dsa_zmq.master.census import Census, Searches, Walk
from dsa_zmq.master.department import CATALOG_LANE, Department, OnOperation
from dsa_zmq.master.health import Healing, count, present, report
from dsa_zmq.master.office import Office
from dsa_zmq.model.holders import Safety
from dsa_zmq.model.spread import chunks_apart
from dsa_zmq.model.upkeep import NodeView
from dsa_zmq.protocol.operations import FilesAtRisk, Health, HealthReport, Operation
from dsa_zmq.protocol.values import Failure

FRESH_NS = 1_000_000_000  #: tallies this fresh answer the next one who asks
FIGURES_NS = 10_000_000_000  #: between two looks for the statistics, if nobody asks: about as often as they are scraped
MOST_WITHOUT = 1_000  #: nodes that one question may leave out


class HealthDesk(Department):
    """See the module."""

    name = "health"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._asking: dict[int, frozenset[int]] = {}  #: by serial: the nodes to leave out; all wait for one job
        self._busy = False  #: that job is at work
        self._tally: Tally | None = None
        self._tally_ns = 0  #: when it was made, serving time
        self._census = Census()
        self._searches = Searches()
        self._figures: dict[str, int] = {}
        office.when_changed.append(lambda ctx, change: self._judge(ctx))

    def operations(self) -> Mapping[type[Operation], OnOperation]:
        return {Health: self._on_health, FilesAtRisk: self._on_files_at_risk}

    def _on_health(self, ctx: Context, call: CallInFlight) -> None:
        operation = call.operation
        assert isinstance(operation, Health)
        without = frozenset(operation.without[:MOST_WITHOUT])
        if self._tally is not None and self.office.at(ctx).served_ns - self._tally_ns < FRESH_NS:
            self.office.answer(ctx, call.serial, self._report(ctx, self._tally, without))
            return
        self.office.detach(ctx, call)
        self._asking[call.serial] = without
        self._take(ctx)

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        if served_ns - self._tally_ns >= FIGURES_NS:
            self._take(ctx)

    def _take(self, ctx: Context) -> None:
        if not self._busy:
            self._busy = True
            ctx.run((self.name,), CATALOG_LANE, TakeTally())

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        match token:
            case (_, "census"):
                self._on_census(ctx, result)
            case (_, "search", serial):
                self._on_search(ctx, serial, result)
            case _:
                self._on_tally(ctx, result)

    def _on_tally(self, ctx: Context, result: Tally | Failure) -> None:
        self._busy = False
        asking, self._asking = self._asking, {}
        if isinstance(result, Tally):
            self._tally, self._tally_ns = result, self.office.at(ctx).served_ns
            self._judge(ctx)
        for serial, without in asking.items():
            answer = result if isinstance(result, Failure) else self._report(ctx, result, without)
            self.office.answer(ctx, serial, answer)

    def _judge(self, ctx: Context) -> None:
        """What the statistics tell: by the last tallies, and the nodes as they are now."""
        served_ns = self.office.at(ctx).served_ns
        if self._tally is not None:
            now = count(self._tally, present(self.office.members, served_ns))
            self._figures = {f"stored_chunks_{state.name.lower()}": now.chunks[state] for state in Safety}
            self._figures |= {f"stored_bytes_{state.name.lower()}": now.bytes[state] for state in Safety}
        self._figures["nodes_up"] = len(self.office.members.all_up(served_ns))

    # --- files ----------------------------------------------------------------------------------------------------

    def _on_files_at_risk(self, ctx: Context, call: CallInFlight) -> None:
        operation = call.operation
        assert isinstance(operation, FilesAtRisk)
        try:
            search = self._searches.begin(call.serial, operation)
        except DSAError as error:
            self.office.answer(ctx, call.serial, failure(error))
            return
        self.office.detach(ctx, call)
        self._walk(ctx, (self.name, "search", call.serial), search.walk)

    def _on_search(self, ctx: Context, serial: int, result: CensusTaken | Failure) -> None:
        if isinstance(result, Failure):
            self._searches.give_up(serial)
            self.office.answer(ctx, serial, result)
            return
        search = self._searches.find(serial)
        if search.take(result):
            self.office.answer(ctx, serial, self._searches.end(serial))
        else:
            self._walk(ctx, (self.name, "search", serial), search.walk)

    def _on_census(self, ctx: Context, result: CensusTaken | Failure) -> None:
        if isinstance(result, Failure):
            self._census.give_up()
        elif (walk := self._census.take(result, self.office.at(ctx).served_ns)) is not None:
            self._walk(ctx, (self.name, "census"), walk)

    def _walk(self, ctx: Context, token: tuple[Any, ...], walk: Walk) -> None:
        there = present(self.office.members, self.office.at(ctx).served_ns)
        ctx.run(token, CATALOG_LANE, walk.slice(there))

    def _with_files(self, ctx: Context, tally: Tally, answer: HealthReport) -> HealthReport:
        """While all chunks are healthy so are all files; else what the last census found, and a new one if it is time."""
        if not (answer.degraded_chunks or answer.endangered_chunks or answer.lost_chunks):
            self._census.forget()
            return structs.replace(answer, files=[tally.files, 0, 0, 0])
        served_ns = self.office.at(ctx).served_ns
        if (walk := self._census.begin(served_ns)) is not None:
            self._walk(ctx, (self.name, "census"), walk)
        if (last := self._census.last) is None:
            return answer
        return structs.replace(answer, files=list(last.files), files_age_ms=(served_ns - last.ended_ns) // 1_000_000)

    # --- the answer -----------------------------------------------------------------------------------------------

    def _report(self, ctx: Context, tally: Tally, without: frozenset[int]) -> HealthReport:
        office, served_ns = self.office, self.office.at(ctx).served_ns
        moves = office.mover.statistics()
        healing = Healing(
            moves["moves"],
            moves["moves_bytes"],
            moves["moves_rate"],
            office.survey.statistics()["survey_stuck"],
            0 if without else self._count_apart(tally, served_ns),
            office.haste.held(served_ns),
            office.survey.delays(served_ns),
        )
        answer = report(tally, office.members, served_ns, office.settings.default_redundancy, healing, without)
        answer = office.converter.discounted(answer)
        catalog = office.copies.safety(ctx)
        answer = structs.replace(
            answer, notes=[*catalog.notes, *answer.notes], catalog=catalog.line, catalog_at_risk=catalog.at_risk
        )
        return answer if without else self._with_files(ctx, tally, answer)

    def _count_apart(self, tally: Tally, served_ns: int) -> int:
        members = self.office.members
        view = {
            state.row.node: NodeView(members.standing(state.row.node, served_ns), state.row.zone, state.row.host)
            for state in members
        }
        return chunks_apart(tally.holders, view, self.office.survey.rooms_apart(served_ns))

    def statistics(self) -> Mapping[str, int]:
        return self._figures

    def asking(self) -> Iterable[int]:
        return [*self._asking, *self._searches.serials()]
