"""What a node does with its disk by itself (rewriting, scrubbing, putting aside what is damaged) over its own ends."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job
from dsa_zmq.model.pace import CarePace
from dsa_zmq.node.damage_steps import FindDamage
from dsa_zmq.node.jobs import RewriteShare
from dsa_zmq.sim.audit import expect_what_is_placed, open_store
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.repair import wait_whole
from dsa_zmq.sim.scenarios.rot import Rot
from dsa_zmq.sim.scenarios.space import MAX_BYTES, SMALL_SEGMENT
from dsa_zmq.sim.verdict import settle

FILES = 12  #: some segments on each node
TURNS = 3
REWRITTEN_S = 4.0  #: until most are rewritten that half dead files lie in
CUT = 0.3  #: of the rewritings
SCRUB_RESTARTS = 8
SCRUB_ALIVE_S = 3.0  #: a round takes three times as long


def power_fails_after_a_rewriting(cluster: SimCluster) -> None:
    """Segments are half dead and are rewritten; whenever one was unlinked its node loses power. What it had is there: in
    the new segment, and its index knows that, without reading all segments again."""
    cluster.wait_up()
    user = cluster.user()
    cuts = 0

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        rewritten = [r for job, r in zip(jobs, results, strict=True) if isinstance(job, RewriteShare)]
        if isinstance(machine, NodeMachine) and any(getattr(result, "gone", False) for result in rewritten):
            cluster.soon(lambda: cut(machine))

    def cut(machine: NodeMachine) -> None:
        nonlocal cuts
        if machine.alive and cluster.random.random() < CUT:
            cuts += 1
            machine.power_loss()
            expect_what_is_placed(cluster, [machine])
            expect_an_index(cluster, machine)
            machine.start()

    cluster.on_batch.append(look)
    for turn in range(TURNS):
        paths = [f"/{turn}/{number}" for number in range(FILES)]
        for path in paths:
            cluster.must(user.put(path, cluster.ledger.new_content(MAX_BYTES)))
        cluster.must(*(user.rm(path) for path in cluster.random.sample(paths, 3 * FILES // 4)))
        cluster.run_for(REWRITTEN_S)
    cluster.on_batch.remove(look)
    if not cuts:
        raise Wrong("nothing was rewritten: this shows nothing")
    settle(cluster)


def expect_an_index(cluster: SimCluster, machine: NodeMachine) -> None:
    """That of a node which has just lost power need not be made anew."""
    with contextlib.closing(open_store(cluster, machine)) as store:
        if rebuilt := [note for note in store.notes if "rebuilt" in note]:
            raise Wrong(f"{machine.name} has to read all that it has: {rebuilt}")


def scrub_goes_on_over_restarts(cluster: SimCluster) -> None:
    """A node is started anew again and again before it could read all that it has. Yet it comes to the last shard."""
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    holders = [machine for places in rot.places() for machine, _, _ in places]
    node = max(cluster.nodes, key=holders.count)
    start_anew(cluster, node)
    place, data = max((place, data) for places in rot.places() for machine, place, data in places if machine is node)
    rot.turn(node, place, data)
    for _ in range(SCRUB_RESTARTS):
        cluster.run_for(SCRUB_ALIVE_S * (0.8 + 0.2 * cluster.random.random()))
        node.crash()
        node.start()
    if not rot.declared:
        raise Wrong("scrubbing has not found what has rotted at the end")
    wait_whole(cluster)
    settle(cluster)
    rot.check()


def start_anew(cluster: SimCluster, node: NodeMachine) -> None:
    """What was put lately is read by the next start; by those that follow it is not."""
    node.crash()
    node.start()
    cluster.wait_up()


def dies_with_damage_untold(cluster: SimCluster) -> None:
    """All that a node holds has rotted, and a reader meets some of it. Before the node could tell, it dies; when it is back
    nobody reads, and nothing is scrubbed: it tells all the same."""
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    node = cluster.random.choice(cluster.nodes)
    start_anew(cluster, node)
    met: set[tuple[int, int]] = set()

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            if machine is node and isinstance(job, FindDamage) and result and not met:
                met.update(result)
                cluster.soon(node.crash)

    cluster.on_batch.append(look)
    for places in rot.places():
        for machine, place, data in places:
            if machine is node:
                rot.turn(node, place, data)
    for _ in range(4):
        if not met:
            rot.read(cluster.user())
    if not met:
        raise Wrong("no reader came across the damage")
    cluster.run_for(0.2)
    node.start()
    cluster.run_until(lambda: met <= {place[1:] for place in rot.declared}, 10.0)
    wait_whole(cluster)
    rot.read(cluster.user())


def _small_segments(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "segment_bytes": SMALL_SEGMENT}


def _slow_scrub(seed: int) -> Mapping[str, Any]:
    """A shard in a second."""
    care = CarePace(scrub_bytes_s=4_000, scrub_every_s=1.0, scrub_save_s=0.5, step_bytes=1, damage_repeat_s=0.5)
    return {**varied(seed), "care": care}


def _no_scrub(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "care": replace(CarePace(), damage_repeat_s=0.5)}


REWRITTEN = Scenario(power_fails_after_a_rewriting, options=_small_segments)
SCRUB = Scenario(scrub_goes_on_over_restarts, options=_slow_scrub)
UNTOLD = Scenario(dies_with_damage_untold, options=_no_scrub)

RESUMING = (REWRITTEN, SCRUB, UNTOLD)
