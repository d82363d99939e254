"""Clusters that shrink and grow: nodes are emptied and switched off, come new and get their share, under load and deaths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.core import Job
from actors.sim.faults import SECOND
from dsa_zmq.errors import DSAError, OutcomeUnknown
from dsa_zmq.master.catalog.convert_rules import CheckPage, ConvertPage
from dsa_zmq.master.catalog.move_rules import ApplyReceipts
from dsa_zmq.master.catalog.survey_rules import Survey
from dsa_zmq.master.catalog.task_jobs import FindPlaces, FinishTask, LookAtTasks, TaskRequest
from dsa_zmq.protocol.operations import (
    BeginTask,
    EndTask,
    ListDirectory,
    ListNodes,
    ListTasks,
    Nodes,
    SetRedundancy,
    Tasks,
)
from dsa_zmq.protocol.values import TaskInfo
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.repair import HEALING, MAX_BYTES, fill, wait_whole
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

TASK_S = 60.0  #: a few files, and restarts between


def begin(cluster: SimCluster, kind: str, subject: str = "", argument: str = "") -> TaskInfo:
    """Begin a task; an error is wrong. A master that dies may take the session with it: then it is looked whether the task
    was begun, as people are told to."""
    user = cluster.user()
    (begun,) = cluster.wait(user.ask(BeginTask(kind, subject, argument)))
    if isinstance(begun, OutcomeUnknown):
        (shown,) = cluster.must(user.ask(ListTasks()))
        there = [task for task in shown.tasks if (task.plan.kind, task.plan.subject) == (kind, subject)]
        begun = Tasks(there) if there else cluster.must(user.ask(BeginTask(kind, subject, argument)))[0]
    if isinstance(begun, DSAError):
        raise Wrong(f"no {kind} of {subject!r} can be begun: {begun}")
    user.crash()
    return begun.tasks[0]  # type: ignore[no-any-return]


def look(cluster: SimCluster, user: User, task: int) -> TaskInfo | None:
    """The task as the master shows it, if it answers."""
    (shown,) = cluster.wait(user.ask(ListTasks()))
    return next((each for each in shown.tasks if each.task == task), None) if isinstance(shown, Tasks) else None


def wait_done(cluster: SimCluster, task: TaskInfo, *, seconds: float = TASK_S) -> TaskInfo:
    """Until the task is done."""
    user = cluster.user()
    end_ns = cluster.world.now_ns + int(seconds * SECOND)
    while True:
        shown = look(cluster, user, task.task)
        if shown is not None and shown.state == "done":
            user.crash()
            return shown
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"after {seconds:g} s the task is not done: {shown}")
        cluster.run_for(0.2)


def switch_off(cluster: SimCluster, node: NodeMachine) -> None:
    """For good, since the cluster has said that it may be."""
    node.kept = False
    node.crash()


def drain_under_load(cluster: SimCluster) -> None:
    """A node is emptied while users work, and switched off at the very moment when it is said to be empty: nothing that was
    stored by then needs it. Then it is removed."""
    cluster.wait_up()
    fill(cluster)
    node = cluster.random.choice(cluster.nodes)
    workers = [Worker(cluster, 12, max_bytes=MAX_BYTES) for _ in range(2)]
    done = wait_done(cluster, begin(cluster, "drain", node.name))
    if done.note != "may be switched off":
        raise Wrong(f"an empty node is described like this: {done}")
    switch_off(cluster, node)
    cluster.run_until(lambda: not any(worker.left for worker in workers), 120)
    wait_whole(cluster, down=[node])
    begin(cluster, "remove", node.name)
    (listed,) = cluster.must(cluster.user().ask(ListNodes()))
    if any(info.name == node.name for info in listed.nodes):
        raise Wrong(f"a removed node is still listed: {listed}")
    settle(cluster, without=[node])


def drain_and_death(cluster: SimCluster) -> None:
    """While a node is emptied, another one dies for good, or that one itself is away for a while."""
    cluster.wait_up()
    fill(cluster)
    node, other = cluster.random.sample(cluster.nodes, 2)
    task = begin(cluster, "drain", node.name)
    cluster.run_for(cluster.random.random())
    victim = cluster.random.choice((node, other))
    victim.kept = False
    cluster.random.choice((victim.crash, victim.power_loss))()
    cluster.run_for(cluster.random.random() * 4)
    if victim is node or cluster.random.random() < 0.5:
        victim.kept = True
        victim.start()
    wait_done(cluster, task)
    if not victim.alive:
        wait_whole(cluster, seconds=60.0, down=[victim])
    switch_off(cluster, node)
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(6)))
    other.kept = True
    settle(cluster, without=[node])


def task_over_master_restarts(cluster: SimCluster) -> None:
    """The master dies after each step of a drain that the seed chooses, and goes on with it."""
    cluster.wait_up()
    fill(cluster)
    node = cluster.random.choice(cluster.nodes)
    deaths = {cluster.random.randrange(20) for _ in range(3)}
    seen = 0

    def watch(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal seen
        if machine is cluster.master and any(isinstance(job, STEPS) for job in jobs):
            if seen in deaths:
                cluster.soon(cluster.random.choice((machine.crash, machine.power_loss)))
            seen += 1

    cluster.supervise()
    cluster.on_batch.append(watch)
    task = begin(cluster, "drain", node.name)
    wait_done(cluster, task, seconds=120.0)
    cluster.on_batch.remove(watch)
    cluster.stop_supervising()
    switch_off(cluster, node)
    settle(cluster, without=[node])


def drain_is_cancelled(cluster: SimCluster) -> None:
    """A drain is taken back in its middle, or just after its end: the node is as good as any, and nothing is there twice."""
    cluster.wait_up()
    user = fill(cluster)
    node = cluster.random.choice(cluster.nodes)
    task = begin(cluster, "drain", node.name)
    cluster.run_for(cluster.random.random() * 2)
    cluster.must(user.ask(EndTask(task.task)))
    wait_nodes(cluster, lambda nodes: not any(info.draining for info in nodes.nodes))
    wait_whole(cluster)
    cluster.must(*(user.put(f"/g{number}", cluster.ledger.new_content(MAX_BYTES)) for number in range(6)))
    settle(cluster)


def rebalance_converges(cluster: SimCluster) -> None:
    """A node that comes new gets its share, and then nothing moves any more."""
    late = cluster.nodes[-1]
    late.kept = False
    late.crash()
    cluster.run_for(0.1)
    late.swap_disk(late.new_disk())  # it has never been here
    cluster.wait_up(cluster.nodes[:-1])
    fill(cluster, files=16)
    late.kept = True
    late.start()
    cluster.wait_up()
    held = _shards(cluster, late)
    wait_done(cluster, begin(cluster, "rebalance"), seconds=120.0)
    cluster.run_for(2.0)
    moved = _shards(cluster, late)
    if not moved > held:
        raise Wrong(f"a new node had {held} shards before rebalancing, {moved} after it")
    again = begin(cluster, "rebalance")
    if again.plan.bytes:
        wait_done(cluster, again)
    settle(cluster)


def convert_under_overwrites(cluster: SimCluster) -> None:
    """Files get another redundancy while users overwrite, rename and remove them, and read: what they see are always the
    right bytes, and in the end all are stored as their directory says."""
    cluster.wait_up()
    user = fill(cluster)
    cluster.must(user.cp("/f0", "/copy"))
    workers = [Worker(cluster, 10, max_bytes=MAX_BYTES) for _ in range(2)]
    disturb(cluster, user)
    wanted = cluster.random.choice(("copies=1", "copies=3"))
    cluster.must(cluster.user().ask(SetRedundancy("/", wanted)))
    first = begin(cluster, "convert", "/")
    if cluster.random.random() < 0.3:
        cluster.run_for(cluster.random.random())
        cluster.supervise()
        cluster.random.choice((cluster.master.crash, cluster.master.power_loss))()
    wait_end(cluster, first, seconds=120.0)
    cluster.run_until(lambda: not any(worker.left for worker in workers), 120)
    wait_done(cluster, begin(cluster, "convert", "/"))
    (shown,) = cluster.must(cluster.user().ask(ListDirectory("/")))
    wrong = [entry for entry in shown.entries if entry.attributes.redundancy != wanted]
    if wrong:
        raise Wrong(f"not all is {wanted}: {wrong[:3]}")
    settle(cluster)


def disturb(cluster: SimCluster, user: User) -> None:
    """Files are overwritten and removed at the very moments when their conversion takes its steps."""
    left = 12

    def watch(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal left
        steps = sum(isinstance(job, ConvertPage | CheckPage | ApplyReceipts) for job in jobs)
        if machine is cluster.master and steps and left and cluster.random.random() < 0.5:
            left -= 1
            cluster.soon(meddle)

    def meddle() -> None:
        path = f"/f{cluster.random.randrange(6)}"
        if cluster.random.random() < 0.8:
            user.put(path, cluster.ledger.new_content(MAX_BYTES))
        else:
            user.rm(path)

    cluster.on_batch.append(watch)


def wait_end(cluster: SimCluster, task: TaskInfo, *, seconds: float) -> None:
    """Until the task has ended, in whatever way."""
    user = cluster.user()
    end_ns = cluster.world.now_ns + int(seconds * SECOND)
    while (shown := look(cluster, user, task.task)) is None or shown.state == "running":
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"after {seconds:g} s the task has not ended: {shown}")
        cluster.run_for(0.2)
    user.crash()


def _shards(cluster: SimCluster, node: NodeMachine) -> int:
    (listed,) = cluster.must(cluster.user().ask(ListNodes()))
    return next((int(info.shards) for info in listed.nodes if info.name == node.name), 0)


def wait_nodes(cluster: SimCluster, good: Callable[[Nodes], bool], *, seconds: float = 10.0) -> None:
    """Until the master lists the nodes like this."""
    user = cluster.user()
    end_ns = cluster.world.now_ns + int(seconds * SECOND)
    while True:
        (listed,) = cluster.wait(user.ask(ListNodes()))
        if not isinstance(listed, DSAError) and good(listed):
            user.crash()
            return
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"after {seconds:g} s the nodes are not as they should be: {listed}")
        cluster.run_for(0.1)


STEPS = (*HEALING, Survey, TaskRequest, LookAtTasks, FindPlaces, FinishTask)

DRAIN_LOAD = Scenario(drain_under_load)
DRAIN_DEATH = Scenario(drain_and_death)
RESTARTS = Scenario(task_over_master_restarts)
CANCELLED = Scenario(drain_is_cancelled)
REBALANCE = Scenario(rebalance_converges)
CONVERT = Scenario(convert_under_overwrites)

GROWING = (DRAIN_LOAD, DRAIN_DEATH, RESTARTS, CANCELLED, REBALANCE, CONVERT)
