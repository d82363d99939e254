"""Nodes that are merely away: while silence may have another cause than deaths, nothing is copied and nothing removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job
from dsa_zmq.master.catalog.survey_rules import Survey, SurveyDone
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.scenarios.repair import fill
from dsa_zmq.sim.verdict import settle

FILES = 6
AWAY_S = 3.5  #: longer than until repair of what one lost node had begins, shorter than any hold
HOLD_S = 6.0  #: after a start or a pause of the master


class Hasty:
    """How many moves were planned, and places let go."""

    def __init__(self, cluster: SimCluster) -> None:
        self.moves = 0
        self.released = 0
        cluster.on_batch.append(self._look)

    def _look(self, machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            if isinstance(job, Survey) and isinstance(result, SurveyDone):
                self.moves += len(result.moves)
                self.released += len(result.released)


def merely_away(cluster: SimCluster) -> None:
    """Half of the nodes are away together, and come back one after the other; or one is away, while the master is started
    anew, or was stopped. All are back before any hold would end by itself, and find everything as it was."""
    cluster.wait_up()
    fill(cluster, FILES)
    cluster.run_for(HOLD_S)
    hasty = Hasty(cluster)
    case = cluster.seed % 3
    away = cluster.random.sample(cluster.nodes, 2 if case == 0 else 1)
    for node in away:
        node.kept = False
    if case == 0:
        end = cluster.random.choice(("crash", "power_loss", "pause"))
        for node in away:
            getattr(node, end)()
    elif case == 1:
        away[0].crash()
        cluster.master.crash()
        cluster.master.start()
    else:
        cluster.master.pause()
        cluster.world.run_for(int(HOLD_S * 1e9 / 2))
        away[0].crash()
        cluster.world.run_for(int(HOLD_S * 1e9 / 2))
        cluster.master.resume()
    cluster.run_for(AWAY_S)
    for node in away:
        node.kept = True
        if node.alive:
            node.resume()
        else:
            node.start()
    settle(cluster)
    if hasty.moves or hasty.released:
        raise Wrong(f"nobody has died, and yet {hasty.moves} shards were to be made anew, {hasty.released} removed")


def _eager(seed: int) -> Mapping[str, Any]:
    """Repair of what one lost node held is due before the master's hold ends, so that only the hold keeps from it."""
    pace = replace(HealingPace().faster(10), start_hold_s=HOLD_S)
    return {**varied(seed), "pace": pace}


AWAY = Scenario(merely_away, options=_eager)

HELD = (AWAY,)
