"""Nodes that die for good, or for a while: everything is made anew, and nothing is there twice in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job, Message, Peer
from actors.sim.faults import MS, SECOND
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.examine_rules import SettleReleases
from dsa_zmq.master.catalog.move_rules import ApplyReceipts, GiveUpMoves, LoadMoves, LookAtMoves
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.survey_rules import Survey
from dsa_zmq.protocol.messages import Fetch, Fetched, ShardData
from dsa_zmq.protocol.operations import Health, HealthReport, ListNodes, Nodes
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000
REPAIR_S = 30.0  #: a few files: delays and retries, not bytes, take the time


def wait_whole(cluster: SimCluster, *, seconds: float = REPAIR_S, down: Sequence[NodeMachine] = ()) -> None:
    """Until the master counts each chunk as healthy, and knows that these nodes are down."""
    user = cluster.user()
    end_ns = cluster.world.now_ns + int(seconds * SECOND)
    while True:
        shown, listed = cluster.wait(user.ask(Health()), user.ask(ListNodes()))
        if isinstance(shown, HealthReport) and isinstance(listed, Nodes):
            known = {info.name for info in listed.nodes if info.state == "down"} >= {node.name for node in down}
            if known and not (shown.degraded_chunks or shown.endangered_chunks or shown.lost_chunks):
                break
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"after {seconds:g} s not all is made anew: {shown} {listed}")
        cluster.run_for(0.2)
    user.crash()


def fill(cluster: SimCluster, files: int = 6) -> User:
    """Some files, and who has put them."""
    user = cluster.user()
    cluster.must(*(user.put(f"/f{number}", cluster.ledger.new_content(MAX_BYTES)) for number in range(files)))
    return user


def wait_away(cluster: SimCluster) -> None:
    """Long enough that repair has begun, if it is going to."""
    pace = cluster.master_settings.pace
    cluster.run_for(cluster.master_settings.down_s + pace.endangered_delay_s + 0.5)


def node_dies_and_is_replaced(cluster: SimCluster) -> None:
    """A node dies for good: all it had is made anew, and then another may die as well; an empty one takes its place."""
    cluster.wait_up()
    fill(cluster)
    first, second = cluster.random.sample(cluster.nodes, 2)
    first.kept = False
    first.crash()
    wait_away(cluster)
    wait_whole(cluster, down=[first])
    second.crash()
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(6)))
    second.start()
    first.swap_disk(first.new_disk())
    first.kept = True
    first.start()
    settle(cluster)


def dead_node_returns_after_repair(cluster: SimCluster) -> None:
    """A node is away until everything was made anew; while it is, files are overwritten and removed. Back again, what it
    has counts at once, and what is there twice is let go."""
    cluster.wait_up()
    user = fill(cluster)
    node = cluster.random.choice(cluster.nodes)
    node.kept = False
    node.crash()
    wait_away(cluster)
    cluster.must(user.put("/f0", cluster.ledger.new_content(MAX_BYTES)), user.rm("/f1"))
    wait_whole(cluster, down=[node])
    node.kept = True
    node.start()
    settle(cluster)


def returns_in_the_middle_of_repair(cluster: SimCluster) -> None:
    """A node comes back as soon as the first of its shards are made anew, or just before."""
    cluster.wait_up()
    fill(cluster)
    node = cluster.random.choice(cluster.nodes)
    after = cluster.random.randrange(8)  #: batches that put shards on the others' disks for the master
    seen = 0

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal seen
        seen += any(isinstance(job, Survey | ApplyReceipts) for job in jobs)
        if seen == after and not node.alive:
            cluster.soon(node.start)
            cluster.on_batch.remove(look)

    node.kept = False
    node.crash()
    cluster.on_batch.append(look)
    wait_away(cluster)
    cluster.run_for(cluster.random.random() * 2)
    if look in cluster.on_batch:
        cluster.on_batch.remove(look)
    if not node.alive:
        node.start()
    node.kept = True
    settle(cluster)


def master_dies_in_repair(cluster: SimCluster) -> None:
    """The master dies after each step of a repair that the seed chooses, and goes on with it."""
    cluster.wait_up()
    fill(cluster)
    node = cluster.random.choice(cluster.nodes)
    deaths = [cluster.random.randrange(12) for _ in range(3)]
    seen = 0

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal seen
        if machine is cluster.master and any(isinstance(job, HEALING) for job in jobs):
            if seen in deaths:
                cluster.soon(cluster.random.choice((machine.crash, machine.power_loss)))
            seen += 1

    cluster.on_batch.append(look)
    cluster.supervise()
    stay_away(cluster, node)
    cluster.on_batch.remove(look)
    node.kept = True
    settle(cluster)


def stay_away(cluster: SimCluster, node: NodeMachine) -> None:
    """The node dies, and is not started again; returns when all that it held was made anew."""
    node.kept = False
    node.crash()
    wait_away(cluster)
    wait_whole(cluster, seconds=60.0, down=[node])


def nodes_die_in_a_fetch(cluster: SimCluster) -> None:
    """Sources and targets die while shards travel, and lose power; they are back soon."""
    cluster.wait_up()
    fill(cluster)
    lost = cluster.random.choice(cluster.nodes)
    others = [node for node in cluster.nodes if node is not lost]
    left = 4

    def look(owner: Machine | User, sender: Peer, message: Message) -> None:
        nonlocal left
        if left and isinstance(message, Fetch | ShardData | Fetched) and cluster.random.random() < 0.4:
            victim = cluster.random.choice([node for node in others if node.alive] or [lost])
            left -= 1
            cluster.soon(cluster.random.choice((victim.crash, victim.power_loss)))

    cluster.on_message.append(look)
    cluster.supervise()
    stay_away(cluster, lost)
    cluster.on_message.remove(look)
    lost.kept = True
    settle(cluster)


def nodes_come_and_go(cluster: SimCluster) -> None:
    """One node after another is away for longer than repair waits, sometimes two that overlap, under load and over a bad
    network."""
    cluster.wait_up()
    workers = [Worker(cluster, 14, max_bytes=MAX_BYTES) for _ in range(2)]
    for _ in range(4):
        node = cluster.random.choice(cluster.nodes)
        node.kept = False
        cluster.random.choice((node.crash, node.power_loss))()
        cluster.run_for(1.0 + cluster.random.random() * 3)
        node.kept = True
        if cluster.random.random() < 0.7 and not node.alive:
            node.start()
        cluster.run_for(cluster.random.random() * 2)
        cluster.supervise()
    cluster.run_until(lambda: not any(worker.left for worker in workers), 120)
    settle(cluster)


def shards_come_back_to_nodes(cluster: SimCluster) -> None:
    """Of three nodes one after another is away until it was replaced, and back until what is too much was let go: shards
    return to where they were dropped, while late and doubled drops, words and fetches are still on their way."""
    nodes = cluster.nodes[:3]
    retired = cluster.nodes[3]
    cluster.wait_up()
    retired.kept = False
    retired.crash()
    pace = cluster.master_settings.pace
    cluster.run_for(cluster.master_settings.down_s + pace.storm_window_s)  # the next to be away makes no storm with it
    fill(cluster, 5)
    # From here on: late probes make nodes suspect now and then, and of three that would leave too few for a put.
    cluster.world.faults = replace(cluster.world.faults, duplicate=0.2, jitter_ns=400 * MS)
    for _ in range(5):
        node = cluster.random.choice(nodes)
        node.kept = False
        cluster.random.choice((node.crash, node.power_loss))()
        wait_away(cluster)
        if cluster.random.random() < 0.7:
            wait_whole(cluster, down=[node])
        node.start()
        node.kept = True
        wait_trimmed(cluster, nodes)
    retired.kept = True
    settle(cluster)


def wait_trimmed(cluster: SimCluster, nodes: Sequence[NodeMachine], *, seconds: float = REPAIR_S) -> None:
    """Until these nodes hold each shard once: with no node to spare, a shard could not be made anew otherwise."""
    user = cluster.user()
    end_ns = cluster.world.now_ns + int(seconds * SECOND)
    names = {node.name for node in nodes}
    while True:
        shown, listed = cluster.wait(user.ask(Health()), user.ask(ListNodes()))
        if isinstance(shown, HealthReport) and isinstance(listed, Nodes):
            infos = [info for info in listed.nodes if info.name in names]
            whole = {info.state for info in infos} == {"up"} and shown.endangered_chunks == 0
            if whole and sum(info.shards for info in infos) == 2 * shown.healthy_chunks:
                break
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"after {seconds:g} s there is still too much: {shown} {listed}")
        cluster.run_for(0.2)
    user.crash()


def two_want_to_remove(cluster: SimCluster) -> None:
    """A node comes back, so that much is there twice, and at the same moment another one is to be emptied."""
    cluster.wait_up()
    fill(cluster)
    back, emptied = cluster.random.sample(cluster.nodes, 2)
    back.kept = False
    back.crash()
    wait_away(cluster)
    wait_whole(cluster, down=[back])
    cluster.master.stop()
    number = drain(cluster, emptied)
    back.kept = True
    back.start()
    cluster.master.start()
    cluster.run_for(cluster.random.random() * 2)
    if cluster.random.random() < 0.5:
        cluster.random.choice(cluster.nodes).crash()
    settle(cluster)
    database = Database(cluster.master.disk, CATALOG_FILE)
    left = database.execute("SELECT chunk FROM places WHERE node = ?", (number,))
    database.close()
    if left:
        raise Wrong(f"{len(left)} shards are still on the node that was to be emptied")


def drain(cluster: SimCluster, node: NodeMachine) -> int:
    """Have a node emptied, while there is no master; its number."""
    database = Database(cluster.master.disk, CATALOG_FILE)
    [(number,)] = database.execute("SELECT node FROM nodes WHERE name = ?", (node.name,))
    database.begin()
    database.execute("UPDATE nodes SET draining = 1 WHERE node = ?", (number,))
    database.commit()
    database.close()
    return int(number)


HEALING = (Survey, LoadMoves, ApplyReceipts, GiveUpMoves, LookAtMoves, SettleReleases)

DIES = Scenario(node_dies_and_is_replaced)
RETURNS = Scenario(dead_node_returns_after_repair)
MIDDLE = Scenario(returns_in_the_middle_of_repair)
MASTER_DIES = Scenario(master_dies_in_repair)
FETCH = Scenario(nodes_die_in_a_fetch)
COME_AND_GO = Scenario(nodes_come_and_go, rough=True)
COME_BACK = Scenario(shards_come_back_to_nodes)
REMOVERS = Scenario(two_want_to_remove)

REPAIR = (DIES, RETURNS, MIDDLE, MASTER_DIES, FETCH, COME_AND_GO, COME_BACK, REMOVERS)
