"""Disks that lie: bits that turn, syncs that fail."""

from __future__ import annotations

from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000
FLIPS = 40
USED_BYTES = 100_000  #: of the first segment of a node: its part of six files


def bits_turn_on_one_disk(cluster: SimCluster) -> None:
    """Bits of a node's segments turn while files are read: every read brings the right bytes, from the other copies."""
    cluster.wait_up()
    user = cluster.user()
    paths = [f"/f{number}" for number in range(6)]
    cluster.must(*(user.put(path, cluster.ledger.new_content(MAX_BYTES, 20_000)) for path in paths))
    node = cluster.random.choice(cluster.nodes)
    for _ in range(4):
        rot(cluster, node, FLIPS)
        cluster.must(*(user.get(path) for path in paths))
    settle(cluster, without=[node])


def rot(cluster: SimCluster, machine: Machine, flips: int) -> None:
    """Turn so many bits at the beginning of a node's first segment, where its oldest shards are."""
    draw = cluster.random
    path = f"segments/{machine.disk.listdir('segments')[0]}"
    for _ in range(flips):
        machine.disk.flip_bit(path, draw.randrange(USED_BYTES), draw.randrange(8))


def disks_refuse_to_sync(cluster: SimCluster) -> None:
    """A node's sync fails, which fails its store for good; the master's fail too, and it starts anew from its disk."""
    draw = cluster.random
    cluster.supervise()
    cluster.wait_up()
    workers = [Worker(cluster, 16, max_bytes=MAX_BYTES) for _ in range(2)]
    broken = draw.choice(cluster.nodes)
    for step in range(8):
        cluster.run_for(draw.random() * 0.2)
        if step == 3:
            broken.disk.failing_syncs = 1
        elif draw.random() < 0.6:
            cluster.master.disk.failing_syncs = 1
    cluster.run_until(lambda: not any(worker.left for worker in workers), 90)
    cluster.master.disk.failing_syncs = broken.disk.failing_syncs = 0
    cluster.master.power_loss()
    settle(cluster, without=[broken])


ROT = Scenario(bits_turn_on_one_disk)
SYNC = Scenario(disks_refuse_to_sync)
