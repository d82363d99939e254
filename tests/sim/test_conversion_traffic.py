"""What a conversion to another redundancy sends over the network: only what is not there yet."""

from __future__ import annotations

import pytest

from actors.core import Message, Peer
from dsa_zmq.protocol.messages import Fetch, ShardData
from dsa_zmq.protocol.operations import ListDirectory, SetRedundancy
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.machines import Machine, NodeMachine
from dsa_zmq.sim.scenarios.growing import begin, wait_done
from dsa_zmq.sim.scenarios.repair import fill
from dsa_zmq.sim.users import User
from dsa_zmq.sim.verdict import settle


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "travelling"), [("copies=1", 0), ("copies=3", 1)])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_node_copies_from_its_own_disk_what_it_has(seed: int, wanted: str, travelling: int) -> None:
    """From two copies to three one of three travels, from two to one nothing does: not even to a node from itself."""
    cluster = SimCluster(seed)
    cluster.wait_up()
    fill(cluster)
    lengths: dict[int, int] = {}  #: of shards that nodes were told to fetch, by the chunk that has the bytes
    travelled = 0  #: bytes

    def look(owner: Machine | User, sender: Peer, message: Message) -> None:
        nonlocal travelled
        if isinstance(owner, NodeMachine) and isinstance(message, Fetch):
            lengths.update((source.chunk, source.length) for shard in message.shards for source in shard.sources)
        elif isinstance(owner, NodeMachine) and isinstance(message, ShardData):
            travelled += sum(lengths[got.chunk] for got in message.shards if got.failure is None)

    cluster.on_message.append(look)
    cluster.must(cluster.user().ask(SetRedundancy("/", wanted)))
    wait_done(cluster, begin(cluster, "convert", "/"))
    (shown,) = cluster.must(cluster.user().ask(ListDirectory("/")))
    assert {entry.attributes.redundancy for entry in shown.entries} == {wanted}
    assert travelled == travelling * sum(entry.attributes.size for entry in shown.entries)
    assert lengths, "there was something to copy"
    settle(cluster)
    cluster.close()
