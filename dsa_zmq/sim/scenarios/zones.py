"""Zones: the shards of a chunk lie in as many as there are, whatever becomes of nodes, and the loss of one loses no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.sim.faults import SECOND
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.operations import Health, HealthReport, Locate, Located
from dsa_zmq.protocol.values import NodeInfo
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import NodeMachine
from dsa_zmq.sim.scenarios.growing import begin, switch_off, wait_done
from dsa_zmq.sim.scenarios.noticed import nodes_of
from dsa_zmq.sim.scenarios.repair import wait_whole
from dsa_zmq.sim.verdict import settle

LAYOUTS = ("aabbc", "abbc", "abccc", "aabbcc")
"""The zones of the nodes: some have one node, some several."""

FILES = 5
FILE_BYTES = 12_000  #: three chunks: their places are told at once
TIDY_S = 60.0  #: a storm is waited out, and what was made twice is let go
TOO_FEW = "would use"  #: of what health says when there are not enough zones
APART = "could be spread better"  #: of what it says while there are, and not all is spread


class Zones:
    """What is promised of zones, at a moment at which nothing moves."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.user = cluster.user()
        self.copies = parse_redundancy(cluster.master_settings.default_redundancy).shards
        self.paths: list[str] = []

    def fill(self, folder: str) -> None:
        """Some more files, which use all zones from the first."""
        new = self.cluster.ledger.new_content
        paths = [f"/{folder}/{number}" for number in range(FILES)]
        self.cluster.must(*(self.user.put(path, new(FILE_BYTES, FILE_BYTES - 4000)) for path in paths))
        self.paths += paths
        self._expect_apart(paths)

    def nodes(self, zone: str) -> list[NodeMachine]:
        """Those of a zone that are there."""
        return [node for node in self.cluster.nodes if self.cluster.zones[node.name] == zone and node.kept]

    def may_go(self) -> list[str]:
        """The zones without which there are still zones and nodes enough for all shards of a chunk to lie apart."""
        found = []
        for zone in sorted(set(self.cluster.zones.values())):
            others = [node for node in self.cluster.nodes if node.kept and self.cluster.zones[node.name] != zone]
            if self.nodes(zone) and len(others) >= self.copies:
                found.append(zone)
        return found

    def check(self) -> None:
        """Every chunk uses as many zones as there are, so that every file survives the loss of any one of them; health says
        so if those are too few."""
        self._wait_tidy()
        zones = self._expect_apart(self.paths)
        nodes = {info.node: info for info in nodes_of(self.cluster, self.user).values()}
        for zone in sorted(zones):
            lost = self._health([node for node, info in nodes.items() if info.zone == zone]).lost_chunks
            if lost:
                raise Wrong(f"without zone {zone} {lost} chunks would be lost")
        notes = self._health([]).notes
        if any(TOO_FEW in note for note in notes) != (len(zones) < self.copies):
            raise Wrong(f"there are {len(zones)} zones for {self.copies} copies, and health says {notes}")

    def _expect_apart(self, paths: Sequence[str]) -> set[str]:
        """The zones that there are, all of which these files use, as far as they have copies."""
        nodes = {info.node: info for info in nodes_of(self.cluster, self.user).values()}
        zones = {info.zone for info in nodes.values() if info.state == "up" and not info.draining}
        for path in paths:
            (located,) = self.cluster.must(self.user.ask(Locate(path)))
            assert isinstance(located, Located)
            for chunk in located.chunks:
                used = {nodes[place.node].zone for place in chunk.places if nodes[place.node].state == "up"}
                if len(used) < min(self.copies, len(zones)):
                    raise Wrong(f"chunk {chunk.chunk} of '{path}' is in {sorted(used)}, of {sorted(zones)}")
        return zones

    def _health(self, without: list[int]) -> HealthReport:
        self.cluster.run_for(1.1)  # a report serves for a second
        (report,) = self.cluster.must(self.user.ask(Health(without)))
        assert isinstance(report, HealthReport)
        return report

    def _wait_tidy(self) -> None:
        """Until each shard is there, and once, and none is to move any more."""
        end_ns = self.cluster.world.now_ns + int(TIDY_S * SECOND)
        while True:
            report, nodes = self._health([]), nodes_of(self.cluster, self.user).values()
            moving = report.moves or any(APART in note for note in report.notes)
            if not moving and not _at_risk(report) and _shards(nodes) == self.copies * report.healthy_chunks:
                return
            if self.cluster.world.now_ns > end_ns:
                raise Wrong(
                    f"after {TIDY_S:g} s shards are missing, too many, or not where they could be: {report} {nodes}"
                )


def _at_risk(report: HealthReport) -> int:
    return report.degraded_chunks + report.endangered_chunks + report.lost_chunks


def _shards(nodes: Any) -> int:
    """On nodes that are up."""
    infos: Sequence[NodeInfo] = list(nodes)
    return sum(info.shards for info in infos if info.state == "up")


def zones_are_honoured(cluster: SimCluster) -> None:
    """A whole zone is lost and comes back, with its disks or with empty ones; the nodes of a zone are emptied one after
    another, to the last, and switched off; a node starts in a zone that is new."""
    draw = cluster.random
    cluster.wait_up()
    zones = Zones(cluster)
    zones.fill("first")
    zones.check()

    lost = zones.nodes(draw.choice(zones.may_go()))
    for node in lost:
        node.kept = False
        draw.choice((node.crash, node.power_loss))()
    cluster.must(*(zones.user.get(path) for path in zones.paths))
    wait_whole(cluster, seconds=TIDY_S, down=lost)
    zones.fill("meanwhile")
    zones.check()

    emptied = draw.random() < 0.3
    for node in lost:
        if emptied:
            node.swap_disk(node.new_disk())
        node.start()
        node.kept = True
    cluster.wait_up()
    zones.check()

    gone = zones.nodes(draw.choice(zones.may_go()))
    for node in gone:
        wait_done(cluster, begin(cluster, "drain", node.name))
        switch_off(cluster, node)
    wait_whole(cluster, down=gone)
    for node in gone:
        begin(cluster, "remove", node.name)
    zones.fill("fewer")
    zones.check()

    cluster.add_node("new")
    cluster.wait_up([node for node in cluster.nodes if node.kept])
    zones.fill("more")
    zones.check()
    settle(cluster, without=gone)


def _zoned(seed: int) -> Mapping[str, Any]:
    """Chains go by the names of nodes and not by their zones."""
    zones = LAYOUTS[seed // 2 % len(LAYOUTS)]
    redundancy = "copies=3" if seed % 2 else "copies=2"
    return {**varied(seed), "nodes": len(zones), "zones": zones, "redundancy": redundancy, "placement": "rendezvous"}


ZONES = Scenario(zones_are_honoured, options=_zoned)
