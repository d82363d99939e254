"""Everything at once: users work while nodes, disks, messages and the master fail, and an operator has tasks of his own.

The budget: at any time the bytes of at most one node are gone or bad, until what was lost has been made anew. Whatever else
happens goes by, so that no acknowledged byte is ever lost, and the cluster becomes healthy by itself.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.sim.disk import SimDisk
from actors.sim.explore import swarm
from actors.sim.faults import SECOND
from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import RUNNING
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.model.pace import HealingPace
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
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.repair import wait_whole
from dsa_zmq.sim.scenarios.rot import HURRIED, Place, Rot
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import finish, settle, wait_for_healing
from dsa_zmq.sim.workload import Worker

ROUNDS = 3
BLOWS = 5  #: in a round, at most
GAP_S = 0.3  #: between two of them, at most
OPERATIONS = 24  #: of each worker
MAX_BYTES = 20_000
SMALL_SEGMENT = 64 << 10
CAPACITY = (384 << 10) + 30 * SMALL_SEGMENT  #: ballast, room for the index, and more segments than are ever full
HEAL_S = 120.0  #: a storm is waited out, and what is on an emptied node is moved twice
PATIENCE_S = 120.0  #: for an operation that has to be asked again, and for what the workers still have to do
HOUR: dict[str, Any] = {"heartbeat_s": 3.0, "suspect_s": 9.0, "down_s": 18.0, "gc_interval_s": 15.0}
"""The pace of the quiet hour at the end, so that its heartbeats cost little."""

TASKS = ("drain", "rebalance", "convert", "scrub", "gc")


def everything_at_once(cluster: SimCluster) -> None:
    """See the module. What is done to the cluster, and how often, is the seed's choice."""
    cluster.supervise()
    cluster.wait_up()
    room = {info.name: info.free for info in _nodes(cluster)}
    trouble = _Trouble(cluster)
    blackout = cluster.random.randrange(ROUNDS)
    for number in range(ROUNDS):
        trouble.weather()
        if cluster.random.random() < 0.7:
            trouble.begin_task()
        for _ in range(cluster.random.randint(2, BLOWS)):
            cluster.run_for(cluster.random.random() * GAP_S)
            trouble.blow()
        if number == blackout:
            cluster.power_loss()
        cluster.run_for(cluster.random.random())
        trouble.is_over()
    cluster.heal()
    workers = trouble.workers
    cluster.run_until(lambda: not any(worker.left for worker in workers), PATIENCE_S)
    trouble.end_tasks()
    finish(cluster)
    wait_for_healing(cluster)
    wait_whole(cluster, seconds=HEAL_S)
    _let_an_hour_pass(cluster)
    _expect_room(cluster, room)
    found = settle(cluster)
    if found.orphans:
        raise Wrong(f"{found.orphans} shards on nodes are wanted by nobody")
    trouble.rot.check_disks()
    _expect_nothing_open(cluster)


def _ask(cluster: SimCluster, operation: Operation) -> Any:
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


class _Rot(Rot):
    """Of files that nobody overwrites; they may be converted, and moved, meanwhile."""

    def located(self, path: str) -> Located:
        located = _ask(self.cluster, Locate(path))
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


class _Trouble:
    """What goes wrong. Each seed has a few kinds of it, drawn once: what all together hide, some of them show."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.draw = cluster.random
        self.rot = _Rot(cluster)
        self.rot.fill()
        self.workers = [Worker(cluster, OPERATIONS, max_bytes=MAX_BYTES) for _ in range(3)]
        self._calm = cluster.world.faults
        self._weather = swarm(self.draw.randrange(1 << 30))
        self._old: dict[str, SimDisk] = {}  #: copies of disks of earlier starts
        self._snapshot: tuple[NodeMachine, int, SimDisk] | None = None  #: of a disk while that process of its node ran
        self._is_spent = False  #: bytes of a node are gone, or bad
        self._tasks: list[int] = []
        kinds = self.draw.sample(HARMLESS, self.draw.randint(3, len(HARMLESS)))
        self._kinds = kinds + self.draw.sample(COSTLY, self.draw.randint(1, len(COSTLY)))
        if self.draw.random() < 0.5:
            self._copy_a_disk()

    def _copy_a_disk(self) -> None:
        """Some node's disk, of before its next start."""
        node = self.draw.choice(self.cluster.nodes)
        node.kept = False
        node.stop()
        self._old[node.name] = node.copy_disk()
        node.start()
        node.kept = True
        self.cluster.wait_up()

    def weather(self) -> None:
        """Messages are lost, doubled, late, disks hesitate: as this seed has it."""
        rough = self._weather
        self.cluster.world.faults = replace(
            self._calm, loss=rough.loss, duplicate=5 * rough.duplicate, spike=rough.spike, reset=rough.reset,
            unnoticed=rough.unnoticed, slow_batch=rough.slow_batch, timer_late_ns=rough.timer_late_ns,
        )  # fmt: skip

    def blow(self) -> None:
        """One thing goes wrong."""
        self.draw.choice(self._kinds)(self)

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
        if self._is_spent:
            cluster.run_for(2 * cluster.master_settings.down_s)  # nobody is taken any more for who was there before
            cluster.wait_up()
            self.rot.wait_found()
            wait_whole(cluster, seconds=HEAL_S)
            self._is_spent = False

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

    # --- costly: bytes of one node are gone, or bad ---------------------------------------------------------------

    def _spends(self) -> bool:
        """Whether bytes may go now; if so, they do."""
        may = not self._is_spent
        self._is_spent = True
        return may

    def a_disk_is_empty(self) -> None:
        if self._spends():
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
        elif self._spends():
            self._snapshot = None
            self._swap(node, disk)

    def _swap(self, node: NodeMachine, disk: SimDisk) -> None:
        node.crash()
        node.swap_disk(disk)
        self._old.pop(node.name, None)  # which is no older one of this disk
        if self._snapshot is not None and self._snapshot[0] is node:
            self._snapshot = None

    def bits_rot(self) -> None:
        if self._spends():
            self.rot.turn_some(self.draw.random())

    # --- an operator at work --------------------------------------------------------------------------------------

    def begin_task(self) -> None:
        """Something is to be done with all this going on. It may be refused."""
        kind = self.draw.choice(TASKS)
        subject, argument = "", ""
        if kind == "drain":
            subject = self.draw.choice(self.cluster.nodes).name
        if kind == "convert":
            subject, argument = "/", self.draw.choice(("copies=2", "copies=3"))
            _ask(self.cluster, SetRedundancy("/", argument))
        begun = _ask(self.cluster, BeginTask(kind, subject, argument))
        if isinstance(begun, Tasks):
            self._tasks += [task.task for task in begun.tasks]

    def end_tasks(self) -> None:
        """Emptied nodes are nodes again; whatever else was begun has ended, or comes to its end."""
        drained = [info for info in _nodes(self.cluster) if info.draining]
        shown = _ask(self.cluster, ListTasks())
        if not isinstance(shown, Tasks):
            raise Wrong(f"tasks cannot be listed: {shown}")
        for task in shown.tasks:
            if task.plan.kind == "drain" and task.plan.subject in {info.name for info in drained}:
                _ask(self.cluster, EndTask(task.task))
        left = _ask(self.cluster, ListTasks())
        end_ns = self.cluster.world.now_ns + int(HEAL_S * SECOND)
        while any(task.state == "running" for task in left.tasks):
            if self.cluster.world.now_ns > end_ns:
                raise Wrong(f"after {HEAL_S:g} s tasks have not ended: {left}")
            self.cluster.run_for(0.5)
            left = _ask(self.cluster, ListTasks())


Kind = Callable[[_Trouble], None]

HARMLESS: Sequence[Kind] = (
    _Trouble.someone_dies, _Trouble.a_node_is_away, _Trouble.someone_stands_still, _Trouble.a_link_is_cut,
    _Trouble.a_user_dies, _Trouble.a_clock_jumps, _Trouble.a_disk_is_full, _Trouble.an_older_disk_is_tried,
)  # fmt: skip
COSTLY: Sequence[Kind] = (_Trouble.a_disk_is_empty, _Trouble.a_disk_is_a_moment_older, _Trouble.bits_rot)


def _nodes(cluster: SimCluster) -> list[NodeInfo]:
    shown = _ask(cluster, ListNodes())
    assert isinstance(shown, Nodes), shown
    return shown.nodes


def _let_an_hour_pass(cluster: SimCluster) -> None:
    """No upload of before now is alive after it, and inventories were compared since: what nobody wants is gone. The master
    is started with a slower pace for that."""
    cluster.stop_supervising()
    cluster.master.stop()
    cluster.master_settings = replace(cluster.master_settings, **HOUR, pace=HealingPace(differ_s=20.0))
    cluster.master.start()
    cluster.run_for(cluster.master_settings.upload_lease_s + GRANT_S + 60.0)
    for node in cluster.nodes:
        node.crash()
        node.start()
    cluster.run_for(60.0)
    cluster.supervise()


def _expect_room(cluster: SimCluster, before: Mapping[str, int]) -> None:
    """Disks are as full as what is stored on them says, and not more."""
    for info in _nodes(cluster):
        missing = before[info.name] - info.free - 2 * info.shards * cluster.chunk_bytes
        if missing > 3 * SMALL_SEGMENT:
            raise Wrong(f"{missing} bytes have not come back: {info}")


def _expect_nothing_open(cluster: SimCluster) -> None:
    """Of the stopped cluster: nothing is moving, and no task waits for anything."""
    database = Database(cluster.master.disk, CATALOG_FILE)
    moves = database.execute("SELECT chunk, shard, node, why FROM moves")
    tasks = database.execute("SELECT kind, subject, note FROM tasks WHERE state = ?", (RUNNING,))
    database.close()
    if moves or tasks:
        raise Wrong(f"nothing happens any more, and yet there are moves {moves[:3]} and tasks {tasks[:3]}")


def _mixed(seed: int) -> Mapping[str, Any]:
    draw = random.Random(f"{seed}:everything")
    zones = draw.choice(("", "", "aabb", "aabbc", "abcabc"))
    nodes = len(zones) or draw.randint(4, 6)
    return {
        **varied(seed), "nodes": nodes, "zones": zones, "redundancy": draw.choice(("copies=2", "copies=2", "copies=3")),
        "care": HURRIED, "segment_bytes": SMALL_SEGMENT, "capacity": CAPACITY,
    }  # fmt: skip


EVERYTHING = Scenario(everything_at_once, options=_mixed)
