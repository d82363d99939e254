"""Names: what each operation on the tree promises."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.master.catalog.jobs import AllocateChecked, Totals
from dsa_zmq.protocol.operations import (
    Allocate,
    Copy,
    Done,
    ListDirectory,
    Locate,
    MakeDirectory,
    Move,
    Remove,
    Stat,
    Statfs,
)


def names(kit, path="/", **options):
    return [entry.name for entry in kit.good(ListDirectory(path, **options)).entries]


# --- making and looking -----------------------------------------------------------------------------------------------


def test_a_new_catalog_has_an_empty_root_with_the_default_redundancy(kit):
    found = kit.good(Stat("/"))
    assert (found.attributes.kind, found.attributes.inode, found.attributes.redundancy) == ("dir", 1, "copies=2")
    assert names(kit) == []


def test_a_committed_file_shows_what_its_client_gave(kit):
    commit = kit.commit("/a/b/file", 9000, mtime_ns=-5, mode=0o600)
    made = kit.good(commit)
    shown = kit.good(Stat("/a/b/file"))
    assert shown == made
    got = shown.attributes
    assert (got.kind, got.size, got.mtime_ns, got.mode, got.version) == ("file", 9000, -5, 0o600, 1)
    assert (got.content, got.chunk_bytes, got.chunk_count, got.redundancy) == (commit.upload, 4096, 3, "copies=2")


def test_an_empty_file_has_no_content(kit):
    kit.good(kit.commit("/empty", 0))
    assert kit.good(Stat("/empty")).attributes.content == 0
    located = kit.good(Locate("/empty"))
    assert (located.page_count, located.chunks) == (0, [])


def test_each_new_content_of_a_name_is_the_next_version_of_one_inode(kit):
    first = kit.good(kit.commit("/f", 10)).attributes
    second = kit.good(kit.commit("/f", 20)).attributes
    assert (second.inode, second.version, second.created_ns) == (first.inode, first.version + 1, first.created_ns)
    assert second.content != first.content


def test_every_change_has_its_own_sequence_and_reads_have_none(kit):
    first = kit.good(MakeDirectory("/a")).seq
    assert kit.good(Stat("/a")).seq == first
    assert kit.good(MakeDirectory("/b")).seq == first + 1
    assert kit.bad(MakeDirectory("/b")) == "already-exists"
    assert kit.good(Stat("/")).seq == first + 1


def test_a_directory_inherits_redundancy_and_may_set_its_own(kit):
    kit.good(MakeDirectory("/safe", redundancy="copies=3"))
    assert kit.good(MakeDirectory("/safe/inner/most", parents=True)).attributes.redundancy == "copies=3"
    assert kit.good(Stat("/safe/inner")).attributes.redundancy == "copies=3"
    assert kit.good(Allocate(0, "/safe/inner/new/file", 4096, 0, [1])) == AllocateChecked("copies=3")
    assert kit.good(Allocate(0, "/file", 4096, 0, [1])) == AllocateChecked("copies=2")
    assert kit.bad(MakeDirectory("/odd", redundancy="copies=0")) == "invalid"


def test_parents_are_made_only_when_asked_for(kit):
    assert kit.bad(MakeDirectory("/a/b")) == "not-found"
    kit.good(MakeDirectory("/a/b", parents=True, mode=0o700))
    assert kit.good(Stat("/a")).attributes.mode == 0o755
    assert kit.good(Stat("/a/b")).attributes.mode == 0o700


def test_an_existing_directory_is_fine_only_when_asked_for(kit):
    made = kit.good(MakeDirectory("/a"))
    assert kit.bad(MakeDirectory("/a")) == "already-exists"
    assert kit.good(MakeDirectory("/a", exist_ok=True)).attributes == made.attributes
    kit.good(kit.commit("/f"))
    assert kit.bad(MakeDirectory("/f", exist_ok=True)) == "already-exists"
    assert kit.good(MakeDirectory("/", exist_ok=True)).attributes.inode == 1


@pytest.mark.parametrize("path", ["/a/../b", "/a\0b", "/" + "n" * 256, "/" + "d/" * 3000])
def test_a_path_that_cannot_be_is_refused_and_changes_nothing(kit, path):
    before = kit.dump("sessions", "replies")
    for operation in (
        Stat(path),
        MakeDirectory(path),
        kit.commit(path),
        Remove(path),
        Move(path, "/x"),
        Copy("/x", path),
    ):
        assert kit.bad(operation) in ("invalid", "not-found")
    assert kit.bad(Stat(path)) == "invalid"
    assert kit.dump("sessions", "replies") == before


def test_below_a_file_is_nothing(kit):
    kit.good(kit.commit("/f"))
    for operation in (Stat("/f/x"), MakeDirectory("/f/x", parents=True), kit.commit("/f/x"), Locate("/f/x")):
        assert kit.bad(operation) == "not-a-directory"
    assert kit.bad(Allocate(0, "/f/x", 4096, 0, [1])) == "not-a-directory"


def test_conditions_of_a_commit_are_checked_early_and_late(kit):
    assert kit.bad(kit.commit("/f", if_version=1)) == "conflict"
    kit.good(kit.commit("/f"))
    for fields, expected in (({"if_absent": True}, "already-exists"), ({"if_version": 2}, "conflict")):
        assert kit.bad(kit.commit("/f", **fields)) == expected
        assert kit.bad(Allocate(0, "/f", 4096, 0, [1], **fields)) == expected
    kit.good(Allocate(0, "/f", 4096, 0, [1], if_version=1))
    assert kit.good(kit.commit("/f", if_version=1)).attributes.version == 2
    kit.good(MakeDirectory("/d"))
    assert kit.bad(kit.commit("/d")) == "is-a-directory"
    assert kit.bad(Allocate(0, "/d", 4096, 0, [1])) == "is-a-directory"
    assert kit.bad(kit.commit("/")) == "is-a-directory"


def test_totals_follow_files_and_their_sizes(kit):
    kit.good(kit.commit("/a", 100))
    kit.good(kit.commit("/b", 50))
    kit.good(Copy("/a", "/c"))
    kit.good(kit.commit("/b", 70))
    assert kit.good(Statfs()) == Totals("copies=2", 3, 270)
    kit.good(Remove("/a"))
    assert kit.good(Statfs("copies=3")) == Totals("copies=3", 2, 170)
    assert kit.bad(Statfs("none")) == "invalid"


# --- listing ----------------------------------------------------------------------------------------------------------


def test_a_listing_is_in_byte_order_and_paged(kit):
    made = ["Z", "a", "a.b", "a/b"[0:1] + "b", "é", "𝄞", "\uffee"]
    for name in made:
        kit.good(MakeDirectory(f"/{name}"))
    expected = sorted(made, key=str.encode)
    assert names(kit) == expected
    paged, after, more = [], "", True
    while more:
        page = kit.good(ListDirectory("/", after, 2))
        paged += [entry.name for entry in page.entries]
        after, more = paged[-1], page.more
    assert paged == expected


def test_a_paged_listing_shows_one_moment_whatever_happens_between_its_pages(kit):
    for name in "abcdef":
        kit.good(kit.commit(f"/dir/{name}", 100))
    first = kit.good(ListDirectory("/dir", "", 2))
    kit.good(Remove("/dir/c"))
    kit.good(Move("/dir/d", "/dir/z"))
    kit.good(kit.commit("/dir/bb", 1))
    kit.good(Move("/dir/f", "/dir/e", replace=True))
    rest = kit.good(ListDirectory("/dir", "b", 10, seq=first.seq))
    assert [entry.name for entry in first.entries + rest.entries] == list("abcdef")
    assert all(entry.attributes.size == 100 for entry in rest.entries)
    kit.good(Move("/dir", "/elsewhere"))
    assert names(kit, "/dir", seq=first.seq) == list("abcdef")
    kit.good(Remove("/elsewhere", recursive=True))
    assert names(kit, "/dir", seq=first.seq) == list("abcdef")
    assert kit.bad(ListDirectory("/dir")) == "not-found"


def test_a_listing_from_too_long_ago_is_told_to_begin_again(kit):
    kit.good(kit.commit("/dir/a"))
    kit.good(kit.commit("/dir/b"))
    old = kit.good(ListDirectory("/dir", "", 1)).seq
    kit.good(Remove("/dir/b"))
    kit.collect()
    assert kit.bad(ListDirectory("/dir", "a", seq=old)) == "conflict"
    assert kit.bad(ListDirectory("/dir", "a", seq=old + 1000)) == "conflict"
    assert names(kit, "/dir") == ["a"]


def test_only_directories_are_listed(kit):
    kit.good(kit.commit("/f"))
    assert kit.bad(ListDirectory("/f")) == "not-a-directory"
    assert kit.bad(ListDirectory("/none")) == "not-found"


# --- removing ---------------------------------------------------------------------------------------------------------


def test_a_removed_file_is_gone_and_its_name_is_free(kit):
    kit.good(kit.commit("/f"))
    assert kit.good(Remove("/f")) == Done(1)
    assert kit.bad(Stat("/f")) == "not-found"
    assert kit.bad(Remove("/f")) == "not-found"
    assert kit.good(kit.commit("/f")).attributes.version == 1


def test_a_directory_is_removed_when_empty_or_recursively(kit):
    kit.good(kit.commit("/d/e/f"))
    assert kit.bad(Remove("/d")) == "not-empty"
    kit.good(Remove("/d/e/f"))
    kit.good(Remove("/d/e"))
    kit.good(kit.commit("/d/g"))
    kit.good(Remove("/d", recursive=True))
    assert names(kit) == []
    kit.good(MakeDirectory("/d"))
    assert names(kit, "/d") == []


def test_remove_can_depend_on_the_version(kit):
    kit.good(kit.commit("/f"))
    kit.good(kit.commit("/f"))
    assert kit.bad(Remove("/f", if_version=1)) == "conflict"
    kit.good(Remove("/f", if_version=2))


def test_removing_a_tree_takes_the_same_few_rows_whatever_its_size(kit):
    sizes = []
    for count in (1, 60):
        for index in range(count):
            kit.good(kit.commit(f"/tree/{index % 7}/{index}"))
        before = len(kit.changes)
        kit.good(Remove("/tree", recursive=True))
        sizes.append(len(kit.changes) - before)
    assert sizes[0] == sizes[1]


def test_the_root_is_neither_removed_nor_moved_nor_replaced(kit):
    kit.good(kit.commit("/f"))
    assert kit.bad(Remove("/", recursive=True)) == "invalid"
    assert kit.bad(Move("/", "/x")) == "invalid"
    assert kit.bad(Move("/f", "/")) == "is-a-directory"
    assert kit.bad(Copy("/f", "/", replace=True)) == "is-a-directory"


# --- moving and copying -----------------------------------------------------------------------------------------------


def test_a_moved_directory_takes_everything_below_along(kit):
    made = kit.good(kit.commit("/a/b/c/f"))
    before = len(kit.changes)
    moved = kit.good(Move("/a/b", "/x/y"))
    assert kit.good(Stat("/x/y/c/f")).attributes == made.attributes
    assert kit.good(Stat("/x/y")).attributes == moved.attributes
    assert kit.bad(Stat("/a/b")) == "not-found"
    assert names(kit, "/a") == []
    assert len(kit.changes) - before < 12


def test_a_move_keeps_the_inode_and_its_version(kit):
    made = kit.good(kit.commit("/f"))
    assert kit.good(Move("/f", "/g")).attributes == made.attributes


def test_a_move_onto_itself_changes_nothing(kit):
    kit.good(kit.commit("/d/f"))
    before = kit.dump("sessions", "replies")
    kit.good(Move("/d/f", "/d/f"))
    kit.good(Move("/d", "//d/", replace=True))
    assert kit.dump("sessions", "replies") == before


@pytest.mark.parametrize("target", ["/a/b/x", "/a/b", "/a/new"])
@pytest.mark.parametrize("replace", [False, True])
def test_a_directory_cannot_move_into_itself(kit, target, replace):
    kit.good(kit.commit("/a/b/x/f"))
    assert kit.bad(Move("/a", target, replace=replace)) == "conflict"


def test_a_cycle_made_by_two_moves_of_one_batch_is_refused(kit):
    kit.good(MakeDirectory("/a"))
    kit.good(MakeDirectory("/b"))
    first, second = kit.run(kit.request(Move("/a", "/b/a")), kit.request(Move("/b", "/b/a/b")))
    assert first.attributes.kind == "dir"
    assert second.code == "conflict"
    first, second = kit.run(kit.request(Move("/b/a", "/a")), kit.request(Move("/b", "/a/b")))
    assert second.attributes.kind == "dir"
    assert kit.bad(Move("/a", "/a/b/a")) == "conflict"


def test_a_file_gives_way_only_when_asked_for_and_a_directory_never(kit):
    kit.good(kit.commit("/f"))
    kit.good(kit.commit("/g"))
    kit.good(kit.commit("/d/inside"))
    kit.good(MakeDirectory("/e"))
    for kind in (Move, Copy):
        assert kit.bad(kind("/f", "/g")) == "already-exists"
        assert kit.bad(kind("/f", "/d", replace=True)) == "is-a-directory"
    assert "add /" in kit.do(Move("/f", "/d", replace=True)).remedy
    assert kit.bad(Move("/e", "/d", replace=True)) == "already-exists"
    assert kit.bad(Move("/e", "/g", replace=True)) == "not-a-directory"
    assert kit.bad(Move("/e", "/g")) == "already-exists"
    moved = kit.good(Move("/f", "/g", replace=True))
    assert kit.good(Stat("/g")).attributes == moved.attributes
    assert names(kit) == ["d", "e", "g"]


def test_missing_parents_of_a_target_are_made_only_when_asked_for(kit):
    kit.good(kit.commit("/f"))
    for kind in (Move, Copy):
        assert kit.bad(kind("/f", "/x/y", parents=False)) == "not-found"
        assert kit.bad(kind("/f", "/f/y", parents=True)) == "not-a-directory"
    kit.good(Copy("/f", "/x/y"))
    kit.good(Move("/f", "/v/w"))
    assert names(kit) == ["v", "x"]


def test_a_copy_shares_the_content_and_lives_on_alone(kit):
    made = kit.good(kit.commit("/f", 5000, mode=0o640)).attributes
    before = len(kit.dump()["chunks"])
    copied = kit.good(Copy("/f", "/deep/g")).attributes
    assert (copied.content, copied.size, copied.mode, copied.mtime_ns) == (made.content, 5000, 0o640, made.mtime_ns)
    assert copied.inode != made.inode
    assert len(kit.dump()["chunks"]) == before
    kit.good(Remove("/f"))
    kit.collect()
    assert kit.drop_all() == {}
    assert len(kit.good(Locate("/deep/g")).chunks) == 2
    kit.good(Remove("/deep/g"))
    kit.collect()
    assert sum(map(len, kit.drop_all().values())) == 4


def test_a_copy_over_a_file_is_its_next_version(kit):
    kit.good(kit.commit("/f", 10))
    there = kit.good(kit.commit("/g", 20)).attributes
    copied = kit.good(Copy("/f", "/g", replace=True)).attributes
    assert (copied.inode, copied.version, copied.size) == (there.inode, 2, 10)


def test_a_copy_onto_itself_changes_nothing(kit):
    kit.good(kit.commit("/f"))
    before = kit.dump("sessions", "replies")
    kit.good(Copy("/f", "/f", replace=True))
    assert kit.bad(Copy("/f", "/f")) == "already-exists"
    assert kit.dump("sessions", "replies") == before


def test_a_directory_is_not_copied_and_the_remedy_says_what_to_do(kit):
    kit.good(MakeDirectory("/d"))
    result = kit.do(Copy("/d", "/e"))
    assert (result.code, result.path) == ("is-a-directory", "/d")
    assert "files" in result.remedy


def test_failures_name_the_path_they_are_about(kit):
    kit.good(kit.commit("/f"))
    assert kit.do(Stat("/nope")).path == "/nope"
    assert "'/f'" in kit.do(MakeDirectory("/f/x")).message
    assert kit.do(Move("/nope", "/x")).path == "/nope"


@pytest.mark.parametrize("field", ["upload", "length", "chunk_count", "mode", "if_version", "chunk_bytes", "mtime_ns"])
def test_numbers_beyond_eight_bytes_are_refused(kit, field):
    before = kit.dump("replies", "sessions")
    commit = msgspec.structs.replace(kit.commit("/f"), **{field: 1 << 63})
    assert kit.bad(commit) == "invalid"
    assert kit.bad(msgspec.structs.replace(commit, **{field: -(1 << 63) - 1})) == "invalid"
    assert kit.dump("replies", "sessions") == before
