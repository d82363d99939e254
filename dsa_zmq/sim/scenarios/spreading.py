"""Where shards lie among few nodes, and in zones: what is there twice stands in for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Job
from dsa_zmq.master.catalog.survey_rules import Survey
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.scenarios.repair import fill, wait_away, wait_whole
from dsa_zmq.sim.verdict import settle


def copies_stand_in_for_each_other(cluster: SimCluster) -> None:
    """Of three nodes one is away until all is made anew, and is back: much is there twice now. Before that is let go, at a
    step that the seed chooses, another one dies. Two copies of everything are there, or can be made, on the two that are
    left; then each of them alone is enough."""
    cluster.wait_up()
    fill(cluster)
    back, dead, third = cluster.random.sample(cluster.nodes, 3)
    back.kept = False
    back.crash()
    wait_away(cluster)
    wait_whole(cluster, down=[back])
    steps = cluster.random.randrange(6)

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal steps
        if machine is cluster.master and any(isinstance(job, Survey) for job in jobs):
            steps -= 1
            if steps == 0:
                cluster.soon(dead.crash)

    cluster.on_batch.append(look)
    back.kept = True
    back.start()
    cluster.wait_up([back, third])
    cluster.on_batch.remove(look)
    dead.kept = False
    dead.crash()
    wait_away(cluster)
    wait_whole(cluster, down=[dead])
    gone = cluster.random.choice((back, third))
    gone.crash()
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(6)))
    reader.crash()
    for machine in (gone, dead):
        machine.kept = True
        machine.start()
    settle(cluster)


def _three_nodes(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "nodes": 3}


STAND_IN = Scenario(copies_stand_in_for_each_other, options=_three_nodes)

SPREADING = (STAND_IN,)
