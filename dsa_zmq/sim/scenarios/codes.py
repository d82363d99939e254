"""Erasure codes: any ``needed`` of a chunk's shards are enough, and everything else goes as with copies.

The budget of a code: as many of its nodes as it has parity may be away, or their shards rotten, at one time. ``SHAPES`` are
tried in turn, with more nodes than shards by as many: so all can be made anew without those that are away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsa_zmq.model.redundancy import kept_as, parse_redundancy
from dsa_zmq.protocol.operations import ListDirectory, SetRedundancy
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.scenarios.growing import begin, disturb, switch_off, wait_done, wait_end
from dsa_zmq.sim.scenarios.repair import MAX_BYTES, fill, wait_away, wait_whole
from dsa_zmq.sim.scenarios.rot import HURRIED, Rot
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

SHAPES = ("ec=2+1", "ec=4+2", "ec=2+2")


def any_needed_shards_are_enough(cluster: SimCluster) -> None:
    """As many nodes die as the code can lose, while users write and read; all can be read. What they had is made anew, and
    then as many others may die. All come back, one of them with an empty disk."""
    losses = parse_redundancy(cluster.master_settings.default_redundancy).tolerates
    cluster.wait_up()
    fill(cluster)
    worker = Worker(cluster, 10, max_bytes=MAX_BYTES)
    gone = cluster.random.sample(cluster.nodes, 2 * losses)
    first, second = gone[:losses], gone[losses:]
    for node in first:
        cluster.run_for(cluster.random.random())
        node.kept = False
        cluster.random.choice((node.crash, node.power_loss))()
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(6)))
    cluster.run_until(lambda: not worker.left, 120)
    wait_away(cluster)
    wait_whole(cluster, seconds=90.0, down=first)
    for node in second:
        node.crash()
    cluster.must(*(reader.get(f"/f{number}") for number in range(6)))
    for node in second:
        node.start()
    first[0].swap_disk(first[0].new_disk())
    for node in first:
        node.kept = True
        node.start()
    settle(cluster)


def nodes_with_shards_go_and_come(cluster: SimCluster) -> None:
    """Nodes die and return at any moment, in the middle of repair too, but never more at a time than the code can lose: in
    the end each shard is there once, with its own bytes."""
    losses = parse_redundancy(cluster.master_settings.default_redundancy).tolerates
    cluster.wait_up()
    fill(cluster)
    worker = Worker(cluster, 20, max_bytes=MAX_BYTES)
    for _ in range(4):
        away = cluster.random.sample(cluster.nodes, cluster.random.randint(1, losses))
        for node in away:
            node.kept = False
            cluster.random.choice((node.crash, node.power_loss))()
            cluster.run_for(cluster.random.random())
        cluster.run_for(cluster.random.random() * 6)
        for node in away:
            node.kept = True
            node.start()
        cluster.wait_up()
    cluster.run_until(lambda: not worker.left, 120)
    settle(cluster)


def shards_of_codes_rot(cluster: SimCluster) -> None:
    """Shards rot, others are read and joined instead, scrubbing finds what nobody reads, and each is made anew."""
    cluster.supervise()
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    for _ in range(3):
        rot.turn_some(0.6)
        rot.read(cluster.user())
        cluster.random.choice(cluster.nodes).crash()
        rot.wait_mended()
    rot.read(cluster.user())
    settle(cluster)
    rot.check()


def a_node_with_shards_is_drained(cluster: SimCluster) -> None:
    """It gives its very shards away, or others make them, if it dies meanwhile."""
    cluster.wait_up()
    fill(cluster)
    worker = Worker(cluster, 10, max_bytes=MAX_BYTES)
    node = cluster.random.choice(cluster.nodes)
    task = begin(cluster, "drain", node.name)
    if cluster.random.random() < 0.4:
        cluster.run_for(cluster.random.random())
        node.crash()
        cluster.run_for(cluster.random.random() * 3)
        node.start()
    wait_done(cluster, task)
    switch_off(cluster, node)
    cluster.run_until(lambda: not worker.left, 120)
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(6)))
    settle(cluster, without=[node])


def copies_become_a_code_and_copies_again(cluster: SimCluster) -> None:
    """Files are converted to a code, to another one, and to copies, while users overwrite and remove them, and a node or the
    master dies: what they see are always the right bytes."""
    code = cluster.master_settings.default_redundancy
    cluster.wait_up()
    user = fill(cluster)
    cluster.must(user.cp("/f0", "/copy"))
    disturb(cluster, user)
    for wanted in ("copies=2", code, "ec=3+1", "copies=3"):
        workers = [Worker(cluster, 6, max_bytes=MAX_BYTES) for _ in range(2)]
        cluster.must(cluster.user().ask(SetRedundancy("/", wanted)))
        first = begin(cluster, "convert", "/")
        if cluster.random.random() < 0.3:
            cluster.run_for(cluster.random.random())
            victim = cluster.random.choice([cluster.master, *cluster.nodes])
            cluster.random.choice((victim.crash, victim.power_loss))()
            victim.start()
        wait_end(cluster, first, seconds=120.0)
        _wait_done(cluster, workers)
        cluster.wait_up()
        wait_done(cluster, begin(cluster, "convert", "/"))
        _expect_all(cluster, wanted)
    settle(cluster)


def _wait_done(cluster: SimCluster, workers: Sequence[Worker]) -> None:
    cluster.run_until(lambda: not any(worker.left for worker in workers), 120)


def _expect_all(cluster: SimCluster, wanted: str) -> None:
    (shown,) = cluster.must(cluster.user().ask(ListDirectory("/")))
    for entry in shown.entries:
        at = entry.attributes
        if at.content and at.redundancy != kept_as(wanted, at.size, at.chunk_bytes):
            raise Wrong(f"not all is {wanted}: {entry}")


def _shaped(seed: int) -> Mapping[str, Any]:
    redundancy = parse_redundancy(SHAPES[seed % len(SHAPES)])
    nodes = redundancy.shards + redundancy.tolerates
    return {**varied(seed), "redundancy": redundancy.name, "nodes": nodes}


def _hurried(seed: int) -> Mapping[str, Any]:
    return {**_shaped(seed), "care": HURRIED}


NEEDED = Scenario(any_needed_shards_are_enough, options=_shaped)
COMING = Scenario(nodes_with_shards_go_and_come, options=_shaped)
ROTTEN = Scenario(shards_of_codes_rot, options=_hurried)
DRAINED = Scenario(a_node_with_shards_is_drained, options=_shaped)
CONVERTED = Scenario(copies_become_a_code_and_copies_again, options=_shaped)

CODES = (NEEDED, COMING, ROTTEN, DRAINED, CONVERTED)
