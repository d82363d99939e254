"""Uploads and downloads in a model of the world: whatever fails, a whole right file or a definite error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.client.calls import Cancel
from dsa_zmq.errors import Corrupt, DSAError, Timeout, Unavailable
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from tests.unit.client.codes import CODES, code_world, unharried
from tests.unit.client.world import content, finish, nothing_left


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


def test_memory_is_bounded_by_the_budget_not_by_the_files(make_world):
    world = make_world(1, buffer_bytes=8 * CHUNK)
    tickets = [world.upload(f"/{number}", content(40 * CHUNK, number)) for number in range(5)]
    world.run_until(lambda: all(ticket.result is not None for ticket in tickets))
    assert all(not isinstance(ticket.result, DSAError) for ticket in tickets)
    assert world.most_held <= (8 + 4) * CHUNK


@pytest.mark.slow
@pytest.mark.parametrize("names", [["copies=2"], CODES], ids=["copies", "codes"])
@unharried
@given(
    st.integers(0, 2**32),
    st.data(),
    st.integers(0, 14 * CHUNK),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.sampled_from([0.0, 0.05]),
)
def test_any_faults_end_in_a_whole_right_file_or_a_definite_error(
    make_world, Faults, names, seed, draw, size, bad, refuse
):
    faults = Faults(loss=bad, repeat=0.1, corrupt=bad, refuse=refuse)
    world = code_world(make_world, draw.draw(st.sampled_from(names)), seed, more=3, faults=faults, node_dead_s=2.0)
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
