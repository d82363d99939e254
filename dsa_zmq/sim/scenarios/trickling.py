"""Rebalancing that nobody asked for: it begins by itself when one node is much emptier than others, gently, and ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job
from actors.sim.faults import SECOND
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.move_rules import DONE, ApplyReceipts, PlannedMove
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.survey_rules import SurveyDone
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.model.upkeep import Why
from dsa_zmq.protocol.operations import Health, HealthReport
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.noticed import nodes_of
from dsa_zmq.sim.scenarios.repair import wait_away, wait_whole
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle

SMALL_SEGMENT = 32 << 10
CAPACITY = (384 << 10) + 30 * SMALL_SEGMENT  #: ballast and room for the index, and some 25 segments of shards
PACE = replace(HealingPace().faster(10), node_bytes_s=100 << 10)
MAX_BYTES = 26_000
FEW, MANY = 0.10, 0.28
"""Of a node's capacity, that the newcomer lacks of its share: below what rebalancing begins at, and above."""

LOOK_S = PACE.degraded_delay_s + 5.0  #: within which the master looks again whether it is to begin
END_S = 120.0  #: some hundred shards at the rate of a trickle, in rounds


class Moved:
    """What is moved because some nodes are fuller than others."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.plans: dict[int, PlannedMove] = {}  #: by move
        self.begun_ns = 0
        self.there: dict[int, int] = {}  #: where shards have arrived last, by chunk
        self.arrived: Counter[int] = Counter()  #: bytes, by target
        cluster.on_batch.append(self._look)

    def _look(self, machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            match job, result:
                case _, SurveyDone():
                    self._planned([move for move in result.moves if move.why == Why.REBALANCE])
                case ApplyReceipts(), list():
                    for each, applied in zip(job.arrived, result, strict=True):
                        if each.move in self.plans and applied.outcome == DONE:
                            self._arrived(self.plans[each.move])

    def _planned(self, moves: Sequence[PlannedMove]) -> None:
        self.begun_ns = self.begun_ns or self.cluster.world.now_ns
        self.plans.update({move.move: move for move in moves})
        if asked := [move for move in moves if move.task]:
            self._is_wrong(f"nobody asked for it, and yet it is for a task: {asked[:3]}")

    def _arrived(self, plan: PlannedMove) -> None:
        self.arrived[plan.node] += plan.shard_bytes
        self.there[plan.chunk] = plan.node
        passed_s = (self.cluster.world.now_ns - self.begun_ns) / SECOND
        # A second's bytes may leave at once, also of each new master, and one shard is begun before the debt is seen.
        seconds = passed_s + self.cluster.master.starts
        allowed = PACE.node_bytes_s * PACE.trickle_rate * seconds + self.cluster.chunk_bytes
        if self.arrived[plan.node] > allowed:
            self._is_wrong(f"{self.arrived[plan.node]} bytes to one node in {passed_s:g} s are no trickle")

    def _is_wrong(self, what: str) -> None:
        """Said at the next step: this is inside of the catalog's batch."""
        self.cluster.ledger.violations.append(what)


def rebalancing_trickles(cluster: SimCluster) -> None:
    """A node that comes new lacks a little of its share: nothing moves. Another time it lacks much: it gets it, at a tenth
    of the rate, while users go on. Then nothing moves any more, and no shard has moved twice."""
    late = cluster.nodes[-1]
    user = cluster.user()
    _away(cluster, late)
    cluster.wait_up(cluster.nodes[:-1])
    _fill(cluster, user, "few", FEW)
    _start_anew(cluster, late)
    moved = Moved(cluster)
    cluster.run_for(LOOK_S)
    if moved.plans:
        raise Wrong(f"the nodes are even enough, and yet {len(moved.plans)} shards move")

    _away(cluster, late)
    wait_away(cluster)
    wait_whole(cluster, down=[late])
    _fill(cluster, user, "many", MANY)
    _start_anew(cluster, late)
    cluster.run_until(lambda: moved.plans, LOOK_S)
    dies = cluster.random.random() < 0.3
    if dies:  # what is left then may be too little to begin again
        cluster.run_for(cluster.random.random() * 10)
        cluster.supervise()
        cluster.master.crash()
    for number in range(3):
        cluster.must(user.put(f"/meanwhile/{number}", cluster.ledger.new_content(MAX_BYTES)), user.get("/many/0"))
        cluster.run_for(cluster.random.random() * 3)
    _wait_end(cluster, user, moved)
    settle(cluster)
    _expect_even(cluster, moved, within=None if dies else PACE.balanced_within)


def _away(cluster: SimCluster, node: NodeMachine) -> None:
    node.kept = False
    node.crash()
    cluster.run_for(0.1)


def _start_anew(cluster: SimCluster, node: NodeMachine) -> None:
    """With an empty disk."""
    node.swap_disk(node.new_disk())
    node.start()
    node.kept = True
    cluster.wait_up()


def _fill(cluster: SimCluster, user: User, folder: str, lack: float) -> None:
    """Until a node that comes new would lack so much of its share."""
    wanted = lack * CAPACITY * len(cluster.nodes)
    for number in range(1000):
        cluster.must(user.put(f"/{folder}/{number}", cluster.ledger.new_content(MAX_BYTES, 8000)))
        if number % 4 == 3:
            cluster.run_for(0.3)  # the nodes tell what they hold
            if sum(info.used for info in nodes_of(cluster, user).values() if info.state == "up") > wanted:
                return
    raise Wrong("the nodes are never full enough")


def _wait_end(cluster: SimCluster, user: User, moved: Moved) -> None:
    """Until nothing has moved for as long as the master needs to look again."""
    end_ns = cluster.world.now_ns + int(END_S * SECOND)
    while True:
        before = len(moved.plans)
        cluster.run_for(LOOK_S)
        (report,) = cluster.must(user.ask(Health()))
        assert isinstance(report, HealthReport)
        if len(moved.plans) == before and not report.moves:
            return
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"rebalancing does not end: {len(moved.plans)} shards so far, {report}")


def _expect_even(cluster: SimCluster, moved: Moved, *, within: float | None) -> None:
    """Of the stopped cluster: what was moved to a node is still there, and each node has its share of what is stored, but
    for so much of it (None: less than rebalancing begins at), or a chunk or two."""
    database = Database(cluster.master.disk, CATALOG_FILE)
    places = database.execute("SELECT p.chunk, p.node, c.length FROM places p JOIN chunks c ON c.chunk = p.chunk")
    there = {node for (node,) in database.execute("SELECT node FROM nodes WHERE removed = 0")}
    database.close()
    known = {chunk for chunk, _, _ in places}
    held = {(chunk, node) for chunk, node, _ in places}
    if again := {at for at in moved.there.items() if at[0] in known and at not in held}:
        raise Wrong(f"shards were moved to nodes, and away again: {sorted(again)[:5]}")
    stored = dict.fromkeys(there, 0)
    for _, node, length in places:
        stored[node] += length
    share = sum(stored.values()) / len(stored)
    allowed = (PACE.trickle_above * CAPACITY if within is None else within * share) + 2 * cluster.chunk_bytes
    if bad := {node: size for node, size in stored.items() if abs(size - share) > allowed}:
        raise Wrong(f"a share is {share:g} bytes, and these have {bad}")


def _crowded(seed: int) -> Mapping[str, Any]:
    """It takes some minutes, most of which are waiting."""
    times = {"heartbeat_s": 0.3, "suspect_s": 1.2, "down_s": 2.5}
    return {**varied(seed), **times, "segment_bytes": SMALL_SEGMENT, "capacity": CAPACITY, "pace": PACE}


TRICKLE = Scenario(rebalancing_trickles, options=_crowded)
