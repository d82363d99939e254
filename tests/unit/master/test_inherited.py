"""What new files of a directory get, remembered by the master."""

from __future__ import annotations

from typing import Any

import pytest

from dsa_zmq.errors import Invalid
from dsa_zmq.master import inherited as module
from dsa_zmq.master.inherited import Inherited
from dsa_zmq.protocol.operations import Allocate, Commit, MakeDirectory, Move, Remove, SetRedundancy, Stat


def allocate(path: str, **changes: Any) -> Allocate:
    return Allocate(path=path, **{"upload": 0, "chunk_bytes": 1 << 20, "first": 0, "lengths": [5], **changes})


@pytest.fixture
def inherited() -> Inherited:
    known = Inherited()
    known.learn(allocate("/a/b/old"), "copies=3")
    return known


def test_siblings_get_what_the_catalog_said(inherited: Inherited) -> None:
    assert inherited.find(allocate("/a/b/new")) == "copies=3"
    assert inherited.find(allocate("//a//b//new")) == "copies=3"
    for other in ("/a/new", "/a/b/c/new", "/new", "/"):
        assert inherited.find(allocate(other)) is None


def test_whatever_the_catalog_has_to_look_at_is_asked(inherited: Inherited) -> None:
    looked_at = ({"upload": 7}, {"redundancy": "copies=1"}, {"if_absent": True}, {"if_version": 3}, {"lengths": [5, 5]})
    for changes in looked_at:
        assert inherited.find(allocate("/a/b/new", **changes)) is None


def test_what_was_asked_by_name_is_not_what_a_directory_gives() -> None:
    known = Inherited()
    known.learn(allocate("/a/b/old", redundancy="copies=5"), "copies=5")
    assert known.find(allocate("/a/b/new")) is None


@pytest.mark.parametrize(
    "change",
    [MakeDirectory("/x"), Move("/x", "/y"), Remove("/x"), SetRedundancy("/x", "copies=3")],
    ids=lambda op: type(op).__name__,
)
def test_a_change_of_any_directory_forgets_everything(inherited: Inherited, change: Any) -> None:
    inherited.follow(change)
    assert inherited.find(allocate("/a/b/new")) is None


def test_other_operations_change_nothing(inherited: Inherited) -> None:
    for operation in (Stat("/a/b"), Commit(1, "/a/b/x", 5, 1 << 20, 1, "copies=3", [], 0)):
        inherited.follow(operation)
    assert inherited.find(allocate("/a/b/new")) == "copies=3"


def test_a_path_that_can_be_none_is_refused(inherited: Inherited) -> None:
    with pytest.raises(Invalid):
        inherited.find(allocate("/a/b/" + "x" * 300))


def test_memory_is_bounded(inherited: Inherited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DIRECTORIES", 3)
    for number in range(10):
        inherited.learn(allocate(f"/{number}/x"), "copies=2")
    assert sum(inherited.find(allocate(f"/{number}/y")) is not None for number in range(10)) <= 3
