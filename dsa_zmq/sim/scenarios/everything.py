"""Everything at once: users work while nodes, disks, messages and the master fail, and an operator has tasks of his own.

The budget is that of :mod:`~dsa_zmq.sim.scenarios.trouble`, with the bytes of one node.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import RUNNING
from dsa_zmq.model.limits import GRANT_S
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.scenarios.repair import wait_whole
from dsa_zmq.sim.scenarios.rot import HURRIED
from dsa_zmq.sim.scenarios.trouble import COSTLY, HARMLESS, HEAL_S, PATIENCE_S, SMALL_SEGMENT, Trouble, nodes_of
from dsa_zmq.sim.verdict import finish, settle, wait_for_healing
from dsa_zmq.sim.workload import Worker

ROUNDS = 3
BLOWS = 5  #: in a round, at most
GAP_S = 0.3  #: between two of them, at most
OPERATIONS = 24  #: of each worker
MAX_BYTES = 20_000
CAPACITY = (384 << 10) + 30 * SMALL_SEGMENT  #: ballast, room for the index, and more segments than are ever full
HOUR: dict[str, Any] = {"heartbeat_s": 3.0, "suspect_s": 9.0, "down_s": 18.0, "gc_interval_s": 15.0}
"""The pace of the quiet hour at the end, so that its heartbeats cost little."""


def everything_at_once(cluster: SimCluster) -> None:
    """See the module. Each seed has a few kinds of trouble, drawn once: what all together hide, some of them show."""
    draw = cluster.random
    cluster.supervise()
    cluster.wait_up()
    room = free_space(cluster)
    trouble = Trouble(cluster, lambda: [Worker(cluster, OPERATIONS, max_bytes=MAX_BYTES) for _ in range(3)])
    weather = draw.randrange(1 << 30)
    kinds = draw.sample(HARMLESS, draw.randint(3, len(HARMLESS)))
    kinds += draw.sample(COSTLY, draw.randint(1, len(COSTLY)))
    if draw.random() < 0.5:
        trouble.copy_a_disk()
    blackout = draw.randrange(ROUNDS)
    for number in range(ROUNDS):
        trouble.weather(weather)
        if draw.random() < 0.7:
            trouble.begin_task()
        for _ in range(draw.randint(2, BLOWS)):
            cluster.run_for(draw.random() * GAP_S)
            draw.choice(kinds)(trouble)
        if number == blackout:
            cluster.power_loss()
        cluster.run_for(draw.random())
        trouble.is_over()
    come_to_rest(cluster, trouble, room)


def free_space(cluster: SimCluster) -> Mapping[str, int]:
    """Of each node, by name."""
    return {info.name: info.free for info in nodes_of(cluster)}


def come_to_rest(cluster: SimCluster, trouble: Trouble, room: Mapping[str, int]) -> None:
    """No more trouble: everything is done that was begun, all is healthy, the books and the disks are right, and nothing is
    left that nobody wants. ``room`` was free in the beginning."""
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
    for info in nodes_of(cluster):
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
