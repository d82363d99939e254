"""Conversions: files below a path are walked, and each that is stored otherwise gets a new content, some at a time.

A file goes through: its pages are made (rows and moves), the moves arrive, all pages are looked through, the contents are
exchanged. What a restart of the master interrupts is begun anew: whatever is as it should be is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.core import Context
from dsa_zmq.master.catalog.convert_rules import (
    Branch,
    CheckPage,
    ConvertPage,
    Exchange,
    FilesFound,
    FoundFile,
    PageConverted,
    WalkFiles,
)
from dsa_zmq.master.catalog.jobs import ExpireUploads
from dsa_zmq.master.catalog.move_rules import PlannedMove
from dsa_zmq.master.catalog.task_jobs import FinishTask
from dsa_zmq.master.department import CATALOG_LANE, Department
from dsa_zmq.master.office import Office
from dsa_zmq.master.plans import Walked
from dsa_zmq.model.holders import safety
from dsa_zmq.model.limits import chunks_per_page
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import Why
from dsa_zmq.protocol.operations import HealthReport
from dsa_zmq.protocol.values import Failure

FILES_AT_ONCE = 32  #: under way for one task: moves are limited anyway, this bounds what a restart repeats
QUEUE = 500  #: found files that wait: then the walk does
ROUNDS = 3  #: over all files, while some have changed meanwhile or failed
CHECKS = 100  #: looks at a page whose shards do not come, one each tick: the survey has time to make them anew
MAX_SHARED = 10_000  #: contents with several names that are remembered, to be shared again

Then = Callable[[Context, "Walked | Failure"], None]


@dataclass(slots=True)
class _Making:
    """A hidden content that is to take the place of a file's."""

    file: FoundFile
    content: int
    pages: int
    made: int = 0  #: pages
    checked: int = 0  #: pages
    checks: int = 0  #: in vain
    busy: bool = False  #: a job is at work
    chunks: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Run:
    """One task."""

    task: int
    path: str
    redundancy: str
    branches: tuple[Branch, ...] | None = None  #: None: the walk has not begun
    walking: bool = False
    queue: deque[FoundFile] = field(default_factory=deque)
    making: dict[int, _Making] = field(default_factory=dict)  #: by hidden content
    shared: dict[tuple[int, str], int] = field(default_factory=dict)  #: (old content, redundancy) -> new content
    exchanging: int = 0
    rounds: int = 1
    again: int = 0  #: files that could not be converted in this round
    note: str = ""
    done_bytes: int = 0
    done_chunks: int = 0
    finished: bool = False


class Converter(Department):
    """See the module. Others find it as ``office.converter``."""

    name = "convert"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._runs: dict[int, _Run] = {}
        self._counts: dict[int, tuple[str, Walked, Then]] = {}
        self._last = 0
        office.converter = self

    # --- for others -----------------------------------------------------------------------------------------------

    def count(self, ctx: Context, path: str, redundancy: str, then: Then) -> None:
        """What a conversion would have to do."""
        self._last += 1
        self._counts[self._last] = (redundancy, Walked(), then)
        ctx.run((self.name, "count", self._last), CATALOG_LANE, WalkFiles(path, redundancy))

    def follow(self, ctx: Context, tasks: Mapping[int, tuple[str, str]]) -> None:
        """These tasks run, with their paths and redundancies; all others have ended."""
        for task in [task for task in self._runs if task not in tasks]:
            run = self._runs.pop(task)
            if run.making:
                ctx.run((self.name, "expired"), CATALOG_LANE, ExpireUploads(list(run.making)))
            if not self._runs:
                self.office.mover.call_off(ctx, Why.CONVERT)
        for task, (path, redundancy) in tasks.items():
            if task not in self._runs:
                self._runs[task] = _Run(task, path, redundancy)
                self._go(ctx, self._runs[task])

    def done(self, task: int) -> tuple[int, int, str]:
        """Shards and bytes that were made for this task under this master, and what it waits for."""
        run = self._runs.get(task)
        return (0, 0, "") if run is None else (run.done_chunks, run.done_bytes, run.note)

    def discounted(self, report: HealthReport) -> HealthReport:
        """Without the chunks that are only being made for hidden contents: nobody can miss them."""
        counts = {
            name: getattr(report, name) for name in report.__struct_fields__ if name.endswith(("_chunks", "_bytes"))
        }
        pending: dict[int, tuple[PlannedMove, int]] = {}
        for each in self.office.mover.moves.because(Why.CONVERT):
            plan = each.plan
            pending[plan.chunk] = plan, pending.get(plan.chunk, (plan, 0))[1] + 1
        for plan, missing in pending.values():
            redundancy = parse_redundancy(plan.redundancy)
            state = safety(redundancy.shards - missing, redundancy).name.lower()
            for name, size in ((f"{state}_chunks", 1), (f"{state}_bytes", plan.chunk_length)):
                counts[name] = max(0, counts[name] - size)
        return msgspec.structs.replace(report, **counts)

    # --- what happens ---------------------------------------------------------------------------------------------

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        for run in list(self._runs.values()):
            self._go(ctx, run)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        match token:
            case (_, "count", number):
                self._on_counted(ctx, number, result)
                return
            case (_, "expired"):
                return
        run = self._runs.get(token[2])
        if run is None:
            if token[1] == "page" and not isinstance(result, Failure) and result is not None:
                self.office.mover.planned(ctx, result.moves)  # rows that go with their content
            return
        match token:
            case (_, "walk", _):
                self._on_walked(run, result)
            case (_, "page", _, content):
                self._on_page(ctx, run, content, result)
            case (_, "check", _, content):
                self._on_checked(ctx, run, content, result)
            case (_, "exchange", _, file, content):
                self._on_exchanged(run, file, content, result)
            case (_, "finish", _):
                run.finished = result is True
        self._go(ctx, run)

    def _on_counted(self, ctx: Context, number: int, result: FilesFound | Failure) -> None:
        redundancy, walked, then = self._counts.pop(number)
        if isinstance(result, Failure):
            then(ctx, result)
            return
        for file in result.files:
            walked.add(file.size, file.chunks, file.has, file.wants)
        if result.branches:
            self._counts[number] = (redundancy, walked, then)
            ctx.run((self.name, "count", number), CATALOG_LANE, WalkFiles("", redundancy, result.branches))
        else:
            then(ctx, walked)

    # --- a task ---------------------------------------------------------------------------------------------------

    def _go(self, ctx: Context, run: _Run) -> None:
        """Everything that can be done now."""
        if run.finished or not self.office.mover.is_loaded:
            return
        if run.branches is None or (run.branches and len(run.queue) < QUEUE):
            self._walk(ctx, run)
        moving = {pending.plan.chunk for pending in self.office.mover.moves.because(Why.CONVERT)}
        for making in list(run.making.values()):
            self._advance(ctx, run, making, moving)
        for _ in range(len(run.queue)):
            if len(run.making) >= FILES_AT_ONCE:
                break
            self._begin(ctx, run, run.queue.popleft())
        idle = not (run.walking or run.queue or run.making or run.exchanging)
        if idle and run.branches == ():
            self._end_round(ctx, run)

    def _walk(self, ctx: Context, run: _Run) -> None:
        if not run.walking:
            run.walking = True
            path = run.path if run.branches is None else ""
            ctx.run((self.name, "walk", run.task), CATALOG_LANE, WalkFiles(path, run.redundancy, run.branches or ()))

    def _on_walked(self, run: _Run, result: FilesFound | Failure) -> None:
        run.walking = False
        if isinstance(result, Failure):  # its path is not there any more
            run.branches, run.note, run.again, run.rounds = (), result.message, run.again + 1, ROUNDS
        else:
            run.queue += result.files
            run.branches = result.branches

    def _begin(self, ctx: Context, run: _Run, file: FoundFile) -> None:
        key = (file.content, file.wants)
        if key in run.shared:
            self._exchange(ctx, run, file, run.shared[key])
        elif any((each.file.content, each.file.wants) == key for each in run.making.values()):
            run.queue.append(file)  # another name of the same content: they will share the new one, too
        else:
            content = self.office.allocator.draw(1)[0]  # before its chunks: whatever is older than it is not of it
            pages = -(-file.chunks // chunks_per_page(file.chunk_bytes))
            run.making[content] = _Making(file, content, pages)
            self._advance(ctx, run, run.making[content], set())

    def _advance(self, ctx: Context, run: _Run, making: _Making, moving: set[int]) -> None:
        """The next step of a file, if it can be made now."""
        if making.busy:
            return
        file, per_page = making.file, chunks_per_page(making.file.chunk_bytes)
        if making.made < making.pages:
            room = self.office.mover.moves.room[1]
            if room >= per_page * parse_redundancy(file.wants).shards:
                ids = tuple(self.office.allocator.draw(min(per_page, file.chunks - making.made * per_page)))
                making.chunks.update(ids)
                conditions = self.office.survey.conditions(self.office.at(ctx).served_ns)
                job = ConvertPage(run.task, file, making.content, making.made, ids, conditions)
                self._run(ctx, run, making, "page", job)
        elif moving.isdisjoint(making.chunks):
            if making.checked < making.pages:
                self._run(ctx, run, making, "check", CheckPage(making.content, making.checked))
            else:
                del run.making[making.content]
                self._exchange(ctx, run, file, making.content)

    def _run(self, ctx: Context, run: _Run, making: _Making, what: str, job: ConvertPage | CheckPage) -> None:
        making.busy = True
        ctx.run((self.name, what, run.task, making.content), CATALOG_LANE, job)

    def _on_page(self, ctx: Context, run: _Run, content: int, result: PageConverted | Failure | None) -> None:
        making = run.making[content]
        making.busy = False
        if isinstance(result, PageConverted):
            making.made += 1
            run.note = ""
            self.office.mover.planned(ctx, result.moves)
        else:
            if isinstance(result, Failure):
                run.note = f"waits: {result.message}"
            self._abandon(ctx, run, making)

    def _on_checked(self, ctx: Context, run: _Run, content: int, result: bool | Failure | None) -> None:
        making = run.making[content]
        if result is True:
            making.busy = False
            making.checked += 1
            making.checks = 0
            return
        making.checks += 1
        if result is None or making.checks >= CHECKS:
            self._abandon(ctx, run, making)
        else:  # some moves were given up: what has come is copied by the survey
            self.office.survey.begin(ctx)
            ctx.set_timer((self.name, "later", run.task, content), self._pause_ns)

    @property
    def _pause_ns(self) -> int:
        return int(self.office.settings.heartbeat_s * 1e9)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        run = self._runs.get(token[2])
        making = run.making.get(token[3]) if run is not None else None
        if making is not None:
            making.busy = False

    def _abandon(self, ctx: Context, run: _Run, making: _Making) -> None:
        """This file is tried again in the next round."""
        del run.making[making.content]
        run.again += 1
        ctx.run((self.name, "expired"), CATALOG_LANE, ExpireUploads([making.content]))

    def _exchange(self, ctx: Context, run: _Run, file: FoundFile, content: int) -> None:
        run.exchanging += 1
        job = Exchange(file, content, self.office.at(ctx).wall_ns)
        ctx.run((self.name, "exchange", run.task, file, content), CATALOG_LANE, job)

    def _on_exchanged(self, run: _Run, file: FoundFile, content: int, result: bool | Failure) -> None:
        run.exchanging -= 1
        if result is True:
            if len(run.shared) < MAX_SHARED:
                run.shared[file.content, file.wants] = content
            made = parse_redundancy(file.wants)
            run.done_chunks += file.chunks * made.shards
            run.done_bytes += made.stored_bytes(file.size)
        else:  # it shows another content now, or is gone: the next round will see
            run.shared.pop((file.content, file.wants), None)
            run.again += 1

    def _end_round(self, ctx: Context, run: _Run) -> None:
        if run.again and run.rounds < ROUNDS:
            run.rounds, run.again, run.branches = run.rounds + 1, 0, None
            return
        run.finished = True  # unless the catalog says otherwise
        note = (
            run.note.removeprefix("waits: ") or "some files have changed meanwhile: apply it again" if run.again else ""
        )
        wall_ns = self.office.at(ctx).wall_ns
        ctx.run((self.name, "finish", run.task), CATALOG_LANE, FinishTask(run.task, wall_ns, note, bool(run.again)))

    def statistics(self) -> Mapping[str, int]:
        return {"conversions": len(self._runs), "converting": sum(len(run.making) for run in self._runs.values())}

    def __repr__(self) -> str:
        return f"<Converter {[(run.path, len(run.queue), len(run.making)) for run in self._runs.values()]}>"
