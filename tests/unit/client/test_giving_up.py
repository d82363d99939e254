"""Uploads that end without a file: what the master is told of them, and what the caller."""

from __future__ import annotations

import pytest

from dsa_zmq.client.session import Session
from dsa_zmq.errors import NoSpace
from dsa_zmq.model.limits import MAX_CALLS
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import PutDone, PutOutcome, PutShards, Welcome
from dsa_zmq.protocol.values import Failure
from tests.unit.client.world import content, finish


def test_last_words_need_no_session_and_do_not_pass_for_questions_under_way():
    session = Session(("tcp://a:1",), b"c" * 16, 1, "test", request_timeout_ns=10**10)
    session.connect(1, 0, 10**10)
    ((_, hello),) = session.flush(0)
    session.welcomed(Welcome(hello.number, 1, b"k" * 16, 7, "master", "m"), 0)
    session.submit(op.Stat("/a"), 2, 0)
    ((_, asked),) = session.flush(0)
    words = [op.Abort(upload) for upload in range(1, 2 * MAX_CALLS)]
    messages = [message for _, message in session.parting(words)]
    assert [message.session for message in messages] == [0, 0]
    calls = [call for message in messages for call in message.calls]
    assert [call.operation for call in calls] == words
    assert max(call.number for call in asked.calls) < min(call.number for call in calls)
    assert len({call.number for call in calls}) == len(words)
    assert session.parting([]) == []


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
    error = finish(world, world.upload("/a", content(CHUNK)))
    assert isinstance(error, NoSpace)
    assert error.message in {f"{world.client._courier.name(number)}: its disk is full" for number in world.nodes}
    assert error.remedy == "add a node"
    world.drain()
    assert not world.master.uploads
