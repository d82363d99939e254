"""Uploads that end without a file: what the master is told of them, and what the caller."""

from __future__ import annotations

import random

import pytest

from dsa_zmq.errors import NoSpace
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.protocol.messages import PutDone, PutOutcome, PutShards
from dsa_zmq.protocol.values import Failure


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("staged", [False, True])
def test_a_client_that_ends_gives_its_uploads_up(make_world, staged):
    world = make_world(2)
    for number in range(3):
        world.upload(f"/{number}", content(20 * CHUNK, number))
    uploads = world.master.uploads
    world.run_until(lambda: len(uploads) == 3 and any(one.pages for one in uploads.values()) is staged)
    world.run_until(lambda: {one.machine.upload for one in world.client._transfers.values()} == set(uploads))
    world.client.on_stop(world)
    world.timers.clear()
    world.drain()
    assert not uploads
    assert not world.master.files


def test_a_node_without_room_is_named_when_there_is_no_other(make_world):
    def refuse(message, payload):
        assert isinstance(message, PutShards)
        full = Failure("no-space", "its disk is full", "add a node")
        return PutDone(message.number, [PutOutcome(put.chunk, put.index, failure=full) for put in message.shards]), []

    world = make_world(2, nodes=2)
    for node in world.nodes.values():
        node.handle = refuse
    ticket = world.upload("/a", content(CHUNK))
    world.run_until(lambda: ticket.result is not None)
    error = ticket.result
    assert isinstance(error, NoSpace)
    assert error.message in {f"{world.client._courier.name(number)}: its disk is full" for number in world.nodes}
    assert error.remedy == "add a node"
    world.drain()
    assert not world.master.uploads
