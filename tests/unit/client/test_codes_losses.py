"""Shards of codes that are late, damaged or lost: what a code survives is survived, and the rest is told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.client.calls import Cancel
from dsa_zmq.client.jobs import SplitChunk
from dsa_zmq.client.jobs import run as run_jobs
from dsa_zmq.errors import Corrupt, Unavailable
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.values import ShardRef
from tests.unit.client.codes import CODES, code_world, holder, read, served, spoil, unharried
from tests.unit.client.world import SECOND, content, finish, nothing_left


def test_a_late_shard_is_replaced_by_parity(make_world):
    world = code_world(make_world)
    data = content(3 * CHUNK)
    world.store("/a", data)
    late = holder(world, "/a", 0, 1)
    late.up = False
    begin = world.now
    ticket = world.download("/a")
    finish(world, ticket)
    assert bytes(ticket.data) == data
    assert 400_000_000 < ticket.ended_ns - begin < 1_500_000_000
    before = served(world)
    assert read(world, "/a") == data  # it is suspected now: nobody waits for it
    assert served(world) - before == 3 * CHUNK


def test_each_damaged_shard_is_found_by_itself_replaced_and_reported(make_world):
    world = code_world(make_world)
    data = content(3 * CHUNK)
    world.store("/a", data)
    spoilt = {(chunk, index) for chunk in range(3) for index in (chunk, 3)}
    for chunk, index in spoilt:
        spoil(world, "/a", chunk, index)
    assert read(world, "/a") == data
    nothing_left(world)
    rows = world.master.files["/a"][1]
    damaged = {shard for call in world.master.calls if isinstance(call, op.Report) for shard in call.damaged}
    assert damaged == {ShardRef(rows[chunk].chunk, index) for chunk, index in spoilt}


def test_damage_of_too_many_shards_is_corrupt_and_says_how_many_are_left(make_world):
    world = code_world(make_world)
    world.store("/a", content(3 * CHUNK))
    for index in (0, 2, 5):
        spoil(world, "/a", 1, index)
    error = finish(world, world.download("/a"))
    assert isinstance(error, Corrupt)
    assert "chunk 2 of /a has too few good shards left (3 of 4 needed shards; " in str(error)
    assert all(f"n{holder(world, '/a', 1, index).number}: corrupt" in str(error) for index in (0, 2, 5))
    nothing_left(world)


def test_too_many_silent_nodes_make_it_unavailable_and_say_how_many_shards_came(make_world):
    world = code_world(make_world, progress_timeout_s=8.0, node_dead_s=1.0)
    world.store("/a", content(3 * CHUNK))
    for node in list(world.nodes.values())[:3]:
        node.up = False
    begin = world.now
    error = finish(world, world.download("/a"))
    assert isinstance(error, Unavailable)
    assert "3 of 4 needed shards; n1: unavailable, n2: unavailable, n3: unavailable" in str(error)
    assert 8 * SECOND <= world.now - begin < 12 * SECOND
    nothing_left(world)


def test_a_node_that_comes_back_in_time_is_read_after_all_and_what_came_before_is_not_asked_for_again(make_world):
    world = code_world(make_world, node_dead_s=1.0)
    data = content(3 * CHUNK)
    world.store("/a", data)
    for node in list(world.nodes.values())[:3]:
        node.up = False
    ticket = world.download("/a")
    world.run_until(lambda: world.now > 5 * SECOND)
    before = served(world)
    for node in world.nodes.values():
        node.up = True
    finish(world, ticket)
    assert bytes(ticket.data) == data
    assert served(world) - before == 3 * CHUNK // 4
    nothing_left(world)


def test_parity_that_does_not_belong_to_its_chunk_is_not_believed(make_world):
    """Its bytes have the hash that its writer gave it, but were never made of this chunk."""
    world = code_world(make_world)
    data = content(CHUNK)
    split = run_jobs

    def wrong(token, lane, job):
        result = split([job])[0]
        if isinstance(job, SplitChunk):
            hashes, shards = split([SplitChunk(content(CHUNK, 2), job.hash, job.redundancy)])[0]
            result = (result[0][:160] + hashes[160:192] + result[0][192:], [*result[1][:4], shards[4], result[1][5]])
        world.at(1000, lambda: world.client.on_result(world, token, result))

    world.run, right = wrong, world.run
    finish(world, world.upload("/a", data))
    world.run = right
    holder(world, "/a", 0, 1).shards.clear()
    assert read(world, "/a") == data
    nothing_left(world)


@pytest.mark.slow
@unharried
@given(st.data())
def test_any_losses_that_a_code_survives_are_survived_and_others_are_told(make_world, data):
    name = data.draw(st.sampled_from(CODES))
    code = parse_redundancy(name)
    world = code_world(make_world, name, data.draw(st.integers(0, 2**32)), node_dead_s=1.0, progress_timeout_s=5.0)
    size = data.draw(st.integers(CHUNK, 9 * CHUNK))
    bytes_ = content(size, size)
    world.store("/a", bytes_)
    lost = data.draw(st.sets(st.integers(0, code.shards - 1), max_size=code.tolerates + 1))
    for chunk, row in enumerate(world.master.files["/a"][1]):
        for index in lost:
            node = holder(world, "/a", chunk, index)
            if data.draw(st.booleans()):
                spoil(world, "/a", chunk, index)
            else:
                del node.shards[row.chunk, index]
    ticket = world.download("/a")
    result = finish(world, ticket)
    if len(lost) <= code.tolerates:
        assert bytes(ticket.data) == bytes_
    else:
        assert isinstance(result, Corrupt)
        assert f"{code.needed - 1} of {code.needed} needed shards" in str(result)
    nothing_left(world)


@pytest.mark.slow
@unharried
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05]))
def test_downloads_that_are_cancelled_at_any_moment_give_everything_back(make_world, Faults, seed, bad):
    rng = random.Random(seed)
    world = code_world(make_world, "ec=3+2", seed)
    world.store("/a", content(20 * CHUNK))
    world.faults = Faults(corrupt=bad, loss=bad)
    ticket = world.download("/a")
    for _ in range(rng.randrange(200)):
        if ticket.result is None:
            world.step()
    world.call(Cancel(ticket.owner))
    world.faults = Faults()
    nothing_left(world)
