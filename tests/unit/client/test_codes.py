"""Erasure codes in a model of the world, while bytes are put and read: exactly what is needed travels."""

from __future__ import annotations

import pytest

from dsa_zmq.client.calls import Attach, Consumed, StartDownload
from dsa_zmq.client.jobs import SplitChunk
from dsa_zmq.client.jobs import run as run_jobs
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.slots import BURST_FILES
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import ConfigError, DSAError
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import PutShards
from tests.unit.client.codes import CODES, code_world, holder, read, served, spoil
from tests.unit.client.world import ListTicket, content, finish, nothing_left

# --- while all is well -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("size", [CHUNK, CHUNK + 1, 4 * CHUNK, 9 * CHUNK + 5])
def test_what_was_put_is_what_is_read_and_exactly_the_needed_shards_travel(make_world, name, size):
    world = code_world(make_world, name, more=1)
    data = content(size)
    ticket = world.upload("/a", data)
    assert finish(world, ticket).redundancy == name
    assert ticket.safe == size
    assert world.master.bytes_of("/a") == data
    assert read(world, "/a") == data
    code = parse_redundancy(name)
    lengths = [len(data[at : at + CHUNK]) for at in range(0, size, CHUNK)]
    assert all(code.shard_bytes(length) * code.needed >= length for length in lengths)
    with_bytes = [
        -(-length // code.shard_bytes(length)) for length in lengths
    ]  # the others of a short chunk are all zeros
    assert served(world) == sum(
        code.shard_bytes(length) * count for length, count in zip(lengths, with_bytes, strict=True)
    )
    for at, row in enumerate(world.master.files["/a"][1]):
        for index in range(code.shards):
            assert holder(world, "/a", at, index).asked.count(row.chunk) == (index < with_bytes[at])
    nothing_left(world)


def test_each_shard_travels_once_on_the_way_in_with_the_length_of_its_own(make_world):
    world = code_world(make_world)
    finish(world, world.upload("/a", content(3 * CHUNK)))
    puts = [put for _, message in world.sent if isinstance(message, PutShards) for put in message.shards]
    assert len({(put.chunk, put.index) for put in puts}) == len(puts) == 3 * 6
    assert {(put.length, put.chunk_length) for put in puts} == {(CHUNK // 4, CHUNK)}


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (CHUNK - 1, CHUNK + 1), (5, None), (3 * CHUNK, 3 * CHUNK + 2)])
def test_ranges_are_cut_out_of_whole_chunks(make_world, start, stop):
    world = code_world(make_world)
    data = content(4 * CHUNK + 3)
    world.store("/a", data)
    assert read(world, "/a", start, stop) == data[start:stop]


def test_a_file_is_written_in_place_also_when_it_has_to_be_decoded(make_world, tmp_path):
    world = code_world(make_world)
    data = content(6 * CHUNK + 100)
    world.store("/a", data)
    spoil(world, "/a", 2, 0)
    world.lose(holder(world, "/a", 4, 1))
    descriptor = (tmp_path / "a").open("wb+")
    file = LocalFile(descriptor.fileno(), "a")

    class FileTicket(ListTicket):
        def described(self, attributes):
            world.at(0, lambda: world.call(Attach(77, file)))

    ticket = FileTicket(world)
    world.call(StartDownload(77, Wanted("/a", to_file=True), ticket))
    assert finish(world, ticket).size == len(data)
    assert ticket.safe == len(data)
    assert not ticket.data
    assert (tmp_path / "a").read_bytes() == data
    nothing_left(world)


# --- small contents ----------------------------------------------------------------------------------------------------


def test_small_contents_are_copies_which_survive_as_many_losses(make_world):
    world = code_world(make_world)
    data = content(100)
    for ticket in (
        world.put("/a", data, CHUNK),
        world.upload("/b", data),
        world.put("/c", data, redundancy="copies=2"),
    ):
        finish(world, ticket)
    assert [world.master.files[path][0].redundancy for path in ("/a", "/b", "/c")] == [
        "copies=3",
        "copies=3",
        "copies=2",
    ]
    assert read(world, "/a") == read(world, "/b") == data


def test_a_burst_of_small_files_takes_slots_of_what_they_are_kept_as(make_world):
    world = code_world(make_world)
    world.store("/d/large", content(3 * CHUNK))
    for first in range(0, 60, 12):
        tickets = [world.put(f"/d/{first + at}", content(100 + at), CHUNK) for at in range(12)]
        world.run_until(lambda tickets=tickets: all(ticket.result is not None for ticket in tickets))
        assert {ticket.result.redundancy for ticket in tickets} == {"copies=3"}
    asked = [call for call in world.master.calls if isinstance(call, op.Allocate)]
    assert len(asked) <= 1 + 2 * BURST_FILES
    commits = [call for call in world.master.calls if isinstance(call, op.Commit)]
    assert all(call.inherits for call in commits[1:])
    assert len(commits) == 61
    nothing_left(world)


def test_files_begun_for_copies_are_stored_anew_as_a_code_when_the_directory_gives_one_by_now(make_world):
    world = make_world(1, nodes=6)
    files = {f"/d/{number}": content(CHUNK, number) for number in range(30)}  # small, but they fill their chunk
    for at, (path, data) in enumerate(files.items()):
        if at == 20:
            world.master.redundancy = "ec=4+2"
        ticket = world.put(path, data)
        assert not isinstance(finish(world, ticket), DSAError)
        assert ticket.safe == CHUNK
    assert [world.master.files[path][0].redundancy for path in files] == ["copies=2"] * 20 + ["ec=4+2"] * 10
    assert any(
        call.redundancy == "copies=2" and call.path == "/d/20"
        for call in world.master.calls
        if isinstance(call, op.Commit)
    )
    for path, data in files.items():
        assert world.master.bytes_of(path) == data
    nothing_left(world)


def test_a_chunk_that_is_begun_anew_while_it_is_encoded_is_encoded_again(make_world):
    """The shards that come late are those of an upload that was given up."""
    world = make_world(1, nodes=6, redundancy="ec=4+2")
    waiting = []
    later = world.run

    def hold(token, lane, job):
        if isinstance(job, SplitChunk) and not waiting:
            waiting.append((token, job))
        else:
            later(token, lane, job)

    world.run = hold
    ticket = world.put("/a", content(CHUNK))
    world.run_until(lambda: bool(waiting))
    upload = world.client._transfers[1].machine
    world.client._todo.append((1, upload._begin_anew(world.now)))
    (token, job), before = waiting[0], upload.upload
    world.call(Consumed(0, 0))  # a turn
    assert upload.upload != before or not upload.upload
    world.client.on_result(world, token, run_jobs([job])[0])
    assert not isinstance(finish(world, ticket), DSAError)
    assert world.master.bytes_of("/a") == content(CHUNK)
    nothing_left(world)


# --- nodes that fail while bytes are put -------------------------------------------------------------------------------


def test_a_silent_node_is_replaced_and_holds_no_second_shard(make_world):
    world = code_world(make_world, more=2, node_dead_s=2.0)
    world.nodes[2].up = False
    data = content(9 * CHUNK)
    assert finish(world, world.upload("/a", data)).size == len(data)
    assert world.master.bytes_of("/a") == data
    assert not world.nodes[2].shards


@pytest.mark.parametrize("keep", [True, False])
def test_a_restarted_node_confirms_or_gets_its_shards_again(make_world, keep):
    world = code_world(make_world)
    data = content(3 * CHUNK)
    ticket = world.upload("/a", data)
    world.run_until(lambda: sum(len(node.shards) for node in world.nodes.values()) == 18)
    for node in world.nodes.values():
        node.restart(keep)
    assert finish(world, ticket).size == len(data)
    assert world.master.bytes_of("/a") == data


def test_memory_is_bounded_by_the_budget_and_what_a_code_adds(make_world):
    world = code_world(make_world, buffer_bytes=8 * CHUNK)
    tickets = [world.upload(f"/{number}", content(40 * CHUNK, number)) for number in range(5)]
    world.run_until(lambda: all(ticket.result is not None for ticket in tickets))
    assert all(not isinstance(ticket.result, DSAError) for ticket in tickets)
    assert world.most_held <= (8 + 4) * CHUNK * 6 // 4


def test_without_the_library_a_put_fails_with_what_would_do(make_world, monkeypatch):
    def missing(chunk, redundancy):
        raise ConfigError("erasure codes need a library that is not installed here", "use copies=N")

    world = code_world(make_world)
    monkeypatch.setattr("dsa_zmq.model.erasure.split", missing)
    error = finish(world, world.upload("/a", content(CHUNK)))
    assert isinstance(error, ConfigError)
    nothing_left(world)
    assert not world.master.uploads
