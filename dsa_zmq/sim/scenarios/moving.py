"""Moves whose end comes too late, or too soon: of chunks that are gone meanwhile, and onto disks that lose power."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.core import Message, Peer
from dsa_zmq.protocol.messages import Fetch
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.scenarios.growing import begin, wait_done
from dsa_zmq.sim.scenarios.repair import fill, stay_away
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle

FILES = 6
SLOWLY = 400  #: times as long as usual: shards travel for longer than the collection of garbage takes


def removed_while_it_moves(cluster: SimCluster) -> None:
    """While a node is emptied, files are removed whose shards are on their way: what arrives then is wanted by nobody, and
    is dropped."""
    cluster.wait_up()
    fill(cluster, FILES)
    user = cluster.user()
    doomed = [f"/f{number}" for number in cluster.random.sample(range(FILES), FILES - 1)]

    def look(owner: Machine | User, sender: Peer, message: Message) -> None:
        if isinstance(message, Fetch):
            while doomed:
                user.rm(doomed.pop())

    cluster.on_message.append(look)
    node = cluster.random.choice(cluster.nodes)
    for other in cluster.nodes:
        cluster.world.slow_down(other.process_name, SLOWLY)
    wait_done(cluster, begin(cluster, "drain", node.name))
    cluster.on_message.remove(look)
    if doomed:
        raise Wrong("nothing was removed: this shows nothing")
    found = settle(cluster)
    if found.orphans:
        raise Wrong(f"{found.orphans} shards on nodes are wanted by nobody")


def what_was_repaired_is_durable(cluster: SimCluster) -> None:
    """A node is lost with its disk, and all that it held is made anew. Then everybody loses power, and one more node does
    not come back: nothing is lost, for what was made anew is as durable as what clients have stored."""
    cluster.wait_up()
    fill(cluster, FILES)
    lost, second = cluster.random.sample(cluster.nodes, 2)
    stay_away(cluster, lost)
    cluster.power_loss()
    for machine in cluster.machines:
        if machine not in (lost, second):
            machine.start()
    reader = cluster.user()
    cluster.must(*(reader.get(f"/f{number}") for number in range(FILES)))
    lost.swap_disk(lost.new_disk())
    lost.kept = True
    lost.start()
    second.start()
    settle(cluster)


def _collected_at_once(seed: int) -> Mapping[str, Any]:
    return {**varied(seed), "gc_grace_s": 0.0, "gc_interval_s": 0.01}


REMOVED = Scenario(removed_while_it_moves, options=_collected_at_once)
DURABLE = Scenario(what_was_repaired_is_durable)

MOVING = (REMOVED, DURABLE)
