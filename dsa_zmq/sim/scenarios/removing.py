"""Removals of what is there twice, attacked in the moments between a decision and its effect: nothing goes because of
others that are bad, on their way out, or let go themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.core import Job
from actors.sim.faults import NO_FAULTS, SECOND
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.examine_rules import Released, ReleasesSettled, SettleReleases
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.survey_rules import Survey, SurveyDone
from dsa_zmq.master.catalog.tables import SENT_OFF
from dsa_zmq.model.pace import CarePace
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.upkeep import Placed, covered
from dsa_zmq.node.jobs import DropBatch
from dsa_zmq.protocol.operations import BeginTask
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.scenarios.inventories import Seen
from dsa_zmq.sim.scenarios.repair import drain, fill, stay_away, wait_away, wait_whole
from dsa_zmq.sim.scenarios.rot import Rot
from dsa_zmq.sim.verdict import settle

FILES = 6
REDUNDANCY = parse_redundancy("copies=2")  #: of all that is here
REMOVAL_S = 10.0  #: from the return of a node until removals have begun
SELDOM_S = 7.0  #: between rounds of the garbage collection: a node is told to drop up to that much later
SCRUB_S = 25.0  #: between rounds: by the second one all removals are over
SLOWLY = 20  #: times as long as usual
LATE_S = 10.0  #: a doubled message

STAYING = """
SELECT p.node, p.shard FROM places p JOIN nodes n ON n.node = p.node
WHERE p.chunk = ? AND p.state = 0 AND n.draining = 0 AND n.removed = 0 ORDER BY p.node
"""
IS_SENT_OFF = f"SELECT 1 FROM drops WHERE node = ? AND chunk = ? AND state = {SENT_OFF}"


def node_is_lost_in_a_removal(cluster: SimCluster) -> None:
    """A node is back, so that much is there twice, and another one is to be emptied. When something is released, sent off
    or dropped for the first time, any one node is lost with its disk: nobody needs more than the others have."""
    cluster.wait_up()
    fill(cluster, FILES)
    back, emptied = cluster.random.sample(cluster.nodes, 2)
    stay_away(cluster, back)
    cluster.master.stop()
    drain(cluster, emptied)
    back.kept = True
    back.start()
    cluster.master.start()
    lost = cluster.random.choice(cluster.nodes)
    moment = cluster.random.choice(("released", "sent off", "dropped"))
    come = False

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal come
        come = come or any(_moment(*each) == moment for each in zip(jobs, results, strict=True))

    cluster.on_batch.append(look)
    cluster.run_until(lambda: come, REMOVAL_S)
    cluster.on_batch.remove(look)
    cluster.run_for(cluster.random.random() * 0.02)
    lost.kept = False
    lost.crash()
    cluster.run_for(cluster.random.random() * 0.5)
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(FILES)))
    lost.swap_disk(lost.new_disk())
    lost.kept = True
    lost.start()
    settle(cluster)


def _moment(job: Job, result: Any) -> str:
    match job, result:
        case Survey(), SurveyDone() if result.released:
            return "released"
        case SettleReleases(), ReleasesSettled() if result.sent_off:
            return "sent off"
        case DropBatch(), list() if result:
            return "dropped"
    return ""


def drain_begins_in_a_removal(cluster: SimCluster) -> None:
    """A node is back, and shards are released because another one has them. Before they are sent off, that other one is to
    be emptied: it justifies nothing any more. What is sent off lies on nodes that stay."""
    cluster.wait_up()
    fill(cluster, FILES)
    back, emptied = cluster.random.sample(cluster.nodes, 2)
    stay_away(cluster, back)
    user = cluster.user()
    seen = _SentOff(cluster)
    released = False

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal released
        if not released and any(_moment(*each) == "released" for each in zip(jobs, results, strict=True)):
            released = True
            cluster.soon(overtake)

    def overtake() -> None:
        for node in cluster.nodes:  # so that keepers are read for as long as it takes to begin a task
            cluster.world.slow_down(node.process_name, SLOWLY)
        user.ask(BeginTask("drain", emptied.name))

    cluster.on_batch.append(look)
    back.kept = True
    back.start()
    cluster.run_until(lambda: seen.settled, REMOVAL_S)
    settle(cluster)
    if seen.wrong:
        raise Wrong(f"too little was left on nodes that stay: {seen.wrong[:5]}")


class _SentOff:
    """Looks, whenever shards were sent off, whether nodes that stay have all that is wanted of their chunks."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self.settled = 0  #: jobs
        self.wrong: list[str] = []
        cluster.on_batch.append(self._look)

    def _look(self, machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for job, result in zip(jobs, results, strict=True):
            if isinstance(job, SettleReleases) and isinstance(result, ReleasesSettled):
                self.settled += 1
                with contextlib.closing(Database(self._cluster.master.disk.snapshot(), CATALOG_FILE)) as database:
                    self._check(database, job.released)

    def _check(self, database: Database, released: Sequence[Released]) -> None:
        for each in released:
            left = [Placed(*values) for values in database.execute(STAYING, (each.chunk,))]
            if database.execute(IS_SENT_OFF, (each.node, each.chunk)) and covered(left, REDUNDANCY) < REDUNDANCY.shards:
                self.wrong.append(f"of chunk {each.chunk} {left}")


def keepers_rot_before_a_removal(cluster: SimCluster) -> None:
    """While a node is away, all that the others have rots unseen. When it is back its copies are the only good ones, and
    too many by number: they stay, and the others are mended from them, once they are read for a removal or scrubbed."""
    cluster.wait_up()
    rot = Rot(cluster)
    rot.fill()
    back = cluster.random.choice(cluster.nodes)
    held = {place[1] for places in rot.places() for machine, place, _ in places if machine is back}
    stay_away(cluster, back)
    for places in rot.places():
        for machine, place, data in places:
            if machine is not back and place[1] in held:
                rot.turn(machine, place, data)
    back.kept = True
    back.start()
    cluster.wait_up()
    cluster.run_for(REMOVAL_S)
    rot.read(cluster.user())
    cluster.run_for(SCRUB_S)
    wait_whole(cluster)
    settle(cluster)
    rot.check()


def wanted_again_while_it_is_dropped(cluster: SimCluster) -> None:
    """Of three nodes one is back, and of each chunk one of three copies is let go. Before they are dropped it dies again, or
    another one does: the only node that can take its place has to drop first. Each message comes once more, much later; the
    copy that came back stays, so that one more node may die."""
    retired, *nodes = cluster.random.sample(cluster.nodes, len(cluster.nodes))
    cluster.wait_up()
    retired.kept = False
    retired.crash()
    cluster.run_for(cluster.master_settings.down_s + cluster.master_settings.pace.storm_window_s)
    fill(cluster, FILES)
    back = nodes[0]
    stay_away(cluster, back)
    back.kept = True
    back.start()
    seen = Seen(cluster)
    sent_off = 0

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        nonlocal sent_off
        sent_off += sum(result.sent_off for result in results if isinstance(result, ReleasesSettled))

    cluster.on_batch.append(look)
    cluster.run_until(lambda: sent_off, REMOVAL_S)
    cluster.on_batch.remove(look)
    cluster.world.faults = replace(NO_FAULTS, duplicate=1.0, spike_ns=int(LATE_S * SECOND))
    dying = cluster.random.choice((back, back, nodes[1]))
    dying.kept = False
    dying.crash()
    wait_away(cluster)
    wait_whole(cluster, down=[retired, dying])
    cluster.run_for(cluster.random.random() * LATE_S)
    victim = cluster.random.choice([node for node in nodes if node is not dying])
    victim.crash()
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(FILES)))
    cluster.world.faults = NO_FAULTS
    retired.kept = dying.kept = True
    settle(cluster)
    if seen.declared:
        raise Wrong(f"{seen.declared} shards were taken away from under their places")


def _seldom_collected(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "gc_interval_s": SELDOM_S}


def _seldom_scrubbed(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "care": replace(CarePace(), damage_repeat_s=0.5, scrub_every_s=SCRUB_S)}


LOST = Scenario(node_is_lost_in_a_removal)
DRAINED = Scenario(drain_begins_in_a_removal)
ROTTEN = Scenario(keepers_rot_before_a_removal, options=_seldom_scrubbed)
AGAIN = Scenario(wanted_again_while_it_is_dropped, options=_seldom_collected)

REMOVING = (LOST, DRAINED, ROTTEN, AGAIN)
