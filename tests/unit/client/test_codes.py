"""Erasure codes in a model of the world: exactly what is needed travels, and what a code survives is survived."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa_zmq.client.calls import Attach, Cancel, Consumed, StartDownload
from dsa_zmq.client.jobs import SplitChunk
from dsa_zmq.client.jobs import run as run_jobs
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.slots import BURST_FILES
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import ConfigError, Corrupt, DSAError, Timeout, Unavailable
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import PutShards
from dsa_zmq.protocol.values import ShardRef
from tests.unit.client.world import SECOND, ListTicket, content, finish, nothing_left

CODES = ["ec=2+1", "ec=3+2", "ec=4+2", "ec=12+4"]
LARGE = 64 << 10  #: chunks of this size are looked at by workers, and their contents are not small
unharried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def code_world(make_world, name="ec=4+2", seed=1, more=0, **options):
    """With as many nodes as the code needs, and some more."""
    return make_world(seed, nodes=parse_redundancy(name).shards + more, redundancy=name, **options)


def served(world):
    return sum(node.served for node in world.nodes.values())


def read(world, path, start=0, stop=None):
    ticket = world.download(path, start, stop)
    result = finish(world, ticket)
    assert not isinstance(result, DSAError), result
    return bytes(ticket.data)


def holder(world, path, chunk, index):
    """The node that holds this shard."""
    row = world.master.files[path][1][chunk]
    return world.nodes[next(receipt.node for receipt in row.receipts if receipt.index == index)]


def spoil(world, path, chunk, index):
    """Damage one shard on its node."""
    row = world.master.files[path][1][chunk]
    shards = holder(world, path, chunk, index).shards
    key = (row.chunk, index)
    shards[key] = bytes([shards[key][0] ^ 1]) + shards[key][1:]


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
    assert served(world) == sum(code.needed * code.shard_bytes(length) for length in lengths)
    for at, row in enumerate(world.master.files["/a"][1]):
        for index in range(code.shards):
            assert holder(world, "/a", at, index).asked.count(row.chunk) == (index < code.needed)
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


# --- shards that are late, damaged, or lost ----------------------------------------------------------------------------


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
@given(
    st.integers(0, 2**32),
    st.sampled_from(CODES),
    st.integers(0, 14 * CHUNK),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.sampled_from([0.0, 0.05]),
)
def test_any_faults_end_in_a_whole_right_file_or_a_definite_error(make_world, Faults, seed, name, size, bad, refuse):
    faults = Faults(loss=bad, repeat=0.1, corrupt=bad, refuse=refuse)
    world = code_world(make_world, name, seed, more=2, faults=faults, node_dead_s=2.0)
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
    world.faults = Faults(loss=bad, repeat=0.1, corrupt=bad)
    begun = world.download("/a")
    outcome = finish(world, begun)
    if isinstance(outcome, DSAError):
        assert bad
        assert isinstance(outcome, Corrupt | Unavailable | Timeout)
    else:
        assert bytes(begun.data) == data
    world.faults = Faults()
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
