"""The one way by which anything in the catalog changes: load by set, decide, apply by set, commit.

A batch is one transaction. Its jobs are decided one after the other against :class:`Rows`, so each sees what those before it
changed; the changes reach the database by set at the end (or when a query has to see them). No answer leaves before the
commit. While copies of the catalog are kept, the changes are sealed as records in the same transaction (:mod:`log`).

If the transaction fails without harm (disk full, a refused statement), each job is run again in one of its own, so
that one bad request cannot take others with it. Anything worse is :class:`CatalogBroken`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors.core import Job
from dsa_zmq.errors import Conflict, DSAError, InternalError, Invalid, NoSpace
from dsa_zmq.master.catalog import (
    census_rules,
    convert_rules,
    damage_rules,
    examine_rules,
    garbage,
    garbage_plan,
    health,
    inventory_rules,
    move_rules,
    namespace_rules,
    node_rules,
    read_rules,
    redundancy_rules,
    session_rules,
    slices,
    survey_rules,
    task_jobs,
    task_rules,
    upload_rules,
)
from dsa_zmq.master.catalog.ballast import Ballast
from dsa_zmq.master.catalog.examine_rules import Adopt, Declare, FindUnverified, SettleReleases
from dsa_zmq.master.catalog.facts import Facts, failure
from dsa_zmq.master.catalog.inventory_rules import BucketDigests, JudgeInventory, NodeDigests
from dsa_zmq.master.catalog.jobs import (
    CollectGarbage,
    DropsDone,
    ExpireUploads,
    LoadDrops,
    LoadNodes,
    LoadStaged,
    RegisterNode,
    Request,
)
from dsa_zmq.master.catalog.log import Log
from dsa_zmq.master.catalog.log_jobs import BeginVolume, Committed, LoadLog, ReadLog, TakeSlice, TrimLog
from dsa_zmq.master.catalog.numbers import check_numbers
from dsa_zmq.master.catalog.places import fold_places
from dsa_zmq.master.catalog.prefetch import prefetch
from dsa_zmq.master.catalog.row_cache import RowCache
from dsa_zmq.master.catalog.rows import Change, Missing, Rows
from dsa_zmq.master.catalog.session_rules import admit, check_room, keep_answer, kept_answer
from dsa_zmq.master.catalog.sql import CHECKPOINT_PAGES, CatalogBroken, Database, DiskFull, Rejected
from dsa_zmq.master.catalog.tables import RESTORED_NS, VOLUME
from dsa_zmq.protocol.operations import (
    Abort,
    Allocate,
    BeginTask,
    CloseSession,
    Commit,
    Confirm,
    Copy,
    EndTask,
    ListDirectory,
    Locate,
    MakeDirectory,
    Move,
    OpenSession,
    Remove,
    SetRedundancy,
    Stage,
    Stat,
    Statfs,
)
from dsa_zmq.protocol.values import Failure

Decide = Callable[[Rows, Facts, Any], Any]
DecideOperation = Callable[[Rows, Facts, Request, Any], Any]

STORED_RULES: dict[type, DecideOperation] = {
    MakeDirectory: namespace_rules.make_directory,
    Remove: namespace_rules.remove,
    Move: namespace_rules.move,
    Copy: namespace_rules.copy,
    Stage: upload_rules.stage,
    Commit: upload_rules.commit,
    SetRedundancy: redundancy_rules.set_redundancy,
    BeginTask: task_rules.begin_task,
    EndTask: task_rules.end_task,
}

OTHER_RULES: dict[type, DecideOperation] = {
    Stat: read_rules.stat,
    ListDirectory: read_rules.list_directory,
    Locate: read_rules.locate,
    Statfs: read_rules.statfs,
    Allocate: read_rules.check_allocation,
    Abort: upload_rules.abort,
    OpenSession: session_rules.open_session,
    CloseSession: session_rules.close_session,
}

LOG_JOBS = (LoadLog, ReadLog, TrimLog, BeginVolume, TakeSlice)
"""The jobs of log_jobs.py."""

GROWING = (MakeDirectory, Copy, Stage, Commit, Allocate)
"""Operations that wait while the disk is full. The others go on, from the ballast if need be: they give space back, or are
needed by those that do (a session), or keep what is there in reach (a node that comes back)."""


class Batches:
    """Runs batches. ``follow`` is called with the changes of each after its commit; if ``keeps_log``, they are in ``log``,
    and results come as :class:`Committed`."""

    def __init__(
        self,
        database: Database,
        facts: Facts,
        ballast: Ballast,
        upcoming: int,
        log: Log,
        keeps_log: bool,
        follow: Callable[[Sequence[Change]], None] | None = None,
    ) -> None:
        self._database = database
        self._facts = facts
        self._ballast = ballast
        self._upcoming = upcoming
        self._log = log
        self._keeps_log = keeps_log
        self._follow = follow
        self._cache = RowCache()

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """The results, in order. Raises CatalogBroken."""
        try:
            return self._transaction(jobs)
        except (DiskFull, Rejected):
            return [self._alone(job) for job in jobs]

    def _alone(self, job: Job) -> Any:
        """One job again, in a transaction of its own. On a full disk, after the log's space was freed for it; what gives
        space back then gets the ballast's too."""
        for make_room in (self._empty_log, lambda: not _grows(job) and self._give_ballast(), lambda: False):
            try:
                return self._transaction([job])[0]
            except Rejected as error:
                refused = _answer(
                    job, InternalError(f"the catalog refused the change: {error}", "report this as a bug")
                )
                return self._as_committed(refused)
            except DiskFull:
                if not make_room():
                    break
        return self._as_committed(self._without_room(job))

    def _as_committed(self, result: Any) -> Any:
        """What can be said although the transaction failed: it saw what is committed."""
        return Committed(result, self._log.position) if self._keeps_log else result

    def _empty_log(self) -> bool:
        self._database.checkpoint(at_pages=1)
        return True

    def _give_ballast(self) -> bool:
        with self._database.trouble("the ballast could not be given up"):
            return self._ballast.release() and self._empty_log()

    def _without_room(self, job: Job) -> Any:
        """What can be said while nothing can be written. That nothing was done is only true of what was never done."""
        if isinstance(job, Request) and type(job.operation) in STORED_RULES:
            read_only = msgspec.structs.replace(job, done_below=0)
            rows = Rows(self._database, self._cache, self._upcoming)
            try:
                prefetch(rows, [read_only])
                admit(rows, read_only)
                answer = kept_answer(rows, read_only)
            except DSAError as error:
                return failure(error)
            if answer is not None:
                return answer
        return _answer(job, no_space())

    def _transaction(self, jobs: Sequence[Job]) -> list[Any]:
        database, log = self._database, self._log
        rows = Rows(database, self._cache, self._upcoming, fold_places)
        database.begin()
        log.begin()
        try:
            results = self._decide(rows, jobs)
            rows.flush()
            if self._keeps_log:
                for job in jobs:
                    log.hear(getattr(job, "wall_ns", 0))
                log.seal(rows.changes)
            database.commit()
        except CatalogBroken:
            raise  # there is nothing left to roll back with
        except BaseException:
            database.rollback()
            raise
        records = log.committed()
        self._upcoming = rows.upcoming
        rows.committed()
        if self._follow is not None and rows.changes:
            self._follow(rows.changes)
        if any(isinstance(job, CollectGarbage) for job in jobs):
            with database.trouble("the ballast could not be set aside"):
                self._ballast.restore(database.unused_bytes())
        database.checkpoint(at_pages=1 if self._ballast.is_low else CHECKPOINT_PAGES)
        if not self._keeps_log:
            return results
        position = log.position
        committed = [Committed(result, position) for result in results]
        if records:
            committed[0] = Committed(results[0], position, records)
        return committed

    def _decide(self, rows: Rows, jobs: Sequence[Job]) -> list[Any]:
        done = {}
        requests = []
        for position, job in enumerate(jobs):
            if isinstance(job, Request):
                try:
                    check_numbers(job)
                except DSAError as error:
                    done[position] = failure(error)
                else:
                    requests.append(job)
            elif isinstance(job, TakeSlice):  # before anything is written: it shows what is committed
                done[position] = self._decide_one(rows, job)
        prefetch(rows, requests)
        return [
            done[position] if position in done else self._decide_one(rows, job) for position, job in enumerate(jobs)
        ]

    def _decide_one(self, rows: Rows, job: Job) -> Any:
        mark = rows.mark()
        while True:
            try:
                result = self._result(rows, job)
            except Missing as missing:
                rows.undo(mark)
                rows.fetch(missing)
            except DSAError as error:
                rows.undo(mark)
                rows.settle()
                return failure(error)
            else:
                rows.settle()
                return result

    def _result(self, rows: Rows, job: Job) -> Any:
        if not isinstance(job, Request):
            if isinstance(job, LOG_JOBS):
                return self._of_log(rows, job)
            return JOB_RULES[type(job)](rows, self._facts, job)
        kind = type(job.operation)
        rule = STORED_RULES.get(kind)
        if rule is not None:
            return self._stored(rows, job, rule)
        rule = OTHER_RULES.get(kind)
        if rule is not None:
            self._check_space(job)  # an allocation is the first step of what grows
            return rule(rows, self._facts, job, job.operation)
        raise Invalid(f"this master does not know {kind.__name__}", "use the same software on both sides")

    def _of_log(self, rows: Rows, job: LoadLog | ReadLog | TrimLog | BeginVolume | TakeSlice) -> Any:
        """What is not in rows alone."""
        log = self._log
        match job:
            case LoadLog():
                return log.state(rows.number(VOLUME), rows.number(RESTORED_NS))
            case ReadLog():
                return log.read(job.first, job.limit)
            case TrimLog():
                return log.trim(job.below)
        if not self._keeps_log:
            raise Conflict("this catalog keeps no log, so no volume of it can be made", "switch its copies on")
        if isinstance(job, BeginVolume):
            return slices.begin_volume(rows, self._facts, log, job)
        return slices.take_slice(rows, self._facts, log, self._database, job)

    def _stored(self, rows: Rows, job: Request, rule: DecideOperation) -> Any:
        """Run a changing operation once, and keep its answer with its effect."""
        session = admit(rows, job)
        answer = kept_answer(rows, job)
        if answer is not None:
            return answer
        self._check_space(job)
        check_room(session)
        mark = rows.mark()
        try:
            answer = rule(rows, self._facts, job, job.operation)
        except DSAError as error:
            rows.undo(mark)
            answer = failure(error)
        if not isinstance(answer, Confirm):  # nothing was decided: the client asks the nodes, then asks again
            keep_answer(rows, job, session, answer)
        return answer

    def _check_space(self, job: Request) -> None:
        if self._ballast.is_low and isinstance(job.operation, GROWING):
            raise no_space()


def _load_staged(rows: Rows, facts: Facts, job: LoadStaged) -> list[int]:
    return upload_rules.load_staged(rows)


def _expire(rows: Rows, facts: Facts, job: ExpireUploads) -> None:
    upload_rules.expire(rows, job.uploads)


JOB_RULES: dict[type, Decide] = {
    RegisterNode: node_rules.register_node,
    LoadNodes: node_rules.load_nodes,
    CollectGarbage: garbage.collect,
    LoadDrops: garbage.load_drops,
    DropsDone: garbage.drops_done,
    LoadStaged: _load_staged,
    ExpireUploads: _expire,
    health.TakeTally: health.take_tally,
    census_rules.TakeCensus: census_rules.take_census,
    convert_rules.WalkFiles: convert_rules.walk_files,
    convert_rules.ConvertPage: convert_rules.convert_page,
    convert_rules.CheckPage: convert_rules.check_page,
    convert_rules.Exchange: convert_rules.exchange,
    task_jobs.PlanTask: task_rules.plan_task,
    task_jobs.LookAtTasks: task_rules.look_at_tasks,
    task_jobs.FindPlaces: task_rules.find_places,
    task_jobs.FinishTask: task_rules.finish_task,
    garbage_plan.CountGarbage: garbage_plan.count_garbage,
    Declare: examine_rules.declare,
    FindUnverified: examine_rules.find_unverified,
    SettleReleases: examine_rules.settle_releases,
    Adopt: examine_rules.adopt,
    damage_rules.TakeDamage: damage_rules.take_damage,
    NodeDigests: inventory_rules.node_digests,
    BucketDigests: inventory_rules.bucket_digests,
    JudgeInventory: inventory_rules.judge_inventory,
    survey_rules.TakeStock: survey_rules.take_stock,
    survey_rules.Survey: survey_rules.survey,
    move_rules.LoadMoves: move_rules.load_moves,
    move_rules.LookAtMoves: move_rules.look_at_moves,
    move_rules.ApplyReceipts: move_rules.apply_receipts,
    move_rules.GiveUpMoves: move_rules.give_up_moves,
}


def no_space() -> NoSpace:
    return NoSpace("the disk of the master's catalog is full", "free space on it, or remove files")


def _grows(job: Job) -> bool:
    return isinstance(job, Request) and isinstance(job.operation, GROWING)


def _answer(job: Job, error: DSAError) -> Failure | DSAError:
    """An error for one job: as its answer where there is one for errors, else as the outcome of the job."""
    return failure(error) if isinstance(job, Request | RegisterNode) else error
