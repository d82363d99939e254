"""Nodes that come back: as another process, with an older disk, with an empty one. And a master that does."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from actors.sim.faults import MS, NO_FAULTS
from dsa_zmq.errors import ConfigError, Conflict
from dsa_zmq.protocol.operations import Health, HealthReport, ListNodes, Nodes
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import NodeMachine
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000


def messages_of_dead_processes_arrive(cluster: SimCluster) -> None:
    """Nodes die and are back at once, while what they sent and what was sent to them is still on its way."""
    cluster.world.faults = replace(NO_FAULTS, latency_ns=2 * MS, jitter_ns=30 * MS)
    cluster.wait_up()
    workers = [Worker(cluster, 16, max_bytes=MAX_BYTES) for _ in range(3)]
    for _ in range(16):
        cluster.run_for(cluster.random.random() * 0.1)
        node = cluster.random.choice(cluster.nodes)
        if cluster.random.random() < 0.3:
            node.power_loss()
        else:
            node.crash()
        node.start()
    cluster.run_until(lambda: not any(worker.left for worker in workers), 90)
    settle(cluster)


def older_disk_comes_back(cluster: SimCluster) -> None:
    """A node's disk is replaced by copies from two starts ago and from one: the master refuses them, and nobody is served
    from them. The younger one's process counts to the same start as the newest process of the node."""
    cluster.wait_up()
    user = cluster.user()
    cluster.must(*(user.put(f"/f{number}", cluster.ledger.new_content(MAX_BYTES)) for number in range(4)))
    node = cluster.random.choice(cluster.nodes)
    node.stop()
    copies = []
    for _ in range(2):
        copies.append(node.copy_disk())
        node.start()
        cluster.wait_up()
        _change(cluster, user)
        node.stop()
    newest = node.disk
    cluster.random.shuffle(copies)
    for older in copies:
        node.swap_disk(older)
        for _ in range(3):  # a supervisor starts it again and again: it must not climb past the newest start
            _expect_refused(cluster, user, node)
    node.swap_disk(newest)
    node.start()
    settle(cluster)


def _expect_refused(cluster: SimCluster, user: User, node: NodeMachine) -> None:
    """The node's process ends by itself, for good; everything is read from the others meanwhile."""
    node.start()
    cluster.run_until(lambda: not node.alive, 10)
    if node.handle is None or node.handle.status != Conflict.exit_status:
        raise Wrong("an older disk was not refused")
    cluster.must(*(user.get(f"/f{number}") for number in range(4)))
    cluster.run_for(cluster.master_settings.down_s)
    _expect_not_up(cluster, user, node.name)


def _change(cluster: SimCluster, user: User) -> None:
    """Some files are overwritten, some removed and made again."""
    new = cluster.ledger.new_content
    cluster.must(user.put("/f0", new(MAX_BYTES)), user.rm("/f1"))
    cluster.must(user.put("/f1", new(MAX_BYTES)), user.mv("/f2", "/f3", replace=True))
    cluster.must(user.put("/f2", new(MAX_BYTES)))


def _expect_not_up(cluster: SimCluster, user: User, name: str) -> None:
    (shown,) = cluster.must(user.ask(ListNodes()))
    assert isinstance(shown, Nodes)
    state = next(info.state for info in shown.nodes if info.name == name)
    if state == "up":
        raise Wrong(f"{name} is shown as up")


def empty_disk_comes_back(cluster: SimCluster) -> None:
    """A node's disk is wiped while users work: it is a new store, its old places count for nothing, the copies serve."""
    cluster.wait_up()
    workers = [Worker(cluster, 12, max_bytes=MAX_BYTES) for _ in range(2)]
    cluster.run_for(cluster.random.random() * 0.8)
    node = cluster.random.choice(cluster.nodes)
    node.crash()
    cluster.run_for(cluster.random.random() * 0.5)
    node.swap_disk(node.new_disk())
    node.start()
    cluster.run_until(lambda: not any(worker.left for worker in workers), 90)
    settle(cluster)


def unmounted_disk_comes_back(cluster: SimCluster) -> None:
    """A node starts without its disk, as a new store, while users work; later with it. All that was on it counts again,
    what was removed meanwhile is dropped there, and what the new store took is void."""
    cluster.wait_up()
    user = cluster.user()
    cluster.must(*(user.put(f"/f{number}", cluster.ledger.new_content(MAX_BYTES)) for number in range(4)))
    node = cluster.random.choice(cluster.nodes)
    workers: list[Worker] = []
    mounted = node.disk
    for disk in (node.new_disk(), mounted):
        workers.append(Worker(cluster, 8, max_bytes=MAX_BYTES))
        cluster.run_for(cluster.random.random() * 0.8)
        node.crash()
        node.swap_disk(disk)
        node.start()
        cluster.wait_up()
        _change(cluster, user)
        cluster.run_for(cluster.master_settings.gc_grace_s + 1.0)  # what was removed is let go while the disk is away
    cluster.run_until(lambda: not any(worker.left for worker in workers), 90)
    (shown,) = cluster.must(user.ask(Health()))
    if not isinstance(shown, HealthReport) or shown.lost_chunks or not shown.healthy_chunks:
        raise Wrong(f"what is on the disk does not count: {shown}")
    settle(cluster)


def older_catalog_comes_back(cluster: SimCluster) -> None:
    """A master is started on an old copy of its catalog, again and again: no node obeys it, and the newest one goes on."""
    cluster.wait_up()
    user = cluster.user()
    cluster.must(*(user.put(f"/f{number}", cluster.ledger.new_content(MAX_BYTES)) for number in range(4)))
    master = cluster.master
    master.stop()
    copy = master.copy_disk()
    starts = cluster.random.randint(1, 3)
    for _ in range(starts):
        master.start()
        cluster.wait_up()
        _change(cluster, user)
        master.stop()
    newest = master.swap_disk(copy)
    for _ in range(starts + 3):
        with contextlib.suppress(ConfigError):
            master.start()
        cluster.run_for(2.0)
        master.crash()
    master.swap_disk(newest)
    master.start()
    settle(cluster)


INCARNATION = Scenario(messages_of_dead_processes_arrive)
OLDER = Scenario(older_disk_comes_back)
EMPTY = Scenario(empty_disk_comes_back)
UNMOUNTED = Scenario(unmounted_disk_comes_back)
STALE = Scenario(older_catalog_comes_back)
