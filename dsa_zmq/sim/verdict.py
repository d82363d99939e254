"""The end of every scenario: heal, wait, read everything, judge the books, and look at the disks."""

from __future__ import annotations

from collections.abc import Collection

from dsa_zmq.protocol.operations import Health, HealthReport
from dsa_zmq.sim.audit import Audit, audit
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.history import Outcome
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import NodeMachine
from dsa_zmq.sim.users import User

HELD_S = 60.0  #: twice what a storm makes it wait, at the pace of simulated clusters
QUIET_S = 8.0  #: beyond an upload's lease: garbage is collected, inventories are compared, drops repeated once


def settle(cluster: SimCluster, *, without: Collection[NodeMachine] = ()) -> Audit:
    """Heal the cluster, and see that every promise was kept; nodes ``without`` stay as they are and are not looked at.

    Liveness: all operations end, all nodes are up, and everything can be read within the time of ``cluster.RECOVERY_NS``
    each. Safety: see :class:`~dsa_zmq.sim.ledger.Ledger` and :mod:`~dsa_zmq.sim.audit`. The cluster is stopped afterwards,
    by a loss of power.
    """
    nodes = [node for node in cluster.nodes if node not in without]
    cluster.heal()
    finish(cluster)
    cluster.wait_up(nodes)
    wait_for_healing(cluster)
    read_everything(cluster)
    cluster.ledger.judge()
    cluster.run_for(cluster.master_settings.upload_lease_s + QUIET_S)
    cluster.stop_supervising()
    cluster.power_loss()
    found = audit(cluster, nodes, quiet=not without)
    if found.problems:
        raise Wrong("\n".join(found.problems[:10]))
    return found


def wait_for_healing(cluster: SimCluster) -> None:
    """Until repair and trims are held no more: what happened lately may look like a storm."""
    user = cluster.user(f"asker{len(cluster.users)}")
    end_ns = cluster.world.now_ns + int(HELD_S * 1e9)
    while (why := _held(cluster, user)) and cluster.world.now_ns < end_ns:
        cluster.run_for(1.1)  # a report serves for a second
    if why:
        raise Wrong(f"nothing is broken any more, and repair is held: {why}")
    user.crash()


def _held(cluster: SimCluster, user: User) -> str:
    (report,) = cluster.must(user.ask(Health()))
    assert isinstance(report, HealthReport)
    return report.held


def finish(cluster: SimCluster) -> None:
    """Until every operation of every user has ended."""
    cluster.run_until(lambda: not any(user.open for user in cluster.users if user.alive))


def read_everything(cluster: SimCluster) -> None:
    """Look at all paths that were ever named, and read them. Every answer must be one about the tree."""
    reader = cluster.user(f"reader{len(cluster.users)}")
    replies = [reader.ls("/")]
    for path in cluster.ledger.paths():
        replies += [reader.stat(path), reader.get(path), reader.ls(path)]
    cluster.wait(*replies)
    for operation in cluster.ledger.operations[-len(replies) :]:
        if operation.outcome not in (Outcome.DONE, Outcome.REFUSED):
            raise Wrong(f"nothing is broken any more, and yet:\n{operation}\n{replies!r}"[:2000])
    reader.crash()
