"""Looking after a cluster: how it is, what is to be done, and plans that say what that would mean before it is begun."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from dsa_zmq.client import catalog_copies, given
from dsa_zmq.client.catalog_copies import CatalogBackup
from dsa_zmq.client.connection import Connection
from dsa_zmq.client.tree import stat_of
from dsa_zmq.errors import DSAError, InternalError, NotFound, Timeout, Unavailable, from_code
from dsa_zmq.model import limits, paths
from dsa_zmq.model.stat import Stat
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol import values
from dsa_zmq.protocol.values import NodeInfo, TaskInfo
from dsa_zmq.protocol.volumes import CatalogCopies, CatalogData, ReadCatalog

POLL_S = 0.2  #: between looks at a task that is waited for: the master answers within a few ms

_T = TypeVar("_T")


class Admin:
    """What people who run a cluster need; ``store.admin``. Its methods block, and may be called from any thread.

    >>> plan = store.admin.plan_drain("node-2")
    >>> print(plan)
    copy 1,234 shards with 1.2 GB from 'node-2' to 'node-1' and 'node-3', in about 12 s
    ...
    >>> plan.apply().wait()
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- how it is ------------------------------------------------------------------------------------------------

    def nodes(self) -> list[NodeInfo]:
        """All nodes, with their state and space."""
        return self.ask(op.ListNodes(), op.Nodes).nodes

    def statfs(self, redundancy: str = "") -> op.Capacity:
        """Space and counts of the whole cluster; ``storable`` for the redundancy given, or the root's."""
        return self.ask(op.Statfs(given.text("redundancy", redundancy)), op.Capacity)

    def health(self, without: Sequence[str] = ()) -> op.HealthReport:
        """How many chunks are healthy, degraded, endangered, lost; and in plain sentences what would help. As if the nodes
        named in ``without`` were lost now, too."""
        numbers = [self._node(name).node for name in without]
        return self.ask(op.Health(numbers), op.HealthReport, limits.PROGRESS_TIMEOUT_S)

    def _node(self, name: str) -> NodeInfo:
        nodes = self.nodes()
        found = next((node for node in nodes if node.name == name), None)
        if found is None:
            names = ", ".join(node.name for node in nodes) or "none"
            raise NotFound(f"there is no node '{name}'", f"the nodes are: {names}")
        return found

    # --- the catalog's copies -------------------------------------------------------------------------------------

    def catalog_copies(self) -> CatalogCopies:
        """How safe the catalog is, and which volumes of it the nodes hold, as they tell now."""
        return catalog_copies.copies(self.ask)

    def read_catalog(self, volume: int, node: str, offset: int = 0) -> bytes:
        """Some bytes of a node's copy of a volume, from there on; b"" at its end."""
        return self.ask(ReadCatalog(volume, node, offset), CatalogData, catalog_copies.PIECE_TIMEOUT_S).data

    def backup_catalog(
        self,
        file: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> CatalogBackup:
        """Write the newest copy of the catalog to a file of this machine: verified record by record, and whole or not at
        all. ``dsa catalog restore`` makes a catalog of it, ``dsa salvage`` reads it. ``progress`` is called with the bytes
        that are there, and how many there will be."""
        return catalog_copies.backup(self.ask, file, overwrite=overwrite, progress=progress)

    # --- redundancy -----------------------------------------------------------------------------------------------

    def set_redundancy(self, path: str, redundancy: str) -> Stat:
        """From now on new files in this directory, and in those below that inherit, get this; "" inherits it again from
        above. What is there already stays as it is: see :meth:`plan_convert`."""
        path = paths.normalize(path)
        return stat_of(
            path, self.ask(op.SetRedundancy(path, given.text("redundancy", redundancy)), op.Found).attributes
        )

    # --- plans and tasks ------------------------------------------------------------------------------------------

    def plan_drain(self, node: str) -> Plan:
        """Empty a node: everything on it goes to others, then it may be switched off."""
        return self.plan("drain", given.text("node", node))

    def plan_remove(self, node: str, *, lost: bool = False) -> Plan:
        """Forget a node that is switched off for good; with ``lost`` also if something is lost with it."""
        return self.plan("remove", given.text("node", node), "lost" if lost else "")

    def plan_rebalance(self) -> Plan:
        """Fill all nodes alike."""
        return self.plan("rebalance")

    def plan_convert(self, path: str, redundancy: str = "") -> Plan:
        """Give what is stored at ``path`` and below another redundancy; "" is what its directory says now."""
        return self.plan("convert", paths.normalize(path), given.text("redundancy", redundancy))

    def plan_gc(self) -> Plan:
        """Let go of what nobody holds any more, now instead of a moment later."""
        return self.plan("gc")

    def plan(self, kind: str, subject: str = "", argument: str = "") -> Plan:
        """What a task of this kind would do. Nothing is begun."""
        for name, value in (("kind", kind), ("subject", subject), ("argument", argument)):
            given.text(name, value)
        found = self.ask(op.MakePlan(kind, subject, argument), op.Planned, limits.PROGRESS_TIMEOUT_S).plan
        return Plan(self, found)

    def tasks(self) -> list[Task]:
        """Those that run, then the last that have ended."""
        return [Task(self, info) for info in self.task_infos()]

    def task_infos(self) -> list[TaskInfo]:
        """The same, as they are now."""
        return self.ask(op.ListTasks(), op.Tasks).tasks

    def ask(self, operation: op.Operation, kind: type[_T], timeout_s: float = 0) -> _T:
        """The master's answer, which has to be of this kind."""
        answer = self._connection.ask(operation, timeout_s)
        if not isinstance(answer, kind):
            raise Unavailable(f"the master answered {type(operation).__name__} with {type(answer).__name__}")
        return answer


class PlanView:
    """What a task would do. Its text says it in words; ``refusal`` says why it cannot be begun, if so."""

    def __init__(self, plan: values.Plan) -> None:
        self._plan = plan

    @property
    def kind(self) -> str:
        """drain, remove, rebalance, convert ..."""
        return self._plan.kind

    @property
    def subject(self) -> str:
        """The name of a node, a path, or ""."""
        return self._plan.subject

    @property
    def argument(self) -> str:
        """A redundancy, or ""."""
        return self._plan.argument

    @property
    def moves(self) -> int:
        """Shards to be copied or dropped."""
        return self._plan.moves

    @property
    def bytes(self) -> int:
        """To be copied, or given back."""
        return self._plan.bytes

    @property
    def seconds(self) -> float | None:
        """About; None if nobody can tell."""
        return None if self._plan.seconds < 0 else float(self._plan.seconds)

    @property
    def lines(self) -> list[str]:
        """The plan in words."""
        return list(self._plan.lines)

    @property
    def risk(self) -> list[str]:
        """Those of the lines that say what is at risk while it runs, or afterwards."""
        return [line for line in self._plan.lines if line.startswith(("risk: ", "LOST: "))]

    @property
    def refusal(self) -> DSAError | None:
        """Why it cannot be begun."""
        why = self._plan.refusal
        return None if why is None else from_code(why.code, why.message, why.remedy, why.path)

    def __str__(self) -> str:
        why = self.refusal
        return "\n".join([*self._plan.lines, *([f"cannot be done: {why}"] if why is not None else [])])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.subject}: {self.moves} moves, {self.bytes} bytes>"


class Plan(PlanView):
    """What a task would do, and a way to begin it."""

    def __init__(self, admin: Admin, plan: values.Plan) -> None:
        super().__init__(plan)
        self._admin = admin

    def apply(self) -> Task:
        """Begin it; it goes on whether anybody waits or not, also over restarts of the master. Raises what
        :attr:`refusal` says. A task that does the same and runs already is not begun again: it is returned."""
        begun = self._admin.ask(
            op.BeginTask(self.kind, self.subject, self.argument), op.Tasks, limits.PROGRESS_TIMEOUT_S
        )
        return Task(self._admin, begun.tasks[0])


class Task:
    """Something that the cluster does. ``info`` is how far it was when last asked."""

    def __init__(self, admin: Admin, info: TaskInfo) -> None:
        self._admin = admin
        self.info = info

    def __repr__(self) -> str:
        return f"<Task {self.info.plan.kind} {self.info.plan.subject} {self.info.state}>"

    @property
    def plan(self) -> Plan:
        """As it was when the task began."""
        return Plan(self._admin, self.info.plan)

    @property
    def ended(self) -> bool:
        """Whether it was done, cancelled or had failed when last asked."""
        return self.info.state != "running"

    def progress(self) -> TaskInfo:
        """How far it is now."""
        if not self.ended:
            found = next((info for info in self._admin.task_infos() if info.task == self.info.task), None)
            if found is None:
                raise InternalError(f"the master does not know its task {self.info.task} any more")
            self.info = found
        return self.info

    def wait(self, timeout: float | None = None, progress: Callable[[TaskInfo], object] | None = None) -> TaskInfo:
        """Until it has ended; :class:`Timeout` after that many seconds. ``progress`` is called after each look. It is no
        error if the task was cancelled: look at the ``state``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            info = self.progress()
            if progress is not None:
                progress(info)
            if self.ended:
                return info
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout(f"the task still runs after {timeout:g} s", info.note or "wait longer, or cancel it")
            time.sleep(POLL_S)

    def cancel(self) -> bool:
        """Nothing new is begun for it; what was done stays. Of a drain that is done: the node is used again. Whether
        there was anything to end."""
        return bool(self._admin.ask(op.EndTask(self.info.task), op.Done, limits.PROGRESS_TIMEOUT_S).count)
