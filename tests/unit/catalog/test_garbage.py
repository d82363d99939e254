"""Letting go: all of what is dead goes, nothing else, and nothing before its time."""

from __future__ import annotations

from dsa_zmq.master.catalog.garbage_plan import CountGarbage, GarbageCounts
from dsa_zmq.master.catalog.jobs import CollectGarbage, DropsDone, ExpireUploads, LoadDrops
from dsa_zmq.model.manifest import pack_page
from dsa_zmq.protocol.operations import Copy, Locate, MakeDirectory, Move, Remove, Statfs
from dsa_zmq.protocol.values import ShardRef

EMPTY = {"names", "contents", "pages", "chunks", "places", "drops", "dead", "uploads"}


def test_everything_of_removed_files_and_trees_goes(kit):
    for index in range(30):
        kit.good(kit.commit(f"/tree/{index % 3}/{index % 2}/{index}", 9000 if index % 2 else 0))
    kit.good(kit.commit("/single", 5000))
    kit.good(kit.commit("/single", 6000))
    kit.good(Move("/single", "/tree/moved"))
    kit.good(Copy("/tree/moved", "/copy"))
    kit.good(Remove("/copy"))
    kit.good(Remove("/tree/0", recursive=True))
    kit.good(Remove("/tree", recursive=True))
    assert kit.collect(limit=7) == [1, 2, 3, 4]
    assert sum(map(len, kit.drop_all().values())) == (15 * 3 + 2 + 2) * 2
    kit.collect(horizon=kit.new_id())
    left = kit.dump()
    assert {table for table in EMPTY if left[table]} == set()
    assert [row[0] for row in left["inodes"]] == [1]
    assert kit.good(Statfs()).files == 0
    assert kit.good(Statfs()).content_bytes == 0


def test_what_died_lately_is_left_for_its_readers(kit):
    commit = kit.commit("/f")
    kit.good(commit)
    kit.good(Remove("/f"))
    died = kit.now
    kit.collect(wall_ns=died + 99, grace_ns=100)
    assert len(kit.good(Locate("/f", commit.upload)).chunks) == 1
    kit.collect(wall_ns=died + 100, grace_ns=100)
    assert kit.bad(Locate("/f", commit.upload)) == "not-found"


def test_a_deep_tree_waits_for_its_grace_once(kit):
    kit.good(MakeDirectory("/" + "/".join("abcdefgh"), parents=True))
    kit.good(Remove("/a", recursive=True))
    kit.collect(wall_ns=kit.now + 100, grace_ns=100)
    assert kit.dump()["names"] == []


def test_what_died_in_the_future_of_a_clock_turned_back_still_goes(kit):
    kit.now = 1 << 60
    kit.good(kit.commit("/f"))
    kit.good(Remove("/f"))
    kit.collect(wall_ns=5_000, grace_ns=100)
    assert kit.dump()["chunks"] != []
    kit.collect(wall_ns=5_100, grace_ns=100)
    assert kit.dump()["chunks"] == []


def test_a_slice_is_as_small_as_it_was_asked_to_be_and_says_when_there_is_more(kit):
    for index in range(40):
        kit.good(kit.commit(f"/d/{index}", 100))
    kit.good(Remove("/d", recursive=True))
    before, slices = len(kit.changes), 0
    more = True
    while more:
        start = len(kit.changes)
        more = kit.one(CollectGarbage(10, 1 << 62, 0, 1 << 62)).more
        assert len(kit.changes) - start < 100
        slices += 1
    assert slices > 10
    assert len(kit.changes) > before


def test_drops_are_told_until_they_are_done(kit):
    commit = kit.commit("/f", 8192, redundancy="copies=4")
    kit.good(commit)
    kit.good(Remove("/f"))
    assert kit.collect() == [1, 2, 3, 4]
    expected = sorted(
        (chunk.chunk, receipt.index) for chunk in commit.chunks for receipt in chunk.receipts if receipt.node == 1
    )
    told = kit.one(LoadDrops(1, 10))
    assert [(shard.chunk, shard.index) for shard in told] == expected
    assert kit.one(LoadDrops(1, 1)) == told[:1]
    kit.reopen()
    assert kit.one(LoadDrops(1, 10)) == told
    assert kit.one(DropsDone(1, [told[0], told[0], ShardRef(1 << 50, 0)])) is None
    assert kit.one(LoadDrops(1, 10)) == told[1:]
    kit.one(DropsDone(1, told))
    assert kit.collect() == [2, 3, 4]


def test_a_removed_node_is_told_nothing_until_it_returns(kit):
    commit = kit.commit("/f", redundancy="copies=4")
    kit.good(commit)
    kit.register("n0", store_id=b"formatted anew..")
    kit.good(Remove("/f"))
    assert kit.collect() == [2, 3, 4]
    kit.register("n1", store_id=b"formatted too...")
    assert kit.collect() == [3, 4]
    kit.reopen()
    assert {row[0] for row in kit.dump()["drops"]} == {1, 2, 3, 4}
    kit.register("n0", start=2)
    assert kit.collect() == [1, 3, 4]
    assert [shard.chunk for shard in kit.one(LoadDrops(1, 10))] == [commit.chunks[0].chunk]


def test_a_content_is_held_by_every_name_that_shows_it(kit):
    kit.good(kit.commit("/a"))
    kit.good(Copy("/a", "/b"))
    kit.good(Copy("/b", "/d/c"))
    for path in ("/a", "/d"):
        kit.good(Remove(path, recursive=True))
        kit.collect()
        assert kit.drop_all() == {}
    kit.good(Remove("/b"))
    kit.collect()
    assert sum(map(len, kit.drop_all().values())) == 2


def test_a_chunk_that_two_contents_share_is_held_until_the_last_of_them_is_gone(kit):
    first, second = kit.commit("/a", 5000), kit.commit("/b", 5000)
    for commit in (first, second):
        kit.good(commit)
    own = [chunk.chunk for chunk in second.chunks]
    shared = [chunk.chunk for chunk in first.chunks]
    edit = kit.catalog._database.execute
    edit("UPDATE pages SET body = ? WHERE content = ?", (pack_page(shared), second.upload))
    edit("UPDATE chunks SET refs = 2 WHERE chunk IN (?, ?)", shared)
    for table in ("chunks", "places"):
        edit(f"DELETE FROM {table} WHERE chunk IN (?, ?)", own)
    kit.retally()
    kit.audit()
    kit.good(Remove("/a"))
    kit.collect()
    assert kit.drop_all() == {}
    assert len(kit.good(Locate("/b")).chunks) == 2
    kit.good(Remove("/b"))
    kit.collect()
    assert sum(map(len, kit.drop_all().values())) == 4


def test_a_large_content_goes_page_by_page(kit):
    upload = kit.new_id()
    for page in range(5):
        kit.good(kit.stage(upload, page))
    kit.one(ExpireUploads([upload]))
    more, slices = True, 0
    while more:
        more = kit.one(CollectGarbage(4, 1 << 62, 0, 1 << 62)).more
        kit.audit()
        slices += 1
    assert slices >= 5
    assert kit.dump()["pages"] == []


def test_what_would_be_let_go_is_counted_and_nothing_changes(kit):
    kit.good(kit.commit("/kept", 8192))
    for index in range(3):
        kit.good(kit.commit(f"/{index}", 8192))
    assert kit.one(CountGarbage()) == GarbageCounts(0, 0, 0, {})
    for index in range(3):
        kit.good(Remove(f"/{index}"))
    before = kit.dump()
    assert kit.one(CountGarbage()) == GarbageCounts(3, 0, 0, {})
    assert kit.dump() == before
    kit.one(CollectGarbage(3, 1 << 62, 0, 1 << 62))
    assert kit.one(CountGarbage()) == GarbageCounts(0, 3, 3 * 8192 * 2, {})
    kit.collect()
    counts = kit.one(CountGarbage())
    dropped = kit.drop_all()
    assert counts == GarbageCounts(0, 0, 0, {node: len(shards) for node, shards in dropped.items() if shards})
    assert sum(counts.drops.values()) > 0
    assert kit.one(CountGarbage()) == GarbageCounts(0, 0, 0, {})
