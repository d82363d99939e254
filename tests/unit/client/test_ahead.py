"""Small files in slots that were given ahead, in a model of the world."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa_zmq.client.slots import BURST_FILES
from dsa_zmq.errors import DSAError
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.model.limits import SLOT_SIZES
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import PutShards
from tests.unit.client.world import content

SECOND = 1_000_000_000
MANY = 60
unharried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def finish(world, *tickets):
    world.run_until(lambda: all(ticket.result is not None for ticket in tickets))
    return [ticket.result for ticket in tickets]


def burst(world, count=MANY, at_once=16, directory="/d", size=100, **options):
    """Put files, so many at a time. Returns path -> bytes."""
    files = {f"{directory}/{number:03}": content(size + number, number) for number in range(count)}
    paths = list(files)
    for first in range(0, count, at_once):
        tickets = [world.put(path, files[path], **options) for path in paths[first : first + at_once]]
        for result in finish(world, *tickets):
            assert not isinstance(result, DSAError), result
    return files


def asked(world, kind):
    return [call for call in world.master.calls if isinstance(call, kind)]


def all_there(world, files):
    for path, data in files.items():
        assert world.master.bytes_of(path) == data


def used(world):
    return {attributes.content for attributes, _ in world.master.files.values()} & world.master.given


def nothing_left(world):
    world.drain()
    assert world.client.held_bytes == 0
    assert world.client.credit_out == 0
    assert not world.master.uploads, "an upload is neither published, nor aborted, nor returned"


def test_a_put_in_a_slot_asks_the_master_only_to_publish_it(make_world):
    world = make_world(1)
    burst(world, 30)
    before = len(world.master.calls)
    files = burst(world, 3, directory="/d/new")
    calls = [
        call for call in world.master.calls[before:] if not isinstance(call, op.AllocateSlots)
    ]  # for those to come
    assert [type(call) for call in calls] == [op.Commit] * 3
    assert all(call.inherits for call in calls)
    all_there(world, files)


@pytest.mark.parametrize("size", [1, *SLOT_SIZES, SLOT_SIZES[0] - MANY])
def test_bursts_are_stored_whole_and_what_was_not_used_is_returned(make_world, size):
    world = make_world(1)
    files = burst(world, size=size)
    all_there(world, files)
    assert len(asked(world, op.Allocate)) <= MANY if size == SLOT_SIZES[-1] else 2 * BURST_FILES
    nothing_left(world)
    assert used(world) | world.master.returned == world.master.given
    if size < SLOT_SIZES[-1]:
        assert len(used(world)) >= MANY - 3 * BURST_FILES


def test_files_that_come_one_by_one_and_large_ones_take_no_slots(make_world):
    world = make_world(1)
    for number in range(2 * BURST_FILES):
        finish(world, world.put(f"/d/{number}", content(100, number)))
        world.at(SECOND // 4, lambda: None)
        world.run_until(lambda start=world.now: world.now >= start + SECOND // 4)
    burst(world, size=SLOT_SIZES[-1] + 1)
    assert not world.master.given


def test_progress_counts_each_byte_once(make_world):
    world = make_world(1)
    burst(world, 30)
    world.master.redundancy = "copies=3"
    ticket = world.put("/d/x", content(1000))
    finish(world, ticket)
    assert ticket.result.redundancy == "copies=3"
    assert ticket.safe == 1000


def test_when_the_directory_gives_another_redundancy_by_now_files_are_stored_anew_with_that(make_world):
    world = make_world(1)
    burst(world, 30)
    world.master.redundancy = "copies=3"
    files = burst(world, 30, directory="/d")
    all_there(world, files)
    assert {world.master.files[path][0].redundancy for path in files} == {"copies=3"}
    refused = sum(1 for call in asked(world, op.Commit) if call.redundancy == "copies=2" and call.path in files) - 30
    assert 0 < refused <= 16  # those that were under way when the first of them heard of it
    nothing_left(world)


def test_who_names_a_redundancy_gets_it_whatever_the_directory_gives(make_world):
    world = make_world(1)
    files = burst(world, redundancy="copies=3")
    assert {world.master.files[path][0].redundancy for path in files} == {"copies=3"}
    assert used(world)
    assert not any(call.inherits for call in asked(world, op.Commit))
    nothing_left(world)


def test_conditions_hold_also_in_slots(make_world):
    world = make_world(1)
    files = burst(world, 30)
    (result,) = finish(world, world.put("/d/000", content(5), if_absent=True))
    assert result.code == "already-exists"
    all_there(world, files)
    nothing_left(world)


def test_a_slot_whose_lease_is_over_costs_a_second_upload_and_no_error(make_world):
    world = make_world(1)
    burst(world, 30)
    world.master.slots_last_ms = 10**9
    slots = [number for number in world.master.given if number in world.master.uploads]
    assert slots
    for number in slots:
        del world.master.uploads[number]
    files = burst(world, 5, directory="/e")
    all_there(world, files)
    assert len(asked(world, op.Abort)) == 5


def test_a_slot_on_a_dead_node_is_moved_like_any_upload_and_others_there_are_skipped(make_world):
    world = make_world(1, nodes=4, node_dead_s=0.5)
    burst(world, 30)
    world.lose(world.nodes[1])
    files = burst(world, 40, directory="/e")
    rows = [row for path in files for row in world.master.files[path][1]]
    assert all(receipt.node != 1 for row in rows for receipt in row.receipts)
    assert len(used(world)) > 30
    nothing_left(world)


def test_a_slot_whose_lease_ended_is_left_also_when_its_shard_has_to_move(make_world):
    world = make_world(1, node_dead_s=0.5)
    burst(world, 30)
    slots = [number for number in world.master.given if number in world.master.uploads]
    for number in slots:
        del world.master.uploads[number]
    for node in list(world.nodes.values())[:2]:
        world.lose(node)
    all_there(world, burst(world, 5, directory="/e", at_once=5))
    nothing_left(world)


@pytest.mark.parametrize("what", ["term", "session"])
def test_after_a_restart_of_the_master_or_the_end_of_the_session_no_earlier_slot_is_used(make_world, what):
    world = make_world(1)
    burst(world, 30)
    held = {number for number in world.master.given if number in world.master.uploads}
    assert held
    if what == "term":
        world.master.term += 1
        finish(world, world.ask(op.ListNodes()))
    else:
        world.master.sessions.clear()
        finish(world, world.ask(op.Commit(0, "/empty", 0, 4096, 0, "", [], 0)))
    files = burst(world, 30, directory="/e")
    contents = {world.master.files[path][0].content for path in files}
    assert not contents & held
    assert contents & world.master.given
    all_there(world, files)
    world.drain()
    assert held <= world.master.returned


def test_a_client_that_ends_returns_its_slots(make_world):
    world = make_world(1)
    burst(world, 30)
    assert world.master.uploads
    world.client.on_stop(world)
    world.timers.clear()
    world.drain()
    assert not world.master.uploads


def test_a_shard_in_a_slot_goes_with_the_length_that_was_granted(make_world):
    world = make_world(1)
    burst(world, 30)
    puts = [put for _, message in world.sent if isinstance(message, PutShards) for put in message.shards]
    assert {put.granted for put in puts if put.upload in world.master.given} == {SLOT_SIZES[0]}
    assert {put.granted for put in puts if put.upload not in world.master.given} == {0}


@pytest.mark.slow
@unharried
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.1]), st.sampled_from([0.0, 0.05]))
def test_any_faults_end_in_whole_right_files_or_errors_and_no_slot_is_used_twice(make_world, Faults, seed, bad, refuse):
    world = make_world(seed, nodes=5, node_dead_s=2.0, slots_after=2)
    burst(world, 10, at_once=4)
    rng = random.Random(seed)
    # A commit that arrives twice, with the end of its session in between, ends as a conflict, in a slot or not.
    doubled = rng.random() < 0.5
    world.faults = Faults(loss=bad, repeat=0.1 if doubled else 0.0, corrupt=bad, refuse=refuse)

    def restart():
        rng.choice(list(world.nodes.values())).restart(keep=rng.random() < 0.5)

    def change():
        world.master.redundancy = rng.choice(["copies=1", "copies=2", "copies=3", "ec=2+1"])

    def expire():
        for number in [number for number in world.master.uploads if rng.random() < 0.3]:
            del world.master.uploads[number]

    files = {f"/d/{number}": content(1 + rng.randrange(CHUNK), number) for number in range(60)}
    tickets = {}
    for at, (path, data) in enumerate(files.items()):
        world.at(at * 3_000_000, lambda path=path, data=data: tickets.update({path: world.put(path, data)}))
    for event in (restart, change, expire, restart if doubled else world.master.sessions.clear):
        world.at(rng.randrange(200_000_000), event)
    world.run_until(lambda: len(tickets) == len(files) and all(t.result is not None for t in tickets.values()))
    for path, ticket in tickets.items():
        if not isinstance(ticket.result, DSAError):
            assert world.master.bytes_of(path) == files[path]
    senders = {}  # shard -> the one content that was ever sent for it
    for _, message in world.sent:
        if isinstance(message, PutShards):
            for put in message.shards:
                assert senders.setdefault((put.chunk, put.index), put.hash) == put.hash, "a slot was used for two files"
