"""A download asks for each chunk once while all is well, and goes to another copy when one is late, damaged or gone."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Corrupt, NotFound, Unavailable
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.values import ShardRef
from tests.unit.client.world import SECOND, content, finish, nothing_left


def reports(world):
    """What the master was told of nodes."""
    return [call for call in world.master.calls if isinstance(call, op.Report)]


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
    world.run_until(lambda: reports(world), 5)
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
    assert "chunk 2 of /a" in str(error)  # counted from 1, as by explain
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


def test_missing_file_is_not_found(make_world):
    world = make_world(1)
    assert isinstance(finish(world, world.download("/nothing")), NotFound)
