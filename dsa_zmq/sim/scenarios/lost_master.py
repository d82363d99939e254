"""The master is lost with its disk, at any moment. Its nodes bring the catalog back: nothing acknowledged is missing.

The master never goes on without its copies here: then nothing would have to be there afterwards.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Collection, Mapping
from typing import Any

from actors.core import Message, Peer
from actors.sim.disk import SimDisk
from actors.sim.faults import SECOND
from actors.sim.runtime import Stalled
from dsa_zmq.errors import ConfigError
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.rebuild import NO_LIMIT
from dsa_zmq.master.reception import STATUS_STALE
from dsa_zmq.master.restore_events import Event, Failed, Go, Planned, Restored, Wanted
from dsa_zmq.master.restore_service import RESTORE_NAME, restore_spec
from dsa_zmq.protocol.messages import Answers
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.history import NEVER, Outcome
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.tree import READS
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000
OPERATIONS = 24  #: of each worker
PATIENCE_S = 120.0  #: for what they still have to do afterwards; and theirs with the one operation that was open
RESTORE_S = 60.0  #: for nodes that back off, and for attempts that are killed
QUIET_S = 1.0  #: ten heartbeats
LAG_S = 0.4  #: of asynchronous copies


class _Attempt:
    """A process that restores the master on its new disk, at its address."""

    def __init__(self, cluster: SimCluster, without: Collection[NodeMachine], at_ns: int) -> None:
        self.events: list[Event] = []
        self._went = False
        wanted = Wanted(
            at_ns=at_ns,
            without=tuple(node.name for node in without),
            wait_s=RESTORE_S / 2,
            quiet_s=QUIET_S,
            settle_s=0.5,
        )
        disk, draw = cluster.master.disk, random.Random(f"{cluster.seed}:restore:{cluster.world.now_ns}")
        spec = restore_spec(cluster.master_settings.listen, disk, draw, wanted, self.events.append)
        self.handle = cluster.world.spawn(spec, disks=[disk])

    def go_on(self) -> None:
        """Whatever it plans is wanted."""
        if not self._went and any(isinstance(event, Planned) for event in self.events):
            self._went = True
            self.handle.call(Go())

    @property
    def ended(self) -> Restored | Failed | None:
        return next((event for event in self.events if isinstance(event, Restored | Failed)), None)


def lose_master(cluster: SimCluster) -> SimDisk:
    """Its process dies, and its disk is gone. Returns the disk, as somebody may have copied it."""
    master = cluster.master
    master.kept = False
    if cluster.random.random() < 0.5:
        master.power_loss()
    else:
        master.crash()
    return master.swap_disk(master.new_disk())


def restore(
    cluster: SimCluster, without: Collection[NodeMachine] = (), *, kills: int = 0, at_ns: int = NO_LIMIT
) -> None:
    """Restore the master from its nodes, as of a moment of its clock. So many attempts are killed on the way."""
    for _ in range(kills):
        attempt = _Attempt(cluster, without, at_ns)
        _wait(cluster, attempt, cluster.random.random() * 8.0)
        if attempt.handle.alive:
            cluster.world.crash(RESTORE_NAME, power_loss=cluster.random.random() < 0.5)
        if cluster.master.disk.exists(CATALOG_FILE):
            return  # it was published already: all of it
    attempt = _Attempt(cluster, without, at_ns)
    _wait(cluster, attempt, RESTORE_S)
    ended = attempt.ended
    if not isinstance(ended, Restored) or ended.rebuilt.odd:
        raise Wrong(f"the master is not restored: {attempt.events[-3:]}")
    cluster.run_until(lambda: not attempt.handle.alive, 5)


def start_master(cluster: SimCluster) -> None:
    """On what was restored."""
    cluster.master.start()
    cluster.master.kept = True


def _wait(cluster: SimCluster, attempt: _Attempt, seconds: float) -> None:
    """Until it has ended, or so long."""
    end_ns = cluster.world.now_ns + int(seconds * SECOND)
    while attempt.ended is None and cluster.world.now_ns < end_ns:
        cluster.run_for(0.02)
        attempt.go_on()


class _Answers:
    """Counts what users hear: the worst moment to lose something is that in which somebody has heard of it."""

    def __init__(self, cluster: SimCluster) -> None:
        self.count = 0
        self._cluster = cluster
        cluster.on_message.append(self._look)

    def _look(self, owner: Machine | User, sender: Peer, message: Message) -> None:
        self.count += isinstance(owner, User) and isinstance(message, Answers)

    def wait(self, count: int) -> None:
        """Until so many more have come, but not for ever: work may be over before."""
        until = self.count + count
        with contextlib.suppress(Stalled):
            self._cluster.run_until(lambda: self.count >= until, 3)


def master_is_lost_with_its_disk(cluster: SimCluster) -> None:
    """Under load, again and again; sometimes all nodes lose power with it, or are away for a while, and one is lost for
    good."""
    draw = cluster.random
    cluster.supervise()
    cluster.wait_up()
    cluster.patience_s = PATIENCE_S
    answers = _Answers(cluster)
    gone: list[NodeMachine] = []
    for _ in range(2):
        workers = [Worker(cluster, OPERATIONS, max_bytes=MAX_BYTES) for _ in range(3)]
        answers.wait(draw.randrange(1, 50))
        lose_master(cluster)
        if draw.random() < 0.7:
            for node in cluster.nodes:
                if node not in gone:
                    _lose_power(cluster, node)
        if not gone and draw.random() < 0.4:
            gone.append(draw.choice([node for node in cluster.nodes if node.kept]))
            gone[0].kept = False
            gone[0].power_loss()
        restore(cluster, gone, kills=draw.choice((0, 0, 1, 2)))
        start_master(cluster)
        cluster.run_until(lambda some=workers: not any(worker.left for worker in some), PATIENCE_S)  # type: ignore[misc]
    settle(cluster, without=gone)


def _lose_power(cluster: SimCluster, node: NodeMachine) -> None:
    """It is back soon, or later than the others."""
    node.power_loss()
    if cluster.random.random() < 0.3:
        node.kept = False
        cluster.world.after(cluster.random.randrange(8 * SECOND), _return, node)


def _return(node: NodeMachine) -> None:
    node.kept = True  # the supervisor starts it


def a_lost_master_loses_at_most_its_lag(cluster: SimCluster) -> None:
    """With asynchronous copies: what was acknowledged in the last moment may be gone, nothing else."""
    cluster.supervise()
    cluster.wait_up()
    cluster.patience_s = PATIENCE_S
    answers = _Answers(cluster)
    workers = [Worker(cluster, OPERATIONS, max_bytes=MAX_BYTES) for _ in range(3)]
    answers.wait(cluster.random.randrange(1, 50))
    lose_master(cluster)
    for node in cluster.nodes:
        node.power_loss()
    forgive(cluster, int((LAG_S + 0.1) * SECOND))
    restore(cluster)
    start_master(cluster)
    cluster.run_until(lambda: not any(worker.left for worker in workers), PATIENCE_S)
    settle(cluster)


def forgive(cluster: SimCluster, lag_ns: int) -> None:
    """Of what was answered lately nothing is known any more: changes may have been lost, reads may have shown such."""
    since_ns = cluster.world.now_ns - lag_ns
    for operation in cluster.ledger.operations:
        if operation.ended_ns == NEVER or operation.ended_ns < since_ns:
            continue
        if operation.outcome is Outcome.DONE and not isinstance(operation.action, READS):
            operation.outcome, operation.ended_ns, operation.answer = Outcome.UNKNOWN, NEVER, None
        elif operation.outcome in (Outcome.DONE, Outcome.REFUSED):
            operation.outcome, operation.answer = Outcome.FAILED, None  # which says nothing


def a_lost_master_comes_back(cluster: SimCluster) -> None:
    """From a copy of its disk, after another one was restored: it stops, starts no more, and nobody hears of it what the
    other one does not know."""
    draw = cluster.random
    cluster.wait_up()
    cluster.patience_s = PATIENCE_S
    workers = [Worker(cluster, OPERATIONS // 2, max_bytes=MAX_BYTES) for _ in range(3)]
    _Answers(cluster).wait(draw.randrange(1, 30))
    former = lose_master(cluster)
    restore(cluster)
    master = cluster.master
    if draw.random() < 0.5:  # what nodes have promised is enough: they need not have met the new one
        master.start()
        cluster.run_for(draw.random() * 2.0)
        master.crash()
    newest = master.swap_disk(former)
    master.start()
    cluster.run_until(lambda: not master.alive, 20)
    if master.handle is None or master.handle.status != STATUS_STALE:
        raise Wrong("the former master does not know that it is one")
    with contextlib.suppress(ConfigError):
        master.start()
        raise Wrong("the former master starts again")
    master.swap_disk(newest)
    master.start()
    cluster.supervise()
    cluster.run_until(lambda: not any(worker.left for worker in workers), PATIENCE_S)
    settle(cluster)


def strict(seed: int) -> Mapping[str, Any]:
    """It never goes on without its copies."""
    return {**varied(seed), "unprotected_after_s": 3600.0}


def lagging(seed: int) -> Mapping[str, Any]:
    return {**strict(seed), "catalog_copies": "async", "catalog_lag_s": LAG_S}


LOST = Scenario(master_is_lost_with_its_disk, options=strict)
LAGGING = Scenario(a_lost_master_loses_at_most_its_lag, options=lagging)
FORMER = Scenario(a_lost_master_comes_back, options=strict)
LOST_MASTER = (LOST, LAGGING, FORMER)
