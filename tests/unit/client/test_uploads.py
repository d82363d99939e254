"""An upload replaces nodes that fail, keeps its bytes until they are staged, and is published once or not at all."""

from __future__ import annotations

import pytest

from dsa_zmq.client.session import MAX_SESSIONS
from dsa_zmq.errors import DSAError, OutcomeUnknown, Timeout, TooFewNodes, Unavailable
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import PutShards
from tests.unit.client.world import MASTER, SECOND, content, finish, nothing_left


def test_small_put_asks_the_master_twice(make_world):
    world = make_world(1)
    world.store("/first", content(10))  # opens the session
    world.master.calls.clear()
    finish(world, world.upload("/a", content(100)))
    assert [type(call) for call in world.master.calls] == [op.Allocate, op.Commit]


def test_silent_node_is_replaced_during_an_upload(make_world):
    world = make_world(3, node_dead_s=2.0)
    world.nodes[2].up = False
    data = content(9 * CHUNK)
    assert finish(world, world.upload("/a", data)).size == len(data)
    assert world.master.bytes_of("/a") == data
    assert not world.nodes[2].shards


def test_suspected_node_is_avoided_by_the_next_file(make_world):
    world = make_world(3, node_dead_s=2.0)
    world.nodes[2].up = False
    finish(world, world.upload("/a", content(9 * CHUNK)))
    begin = world.now
    finish(world, world.upload("/b", content(9 * CHUNK, 2)))
    assert world.now - begin < SECOND


def test_lost_connection_moves_shards_at_once(make_world, Faults):
    world = make_world(3, faults=Faults(delay_ns=50_000_000))
    ticket = world.upload("/a", content(9 * CHUNK))
    world.run_until(lambda: any(to.startswith("tcp://node2") for to, _ in world.sent))
    world.lose(world.nodes[2])
    finish(world, ticket)
    assert ticket.ended_ns < 4 * SECOND


def test_too_few_nodes_is_said_at_once(make_world):
    world = make_world(1, nodes=1)
    error = finish(world, world.upload("/a", content(9)))
    assert isinstance(error, TooFewNodes)
    assert world.now < SECOND


def test_without_another_node_the_own_one_gets_some_seconds_to_come_back(make_world):
    world = make_world(1, nodes=2, node_dead_s=1.0)
    world.nodes[2].up = False
    data = content(6 * CHUNK)
    ticket = world.upload("/a", data)
    world.run_until(lambda: world.now > 3 * SECOND)
    world.nodes[2].up = True
    assert finish(world, ticket).size == len(data)
    assert world.master.bytes_of("/a") == data


def test_node_that_was_only_slow_gets_what_no_other_takes(make_world):
    def asked():
        return list(dict.fromkeys(to for to, message in world.sent if isinstance(message, PutShards)))

    world = make_world(1, nodes=3, node_timeout_s=1.0)
    ticket = world.upload("/a", content(100))
    world.run_until(lambda: len(asked()) == 2)
    nodes = {node.address: node for node in world.nodes.values()}
    slow, dead = nodes[asked()[1]], next(node for at, node in nodes.items() if at not in asked())
    slow.up = dead.up = False
    world.run_until(lambda: dead.address in asked())
    slow.up = True
    assert finish(world, ticket).size == 100
    assert world.master.bytes_of("/a") == content(100)
    nothing_left(world)


def test_upload_waits_for_nodes_that_were_all_away_and_came_back(make_world):
    world = make_world(1, nodes=4, node_timeout_s=3.0)
    ticket = world.upload("/a", content(3 * CHUNK))
    world.run_until(lambda: any(isinstance(message, PutShards) for _, message in world.sent))
    for node in world.nodes.values():
        node.up = False
    world.run_until(lambda: world.now > 15 * SECOND)
    for node in world.nodes.values():
        node.up = True
    assert finish(world, ticket).size == 3 * CHUNK
    assert world.master.bytes_of("/a") == content(3 * CHUNK)


def test_upload_does_not_wait_for_ever_for_nodes_that_never_answer(make_world):
    world = make_world(1, nodes=4, node_timeout_s=1.0)
    ticket = world.upload("/a", content(3 * CHUNK))
    world.run_until(lambda: any(isinstance(message, PutShards) for _, message in world.sent))
    for node in world.nodes.values():
        node.up = False
    error = finish(world, ticket)
    assert isinstance(error, Timeout | TooFewNodes)
    assert world.now < 45 * SECOND
    nothing_left(world)


def test_restarted_node_is_found_at_its_new_address_if_there_is_no_other(make_world):
    world = make_world(1, nodes=2, node_timeout_s=2.0)
    ticket = world.upload("/a", content(CHUNK))
    world.run_until(lambda: any(isinstance(message, PutShards) for _, message in world.sent))
    for node in world.nodes.values():
        node.address = node.address.replace(":77", ":88")
        node.restart(keep=True)
    assert finish(world, ticket).size == CHUNK
    assert world.master.bytes_of("/a") == content(CHUNK)
    assert world.now < 8 * SECOND


def test_without_another_node_it_fails_in_the_end(make_world):
    world = make_world(1, nodes=2, node_dead_s=1.0)
    world.nodes[2].up = False
    assert isinstance(finish(world, world.upload("/a", content(6 * CHUNK))), TooFewNodes)
    assert "/a" not in world.master.files
    nothing_left(world)
    assert not world.master.uploads, "what was begun was given up"


@pytest.mark.parametrize("keep", [True, False])
def test_restarted_node_confirms_or_gets_the_bytes_again(make_world, keep):
    world = make_world(2)
    data = content(3 * CHUNK)

    def all_sent():
        return sum(len(node.shards) for node in world.nodes.values()) == 6

    ticket = world.upload("/a", data)
    world.run_until(all_sent)
    for node in world.nodes.values():
        node.restart(keep)
    assert finish(world, ticket).size == len(data)
    assert any(isinstance(call, op.Commit) for call in world.master.calls)
    assert world.master.bytes_of("/a") == data


def test_bytes_are_kept_until_their_page_is_staged(make_world):
    world = make_world(2)
    data = content(13 * CHUNK)
    ticket = world.upload("/a", data)
    lost = 0
    while ticket.result is None:
        world.step()
        staged = sum(len(upload.pages) for upload in world.master.uploads.values())
        if staged == lost and lost < 3:
            lost += 1  # once before each page is staged, a node loses everything that no page holds yet
            for node in world.nodes.values():
                node.restart(keep=False)
    assert not isinstance(ticket.result, DSAError)
    assert world.master.bytes_of("/a") == data


def test_master_that_forgets_the_session_makes_the_outcome_unknown_only_if_it_may_have_run(make_world, Faults):
    world = make_world(2)
    world.store("/first", content(1))
    world.master.sessions.clear()
    data = content(CHUNK)
    assert finish(world, world.upload("/a", data)).size == CHUNK  # refused when first sent: it goes into a new session

    world.faults = Faults(loss=1.0)
    ticket = world.ask(op.MakeDirectory("/d"))
    world.run_until(lambda: world.now > SECOND)
    world.master.sessions.clear()
    world.faults = Faults()
    world.master.on_makedirectory = lambda operation: pytest.fail("run in spite of a lost session")
    assert isinstance(finish(world, ticket), Unavailable | OutcomeUnknown)


@pytest.mark.parametrize("times", [1, 2, MAX_SESSIONS])
def test_a_commit_whose_answer_was_lost_with_its_session_is_told_all_the_same(make_world, times):
    world = make_world(2)
    world.store("/first", content(1))
    ticket = world.upload("/a", content(CHUNK))
    handle, left = world.master.handle, times

    def lose_with_session(message, payload):
        nonlocal left
        reply = handle(message, payload)
        commits = any(isinstance(call.operation, op.Commit) for call in getattr(message, "calls", []))
        if left and commits and message.session in world.master.sessions:
            left -= 1
            world.master.sessions.clear()
            return None
        return reply

    world.master.handle = lose_with_session
    before = world.master.commits
    assert finish(world, ticket).size == CHUNK
    assert (left, world.master.commits) == (0, before + 1)
    looked = isinstance(world.master.calls[-1], op.Stat)
    assert looked == (times == MAX_SESSIONS)  # no further session is tried


def test_unanswered_commit_is_a_timeout_and_aborts_nothing(make_world):
    world = make_world(2, progress_timeout_s=3.0)
    world.store("/first", content(1))
    world.master.on_commit = lambda operation: None
    handle = world.master.handle
    world.master.handle = lambda message, payload: (
        None
        if any(isinstance(call.operation, op.Commit) for call in getattr(message, "calls", []))
        else handle(message, payload)
    )
    error = finish(world, world.upload("/a", content(CHUNK)))
    assert isinstance(error, Timeout)
    world.drain()
    assert not any(isinstance(call, op.Abort) for call in world.master.calls)


def test_failed_condition_gives_the_upload_up(make_world):
    world = make_world(2)
    world.store("/a", content(1))
    error = finish(world, world.upload("/a", content(9 * CHUNK), if_absent=True))
    assert error.code == "already-exists"
    nothing_left(world)
    assert not world.master.uploads


def test_streams_that_wait_for_each_other_go_on_beyond_the_budget(make_world):
    world = make_world(1, buffer_bytes=4 * CHUNK)
    tickets = [world.upload(f"/{number}", content(2 * CHUNK, number)) for number in range(6)]
    world.run_until(lambda: all(ticket.result is not None for ticket in tickets))


def test_many_small_uploads_share_messages_to_the_master(make_world):
    world = make_world(1)
    world.store("/first", content(1))
    before = world.master.messages
    tickets = [world.upload(f"/{number}", content(100, number)) for number in range(200)]
    world.run_until(lambda: all(ticket.result is not None for ticket in tickets))
    assert world.master.messages - before < 60


def test_five_hundred_writes_with_a_silent_node_cost_one_timeout_in_all(make_world):
    """The master proposes the node all the while: only what the client remembers keeps it away."""
    world = make_world(4, nodes=4)
    world.store("/first", content(100))
    world.nodes[2].up = False
    waits, begin = [], world.now
    for number in range(500):
        began = world.now
        finish(world, world.put(f"/{number}", content(100, number)))
        if world.now - began >= 400_000_000:
            waits.append(world.now - began)
    assert len(waits) == 1, waits
    assert world.now - begin < 9_000_000_000, "a suspicion lasts for ten seconds"


def test_master_that_dies_with_the_commit_is_named_by_the_error(make_world, Faults):
    for seed in range(20):
        world = make_world(seed, faults=Faults(delay_ns=40_000_000), request_timeout_s=1.5, progress_timeout_s=1.5)
        handle, silent = world.master.handle, []

        def until_the_commit(message, payload, handle=handle, silent=silent):
            if any(isinstance(call.operation, op.Commit) for call in getattr(message, "calls", ())):
                silent.append(True)
            return None if silent else handle(message, payload)

        world.master.handle = until_the_commit
        ticket = world.upload("/a", content(2 * CHUNK))
        world.run_until(lambda ticket=ticket: ticket.result is not None)
        assert MASTER in str(ticket.result), f"seed {seed}: {ticket.result}"
        assert ticket.result.remedy
