"""Worlds in which contents are kept in erasure codes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from dsa_zmq.errors import DSAError
from dsa_zmq.model.redundancy import parse_redundancy
from tests.unit.client.world import finish

CODES = ["ec=2+1", "ec=3+2", "ec=4+2", "ec=12+4"]
LARGE = 64 << 10  #: chunks of this size are looked at by workers, and their contents are not small
unharried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def code_world(make_world, name="ec=4+2", seed=1, more=0, **options):
    """With as many nodes as the code needs, and some more."""
    return make_world(seed, nodes=parse_redundancy(name).shards + more, redundancy=name, **options)


def served(world):
    return sum(node.served for node in world.nodes.values())


def read(world, path, start=0, stop=None):
    ticket = world.download(path, start, stop)
    result = finish(world, ticket)
    assert not isinstance(result, DSAError), result
    return bytes(ticket.data)


def holder(world, path, chunk, index):
    """The node that holds this shard."""
    row = world.master.files[path][1][chunk]
    return world.nodes[next(receipt.node for receipt in row.receipts if receipt.index == index)]


def spoil(world, path, chunk, index):
    """Damage one shard on its node."""
    row = world.master.files[path][1][chunk]
    shards = holder(world, path, chunk, index).shards
    key = (row.chunk, index)
    shards[key] = bytes([shards[key][0] ^ 1]) + shards[key][1:]
