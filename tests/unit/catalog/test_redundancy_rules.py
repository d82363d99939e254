"""What new files get is said by a directory or inherited from above, and what cannot be kept is refused."""

from __future__ import annotations

import pytest

from dsa_zmq.protocol.operations import (
    Allocate,
    ListDirectory,
    MakeDirectory,
    Move,
    SetRedundancy,
    Stat,
    Statfs,
)
from dsa_zmq.protocol.values import Failure


def shown(kit, path):
    return kit.good(Stat(path)).attributes.redundancy


def given(kit, path):
    """What a new file at ``path`` would get."""
    return kit.good(Allocate(0, path, 4096, 0, [5])).redundancy


@pytest.fixture
def tree(kit):
    kit.good(MakeDirectory("/a/b/c", parents=True))
    kit.good(kit.commit("/a/b/file"))
    return kit


def test_what_is_set_reaches_all_directories_below_that_inherit(tree):
    found = tree.good(SetRedundancy("/a", "copies=3"))
    assert found.attributes.redundancy == "copies=3"
    assert [shown(tree, path) for path in ("/", "/a", "/a/b", "/a/b/c")] == ["copies=2"] + ["copies=3"] * 3
    assert [given(tree, path) for path in ("/x", "/a/x", "/a/b/c/x", "/a/new/dir/x")] == ["copies=2"] + ["copies=3"] * 3


def test_the_nearest_directory_that_says_something_decides(tree):
    tree.good(SetRedundancy("/a", "copies=3"))
    tree.good(SetRedundancy("/a/b", "copies=1"))
    assert [given(tree, path) for path in ("/a/x", "/a/b/x", "/a/b/c/x")] == ["copies=3", "copies=1", "copies=1"]
    assert tree.good(SetRedundancy("/a/b", "")).attributes.redundancy == "copies=3"
    assert given(tree, "/a/b/c/x") == "copies=3"


def test_files_keep_what_they_were_stored_with(tree):
    tree.good(SetRedundancy("/a", "copies=3"))
    assert shown(tree, "/a/b/file") == "copies=2"


def test_a_listing_shows_what_directories_inherit(tree):
    tree.good(SetRedundancy("/a", "copies=3"))
    entries = tree.good(ListDirectory("/a/b")).entries
    assert [(entry.name, entry.attributes.redundancy) for entry in entries] == [("c", "copies=3"), ("file", "copies=2")]


def test_a_directory_that_is_moved_inherits_in_its_new_place(tree):
    tree.good(MakeDirectory("/safe", redundancy="copies=3"))
    assert tree.good(Move("/a/b", "/safe/b")).attributes.redundancy == "copies=3"
    assert given(tree, "/safe/b/c/x") == "copies=3"
    tree.good(SetRedundancy("/safe/b", "copies=1"))
    assert tree.good(Move("/safe/b", "/a/b")).attributes.redundancy == "copies=1"


def test_what_was_given_by_the_root_changes_with_it(tree):
    tree.good(SetRedundancy("/", "copies=4"))
    assert given(tree, "/a/b/x") == "copies=4"
    assert tree.good(Statfs()).redundancy == "copies=4"


def test_directories_of_a_catalog_that_said_something_keep_it(tree):
    database = tree.catalog._database
    database.begin()
    database.execute("UPDATE inodes SET redundancy = 'copies=2' WHERE kind = 2")  # as all directories did once
    database.commit()
    tree.reopen()
    tree.good(SetRedundancy("/", "copies=3"))
    assert given(tree, "/a/b/x") == "copies=2"
    tree.good(MakeDirectory("/new"))
    assert given(tree, "/new/x") == "copies=3"


def test_what_is_set_outlives_a_loss_of_power(tree):
    tree.good(SetRedundancy("/a", "copies=3"))
    tree.power_loss()
    assert given(tree, "/a/b/c/x") == "copies=3"


def test_to_set_what_is_set_changes_nothing(tree):
    tree.good(SetRedundancy("/a", "copies=3"))
    seq = tree.number("seq")
    assert tree.good(SetRedundancy("/a", "copies=3")).seq == seq == tree.number("seq")


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (SetRedundancy("/a/b/file", "copies=3"), "not-a-directory"),
        (SetRedundancy("/nowhere", "copies=3"), "not-found"),
        (SetRedundancy("/a", "copies=0"), "invalid"),
        (SetRedundancy("/", ""), "invalid"),
        (SetRedundancy("/a", "copies=5"), "too-few-nodes"),
        (MakeDirectory("/five", redundancy="copies=5"), "too-few-nodes"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(tree, operation, code):
    before = tree.dump("replies", "sessions")
    assert tree.bad(operation) == code
    assert tree.dump("replies", "sessions") == before


def test_a_refusal_for_want_of_nodes_says_what_would_help(tree):
    refused = tree.do(SetRedundancy("/a", "copies=6"))
    assert isinstance(refused, Failure)
    assert refused.message == "copies=6 needs 6 nodes, the cluster has 4"
    assert refused.remedy == "add 2 nodes, or use copies=4 at most"
