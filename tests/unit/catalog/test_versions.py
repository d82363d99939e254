"""Versions: what was closed is still seen by whoever began before, holds its bytes for its grace, and counts nowhere."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from dsa_zmq.master.catalog.jobs import CollectGarbage, Totals
from dsa_zmq.protocol.operations import Copy, ListDirectory, Locate, MakeDirectory, Move, Remove, Statfs

LATER = 1 << 62  #: a wall clock at which every grace is over


def listing(kit, path="/dir", after="", seq=0, limit=100):
    return kit.good(ListDirectory(path, after, limit, seq))


def changed_tables(kit, operation):
    """How many rows of each table an operation changes."""
    before = len(kit.changes)
    kit.good(operation)
    return Counter(table for table, _, _ in kit.changes[before:])


# --- listings as of before --------------------------------------------------------------------------------------------


def overwrite(kit):
    kit.good(kit.commit("/dir/d", 7000, mode=0o600, chunk_bytes=8192, redundancy="copies=3"))


def overwrite_often(kit):
    for size in (1, 0, 9000):
        kit.good(kit.commit("/dir/d", size))


def overwrite_and_remove(kit):
    overwrite_often(kit)
    kit.good(Remove("/dir/d"))


def overwrite_remove_and_make_again(kit):
    overwrite_and_remove(kit)
    kit.good(kit.commit("/dir/d", 5))
    kit.good(kit.commit("/dir/d", 6))


def rename_and_overwrite(kit):
    kit.good(Move("/dir/d", "/dir/renamed"))
    kit.good(kit.commit("/dir/renamed", 3))
    kit.good(kit.commit("/dir/d", 4))


def replace_by_another(kit):
    kit.good(kit.commit("/dir/e", 11))
    kit.good(Move("/dir/e", "/dir/d", replace=True))
    kit.good(kit.commit("/dir/d", 12))


def copy_over(kit):
    kit.good(kit.commit("/elsewhere", 21, mode=0o711))
    kit.good(Copy("/elsewhere", "/dir/d", replace=True))


def move_the_directory(kit):
    kit.good(Move("/dir", "/moved"))
    kit.good(kit.commit("/moved/d", 31))
    kit.good(kit.commit("/dir/d", 32))


def remove_the_directory(kit):
    overwrite_often(kit)
    kit.good(Remove("/dir", recursive=True))


@pytest.mark.parametrize(
    "change",
    [
        overwrite, overwrite_often, overwrite_and_remove, overwrite_remove_and_make_again, rename_and_overwrite,
        replace_by_another, copy_over, move_the_directory, remove_the_directory,
    ],
)  # fmt: skip
def test_a_listing_goes_on_with_the_attributes_of_the_moment_when_it_began(kit, change):
    for index, name in enumerate("abcdef"):
        kit.good(kit.commit(f"/dir/{name}", 100 + index))
    kit.good(kit.commit("/dir/d", 1234))  # has a closed version already when the listing begins
    whole = listing(kit)
    first = listing(kit, limit=2)
    change(kit)
    rest = listing(kit, after="b", seq=first.seq)
    assert first.entries + rest.entries == whole.entries
    assert rest.entries[1].attributes.size == 1234
    one_by_one = [listing(kit, after=after, seq=first.seq, limit=1) for after in ("", "a", "b", "c", "d", "e")]
    assert [entry for page in one_by_one for entry in page.entries] == whole.entries
    assert [page.more for page in one_by_one] == [True] * 5 + [False]


def test_every_sequence_shows_the_version_that_was_valid_then(kit):
    shown = {}
    for size in (10, 0, 30, 30, 50):
        found = kit.good(kit.commit("/dir/f", size))
        shown[found.seq] = found.attributes
        between = kit.good(MakeDirectory(f"/other-{found.seq}"))
        shown[between.seq] = found.attributes
    for seq, expected in shown.items():
        assert [entry.attributes for entry in listing(kit, seq=seq).entries] == [expected]
    assert [attributes.version for attributes in shown.values()] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_listing_as_of_before_a_purged_version_is_told_to_begin_again(kit):
    kit.good(kit.commit("/dir/a"))
    old = listing(kit, limit=1).seq
    closed = kit.good(kit.commit("/dir/a", 5)).seq
    kit.collect(wall_ns=kit.now + 99, grace_ns=100)
    assert listing(kit, seq=old).entries[0].attributes.size == 1000
    kit.collect(wall_ns=kit.now + 100, grace_ns=100)
    assert kit.bad(ListDirectory("/dir", seq=old)) == "conflict"
    assert listing(kit, seq=closed).entries[0].attributes.size == 5


def test_a_change_and_an_older_listing_in_one_batch_agree(kit):
    kit.good(kit.commit("/dir/f", 10))
    whole = listing(kit)
    _, old, new = kit.run(
        kit.request(kit.commit("/dir/f", 20)),
        kit.request(ListDirectory("/dir", seq=whole.seq)),
        kit.request(ListDirectory("/dir")),
    )
    assert old == whole
    assert [entry.attributes.size for entry in new.entries] == [20]


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_an_overwrite_writes_its_version_and_its_entry_and_a_new_file_neither(kit):
    kit.good(MakeDirectory("/dir"))
    made = changed_tables(kit, kit.commit("/dir/f", 10))
    over = changed_tables(kit, kit.commit("/dir/f", 10))
    assert made["versions"] == made["dead"] == 0
    assert over - made == Counter({"versions": 1, "dead": 1})
    assert changed_tables(kit, Copy("/dir/f", "/dir/g"))["versions"] == 0


def test_a_removal_writes_the_same_few_rows_however_many_versions_there_are(kit):
    kit.good(kit.commit("/once"))
    for size in range(20):
        kit.good(kit.commit("/often", size))
    assert changed_tables(kit, Remove("/often")) == changed_tables(kit, Remove("/once"))


# --- holding and letting go -------------------------------------------------------------------------------------------


def test_a_closed_version_holds_its_bytes_until_its_own_grace_is_over(kit):
    commits = [kit.commit("/f", 5000) for _ in range(3)]
    closed = []
    for commit in commits:
        kit.good(commit)
        closed.append(kit.now)  # what the last one showed
        kit.now += 50
    _, first, second = closed
    for wall_ns, gone in ((first + 99, 0), (first + 100, 1), (second + 99, 1), (second + 100, 2), (LATER, 2)):
        kit.collect(wall_ns=wall_ns, grace_ns=100)
        there = [kit.do(Locate("/f", commit.upload)) for commit in commits]
        assert [hasattr(answer, "chunks") for answer in there] == [index >= gone for index in range(3)]
    assert sum(map(len, kit.drop_all().values())) == 2 * 4
    assert len(kit.good(Locate("/f")).chunks) == 2


def test_a_removed_file_and_its_versions_hold_their_bytes_for_the_grace_and_then_all_goes(kit):
    commits = [kit.commit("/f", 3000) for _ in range(3)]
    for commit in commits:
        kit.good(commit)
    kit.good(Remove("/f"))
    kit.collect(wall_ns=kit.now, grace_ns=1000)
    for commit in commits:
        assert len(kit.good(Locate("/f", commit.upload)).chunks) == 1
    kit.collect(horizon=kit.new_id())
    left = kit.dump()
    assert [left[table] for table in ("names", "versions", "contents", "pages", "chunks", "dead")] == [[]] * 6
    assert [row[0] for row in left["inodes"]] == [1]


def test_a_content_is_held_by_whatever_version_of_whatever_file_shows_it(kit):
    commit = kit.commit("/a", 5000)
    kit.good(commit)
    kit.good(Copy("/a", "/b"))
    kit.good(Copy("/b", "/a", replace=True))  # two versions of one file, one content
    kit.good(Copy("/a", "/c"))
    for operation in (kit.commit("/a", 0), Remove("/b"), kit.commit("/d", 0)):
        kit.good(operation)
        kit.collect()
        assert kit.drop_all() == {}
        assert len(kit.good(Locate("/c", commit.upload)).chunks) == 2
    kit.good(Move("/d", "/c", replace=True))
    kit.collect()
    assert sum(map(len, kit.drop_all().values())) == 4


def test_totals_count_newest_versions_only(kit):
    for size in (1000, 10, 70):
        kit.good(kit.commit("/f", size))
        assert kit.good(Statfs()) == Totals("copies=2", 1, size)
    kit.collect()
    assert kit.good(Statfs()) == Totals("copies=2", 1, 70)
    kit.good(Remove("/f"))
    assert kit.good(Statfs()) == Totals("copies=2", 0, 0)
    kit.collect()
    assert kit.good(Statfs()) == Totals("copies=2", 0, 0)


def test_versions_survive_a_restart_and_a_power_loss(kit):
    kit.good(kit.commit("/dir/f", 10))
    whole = listing(kit)
    kit.good(kit.commit("/dir/f", 20))
    kit.reopen()
    assert listing(kit, seq=whole.seq) == whole
    kit.power_loss()
    assert listing(kit, seq=whole.seq) == whole
    kit.collect()
    assert kit.dump()["versions"] == []


def test_a_version_that_outlives_its_file_by_a_clock_turned_back_goes_all_the_same(kit):
    kit.good(kit.commit("/f", 100))
    kit.now = 5_000
    kit.good(kit.commit("/f", 200))
    kit.now = 2_000
    kit.good(Remove("/f"))
    kit.collect(wall_ns=3_000, grace_ns=500)
    assert [row[1] for row in kit.dump()["inodes"]] == [2]
    assert len(kit.dump()["versions"]) == 1
    kit.collect(wall_ns=3_500, grace_ns=500)
    assert kit.dump()["versions"] == []
    assert kit.dump()["chunks"] == []


def test_versions_are_purged_a_slice_at_a_time(kit):
    for size in range(1, 31):
        kit.good(kit.commit("/f", size))
    left = [len(kit.dump()["versions"])]
    while kit.one(CollectGarbage(4, LATER, 0, LATER)).more:
        kit.audit()
        left.append(len(kit.dump()["versions"]))
    assert left[0] == 29
    assert left[-1] == 0
    assert max(before - after for before, after in pairwise(left)) == 4
    assert len(kit.dump()["contents"]) == 30


# --- what a recount finds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM versions WHERE version = 1",
        "DELETE FROM dead",
        "UPDATE dead SET object = 99",
        "UPDATE versions SET to_seq = to_seq + 1 WHERE version = 1",
        "UPDATE versions SET from_seq = to_seq WHERE version = 1",
        "UPDATE versions SET content = 0 WHERE version = 1",
        "UPDATE versions SET content = 99 WHERE version = 2",
        "UPDATE versions SET size = size + 1 WHERE version = 2",
        "UPDATE inodes SET version = 2 WHERE kind = 1",
        "UPDATE inodes SET since_seq = since_seq + 1 WHERE kind = 1",
        "UPDATE inodes SET chunk_count = 7 WHERE kind = 1",
        "UPDATE contents SET refs = refs + 1",
    ],
)
def test_a_recount_finds_what_does_not_agree(new_kit, damage):
    kit = new_kit()
    for size in (100, 200, 300):
        kit.good(kit.commit("/f", size))
    kit.audit()
    kit.catalog._database.execute(damage)
    assert kit.catalog.audit() != []
