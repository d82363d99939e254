"""What goes wrong in a cluster at work, and the budget of it.

The budget: at any time the bytes of at most ``losses`` nodes are gone or bad, which every redundancy in use survives, until
what was lost has been made anew. Whatever else happens goes by, and nothing durable goes with it. So no acknowledged byte is
ever lost, and the cluster becomes healthy by itself.

A kind of trouble is a method of :class:`Trouble` with a place in one of the tables at the end. All that it chooses comes
from ``draw``; it asks ``spends`` before bytes go with it; and what it leaves behind :meth:`Trouble.is_over` undoes.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from actors.sim.disk import SimDisk
from actors.sim.explore import swarm
from actors.sim.faults import SECOND
from dsa_zmq.errors import DSAError
from dsa_zmq.protocol.operations import (
    BeginTask,
    EndTask,
    ListNodes,
    ListTasks,
    Locate,
    Located,
    Nodes,
    Operation,
    SetRedundancy,
    Tasks,
)
from dsa_zmq.protocol.values import NodeInfo
from dsa_zmq.sim.audit import open_store
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.repair import wait_whole
from dsa_zmq.sim.scenarios.rot import Place, Rot
from dsa_zmq.sim.users import User
from dsa_zmq.sim.workload import Worker

SMALL_SEGMENT = 64 << 10
HEAL_S = 120.0  #: a storm is waited out, and what is on an emptied node is moved twice
PATIENCE_S = 120.0  #: for an operation that has to be asked again, and for what the workers still have to do

TASKS = ("drain", "rebalance", "convert", "scrub", "gc")


def ask(cluster: SimCluster, operation: Operation) -> Any:
    """Until there is an answer that says something, an error included."""
    user = cluster.user(f"operator{len(cluster.users)}")
    end_ns = cluster.world.now_ns + int(PATIENCE_S * SECOND)
    while True:
        (answer,) = cluster.wait(user.ask(operation))
        if not isinstance(answer, DSAError) or not answer.indefinite:
            user.crash()
            return answer
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"an operator gets no answer: {answer}")


class MovedRot(Rot):
    """Of files that nobody overwrites; they may be converted, and moved, meanwhile."""

    def located(self, path: str) -> Located:
        located = ask(self.cluster, Locate(path))
        assert isinstance(located, Located), located
        return located

    def wait_found(self) -> None:
        """Until whatever has turned was found, lies there no more, or has been written again meanwhile: compaction may have
        read it just before."""
        end_ns = self.cluster.world.now_ns + int(HEAL_S * SECOND)
        while hidden := self._hidden():
            if self.cluster.world.now_ns > end_ns:
                raise Wrong(f"after {HEAL_S:g} s nobody has found {hidden[:3]}")
            self.cluster.run_for(0.5)

    def _hidden(self) -> list[Place]:
        turned = {place for place in self.turned if self.turned[place] > self.declared[place]}
        if not turned:
            return []
        return [
            place
            for shards in self.places()
            for machine, place, data in shards
            if place in turned and not _has(machine.disk, data)
        ]

    def check_disks(self) -> None:
        """Nothing bad is left on the disks of the stopped cluster."""
        for machine in self.cluster.nodes:
            with contextlib.closing(open_store(self.cluster, machine)) as store:
                if left := store.damaged():
                    raise Wrong(f"{machine.name} still has {left}")


def _has(disk: SimDisk, data: bytes) -> bool:
    """Whether these very bytes are anywhere in the segments."""
    return any(data in disk.read_bytes(f"segments/{name}") for name in disk.listdir("segments"))


class Trouble:
    """What goes wrong. Chance is ``cluster.random``; ``redundancies`` are those that files are converted to, and ``losses``
    is the budget."""

    def __init__(
        self,
        cluster: SimCluster,
        hire: Callable[[], list[Worker]],
        *,
        redundancies: Sequence[str] = ("copies=2", "copies=3"),
        losses: int = 1,
    ) -> None:
        self.cluster = cluster
        self.rot = MovedRot(cluster)
        self.rot.fill()
        self.workers = hire()
        self._redundancies = redundancies
        self._losses = losses
        self._calm = cluster.world.faults
        self._old: dict[str, SimDisk] = {}  #: copies of disks of earlier starts
        self._snapshot: tuple[NodeMachine, int, SimDisk] | None = None  #: of a disk while that process of its node ran
        self._spent = 0  #: nodes of which bytes are gone, or bad

    @property
    def draw(self) -> random.Random:
        """All chance. Who runs a plan puts another one into the cluster before each blow."""
        return self.cluster.random

    def copy_a_disk(self) -> None:
        """Some node's disk, of before its next start."""
        node = self.draw.choice(self.cluster.nodes)
        node.kept = False
        node.stop()
        self._old[node.name] = node.copy_disk()
        node.start()
        node.kept = True
        self.cluster.wait_up()

    def weather(self, seed: int) -> None:
        """Messages are lost, doubled, late, disks hesitate: as this seed has it."""
        rough = swarm(seed)
        self.cluster.world.faults = replace(
            self._calm, loss=rough.loss, duplicate=5 * rough.duplicate, spike=rough.spike, reset=rough.reset,
            unnoticed=rough.unnoticed, slow_batch=rough.slow_batch, timer_late_ns=rough.timer_late_ns,
        )  # fmt: skip

    def is_over(self) -> None:
        """Everybody goes on, and what was lost is made anew before more is."""
        cluster = self.cluster
        cluster.world.heal()
        cluster.world.faults = self._calm
        for machine in cluster.machines:
            machine.resume()
            machine.disk.capacity_bytes = machine.disk.faults.capacity_bytes
        for worker in self.workers:
            cluster.world.resume(worker.user.process_name)
        cluster.run_until(lambda: all(machine.alive for machine in cluster.machines))
        if self._spent:
            cluster.run_for(2 * cluster.master_settings.down_s)  # nobody is taken any more for who was there before
            cluster.wait_up()
            self.rot.wait_found()
            wait_whole(cluster, seconds=HEAL_S)
            self._spent = 0

    # --- harmless: nothing durable is gone ------------------------------------------------------------------------

    def someone_dies(self) -> None:
        machine = self.draw.choice(self.cluster.machines)
        machine.crash() if self.draw.random() < 0.6 else machine.power_loss()

    def a_node_is_away(self) -> None:
        """For long enough that it is missed, and repair may begin."""
        node = self.draw.choice(self.cluster.nodes)
        node.kept = False
        node.crash()
        self.cluster.run_for(1.0 + 2 * self.draw.random())
        node.kept = True

    def someone_stands_still(self) -> None:
        machine = self.draw.choice(self.cluster.machines)
        if machine.alive:
            machine.pause()
            self.cluster.world.after(self.draw.randrange(3 * SECOND), machine.resume)

    def a_link_is_cut(self) -> None:
        users: list[Machine | User] = [worker.user for worker in self.workers]
        one, other = self.draw.choice(self.cluster.nodes), self.draw.choice([*users, *self.cluster.machines])
        if one is not other:
            self.cluster.partition([one], [other], one_way=self.draw.random() < 0.5)
            self.cluster.world.after(self.draw.randrange(2 * SECOND), self.cluster.world.heal)

    def a_user_dies(self) -> None:
        self.draw.choice(self.workers).crash()

    def a_clock_jumps(self) -> None:
        machine = self.draw.choice(self.cluster.machines)
        self.cluster.world.clock_jump(machine.process_name, self.draw.randrange(-SECOND, SECOND))

    def a_disk_is_full(self) -> None:
        """Whatever else is on it."""
        disk = self.draw.choice(self.cluster.nodes).disk
        disk.capacity_bytes = disk.statistics()["used_bytes"] + self.draw.randrange(2 * SMALL_SEGMENT)

    def an_older_disk_is_tried(self) -> None:
        """It is refused, and the newest one goes on."""
        for name, older in self._old.items():
            node = next(node for node in self.cluster.nodes if node.name == name)
            node.kept = False
            node.crash()
            newest = node.swap_disk(older)
            node.start()
            self.cluster.run_for(self.draw.random() * 2)
            node.crash()
            node.swap_disk(newest)
            node.kept = True

    def all_lose_power(self) -> None:
        self.cluster.power_loss()

    def somebody_is_slow(self) -> None:
        """For a while, or until its process ends."""
        machine = self.draw.choice(self.cluster.machines)
        if machine.alive:
            name = machine.process_name
            self.cluster.world.slow_down(name, self.draw.choice((3, 10, 30)))
            self.cluster.world.after(self.draw.randrange(3 * SECOND), self.cluster.world.slow_down, name, 1)

    # --- costly: bytes of one node are gone, or bad ---------------------------------------------------------------

    def spends(self) -> bool:
        """Whether bytes of one more node may go now; if so, they do."""
        may = self._spent < self._losses
        self._spent += may
        return may

    def a_disk_is_empty(self) -> None:
        if self.spends():
            node = self.draw.choice(self.cluster.nodes)
            self._swap(node, node.new_disk())

    def a_disk_is_a_moment_older(self) -> None:
        """It is replaced by a copy of itself that was made while its last process ran: no counter tells. If another one has
        run since, it is an older disk."""
        if self._snapshot is None:
            node = self.draw.choice(self.cluster.nodes)
            self._snapshot = node, node.starts, node.disk.snapshot()
            return
        node, starts, disk = self._snapshot
        if node.starts != starts:
            self._old.setdefault(node.name, disk)
            self._snapshot = None
        elif self.spends():
            self._snapshot = None
            self._swap(node, disk)

    def _swap(self, node: NodeMachine, disk: SimDisk) -> None:
        node.crash()
        node.swap_disk(disk)
        self._old.pop(node.name, None)  # which is no older one of this disk
        if self._snapshot is not None and self._snapshot[0] is node:
            self._snapshot = None

    def bits_rot(self) -> None:
        if self.spends():
            self.rot.turn_some(self.draw.random())

    # --- an operator at work --------------------------------------------------------------------------------------

    def begin_task(self) -> None:
        """Something is to be done with all this going on. It may be refused."""
        kind = self.draw.choice(TASKS)
        subject, argument = "", ""
        if kind == "drain":
            subject = self.draw.choice(self.cluster.nodes).name
        if kind == "convert":
            subject, argument = "/", self.draw.choice(self._redundancies)
            ask(self.cluster, SetRedundancy("/", argument))
        ask(self.cluster, BeginTask(kind, subject, argument))

    def end_tasks(self) -> None:
        """Emptied nodes are nodes again; whatever else was begun has ended, or comes to its end."""
        drained = [info for info in nodes_of(self.cluster) if info.draining]
        shown = ask(self.cluster, ListTasks())
        if not isinstance(shown, Tasks):
            raise Wrong(f"tasks cannot be listed: {shown}")
        for task in shown.tasks:
            if task.plan.kind == "drain" and task.plan.subject in {info.name for info in drained}:
                ask(self.cluster, EndTask(task.task))
        left = ask(self.cluster, ListTasks())
        end_ns = self.cluster.world.now_ns + int(HEAL_S * SECOND)
        while any(task.state == "running" for task in left.tasks):
            if self.cluster.world.now_ns > end_ns:
                raise Wrong(f"after {HEAL_S:g} s tasks have not ended: {left}")
            self.cluster.run_for(0.5)
            left = ask(self.cluster, ListTasks())


def nodes_of(cluster: SimCluster) -> list[NodeInfo]:
    shown = ask(cluster, ListNodes())
    assert isinstance(shown, Nodes), shown
    return shown.nodes


Kind = Callable[[Trouble], None]

HARMLESS: Sequence[Kind] = (
    Trouble.someone_dies, Trouble.a_node_is_away, Trouble.someone_stands_still, Trouble.a_link_is_cut,
    Trouble.a_user_dies, Trouble.a_clock_jumps, Trouble.a_disk_is_full, Trouble.an_older_disk_is_tried,
)  # fmt: skip
COSTLY: Sequence[Kind] = (Trouble.a_disk_is_empty, Trouble.a_disk_is_a_moment_older, Trouble.bits_rot)

KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (*HARMLESS, *COSTLY, Trouble.all_lose_power, Trouble.somebody_is_slow, Trouble.begin_task)
}
"""All of them, by name: plans of random runs draw from these."""
