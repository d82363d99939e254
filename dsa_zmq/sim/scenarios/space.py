"""Space: it comes back while users work and machines die, a full cluster can be emptied, nothing late is let go by half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job
from actors.sim.faults import MS, SECOND
from dsa_zmq.errors import DSAError, NoSpace
from dsa_zmq.node.jobs import RewriteShare
from dsa_zmq.protocol.operations import ListNodes, Nodes
from dsa_zmq.protocol.values import NodeInfo
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.verdict import finish, settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000
SMALL_SEGMENT = 32 << 10  #: seven chunks: full after a moment
CAPACITY = (384 << 10) + 30 * SMALL_SEGMENT  #: ballast and room for the index, and some 25 segments of shards
LEASE_S = 1.5  #: of an upload whose client stands still for about as long
PATIENCE_S = 90.0
EMPTY_S = 20.0  #: from the last removal to empty disks: the grace, a round, and the pace of compaction


class _Rewritten:
    """How many segments compaction has let go."""

    def __init__(self, cluster: SimCluster) -> None:
        self.segments = 0
        cluster.on_batch.append(self._look)

    def _look(self, machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            if isinstance(job, RewriteShare) and not isinstance(result, Exception):
                self.segments += result.gone


def compaction_under_load_and_power_loss(cluster: SimCluster) -> None:
    """Users write and remove all the time, so that segments are rewritten all the time; nodes die and lose power. Disks
    hesitate, so that drops come between the steps of a rewriting."""
    draw = cluster.random
    rewritten = _Rewritten(cluster)
    cluster.supervise()
    cluster.wait_up()
    keeper = cluster.user()
    kept = [f"/kept/{number}" for number in range(6)]
    workers = [Worker(cluster, 40, max_bytes=MAX_BYTES) for _ in range(2)]
    for path in kept:  # between what goes again, so that segments are half dead and not empty
        cluster.must(keeper.put(path, cluster.ledger.new_content(MAX_BYTES)))
        cluster.run_for(draw.random() * 0.3)
    cluster.world.faults = replace(cluster.world.faults, slow_batch=0.3, slow_batch_ns=400 * MS)
    for _ in range(12):
        cluster.run_for(draw.random() * 0.5)
        node = draw.choice(cluster.nodes)
        if draw.random() < 0.5:
            node.power_loss()
        else:
            node.crash()
    cluster.run_until(lambda: not any(worker.left for worker in workers), PATIENCE_S)
    cluster.must(*(keeper.get(path) for path in kept))
    settle(cluster)
    if not rewritten.segments:
        raise Wrong("no segment was ever rewritten: this run has tried nothing")


def disk_fills_and_is_emptied(cluster: SimCluster) -> None:
    """Users write until there is no room; what is there stays readable. Half of it goes, scattered: there is room again.
    All of it goes: the disks are as empty as they were."""
    draw, new = cluster.random, cluster.ledger.new_content
    cluster.wait_up()
    user = cluster.user()
    before = {node.name: node.free for node in _nodes(cluster)}
    for turn in range(2):
        paths = _fill(cluster, f"/full{turn}")
        cluster.must(*(user.get(path) for path in draw.sample(paths, 5)))
        gone = draw.sample(paths, len(paths) // 2)
        cluster.must(*(user.rm(path) for path in gone))
        left = [path for path in paths if path not in gone]
        cluster.run_for(EMPTY_S)
        more = [f"/more{turn}/{number}" for number in range(len(gone) // 3)]
        for path in more:
            cluster.must(user.put(path, new(MAX_BYTES)))
        cluster.must(*(user.get(path) for path in left + more))
        cluster.must(*(user.rm(path) for path in left + more))
        cluster.run_for(EMPTY_S)
    for node in _nodes(cluster):
        # Shards of uploads that were refused are nobody's, and go when inventories are compared.
        missing = before[node.name] - node.free - 2 * node.shards * cluster.chunk_bytes
        if missing > 3 * SMALL_SEGMENT:
            raise Wrong(f"all was removed, and {missing} bytes have not come back: {node}")
    settle(cluster)


def _fill(cluster: SimCluster, folder: str) -> list[str]:
    """Files until there is no room for more, some at a time."""
    user = cluster.user()
    paths: list[str] = []
    for first in range(0, 2000, 3):
        batch = [f"{folder}/{number}" for number in range(first, first + 3)]
        found = cluster.wait(*(user.put(path, cluster.ledger.new_content(MAX_BYTES)) for path in batch))
        paths += [path for path, result in zip(batch, found, strict=True) if not isinstance(result, DSAError)]
        refused = [result for result in found if isinstance(result, DSAError)]
        if any(not isinstance(error, NoSpace) for error in refused):
            raise Wrong(f"a full cluster says {refused}")
        if refused:
            user.crash()
            return paths
    raise Wrong("the cluster is never full")


def _nodes(cluster: SimCluster) -> list[NodeInfo]:
    """As the master shows them."""
    user = cluster.user()
    (shown,) = cluster.wait(user.ask(ListNodes()))
    user.crash()
    if not isinstance(shown, Nodes):
        raise Wrong(f"nodes cannot be listed: {shown}")
    return shown.nodes


def collection_against_late_uploads(cluster: SimCluster) -> None:
    """Clients stand still in the middle of uploads, for about as long as a lease lasts, while all garbage is collected at
    once; the master dies now and then. A late commit is refused, or its file is whole."""
    draw = cluster.random
    cluster.supervise()
    cluster.wait_up()
    for turn in range(6):
        users = [cluster.user() for _ in range(3)]
        for user in users:
            for number in range(2):
                user.put(f"/late{turn}/{draw.randrange(3)}", cluster.ledger.new_content(MAX_BYTES, 17_000 + number))
        cluster.run_for(draw.random() * 0.03)
        for user in users:
            if draw.random() < 0.7:
                cluster.world.pause(user.process_name)
                away_ns = int(draw.uniform(0.6, 1.4) * LEASE_S * SECOND)
                cluster.world.after(away_ns, lambda name=user.process_name: cluster.world.resume(name))
        if draw.random() < 0.3:
            cluster.world.after(draw.randrange(int(LEASE_S * SECOND)), cluster.master.crash)
        cluster.run_for(1.5 * LEASE_S)
        finish(cluster)
        for user in users:
            user.crash()
    settle(cluster)


def _crowded(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "segment_bytes": SMALL_SEGMENT, "capacity": CAPACITY}


def _small_segments(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "segment_bytes": SMALL_SEGMENT}


def _short_leases(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "gc_grace_s": 0.0, "gc_interval_s": 0.05, "upload_lease_s": LEASE_S}


COMPACTION = Scenario(compaction_under_load_and_power_loss, options=_small_segments)
FULL = Scenario(disk_fills_and_is_emptied, options=_crowded)
LATE = Scenario(collection_against_late_uploads, options=_short_leases)
