"""Looking after a cluster with asyncio: ``store.admin`` of :class:`dsa_zmq.aio.AsyncStore`.

The same methods as those of :class:`dsa_zmq.client.admin.Admin`, as coroutines. Plans are data, so what they say is read
without waiting; only what asks the master is awaited.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from dsa_zmq.client.admin import POLL_S, Admin, Plan, PlanView, Task
from dsa_zmq.client.catalog_copies import CatalogBackup
from dsa_zmq.errors import Timeout
from dsa_zmq.model.stat import Stat
from dsa_zmq.protocol.operations import Capacity, HealthReport
from dsa_zmq.protocol.values import NodeInfo, TaskInfo
from dsa_zmq.protocol.volumes import CatalogCopies

_T = TypeVar("_T")


class Run(Protocol):
    """Runs a blocking call in a thread, and gives it up when the coroutine is cancelled."""

    def __call__(self, call: Callable[..., _T], *args: Any, **kwargs: Any) -> Coroutine[Any, Any, _T]: ...


class AsyncAdmin:
    """What people who run a cluster need; ``store.admin``.

    >>> plan = await store.admin.plan_drain("node-2")
    >>> print(plan)
    copy 1,234 shards with 1.2 GB from 'node-2' to 'node-1' and 'node-3', in about 12 s
    ...
    >>> task = await plan.apply()
    >>> await task.wait()
    """

    def __init__(self, admin: Admin, run: Run) -> None:
        self._admin = admin
        self._run = run

    async def nodes(self) -> list[NodeInfo]:
        """As :meth:`Admin.nodes`."""
        return await self._run(self._admin.nodes)

    async def statfs(self, redundancy: str = "") -> Capacity:
        """As :meth:`Admin.statfs`."""
        return await self._run(self._admin.statfs, redundancy)

    async def health(self, without: Sequence[str] = ()) -> HealthReport:
        """As :meth:`Admin.health`."""
        return await self._run(self._admin.health, without)

    async def catalog_copies(self) -> CatalogCopies:
        """As :meth:`Admin.catalog_copies`."""
        return await self._run(self._admin.catalog_copies)

    async def read_catalog(self, volume: int, node: str, offset: int = 0) -> bytes:
        """As :meth:`Admin.read_catalog`."""
        return await self._run(self._admin.read_catalog, volume, node, offset)

    async def backup_catalog(
        self,
        file: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> CatalogBackup:
        """As :meth:`Admin.backup_catalog`; ``progress`` is called in another thread."""
        return await self._run(self._admin.backup_catalog, file, overwrite=overwrite, progress=progress)

    async def set_redundancy(self, path: str, redundancy: str) -> Stat:
        """As :meth:`Admin.set_redundancy`."""
        return await self._run(self._admin.set_redundancy, path, redundancy)

    # --- plans and tasks ------------------------------------------------------------------------------------------

    async def plan_drain(self, node: str) -> AsyncPlan:
        """As :meth:`Admin.plan_drain`."""
        return AsyncPlan(await self._run(self._admin.plan_drain, node), self._run)

    async def plan_remove(self, node: str, *, lost: bool = False) -> AsyncPlan:
        """As :meth:`Admin.plan_remove`."""
        return AsyncPlan(await self._run(self._admin.plan_remove, node, lost=lost), self._run)

    async def plan_rebalance(self) -> AsyncPlan:
        """As :meth:`Admin.plan_rebalance`."""
        return AsyncPlan(await self._run(self._admin.plan_rebalance), self._run)

    async def plan_convert(self, path: str, redundancy: str = "") -> AsyncPlan:
        """As :meth:`Admin.plan_convert`."""
        return AsyncPlan(await self._run(self._admin.plan_convert, path, redundancy), self._run)

    async def plan_gc(self) -> AsyncPlan:
        """As :meth:`Admin.plan_gc`."""
        return AsyncPlan(await self._run(self._admin.plan_gc), self._run)

    async def plan(self, kind: str, subject: str = "", argument: str = "") -> AsyncPlan:
        """As :meth:`Admin.plan`."""
        return AsyncPlan(await self._run(self._admin.plan, kind, subject, argument), self._run)

    async def tasks(self) -> list[AsyncTask]:
        """As :meth:`Admin.tasks`."""
        return [AsyncTask(task, self._run) for task in await self._run(self._admin.tasks)]

    async def task_infos(self) -> list[TaskInfo]:
        """As :meth:`Admin.task_infos`."""
        return await self._run(self._admin.task_infos)


class AsyncPlan(PlanView):
    """What a task would do: a :class:`Plan` whose :meth:`apply` is a coroutine."""

    def __init__(self, plan: Plan, run: Run) -> None:
        super().__init__(plan._plan)
        self._begin = plan.apply
        self._run = run

    async def apply(self) -> AsyncTask:
        """As :meth:`Plan.apply`. Cancelled, it may have begun all the same: look at :meth:`AsyncAdmin.tasks`."""
        return AsyncTask(await self._run(self._begin), self._run)


class AsyncTask:
    """Something that the cluster does: a :class:`Task` whose methods are coroutines."""

    def __init__(self, task: Task, run: Run) -> None:
        self._task = task
        self._run = run

    def __repr__(self) -> str:
        return f"<Async{repr(self._task)[1:]}"

    @property
    def info(self) -> TaskInfo:
        """How far it was when last asked."""
        return self._task.info

    @property
    def plan(self) -> AsyncPlan:
        """As :attr:`Task.plan`."""
        return AsyncPlan(self._task.plan, self._run)

    @property
    def ended(self) -> bool:
        """As :attr:`Task.ended`."""
        return self._task.ended

    async def progress(self) -> TaskInfo:
        """As :meth:`Task.progress`."""
        return await self._run(self._task.progress)

    async def wait(
        self, timeout: float | None = None, progress: Callable[[TaskInfo], object] | None = None
    ) -> TaskInfo:
        """As :meth:`Task.wait`; ``progress`` is called in the loop. No thread is held between two looks, and cancelling the
        wait leaves the task alone: :meth:`cancel` ends that."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            info = await self.progress()
            if progress is not None:
                progress(info)
            if self.ended:
                return info
            if deadline is not None and loop.time() >= deadline:
                raise Timeout(f"the task still runs after {timeout:g} s", info.note or "wait longer, or cancel it")
            await asyncio.sleep(POLL_S)

    async def cancel(self) -> bool:
        """As :meth:`Task.cancel`."""
        return await self._run(self._task.cancel)
