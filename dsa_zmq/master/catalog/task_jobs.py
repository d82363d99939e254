"""The jobs of tasks, and their results: see :mod:`dsa_zmq.master.catalog.task_rules`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.plans import Walked
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.operations import MakePlan
from dsa_zmq.protocol.values import Plan, TaskInfo


class View(msgspec.Struct, frozen=True):
    """The nodes as the master's actor sees them, frozen for one job."""

    standings: Mapping[int, Standing]
    rooms: Mapping[int, int]  #: bytes that moves may use, of nodes that keep
    rate: int  #: bytes a second that a node sends or takes for moves
    balanced_within: float
    trickle_above: float


class TaskRequest(Request, frozen=True):
    """BeginTask or EndTask of a client."""

    view: View
    walked: Walked | None = None  #: for a conversion: what there is to do
    plan: Plan | None = None  #: of a kind that is planned elsewhere


class PlanTask(Job, frozen=True):
    """What a task would do. Result: Planned"""

    operation: MakePlan
    view: View
    walked: Walked | None = None


class LookAtTasks(Job, frozen=True):
    """How far all tasks are. Result: TasksSeen"""

    view: View


class Seen(msgspec.Struct, frozen=True):
    """One task that runs."""

    info: TaskInfo
    node: int = 0  #: that it is about
    shards_left: int = 0
    bytes_left: int = 0
    busy: bool = False  #: a move or a drop names the node


class TasksSeen(msgspec.Struct, frozen=True):
    running: list[Seen]
    ended: list[TaskInfo]  #: the last ones first
    draining: frozenset[int]  #: nodes
    removed: frozenset[int]
    held: dict[int, int]  #: bytes of live places, by node
    surplus: dict[int, int]  #: bytes beyond its share, by node; empty: all are filled alike
    uneven: bool  #: so much that something should be done about it unasked


class FindPlaces(Job, frozen=True):
    """Places of whatever state on a node, a slice of all places. Result: PlacesFound"""

    node: int
    after: tuple[int, int] = (0, 0)  #: chunk, node


class PlacesFound(msgspec.Struct, frozen=True):
    chunks: list[int]
    next: tuple[int, int] | None  #: None: that was all


class FinishTask(Job, frozen=True):
    """This task has reached its goal, if it still runs and that is still so. Result: whether it is done"""

    task: int
    wall_ns: int
    note: str
    failed: bool = False
