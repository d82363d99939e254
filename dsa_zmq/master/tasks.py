"""Tasks: they are planned and begun for people, watched while they run, and finished when their goal is reached.

What is to be done for a task is the survey's worry: a node that leaves is a column of its row, an excess is told to the
survey. Here is only asked, again and again, how much is left; so a master that has just started goes on by itself.

A node is empty when no place, move or drop names it and no upload may put a shard there. The tallies tell of live places;
damaged ones are looked for at the end, once, in a walk over all places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.core import Context
from dsa_zmq.errors import Invalid
from dsa_zmq.master.calls import CallInFlight, failure
from dsa_zmq.master.catalog.task_jobs import (
    FindPlaces,
    FinishTask,
    LookAtTasks,
    PlacesFound,
    PlanTask,
    Seen,
    TaskRequest,
    TasksSeen,
    View,
)
from dsa_zmq.master.department import CATALOG_LANE, Department, OnOperation
from dsa_zmq.master.members import DOWN
from dsa_zmq.master.office import Office, TellPlan
from dsa_zmq.master.plans import CONVERT, DRAIN, REBALANCE, REMOVE, SCRUB, Walked
from dsa_zmq.master.settings import nanoseconds
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import Standing, Why
from dsa_zmq.protocol.operations import BeginTask, EndTask, ListTasks, MakePlan, Operation, Planned, Result, Tasks
from dsa_zmq.protocol.values import Failure, Plan, TaskInfo

ROUNDS = 20  #: of rebalancing: what is uneven then stays so, as domains and sizes of nodes want it
EMPTY = "may be switched off"
AS_EVEN = "as even as zones, hosts and sizes of nodes allow"

Prepared = Walked | Plan | None
"""What a plan needs that the catalog's worker cannot find in one job."""
ThenPrepared = Callable[[Context, "Prepared | Failure"], None]


@dataclass(slots=True)
class _Watch:
    """A task that runs, since it was first seen by this master. Times are serving time."""

    since_ns: int
    bytes_first: int  #: done by then
    again_ns: int = 0  #: when the survey is to look anew for what is left
    is_walking: bool = False  #: all places are looked through for those that no tally counts, or by nodes for damage


@dataclass(slots=True)
class _Balancing:
    """Nodes give a share of their places away, until all are filled alike. Rounds follow each other, since the share is of
    places and not of bytes."""

    task: int  #: 0: nobody asked for it
    shares: dict[int, float] = field(default_factory=dict)  #: of the places that were there at first
    rounds: int = 0


class TaskDesk(Department):
    """See the module."""

    name = "tasks"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        pace = office.settings.pace
        self._idle_ns = nanoseconds(pace.degraded_delay_s)  # as long as a host may take to come back
        self._pause_ns = 5 * nanoseconds(pace.retry_first_s)
        self._again_ns = 0  #: when to look although nothing is known to run
        self._watched: dict[int, _Watch] = {}
        self._balancing: _Balancing | None = None
        self._is_looking = False
        self._asking: dict[int, None] = {}  #: serials of the calls that wait for a look
        self._decided: dict[int, Result] = {}  #: answers that wait until the members are as the catalog says now
        self._riding: dict[int, Result] = {}  #: the same, with the look that goes on
        self._serving: dict[int, None] = {}  #: serials of the calls that wait for a job of their own
        self._plans: dict[int, TellPlan] = {}  #: who waits for a plan
        self._planned = 0
        for kind in (DRAIN, REMOVE, REBALANCE, CONVERT, SCRUB):
            office.plans[kind] = self._plan
        self._changed = True  #: something was begun or cancelled, here or by an earlier master

    def operations(self) -> Mapping[type[Operation], OnOperation]:
        return {BeginTask: self._on_change, EndTask: self._on_change, ListTasks: self._on_list}

    # --- what people ask ------------------------------------------------------------------------------------------

    def _plan(self, ctx: Context, wanted: MakePlan, tell: TellPlan) -> None:
        """One of the kinds that are planned here."""

        def prepared(ctx: Context, made: Prepared | Failure) -> None:
            if isinstance(made, Failure):
                tell(ctx, made)
                return
            self._planned += 1
            self._plans[self._planned] = tell
            job = PlanTask(wanted, self._view(ctx), made if isinstance(made, Walked) else None)
            ctx.run((self.name, "plan", self._planned), CATALOG_LANE, job)

        self._prepare(ctx, wanted, prepared)

    def _on_change(self, ctx: Context, call: CallInFlight) -> None:
        self.office.detach(ctx, call)
        self._serving[call.serial] = None

        def prepared(ctx: Context, made: Prepared | Failure) -> None:
            if isinstance(made, Failure):
                del self._serving[call.serial]
                self.office.answer(ctx, call.serial, made)
                return
            wall_ns, view = self.office.at(ctx).wall_ns, self._view(ctx)
            walked, plan = made if isinstance(made, Walked) else None, made if isinstance(made, Plan) else None
            job = TaskRequest(
                call.operation, call.session, call.number, call.done_below, wall_ns, view=view, walked=walked, plan=plan
            )
            ctx.run((self.name, "serve", call.serial), CATALOG_LANE, job)

        if isinstance(call.operation, BeginTask):
            self._prepare(ctx, call.operation, prepared)
        else:
            prepared(ctx, None)

    def _prepare(self, ctx: Context, operation: MakePlan | BeginTask, then: ThenPrepared) -> None:
        """What has to be known before the catalog can plan: for a conversion the files; of what others plan, their plan."""
        kind = operation.kind
        if kind == CONVERT:
            try:
                if operation.argument:
                    parse_redundancy(operation.argument)
            except Invalid as error:
                then(ctx, failure(error))
            else:
                self.office.converter.count(ctx, operation.subject, operation.argument, then)
        elif kind in self.office.plans and self.office.plans[kind] != self._plan:
            self.office.plans[kind](ctx, MakePlan(kind, operation.subject, operation.argument), then)
        else:
            then(ctx, None)

    def _on_list(self, ctx: Context, call: CallInFlight) -> None:
        self.office.detach(ctx, call)
        self._asking[call.serial] = None
        self._look(ctx)

    # --- what happens ---------------------------------------------------------------------------------------------

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        if self._changed or self._watched or self._balancing is not None or served_ns >= self._again_ns:
            self._look(ctx)

    def _look(self, ctx: Context) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._riding, self._decided = self._decided, {}
            ctx.run((self.name, "look"), CATALOG_LANE, LookAtTasks(self._view(ctx)))

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        match token:
            case (_, "plan", number):
                self._plans.pop(number)(ctx, result.plan if isinstance(result, Planned) else result)
            case (_, "serve", serial):
                del self._serving[serial]
                if isinstance(result, Failure):
                    self.office.answer(ctx, serial, result)
                else:
                    self._decided[serial] = result
                    if isinstance(result, Tasks) and (began := self.office.when_begun.get(result.tasks[0].plan.kind)):
                        began(ctx)
                    self._look(ctx)
            case (_, "look"):
                self._is_looking = False
                if isinstance(result, Failure):
                    self._tell(ctx, result)
                else:
                    self._on_seen(ctx, result)
                riding, self._riding = self._riding, {}
                for serial, answer in riding.items():
                    self.office.answer(ctx, serial, answer)
                if self._decided:
                    self._look(ctx)
            case (_, "walk", task, node):
                self._on_walked(ctx, task, node, result)
            case (_, "finish", task):
                self._on_finished(ctx, task, result)

    def _on_seen(self, ctx: Context, seen: TasksSeen) -> None:
        served_ns = self.office.at(ctx).served_ns
        self._again_ns = served_ns + self._idle_ns
        self._changed = False
        self._follow(ctx, seen)
        running = {each.info.task: each for each in seen.running}
        for task in [task for task in self._watched if task not in running]:
            del self._watched[task]
            self.office.scrubs.end(task)
        infos = []
        for task, each in running.items():
            watch = self._watched.setdefault(task, _Watch(served_ns, each.info.bytes_done))
            infos.append(self._described(each, watch, served_ns))
            if each.info.plan.kind == DRAIN and not watch.is_walking and self._looks_empty(each):
                watch.is_walking = True
                self._walk(ctx, task, each.node, (0, 0))
            if each.info.plan.kind == DRAIN:
                self._look_again(ctx, each, watch, served_ns)
                if each.busy and not each.shards_left:  # all that is left is drops, and their next round may be far
                    self.office.garbage.hurry(ctx)
            if each.info.plan.kind == SCRUB:
                self._scrub(ctx, task, each.node, watch)
        self._balance(ctx, seen, running)
        converting = {task: each.info.plan for task, each in running.items() if each.info.plan.kind == CONVERT}
        self.office.converter.follow(ctx, {task: (plan.subject, plan.argument) for task, plan in converting.items()})
        self._tell(ctx, Tasks([*infos, *seen.ended]))

    def _scrub(self, ctx: Context, task: int, node: int, watch: _Watch) -> None:
        """Each node is told once by a master; one that has begun already goes on."""
        if not watch.is_walking:
            watch.is_walking = True
            self.office.scrubs.begin(ctx, task, [node] if node else [state.row.node for state in self.office.members])
        elif not self.office.scrubs.left(task):
            self._finish(ctx, task, "")

    def _tell(self, ctx: Context, answer: Tasks | Failure) -> None:
        asking, self._asking = self._asking, {}
        for serial in asking:
            self.office.answer(ctx, serial, answer)

    def _follow(self, ctx: Context, seen: TasksSeen) -> None:
        """The members are as the catalog says."""
        members, served_ns = self.office.members, self.office.at(ctx).served_ns
        changed = False
        for state in list(members):
            row = state.row
            if row.node in seen.removed:
                if members.state(row.node, served_ns) == DOWN:  # else it is just coming back
                    ctx.log("node-removed", node=row.name)
                    members.remove(row.node)
                    changed = True
            elif row.draining != (row.node in seen.draining):
                ctx.log("node-draining", node=row.name, draining=not row.draining)
                members.update(msgspec.structs.replace(row, draining=not row.draining))
                changed = True
                if row.draining:
                    self.office.mover.call_off(ctx, Why.DRAIN)
        if changed:
            self.office.survey.begin(ctx, thorough=True)

    def _described(self, each: Seen, watch: _Watch, served_ns: int) -> TaskInfo:
        """With how long it takes, as far as that can be told, and what it waits for."""
        info = each.info
        if info.plan.kind == CONVERT:
            shards, size, note = self.office.converter.done(info.task)
            info = msgspec.structs.replace(info, moves_done=shards, bytes_done=size, note=note)
            each = msgspec.structs.replace(each, info=info, bytes_left=max(0, info.plan.bytes - size))
        done, passed_ns = info.bytes_done - watch.bytes_first, served_ns - watch.since_ns
        left = int(each.bytes_left * passed_ns / done / 1e9) if done > 0 and each.bytes_left else -1
        return msgspec.structs.replace(info, seconds_left=left, note=self._waits_for(each, served_ns))

    def _waits_for(self, each: Seen, served_ns: int) -> str:
        kind = each.info.plan.kind
        if (held := self.office.haste.held(served_ns)) and kind in (DRAIN, REBALANCE):
            return f"waits: {held}"
        if kind != DRAIN:
            return each.info.note
        standing = self.office.members.standing(each.node, served_ns)
        if standing is not Standing.LEAVES:
            return "waits: the node is not up"
        if each.shards_left and self._is_still() and not each.busy:
            return "waits: no other node can take what is left; add nodes or room"
        if not each.shards_left and each.busy:
            return "waits until the node has dropped what others have now"
        if not each.shards_left and self.office.uploads.reserved_bytes(each.node):
            return "waits for uploads that began before"
        return ""

    # --- the end of a drain ---------------------------------------------------------------------------------------

    def _look_again(self, ctx: Context, each: Seen, watch: _Watch, served_ns: int) -> None:
        """Something is left and nothing is done about it: uploads that began before may have put it there since."""
        if each.shards_left and self._is_still() and served_ns >= watch.again_ns:
            watch.again_ns = served_ns + self._pause_ns
            self.office.survey.begin(ctx)

    def _looks_empty(self, each: Seen) -> bool:
        return not each.shards_left and not each.busy and not self.office.uploads.reserved_bytes(each.node)

    def _walk(self, ctx: Context, task: int, node: int, after: tuple[int, int]) -> None:
        ctx.run((self.name, "walk", task, node), CATALOG_LANE, FindPlaces(node, after))

    def _on_walked(self, ctx: Context, task: int, node: int, result: PlacesFound | Failure) -> None:
        watch = self._watched.get(task)
        if watch is None:
            return
        if isinstance(result, Failure) or result.chunks:
            watch.is_walking = False
            if not isinstance(result, Failure):
                self.office.survey.look_at(ctx, result.chunks)
        elif result.next is not None:
            self._walk(ctx, task, node, result.next)
        else:
            self._finish(ctx, task, EMPTY)

    def _finish(self, ctx: Context, task: int, note: str) -> None:
        ctx.run((self.name, "finish", task), CATALOG_LANE, FinishTask(task, self.office.at(ctx).wall_ns, note))

    def _on_finished(self, ctx: Context, task: int, result: bool | Failure) -> None:
        if result is True:
            ctx.log("task-done", task=task)
            self._changed = True
        elif (watch := self._watched.get(task)) is not None:
            watch.is_walking = False  # something has come meanwhile

    # --- rebalancing ----------------------------------------------------------------------------------------------

    def _balance(self, ctx: Context, seen: TasksSeen, running: Mapping[int, Seen]) -> None:
        """The next round, if the last one has had its effect; or the end."""
        asked = next((task for task, each in running.items() if each.info.plan.kind == REBALANCE), 0)
        going = self._balancing
        if going is not None and going.task and not asked:  # cancelled, or finished
            self._stop_balancing(ctx)
            return
        if going is None or (asked and not going.task):
            if not asked and not (seen.uneven and self._is_calm(ctx)):
                return
            ctx.log("rebalancing", asked=bool(asked), nodes=len(seen.surplus))
            going = self._balancing = _Balancing(asked)
        elif not self._is_still() or self.office.mover.moves.because(Why.REBALANCE):
            return
        if not seen.surplus or going.rounds >= ROUNDS:
            if going.task:
                self._finish(ctx, going.task, AS_EVEN if seen.surplus else "")
            else:
                self._stop_balancing(ctx)
            return
        going.rounds += 1
        for node, size in seen.surplus.items():
            before = going.shares.get(node, 0.0)  # places up to that share have gone already
            going.shares[node] = before + (1 - before) * size / seen.held[node]
        for node in going.shares.keys() - seen.surplus.keys():
            del going.shares[node]
        self.office.survey.aim(ctx, going.shares, going.task)

    def _stop_balancing(self, ctx: Context) -> None:
        self._balancing = None
        self.office.mover.call_off(ctx, Why.REBALANCE)
        self.office.survey.aim(ctx, {}, 0)

    def _is_calm(self, ctx: Context) -> bool:
        """Whether it is a time to move things for no pressing reason."""
        served_ns = self.office.at(ctx).served_ns
        standings = self.office.members.standings(served_ns).values()
        return not self.office.haste.held(served_ns) and all(each is Standing.KEEPS for each in standings)

    def _is_still(self) -> bool:
        """Whether the survey has said all that it has to say, and no move is left."""
        return self.office.survey.is_idle and not len(self.office.mover.moves)

    # --- what is so -----------------------------------------------------------------------------------------------

    def _view(self, ctx: Context) -> View:
        office, pace, served_ns = self.office, self.office.settings.pace, self.office.at(ctx).served_ns
        return View(
            office.members.standings(served_ns),
            {node: room.other for node, room in office.survey.rooms(served_ns).items()},
            pace.node_bytes_s,
            pace.balanced_within,
            pace.trickle_above,
        )

    def asking(self) -> Iterable[int]:
        return [*self._asking, *self._serving, *self._decided, *self._riding]

    def statistics(self) -> Mapping[str, int]:
        return {"tasks": len(self._watched), "rebalancing": int(self._balancing is not None)}

    def __repr__(self) -> str:
        return f"<TaskDesk {len(self._watched)} run, {self._balancing}>"

    def check_invariants(self) -> None:
        waiting = self._asking or self._decided or self._riding
        assert self._is_looking or not waiting, "who waits is answered by the look that goes on, or the next"
