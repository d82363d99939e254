"""Where shards lie among few nodes, and in zones: what is there twice stands in for what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Job
from actors.sim.faults import SECOND
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.move_rules import PlannedMove
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.survey_rules import Survey, SurveyDone
from dsa_zmq.model.upkeep import Why
from dsa_zmq.protocol.operations import Health, HealthReport, ListDirectory
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.scenarios.repair import MAX_BYTES, fill, wait_away, wait_whole
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker


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


def zones_appear_later(cluster: SimCluster) -> None:
    """A cluster without zones gets them: nodes are started again one by one, each in a zone, and one comes new. The master
    dies meanwhile, and users go on. In the end no zone has two copies of anything, nothing moves any more, and health has
    nothing to say."""
    late = cluster.nodes[-1]
    late.kept = False
    late.crash()
    cluster.run_for(0.1)
    late.swap_disk(late.new_disk())  # it has never been here
    cluster.wait_up(cluster.nodes[:-1])
    fill(cluster, 10)
    worker = Worker(cluster, 12, max_bytes=MAX_BYTES)
    cluster.zones = {node.name: cluster.random.choice("ab") for node in cluster.nodes} | {"n1": "a", late.name: "b"}
    restarted = [*cluster.nodes[:-1], cluster.master]
    cluster.random.shuffle(restarted)
    moved = _moves_made(cluster)
    cluster.supervise()
    for machine in restarted:
        cluster.random.choice((machine.crash, machine.stop))()
        cluster.run_for(cluster.random.random() * 1.5)
    late.kept = True
    cluster.run_until(lambda: not worker.left, 90)
    cluster.wait_up()
    if cluster.random.random() < 0.5:
        cluster.run_for(cluster.random.random())
        cluster.master.power_loss()
    _wait_spread(cluster)
    made = len(moved)
    twice = [chunk for chunk, times in Counter(move.chunk for move in moved).items() if times > 1]
    if twice:
        raise Wrong(f"chunks were moved apart, and moved apart again: {twice[:5]}")
    cluster.run_for(cluster.master_settings.pace.degraded_delay_s + 5.0)  # stock is taken once more meanwhile
    if len(moved) > made:
        raise Wrong(f"all was spread, and yet moves go on: {moved[made:]}")
    _lose_a_zone(cluster)
    settle(cluster)
    _expect_apart(cluster)


def _moves_made(cluster: SimCluster) -> list[PlannedMove]:
    """Filled with all moves apart that are planned from now on."""
    moved: list[PlannedMove] = []

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        for result in results:
            if isinstance(result, SurveyDone):
                moved.extend(move for move in result.moves if move.why == Why.SPREAD)

    cluster.on_batch.append(look)
    return moved


def _wait_spread(cluster: SimCluster, *, seconds: float = 120.0) -> None:
    """Until health says nothing of zones or of spreading, and nothing moves."""
    user = cluster.user()
    end_ns = cluster.world.now_ns + int(seconds * SECOND)
    while True:
        (shown,) = cluster.wait(user.ask(Health()))
        if isinstance(shown, HealthReport):
            said = [note for note in shown.notes if "zone" in note]
            if not said and not shown.moves and not shown.held and shown.nodes_up == len(cluster.nodes):
                break
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"after {seconds:g} s not all is spread: {shown}")
        cluster.run_for(0.5)
    user.crash()


def _lose_a_zone(cluster: SimCluster) -> None:
    """All nodes of one zone die, and everything can be read."""
    cluster.run_for(cluster.master_settings.gc_grace_s)
    zone = cluster.random.choice("ab")
    lost = [node for node in cluster.nodes if cluster.zones[node.name] == zone]
    for node in lost:
        node.kept = False
        node.crash()
    reader = cluster.user()
    (shown,) = cluster.must(reader.ask(ListDirectory("/")))
    cluster.must(*(reader.get(f"/{entry.name}") for entry in shown.entries if entry.attributes.kind == "file"))
    reader.crash()
    for node in lost:
        node.kept = True


def _expect_apart(cluster: SimCluster) -> None:
    """In the catalog of a stopped cluster no chunk has two places in one zone."""
    database = Database(cluster.master.disk, CATALOG_FILE)
    shared = database.execute(
        "SELECT p.chunk, n.zone, COUNT(*) FROM places p JOIN nodes n ON n.node = p.node GROUP BY p.chunk, n.zone"
        " HAVING COUNT(*) > 1 ORDER BY p.chunk"
    )
    database.close()
    if shared:
        raise Wrong(f"chunks with two copies in a zone: {shared[:5]}")


def _three_nodes(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "nodes": 3}


def _by_domains(seed: int) -> Mapping[str, Any]:
    """The chained table asks for no domains."""
    return {**varied(seed), "placement": "rendezvous", "nodes": 5}


STAND_IN = Scenario(copies_stand_in_for_each_other, options=_three_nodes)
ZONES = Scenario(zones_appear_later, options=_by_domains)

SPREADING = (STAND_IN, ZONES)
