"""Nodes that went together come back one after another: the first of them must not begin the repair of all the others."""

from __future__ import annotations

from actors.sim.faults import SECOND
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.scenarios.held import Hasty
from dsa_zmq.sim.scenarios.repair import fill, wait_away

SLACK_S = 0.3  #: for the start of a node, and ticks of the master


def test_the_delay_of_repair_counts_from_the_end_of_a_hold() -> None:
    cluster = SimCluster(1)
    cluster.wait_up()
    fill(cluster)
    first, _ = together = cluster.nodes[:2]
    for node in together:
        node.kept = False
        node.crash()
    hasty = Hasty(cluster)
    wait_away(cluster)
    assert not hasty.moves  # held
    first.start()  # which ends the hold
    began_ns = cluster.world.now_ns
    cluster.run_until(lambda: hasty.moves)
    waited_s = (cluster.world.now_ns - began_ns) / SECOND
    delay_s = cluster.master_settings.pace.endangered_delay_s
    assert delay_s - SLACK_S <= waited_s <= delay_s + SLACK_S
    cluster.close()
