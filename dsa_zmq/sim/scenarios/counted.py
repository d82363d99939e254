"""Deaths by count: after each batch of the catalog, after each acknowledgement of a shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from actors.core import Job, Message, Peer
from actors.sim.runtime import SimHandle
from dsa_zmq.errors import DSAError
from dsa_zmq.protocol.messages import PutDone
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.users import Reply, User
from dsa_zmq.sim.verdict import settle

BATCHES = 20  #: the small workload makes that many of the catalog's batches at most
PATIENCE_S = 60.0  #: virtual, for one operation while the master dies again and again
FILE_CHUNKS = 6
ACKNOWLEDGEMENTS = 2 * FILE_CHUNKS  #: with two copies


def master_dies_between_commit_and_reply(cluster: SimCluster) -> None:
    """The k-th batch and each k-th after it is durable, and then the master dies before anybody hears of it.

    k is the seed's; so many seeds as there are batches cover every one. Some die with their host.
    """
    every = 1 + cluster.seed % BATCHES
    power_loss = cluster.seed // BATCHES % 2 == 1
    cluster.supervise()
    cluster.wait_up()
    before = cluster.master.batches

    def look(machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        if machine is cluster.master and (machine.batches - before) % every == 0:
            assert machine.handle is not None
            cluster.soon(_killer(cluster, machine.handle, power_loss))

    cluster.on_batch.append(look)
    small_workload(cluster, cluster.user(), PATIENCE_S)
    cluster.on_batch.clear()
    settle(cluster)


def _killer(cluster: SimCluster, handle: SimHandle, power_loss: bool) -> Callable[[], None]:
    """Kills this very process, not its successor."""
    return lambda: cluster.world.kill(handle._process, power_loss=power_loss)


def small_workload(cluster: SimCluster, user: User, patience_s: float) -> None:
    """A bit of everything that changes the catalog, one after the other. Operations that end indefinitely are fine."""
    new = cluster.ledger.new_content
    steps: list[Callable[[], Reply]] = [
        lambda: user.put("/d/one", new(4000, 1)),
        lambda: user.put("/d/two", new(26_000, 17_000)),
        lambda: user.put("/d/one", new(12_000, 5000)),
        lambda: user.cp("/d/two", "/d/three"),
        lambda: user.mv("/d/one", "/e/one"),
        lambda: user.mkdir("/f"),
        lambda: user.rm("/d/two"),
        lambda: user.mv("/d", "/f/d"),
        lambda: user.put("/e/one", new(3000, 1), if_absent=True),
        lambda: user.rm("/f", recursive=True),
        lambda: user.put("/d/empty", cluster.ledger.add_content(b"")),
    ]
    for step in steps:
        cluster.wait(step(), seconds=patience_s)


def death_after_each_acknowledgement(cluster: SimCluster) -> None:
    """Of uploads of six chunks the k-th acknowledgement of a shard kills its node, the client, or the master, for every k.

    Which of the three is the seed's choice: three seeds in a row cover all. The file is there as a whole, or not at all.
    """
    cluster.supervise()
    cluster.wait_up()
    for count in range(1, ACKNOWLEDGEMENTS + 1):
        victim = ("node", "client", "master")[(count + cluster.seed) % 3]
        _put_and_kill(cluster, count, victim)
    settle(cluster)


def _put_and_kill(cluster: SimCluster, count: int, victim: str) -> None:
    user = cluster.user(f"user{count}")
    path = f"/killed/{victim}-{count}"
    heard = 0

    def look(owner: Machine | User, sender: Peer, message: Message) -> None:
        nonlocal heard
        if owner is not user or not isinstance(message, PutDone):
            return
        for outcome in message.outcomes:
            heard += outcome.receipt is not None
            if heard == count and outcome.receipt is not None:
                doomed = cluster.node_at(sender.address) if victim == "node" else cluster.master
                cluster.soon(user.crash if victim == "client" else doomed.crash)

    cluster.on_message.append(look)
    chunk = cluster.chunk_bytes
    reply = user.put(path, cluster.ledger.new_content(FILE_CHUNKS * chunk, (FILE_CHUNKS - 1) * chunk + 1))
    cluster.run_until(lambda: reply.done or not user.alive, 20)
    cluster.on_message.remove(look)
    if victim != "client" and isinstance(reply.result, DSAError):
        raise Wrong(f"one death of a {victim} is no reason to fail: {reply.result}\n{reply!r}")
    if user.alive:
        user.crash()
    reader = cluster.user(f"looker{count}")
    cluster.wait(reader.stat(path), reader.get(path))
    reader.crash()


COMMIT = Scenario(master_dies_between_commit_and_reply)
COUNT = Scenario(death_after_each_acknowledgement)
