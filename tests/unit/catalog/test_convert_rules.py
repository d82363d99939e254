"""Conversion in the catalog: hidden until it is whole, exchanged only for the version that it was made from."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.convert_rules import CheckPage, ConvertPage, Exchange, WalkFiles
from dsa_zmq.master.catalog.jobs import ExpireUploads
from dsa_zmq.master.catalog.move_rules import DONE, ApplyReceipts, Arrived
from dsa_zmq.master.catalog.survey_rules import Conditions, Room
from dsa_zmq.model.steps import Goals
from dsa_zmq.model.upkeep import Standing
from dsa_zmq.protocol.operations import Copy, Locate, MakeDirectory, Remove, SetRedundancy, Stat
from dsa_zmq.protocol.values import Failure

GB = 10**9
CONDITIONS = Conditions(
    dict.fromkeys(range(1, 5), Standing.KEEPS), dict.fromkeys(range(1, 5), Room(GB, GB)), Goals(), "rendezvous"
)
TASK = 77


def walk(kit, path="/", redundancy=""):
    """All files that are to be converted."""
    files, branches = [], ()
    while True:
        found = kit.one(WalkFiles(path, redundancy, branches))
        if isinstance(found, Failure):
            return found
        files += found.files
        path, branches = "", found.branches
        if not branches:
            return files


def convert(kit, file, conditions=CONDITIONS):
    """Make the hidden content of a file of one page: its number, and the moves."""
    content = kit.new_id()
    ids = tuple(kit.new_id() for _ in range(file.chunks))
    made = kit.one(ConvertPage(TASK, file, content, 0, ids, conditions))
    if made is None or isinstance(made, Failure):
        return content, made
    kit.audit()
    return content, made.moves


def arrive(kit, moves):
    """The targets have got the shards."""
    for move in moves:
        node = next(each for each in kit.nodes if each.node == move.node)
        receipt = kit.receipt(move.move, move.chunk, move.shard, node, move.hash)
        (applied,) = kit.one(ApplyReceipts(move.node, [Arrived(move.chunk, move.move, receipt)]))
        assert applied.outcome == DONE
    kit.audit()


def exchange(kit, file, content):
    result = kit.one(Exchange(file, content, kit.now))
    kit.audit()
    return result


def shown(kit, path):
    return kit.good(Stat(path)).attributes


@pytest.fixture
def full(kit):
    kit.good(kit.commit("/a/b/one", length=9000, redundancy="copies=2"))
    kit.good(kit.commit("/a/two", redundancy="copies=2"))
    kit.good(kit.commit("/three", redundancy="copies=2"))
    return kit


def test_a_walk_finds_what_is_not_stored_as_its_directory_says(full):
    assert walk(full) == []
    full.good(SetRedundancy("/a", "copies=3"))
    found = walk(full)
    assert {(file.inode, file.has, file.wants) for file in found} == {
        (shown(full, path).inode, "copies=2", "copies=3") for path in ("/a/two", "/a/b/one")
    }
    assert {file.inode for file in walk(full, "/a/b")} == {shown(full, "/a/b/one").inode}
    assert [file.inode for file in walk(full, "/a/two")] == [shown(full, "/a/two").inode]
    assert len(walk(full, redundancy="copies=1")) == 3
    assert walk(full, "/nowhere").code == "not-found"


def test_a_walk_goes_through_large_directories_and_empty_files_are_as_good_as_any(full):
    full.good(MakeDirectory("/many"))
    for number in range(300):
        full.good(full.commit(f"/many/{number:03}", length=100 if number % 2 else 0, redundancy="copies=2"))
    assert len(walk(full, "/many", "copies=3")) == 150


@pytest.mark.parametrize("wanted", ["copies=1", "copies=3", "copies=4"])
def test_a_file_gets_its_new_content_when_all_shards_are_there(full, wanted):
    before = shown(full, "/a/b/one")
    (file,) = walk(full, "/a/b", wanted)
    content, moves = convert(full, file)
    assert len(moves) == 3 * int(wanted[-1])
    assert {move.redundancy for move in moves} == {wanted}
    assert shown(full, "/a/b/one") == before
    assert full.one(CheckPage(content, 0)) is False
    arrive(full, moves)
    assert full.one(CheckPage(content, 0)) is True
    assert exchange(full, file, content) is True
    after = shown(full, "/a/b/one")
    assert (after.content, after.redundancy, after.version) == (content, wanted, before.version)
    assert (after.size, after.mtime_ns, after.inode) == (before.size, before.mtime_ns, before.inode)
    assert walk(full, "/a/b", wanted) == []
    located = full.good(Locate("/a/b/one"))
    assert [len(places) for _, _, _, places in located.chunks] == [int(wanted[-1])] * 3


def test_the_bytes_come_from_the_old_chunk_and_stay_on_its_nodes_where_they_can(full):
    (file,) = walk(full, "/three", "copies=3")
    [old] = full.good(Locate("/three")).chunks
    _, moves = convert(full, file)
    assert {move.source for move in moves} == {old[0]}
    assert {node for node, _ in old[3]} < {move.node for move in moves}
    assert {place.node for place in moves[0].sources} == {node for node, _ in old[3]}


def test_the_old_content_is_let_go_and_its_shards_are_dropped(full):
    (file,) = walk(full, "/three", "copies=3")
    [old] = full.good(Locate("/three")).chunks
    content, moves = convert(full, file)
    arrive(full, moves)
    assert exchange(full, file, content) is True
    full.collect()
    assert old[0] not in {row[0] for row in full.dump()["chunks"]}
    assert sum(len(shards) for shards in full.drop_all().values()) == 2


def test_an_overwritten_file_keeps_what_was_written_and_the_conversion_goes(full):
    (file,) = walk(full, "/three", "copies=3")
    content, moves = convert(full, file)
    arrive(full, moves)
    full.good(full.commit("/three", redundancy="copies=2"))
    now = shown(full, "/three")
    assert exchange(full, file, content) is False
    assert shown(full, "/three") == now
    full.collect()
    assert not {row[0] for row in full.dump()["chunks"]} & {move.chunk for move in moves}


def test_a_file_removed_meanwhile_is_not_brought_back(full):
    (file,) = walk(full, "/three", "copies=3")
    content, moves = convert(full, file)
    arrive(full, moves)
    full.good(Remove("/three"))
    full.collect()
    assert exchange(full, file, content) is False
    assert full.bad(Stat("/three")) == "not-found"


def test_names_that_shared_a_content_share_the_new_one(full):
    full.good(Copy("/three", "/four"))
    first, second = walk(full, "/", "copies=3")[:2]
    files = [file for file in walk(full, "/", "copies=3") if file.content == shown(full, "/three").content]
    assert len(files) == 2
    content, moves = convert(full, files[0])
    arrive(full, moves)
    assert [exchange(full, file, content) for file in files] == [True, True]
    assert shown(full, "/three").content == shown(full, "/four").content == content
    assert first != second


def test_what_is_given_up_leaves_nothing_behind(full):
    before = full.dump("dead", "drops", "meta", "contents")
    (file,) = walk(full, "/three", "copies=3")
    content, moves = convert(full, file)
    arrive(full, moves[:1])
    full.one(ExpireUploads([content]))
    full.collect()
    assert full.dump("dead", "drops", "meta", "contents") == before
    assert exchange(full, file, content) is False
    assert {(row[0], row[1]) for row in full.dump()["drops"]} == {(move.node, move.chunk) for move in moves}


def test_a_page_is_not_made_without_room_or_of_what_is_gone(full):
    (file,) = walk(full, "/three", "copies=3")
    full_nodes = Conditions(CONDITIONS.standings, dict.fromkeys(range(1, 5), Room(0, 0)), Goals(), "rendezvous")
    before = full.dump()
    _, refused = convert(full, file, full_nodes)
    assert refused.code == "no-space"
    assert full.dump() == before
    full.good(full.commit("/three", redundancy="copies=2"))
    assert convert(full, file)[1] is None


def test_a_conversion_outlives_a_loss_of_power(full):
    (file,) = walk(full, "/three", "copies=3")
    content, moves = convert(full, file)
    full.power_loss()
    arrive(full, moves)
    assert exchange(full, file, content) is True
