"""Uploads and downloads in a model of the world: whatever fails, a whole right file or a definite error."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa_zmq.client.calls import Cancel
from dsa_zmq.errors import Corrupt, DSAError, NotFound, OutcomeUnknown, Timeout, TooFewNodes, Unavailable
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import PutShards
from dsa_zmq.protocol.values import ShardRef

SECOND = 1_000_000_000
unharried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


def finish(world, ticket):
    world.run_until(lambda: ticket.result is not None)
    return ticket.result


def nothing_left(world):
    """All books are balanced."""
    world.drain()
    assert world.client.held_bytes == 0
    assert world.client.credit_out == 0


def reports(world):
    """What the master was told of nodes."""
    return [call for call in world.master.calls if isinstance(call, op.Report)]


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 4 * CHUNK + 1, 8 * CHUNK, 13 * CHUNK + 5])
def test_what_was_put_is_what_is_read(make_world, size):
    world = make_world(1)
    data = content(size)
    ticket = world.upload("/a", data)
    assert finish(world, ticket).size == size
    assert ticket.safe == size
    assert world.master.bytes_of("/a") == data
    read = world.download("/a")
    finish(world, read)
    assert bytes(read.data) == data
    nothing_left(world)


def test_small_put_asks_the_master_twice(make_world):
    world = make_world(1)
    world.store("/first", content(10))  # opens the session
    world.master.calls.clear()
    finish(world, world.upload("/a", content(100)))
    assert [type(call) for call in world.master.calls] == [op.Allocate, op.Commit]


def test_healthy_download_asks_for_each_chunk_once(make_world):
    world = make_world(1)
    world.store("/a", content(23 * CHUNK))
    finish(world, world.download("/a"))
    asked = [chunk for node in world.nodes.values() for chunk in node.asked]
    assert len(asked) == len(set(asked)) == 23


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 1),
        (CHUNK, 2 * CHUNK),
        (CHUNK - 1, CHUNK + 1),
        (5, None),
        (9 * CHUNK, 99 * CHUNK),
        (7, 7),
        (99 * CHUNK, None),
    ],
)
def test_range_fetches_only_its_chunks(make_world, start, stop):
    world = make_world(1)
    data = content(11 * CHUNK + 3)
    world.store("/a", data)
    ticket = world.download("/a", start, stop)
    finish(world, ticket)
    wanted = data[start:stop]
    assert bytes(ticket.data) == wanted
    touched = (min(start + len(wanted), len(data)) - 1) // CHUNK - start // CHUNK + 1 if wanted else 0
    assert sum(len(node.asked) for node in world.nodes.values()) == touched


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


def test_late_copy_is_hedged_and_the_first_good_one_wins(make_world):
    world = make_world(5, nodes=2)
    data = content(3 * CHUNK)
    world.store("/a", data)
    late = world.master.files["/a"][1][0].receipts[0].node  # the first to be asked for chunk 0
    world.nodes[late].up = False
    begin = world.now
    ticket = world.download("/a")
    finish(world, ticket)
    assert bytes(ticket.data) == data
    assert 400_000_000 < ticket.ended_ns - begin < 1_500_000_000
    assert [(report.node, report.silent) for report in reports(world)] == [(late, True)]


def test_damaged_copies_are_passed_over(make_world):
    world = make_world(5, nodes=2)
    data = content(3 * CHUNK)
    world.store("/a", data)
    first = world.master.files["/a"][1][0].receipts[0].node  # to be asked for chunk 0
    node = world.nodes[first]
    node.shards = {key: bytes(len(shard)) for key, shard in node.shards.items()}
    ticket = world.download("/a")
    finish(world, ticket)
    assert bytes(ticket.data) == data
    nothing_left(world)
    damaged = {shard for report in reports(world) for shard in report.damaged}
    assert {report.node for report in reports(world)} == {first}
    assert damaged <= {ShardRef(*key) for key in node.shards}
    assert damaged


def test_damage_of_all_copies_is_corrupt_and_names_file_chunk_and_nodes(make_world):
    world = make_world(5)
    world.store("/a", content(3 * CHUNK))
    row = world.master.files["/a"][1][1]
    for receipt in row.receipts:
        world.nodes[receipt.node].shards[row.chunk, receipt.index] = bytes(CHUNK)
    error = finish(world, world.download("/a"))
    assert isinstance(error, Corrupt)
    assert "chunk 1 of /a" in str(error)
    assert all(f"n{receipt.node}" in str(error) for receipt in row.receipts)
    nothing_left(world)


def test_unreachable_nodes_make_it_unavailable_after_the_time_without_progress(make_world):
    world = make_world(5, progress_timeout_s=8.0, node_dead_s=1.0)
    world.store("/a", content(3 * CHUNK))
    for node in world.nodes.values():
        node.up = False
    begin = world.now
    error = finish(world, world.download("/a"))
    assert isinstance(error, Unavailable)
    assert "/a" in str(error)
    assert 8 * SECOND <= world.now - begin < 12 * SECOND


def test_node_that_comes_back_in_time_is_read_after_all(make_world):
    world = make_world(5, node_dead_s=1.0)
    data = content(3 * CHUNK)
    world.store("/a", data)
    for node in world.nodes.values():
        node.up = False
    ticket = world.download("/a")
    world.run_until(lambda: world.now > 5 * SECOND)
    for node in world.nodes.values():
        node.up = True
    finish(world, ticket)
    assert bytes(ticket.data) == data


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


def test_commit_whose_answer_was_lost_with_the_session_is_looked_up(make_world):
    world = make_world(2)
    world.store("/first", content(1))
    ticket = world.upload("/a", content(CHUNK))
    committed = world.master.on_commit

    def commit_and_forget(operation):
        committed(operation)
        world.master.sessions.clear()
        return op.Done()  # never arrives

    world.master.on_commit = commit_and_forget
    world.run_until(lambda: any(isinstance(call, op.Allocate) for call in world.master.calls[-3:]))
    handle = world.master.handle

    def lose_commit_answers(message, payload):
        reply = handle(message, payload)
        calls = getattr(message, "calls", [])
        if any(isinstance(call.operation, op.Commit) for call in calls) and "/a" in world.master.files:
            world.master.handle = handle
            return None
        return reply

    world.master.handle = lose_commit_answers
    assert finish(world, ticket).size == CHUNK


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


def test_cancelled_transfers_leave_nothing(make_world):
    world = make_world(2)
    world.store("/a", content(20 * CHUNK))
    upload, download = world.upload("/b", content(20 * CHUNK)), world.download("/a")
    for _ in range(30):
        world.step()
    world.call(Cancel(upload.owner))
    world.call(Cancel(download.owner))
    nothing_left(world)
    assert not world.master.uploads
    assert "/b" not in world.master.files


def test_missing_file_is_not_found(make_world):
    world = make_world(1)
    assert isinstance(finish(world, world.download("/nothing")), NotFound)


def test_memory_is_bounded_by_the_budget_not_by_the_files(make_world):
    world = make_world(1, buffer_bytes=8 * CHUNK)
    tickets = [world.upload(f"/{number}", content(40 * CHUNK, number)) for number in range(5)]
    world.run_until(lambda: all(ticket.result is not None for ticket in tickets))
    assert all(not isinstance(ticket.result, DSAError) for ticket in tickets)
    assert world.most_held <= (8 + 4) * CHUNK


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


@pytest.mark.slow
@unharried
@given(
    st.integers(0, 2**32), st.integers(0, 14 * CHUNK), st.sampled_from([0.0, 0.02, 0.1]), st.sampled_from([0.0, 0.05])
)
def test_any_faults_end_in_a_whole_right_file_or_a_definite_error(make_world, Faults, seed, size, bad, refuse):
    world = make_world(seed, nodes=5, faults=Faults(loss=bad, repeat=0.1, corrupt=bad, refuse=refuse), node_dead_s=2.0)
    data = content(size + 1, seed)
    ticket = world.upload("/a", data)
    for at in range(3):
        node = world.rng.choice(list(world.nodes.values()))
        world.at(at * 20_000_000, lambda node=node: node.restart(keep=world.rng.random() < 0.5))
    result = finish(world, ticket)
    if isinstance(result, DSAError):
        assert bad or refuse
        assert "/a" not in world.master.files or result.indefinite
        return
    held = {row.chunk for row in world.master.files["/a"][1]}
    assert len(held) == result.chunk_count
    world.faults = Faults(loss=bad, repeat=0.1, corrupt=bad)
    read = world.download("/a")
    outcome = finish(world, read)
    if isinstance(outcome, DSAError):
        assert bad
        assert isinstance(outcome, Corrupt | Unavailable | Timeout)
    else:
        assert bytes(read.data) == data
    world.faults = Faults()
    nothing_left(world)
