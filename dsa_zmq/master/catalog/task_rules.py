"""Tasks: what people have begun, and the cluster itself. A task only sets a goal; the survey does the work.

A kind of task is an entry in :data:`KINDS`: how it is planned, and what its beginning and its end change in the catalog. To
plan one and to begin it run the same code over the same rows, so that what was shown is what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from dsa_zmq.errors import Invalid, NotFound, from_code
from dsa_zmq.master.catalog.facts import Facts, next_seq
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.catalog.node_rules import ALL_NODES, RUNNING_TASKS, retire
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.survey_rules import ALL_HOLDERS
from dsa_zmq.master.catalog.tables import (
    CANCELLED,
    DONE,
    DROPS,
    FAILED,
    INODES,
    INVENTORIES,
    MOVES,
    NODES,
    PLACES,
    RUNNING,
    TASKS,
    StoreRow,
    TaskRow,
)
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
from dsa_zmq.master.plans import (
    CONVERT,
    DRAIN,
    GC,
    LOST,
    REBALANCE,
    REMOVE,
    SCRUB,
    Cluster,
    Held,
    PlannedNode,
    is_uneven,
    plan_convert,
    plan_drain,
    plan_rebalance,
    plan_remove,
    plan_scrub,
    surplus,
)
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.operations import BeginTask, Done, EndTask, MakePlan, Planned, Tasks
from dsa_zmq.protocol.values import Plan, TaskInfo

MAX_RUNNING = 100  #: tasks at once: far more than nodes are emptied together
KEEP_ENDED = 20  #: tasks that have ended are shown, the last ones
PLACES_AT_ONCE = 2_500  #: a slice of a walk over places: some 10 ms
STATES = {RUNNING: "running", DONE: "done", CANCELLED: "cancelled", FAILED: "failed"}

ENDED_TASKS: Scan[TaskRow] = Scan(
    f"SELECT {TASKS.columns} FROM tasks WHERE state <> {RUNNING} ORDER BY ended_ns DESC, task DESC LIMIT ?",
    TaskRow,
    (TASKS,),
    TASKS,
)
_Sums = tuple[int, int, int]
HELD_BY: Scan[_Sums] = Scan(
    "SELECT node, SUM(shards), SUM(bytes) FROM inventories GROUP BY node ORDER BY node", tuple, (INVENTORIES,)
)
MOVES_TO: Scan[tuple[int]] = Scan("SELECT COUNT(*) FROM moves WHERE node = ?", tuple, (MOVES,))
ANY_DROP: Scan[tuple[int]] = Scan("SELECT chunk FROM drops WHERE node = ? LIMIT 1", tuple, (DROPS,))
PLACES_AFTER: Scan[tuple[int, int]] = Scan(
    "SELECT chunk, node FROM places WHERE chunk > ? OR (chunk = ? AND node > ?) ORDER BY chunk, node LIMIT ?",
    tuple,
    (PLACES,),
)


# --- the cluster ------------------------------------------------------------------------------------------------------


def cluster_of(rows: Rows, view: View) -> Cluster:
    """The cluster as plans see it."""
    rows.ask([(ALL_NODES, ()), (ALL_HOLDERS, ()), (HELD_BY, ())])
    held = {node: (shards, size) for node, shards, size in rows.scan(HELD_BY)}
    nodes = []
    for row in rows.scan(ALL_NODES):
        if row.removed:
            continue
        standing = view.standings.get(row.node, Standing.AWAY)
        if row.draining and standing is Standing.KEEPS:
            standing = Standing.LEAVES
        nodes.append(
            PlannedNode(
                row.node, row.name, standing, row.zone, row.host, row.capacity, view.rooms.get(row.node, 0),
                *held.get(row.node, (0, 0)),
            )
        )  # fmt: skip
    root = rows.get(INODES, ROOT_INODE)
    assert root is not None, "a catalog has a root"
    return Cluster(nodes, [Held(*row) for row in rows.scan(ALL_HOLDERS)], root.redundancy, view.rate)


# --- kinds ------------------------------------------------------------------------------------------------------------

PlanRule = Callable[[Cluster, "PlanTask | TaskRequest", "BeginTask | MakePlan"], tuple[str, Plan]]
"""The task's subject as it is kept, and its plan. Raises DSAError for what makes no sense."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to know about one kind of task."""

    plan: PlanRule
    begin: Callable[[Rows, TaskRow], None]
    end: Callable[[Rows, TaskRow], None]  #: it is cancelled
    at_once: bool = False  #: it is done with its beginning


def _nothing(rows: Rows, task: TaskRow) -> None:
    """It has no goal in the catalog but its own row."""


def _node_named(cluster: Cluster, name: str) -> PlannedNode:
    node = cluster.named(name)
    if node is None:
        names = ", ".join(sorted(each.name for each in cluster.nodes)) or "none"
        raise NotFound(f"there is no node '{name}'", f"the nodes are: {names}")
    return node


def _plan_drain(cluster: Cluster, job: PlanTask | TaskRequest, op: BeginTask | MakePlan) -> tuple[str, Plan]:
    node = _node_named(cluster, op.subject)
    return str(node.node), plan_drain(cluster, node)


def _plan_remove(cluster: Cluster, job: PlanTask | TaskRequest, op: BeginTask | MakePlan) -> tuple[str, Plan]:
    if op.argument not in ("", LOST):
        raise Invalid(f"'{op.argument}' is nothing that can be said of a removal", f"say nothing, or '{LOST}'")
    node = _node_named(cluster, op.subject)
    return str(node.node), plan_remove(cluster, node, op.argument)


def _plan_rebalance(cluster: Cluster, job: PlanTask | TaskRequest, op: BeginTask | MakePlan) -> tuple[str, Plan]:
    if op.subject or op.argument:
        raise Invalid("rebalancing is for the whole cluster", "name nothing")
    return "", plan_rebalance(cluster, job.view.balanced_within)


def _plan_convert(cluster: Cluster, job: PlanTask | TaskRequest, op: BeginTask | MakePlan) -> tuple[str, Plan]:
    assert job.walked is not None, "what there is to convert was counted before"
    return op.subject, plan_convert(cluster, op.subject, op.argument, job.walked)


def _plan_scrub(cluster: Cluster, job: PlanTask | TaskRequest, op: BeginTask | MakePlan) -> tuple[str, Plan]:
    if op.subject:
        node = _node_named(cluster, op.subject)
        return str(node.node), plan_scrub([node], node.name)
    return "", plan_scrub(cluster.nodes, "")


def _plan_elsewhere(cluster: Cluster, job: PlanTask | TaskRequest, op: BeginTask | MakePlan) -> tuple[str, Plan]:
    assert isinstance(job, TaskRequest), "its plan is not asked for here"
    assert job.plan is not None, "it was planned before"
    return "", job.plan


def _node_of(rows: Rows, task: TaskRow) -> StoreRow:
    row = rows.get(NODES, int(task.subject))
    assert row is not None, f"nodes are never deleted: {task}"
    return row


def _set_draining(rows: Rows, task: TaskRow, draining: int) -> None:
    row = _node_of(rows, task)
    if row.draining != draining:
        rows.put(NODES, row._replace(draining=draining))


def _begin_remove(rows: Rows, task: TaskRow) -> None:
    """The node is forgotten, and with it what was to be done for it."""
    retire(rows, _node_of(rows, task), task.began_ns, "the node was removed")


KINDS: dict[str, Kind] = {
    DRAIN: Kind(
        _plan_drain, lambda rows, task: _set_draining(rows, task, 1), lambda rows, task: _set_draining(rows, task, 0)
    ),
    REMOVE: Kind(_plan_remove, _begin_remove, _nothing, at_once=True),
    SCRUB: Kind(_plan_scrub, _nothing, _nothing),
    GC: Kind(_plan_elsewhere, _nothing, _nothing, at_once=True),
    CONVERT: Kind(_plan_convert, _nothing, _nothing),
    REBALANCE: Kind(_plan_rebalance, _nothing, _nothing),
}


def _kind(name: str) -> Kind:
    kind = KINDS.get(name)
    if kind is None:
        raise Invalid(f"there is no kind of task '{name}'", f"use one of: {', '.join(sorted(KINDS))}")
    return kind


# --- rules ------------------------------------------------------------------------------------------------------------


def plan_task(rows: Rows, facts: Facts, job: PlanTask) -> Planned:
    _, plan = _kind(job.operation.kind).plan(cluster_of(rows, job.view), job, job.operation)
    return Planned(plan)


def begin_task(rows: Rows, facts: Facts, job: Request, op: BeginTask) -> Tasks:
    assert isinstance(job, TaskRequest), "whoever begins a task says how the nodes are"
    kind = _kind(op.kind)
    rows.ask([(RUNNING_TASKS, ()), (ENDED_TASKS, (2 * KEEP_ENDED,))])
    subject, plan = kind.plan(cluster_of(rows, job.view), job, op)
    running = rows.scan(RUNNING_TASKS)
    for row in running:
        if (row.kind, row.subject, row.argument) == (op.kind, subject, op.argument):
            return Tasks([_info(row)])
    if plan.refusal is not None:
        raise from_code(plan.refusal.code, plan.refusal.message, plan.refusal.remedy, plan.refusal.path)
    if len(running) >= MAX_RUNNING:
        raise Invalid(f"{len(running)} tasks run already", "wait for one of them, or cancel it")
    next_seq(rows)
    task = TaskRow(
        rows.new_id(), op.kind, subject, op.argument, RUNNING, 0, 0, 0, job.wall_ns, 0, "", msgspec.msgpack.encode(plan)
    )
    if kind.at_once:
        task = task._replace(state=DONE, ended_ns=job.wall_ns)
    kind.begin(rows, task)
    rows.put(TASKS, task)
    for old in rows.scan(ENDED_TASKS, 2 * KEEP_ENDED)[KEEP_ENDED:]:
        rows.delete(TASKS, old.task)
    return Tasks([_info(task)])


def end_task(rows: Rows, facts: Facts, job: Request, op: EndTask) -> Done:
    task = rows.get(TASKS, op.task)
    if task is None:
        raise NotFound(f"there is no task {op.task}", "'dsa nodes' and 'dsa rebalance' show what goes on")
    if task.state != RUNNING and not _is_in_force(rows, task):
        return Done(0)
    next_seq(rows)
    _kind(task.kind).end(rows, task)
    if task.state == RUNNING:
        rows.put(TASKS, task._replace(state=CANCELLED, ended_ns=job.wall_ns))
    else:
        rows.put(TASKS, task._replace(note="taken back: the node is in use again"))
    return Done(1)


def _is_in_force(rows: Rows, task: TaskRow) -> bool:
    """Whether what an ended task has brought about can be taken back: an empty node gets nothing until then."""
    return task.kind == DRAIN and task.state == DONE and bool(_node_of(rows, task).draining)


def look_at_tasks(rows: Rows, facts: Facts, job: LookAtTasks) -> TasksSeen:
    rows.ask([(RUNNING_TASKS, ()), (ENDED_TASKS, (KEEP_ENDED,))])
    cluster = cluster_of(rows, job.view)
    known = rows.scan(ALL_NODES)
    over = surplus(cluster, job.view.balanced_within)
    return TasksSeen(
        running=[_see(rows, row, cluster, over) for row in rows.scan(RUNNING_TASKS)],
        ended=[_info(row) for row in rows.scan(ENDED_TASKS, KEEP_ENDED)],
        draining=frozenset(row.node for row in known if row.draining),
        removed=frozenset(row.node for row in known if row.removed),
        held={node.node: node.bytes for node in cluster.nodes},
        surplus=over,
        uneven=is_uneven(cluster, job.view.trickle_above),
    )


def _see(rows: Rows, task: TaskRow, cluster: Cluster, over: Mapping[int, int]) -> Seen:
    info = _info(task)
    if task.kind == DRAIN:
        number = int(task.subject)
        node = next((each for each in cluster.nodes if each.node == number), None)
        shards, size = (node.shards, node.bytes) if node is not None else (0, 0)
        busy = _is_named(rows, number)
    elif task.kind == SCRUB:
        return Seen(info, int(task.subject or 0))
    elif task.kind == REBALANCE:
        number, size = 0, sum(over.values())
        shards, busy = round(info.plan.moves * size / (info.plan.bytes or 1)), False
    else:
        return Seen(info)
    done = msgspec.structs.replace(
        info, moves_done=max(0, info.plan.moves - shards), bytes_done=max(0, info.plan.bytes - size)
    )
    return Seen(done, number, shards, size, busy)


def _is_named(rows: Rows, node: int) -> bool:
    """Whether a move or a drop names this node."""
    rows.ask([(MOVES_TO, (node,)), (ANY_DROP, (node,))])
    return rows.scan(MOVES_TO, node) != [(0,)] or bool(rows.scan(ANY_DROP, node))


def find_places(rows: Rows, facts: Facts, job: FindPlaces) -> PlacesFound:
    chunk, node = job.after
    found = rows.scan(PLACES_AFTER, chunk, chunk, node, PLACES_AT_ONCE)
    chunks = [chunk for chunk, node in found if node == job.node]
    return PlacesFound(chunks, found[-1] if len(found) == PLACES_AT_ONCE else None)


def finish_task(rows: Rows, facts: Facts, job: FinishTask) -> bool:
    rows.ask([(HELD_BY, ())])
    task = rows.get(TASKS, job.task)
    if task is None or task.state != RUNNING:
        return False
    if task.kind == DRAIN:
        number = int(task.subject)
        if _is_named(rows, number) or any(node == number for node, _, _ in rows.scan(HELD_BY)):
            return False
    plan = msgspec.msgpack.decode(task.plan, type=Plan)
    next_seq(rows)
    rows.put(
        TASKS,
        task._replace(
            state=FAILED if job.failed else DONE,
            ended_ns=job.wall_ns,
            note=job.note,
            moves_done=0 if job.failed else plan.moves,
            bytes_done=0 if job.failed else plan.bytes,
        ),
    )
    return True


def _info(task: TaskRow) -> TaskInfo:
    plan = msgspec.msgpack.decode(task.plan, type=Plan)
    return TaskInfo(
        task.task, plan, STATES[task.state], task.began_ns, task.moves_done, task.bytes_done,
        0 if task.state != RUNNING else -1, task.note,
    )  # fmt: skip
