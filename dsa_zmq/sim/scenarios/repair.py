"""Nodes that die for good, or for a while: everything is made anew, and nothing is there twice in the end."""

from __future__ import annotations

from collections.abc import Sequence

from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import NodeMachine
from dsa_zmq.sim.users import User
from dsa_zmq.protocol.operations import Health, HealthReport
from dsa_zmq.sim.verdict import settle
from dsa_zmq.sim.workload import Worker

MAX_BYTES = 26_000
REPAIR_S = 30.0  #: a few files: delays and retries, not bytes, take the time


def wait_whole(cluster: SimCluster, *, seconds: float = REPAIR_S, without: Sequence[NodeMachine] = ()) -> None:
    """Until the master counts each chunk as healthy."""
    user = cluster.user()
    end_ns = cluster.world.now_ns + int(seconds * 1e9)
    while True:
        (shown,) = cluster.wait(user.ask(Health()))
        if isinstance(shown, HealthReport):
            short = shown.degraded_chunks, shown.endangered_chunks, shown.lost_chunks
            if short == (0, 0, 0):
                break
        if cluster.world.now_ns > end_ns:
            raise Wrong(f"after {seconds:g} s not all is made anew: {shown}")
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
    wait_whole(cluster)
    second.crash()
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(6)))
    second.start()
    first.swap_disk(first.new_disk())
    first.kept = True
    first.start()
    settle(cluster)


DIES = Scenario(node_dies_and_is_replaced)
