"""The moment of truth: a user has its answer, and at that very moment all machines lose power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Job
from dsa_zmq.node.jobs import WRITE, PutBatch
from dsa_zmq.sim.audit import expect_what_is_placed
from dsa_zmq.sim.campaign import Scenario, varied
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle

ROUNDS = 8
MAX_BYTES = 14_000  #: up to four chunks
PARTLY = (
    0,
    1,
    1,
    1,
    2,
    3,
)  #: changing calls that a put still makes to its disk before its node dies: write, sync, index


def power_goes_with_the_answer(cluster: SimCluster) -> None:
    """Uploads during which a node is killed between the write of a shard and its sync, and started again; no machine has
    power any more when the answer is there; what the catalog names is on each disk."""
    cluster.wait_up()
    user = cluster.user()
    for number in range(ROUNDS):
        if cluster.random.random() < 0.8:
            _die_in_the_next_write(cluster, cluster.random.choice(cluster.nodes))
        path = f"/f{number % 5}"
        reply = user.put(path, cluster.ledger.new_content(MAX_BYTES, 1))
        cluster.run_until(lambda reply=reply: reply.done)  # type: ignore[misc]
        cluster.on_batch.clear()
        cluster.power_loss()
        expect_what_is_placed(cluster, cluster.nodes)
        for machine in cluster.machines:
            machine.start()
        cluster.wait_up()
        cluster.must(user.get(path), _again(user))
    settle(cluster)


def _again(user: User) -> Any:
    """A read of something older."""
    return user.ls("/")


def _die_in_the_next_write(cluster: SimCluster, node: NodeMachine) -> None:
    """The node's next batch of puts is killed after some of its changing calls; another process starts at once."""
    node.disk.die_after(cluster.random.choice(PARTLY))
    handle = node.handle

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        if machine is node and node.handle is handle and lane == WRITE and any(isinstance(j, PutBatch) for j in jobs):
            cluster.soon(node.crash)
            cluster.soon(node.start)

    cluster.on_batch.append(look)


def few_nodes(seed: int) -> Mapping[str, Any]:
    """Every other seed has only as many nodes as there are copies: then a shard goes to the same node again."""
    return {**varied(seed), "nodes": 2 if seed % 2 else 4}


ANSWER = Scenario(power_goes_with_the_answer, options=few_nodes)
