"""Receipts that are forged, foreign, stale or used twice: each is refused, and nothing of it is ever seen."""

from __future__ import annotations

from actors.core import Message, Peer
from dsa_zmq.errors import DSAError
from dsa_zmq.protocol.messages import PutDone
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.hostile import HONEST, LIES, HostileUser
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import Machine
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle

REFUSALS = ("denied", "invalid", "conflict", "outdated")
STALE = "of before the node's last start"
CHUNKS = 6  #: a staged page and a commit


def receipts_are_lies(cluster: SimCluster) -> None:
    """A client presents receipts that are wrong in all ways, at a stage or at a commit."""
    cluster.wait_up()
    liar = HostileUser(cluster, "liar")
    cluster.users.append(liar)
    _teach(cluster, liar)
    names = list(LIES)
    cluster.random.shuffle(names)
    for name in names:
        _lie(cluster, liar, name)
    honest = cluster.user()
    cluster.must(honest.put("/lies/none", cluster.ledger.new_content(CHUNKS * cluster.chunk_bytes)))
    settle(cluster)


def _teach(cluster: SimCluster, liar: HostileUser) -> None:
    """The liar gets receipts to use again: of a file that is published, and of an upload that is given up."""
    chunk = cluster.chunk_bytes
    cluster.must(liar.put("/honest", cluster.ledger.new_content(2 * chunk, chunk + 1)))
    liar.liar.memory.published = liar.liar.presented
    liar.liar.lie = LIES["none at all"]
    reply = liar.put("/given-up", cluster.ledger.new_content(2 * chunk, chunk + 1), booked=False)
    cluster.wait(reply)
    liar.liar.memory.unpublished = liar.liar.presented
    liar.liar.lie = HONEST


def _lie(cluster: SimCluster, liar: HostileUser, name: str) -> None:
    path = f"/lies/{name}".replace(" ", "-")
    chunks = cluster.random.choice((2, CHUNKS))
    content = cluster.ledger.new_content(chunks * cluster.chunk_bytes, (chunks - 1) * cluster.chunk_bytes + 1)
    liar.liar.lie = LIES[name]
    if name == STALE:
        _restart_nodes_after_receipts(cluster, liar)
    reply = liar.put(path, content, booked=False)
    (result,) = cluster.wait(reply)
    cluster.on_message.clear()
    liar.liar.lie = HONEST
    if not isinstance(result, DSAError):
        raise Wrong(f"receipts were accepted, {name}: {result}")
    if result.code not in REFUSALS and name != STALE:
        raise Wrong(f"receipts were refused, {name}, in the wrong words: {result.code}: {result}")
    cluster.wait(liar.stat(path), liar.get(path))


def _restart_nodes_after_receipts(cluster: SimCluster, liar: HostileUser) -> None:
    """Each node that has given a receipt is another process when the receipt is presented: what goes out first is lost."""
    liar.liar.memory.swallow = 1
    restarted: set[str] = set()

    def look(owner: Machine | User, sender: Peer, message: Message) -> None:
        if owner is liar and isinstance(message, PutDone) and sender.address not in restarted:
            restarted.add(sender.address)
            node = cluster.node_at(sender.address)
            cluster.soon(node.crash)
            cluster.soon(node.start)

    cluster.on_message.append(look)


LYING = Scenario(receipts_are_lies)
