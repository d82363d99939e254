"""Uploads that may be degraded, in a model of the world: fewer shards, as many as there are nodes, never too few."""

from __future__ import annotations

import random

import pytest

from dsa_zmq.client.target import missing_shards
from dsa_zmq.errors import TooFewNodes
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import PutShards
from tests.unit.client.codes import code_world, read
from tests.unit.client.world import content, finish, nothing_left


def world_with(make_world, name, nodes, seed=1):
    world = code_world(make_world, name, seed)
    world.master.down = set(list(world.nodes)[nodes:])
    return world


def shards_of(world, path):
    """How many each chunk has."""
    return [len(row.receipts) for row in world.master.files[path][1]]


@pytest.mark.parametrize(("name", "nodes"), [("ec=4+2", 5), ("ec=2+4", 3), ("ec=2+4", 4), ("copies=3", 2)])
def test_with_fewer_nodes_than_shards_it_is_stored_and_says_how_many_are_missing(make_world, name, nodes):
    world = world_with(make_world, name, nodes)
    data = content(9 * CHUNK)
    shards = code_world(make_world, name).nodes
    stored = finish(world, world.upload("/a", data, degraded=True))
    assert missing_shards(stored) == 9 * (len(shards) - nodes)
    assert shards_of(world, "/a") == [nodes] * 9
    assert read(world, "/a") == world.master.bytes_of("/a") == data
    nothing_left(world)


@pytest.mark.parametrize(("name", "nodes"), [("ec=4+2", 4), ("ec=2+1", 2), ("copies=3", 1)])
def test_with_too_few_for_that_or_unless_it_is_said_it_is_refused_and_nothing_travels(make_world, name, nodes):
    world = world_with(make_world, name, nodes)
    assert isinstance(finish(world, world.upload("/a", content(3 * CHUNK), degraded=True)), TooFewNodes)
    more = world_with(make_world, "ec=4+2", 5)
    assert isinstance(finish(more, more.upload("/a", content(3 * CHUNK))), TooFewNodes)
    assert not [message for each in (world, more) for _, message in each.sent if isinstance(message, PutShards)]


def test_with_all_nodes_nothing_is_left_out(make_world):
    world = code_world(make_world)
    stored = finish(world, world.upload("/a", content(3 * CHUNK), degraded=True))
    assert missing_shards(stored) == 0
    assert shards_of(world, "/a") == [6, 6, 6]
    asked = [call for call in world.master.calls if isinstance(call, op.Allocate | op.Stage | op.Commit)]
    assert all(call.degraded for call in asked)


def lose_some(world, ticket, count, after):
    """That many nodes are gone for good once so many messages have left."""
    world.run_until(lambda: len(world.sent) >= after or ticket.result is not None)
    for node in world.rng.sample(sorted(set(world.nodes) - world.master.down), count):
        world.master.down.add(node)  # it knows at once
        world.lose(world.nodes[node])


@pytest.mark.parametrize(("name", "dying", "least"), [("ec=4+2", 1, 5), ("ec=2+4", 3, 3), ("copies=3", 1, 2)])
@pytest.mark.parametrize("after", [3, 10, 25])
def test_shards_of_nodes_that_die_are_left_out_if_there_are_no_others(make_world, name, dying, least, after):
    for seed in range(5):
        world = code_world(make_world, name, seed)
        data = content(9 * CHUNK)
        ticket = world.upload("/a", data, degraded=True)
        lose_some(world, ticket, dying, after)
        begin = world.now
        stored = finish(world, ticket)
        counts = shards_of(world, "/a")
        assert min(counts) >= least
        assert missing_shards(stored) == sum(len(world.nodes) - count for count in counts)
        assert world.now - begin < 2_000_000_000, "nobody waits for those that are gone"
        nothing_left(world)


@pytest.mark.parametrize("spare", [1, 2])
def test_a_node_that_is_there_gets_the_shard_and_only_what_has_none_is_left_out(make_world, spare):
    """More die than there are others for them: each chunk keeps as many shards as there are nodes."""
    world = code_world(make_world, "ec=2+4", more=spare)
    data = content(4 * CHUNK)
    ticket = world.upload("/a", data, degraded=True)
    world.run_until(lambda: any(isinstance(message, PutShards) for _, message in world.sent))
    lose_some(world, ticket, 3, 0)
    stored = finish(world, ticket)
    assert shards_of(world, "/a") == [3 + spare] * 4
    assert missing_shards(stored) == 4 * (3 - spare)


@pytest.mark.parametrize(("name", "dying"), [("ec=4+2", 2), ("ec=2+1", 1), ("copies=3", 2)])
def test_when_more_die_than_can_be_spared_it_fails_and_nothing_appears(make_world, name, dying):
    world = code_world(make_world, name)
    ticket = world.upload("/a", content(9 * CHUNK), degraded=True)
    world.run_until(lambda: any(isinstance(message, PutShards) for _, message in world.sent))
    lose_some(world, ticket, dying, 0)
    assert isinstance(finish(world, ticket), TooFewNodes)
    assert "/a" not in world.master.files


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_acknowledged_while_nodes_die_keeps_one_shard_to_spare(make_world, seed, Faults):
    draw = random.Random(seed)
    name, least = draw.choice([("ec=4+2", 5), ("ec=2+3", 3), ("copies=4", 2)])
    world = code_world(make_world, name, seed, faults=Faults(loss=0.02, repeat=0.05))
    contents = {f"/{at}": content(draw.randint(CHUNK, 9 * CHUNK), at) for at in range(4)}
    tickets = {path: world.upload(path, data, degraded=True) for path, data in contents.items()}
    for _ in range(draw.randint(1, 2)):
        lose_some(world, tickets["/0"], 1, len(world.sent) + draw.randrange(40))
    for path, ticket in tickets.items():
        result = finish(world, ticket)
        assert isinstance(result, TooFewNodes) or min(shards_of(world, path)) >= least
