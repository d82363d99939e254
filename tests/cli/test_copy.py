"""``dsa cp``: within the store without moving bytes, and between it and this machine by the prefix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsa_zmq.model.stat import Stat
from tests.cli.conftest import Dsa


@pytest.fixture
def filled(dsa: Dsa) -> Dsa:
    """A directory ``d`` with some depth, an empty directory and an empty file."""
    for name in ("a", "sub/b", "sub/deep/c"):
        dsa.store.put(os.urandom(500), f"{dsa.home}/d/{name}", mode=0o640, mtime_ns=10**18 + 7)
    dsa.store.mkdir(f"{dsa.home}/d/empty", mode=0o700)
    dsa.store.write_bytes(f"{dsa.home}/d/nothing", b"")
    return dsa


def below(dsa: Dsa, top: str) -> dict[str, Stat]:
    return {entry.path[len(top) :]: entry for entry in dsa.store.glob(f"{top}/**")}


def test_a_copy_shares_the_content_and_keeps_time_and_mode(filled: Dsa) -> None:
    home = filled.home
    filled.ok("cp", f"dsa:{home}/d", f"dsa:{home}/e")
    assert filled.tree(f"{home}/e") == filled.tree(f"{home}/d")
    before, after = below(filled, f"{home}/d"), below(filled, f"{home}/e")
    for name, entry in before.items():
        copy = after[name]
        assert (copy.kind, copy.content, copy.mode) == (entry.kind, entry.content, entry.mode)
        assert copy.is_dir or copy.mtime_ns == entry.mtime_ns


def test_a_second_copy_changes_nothing(filled: Dsa) -> None:
    home = filled.home
    filled.ok("cp", f"dsa:{home}/d", f"dsa:{home}/e")
    before = below(filled, f"{home}/e")
    ran = filled.ok("cp", f"dsa:{home}/d", f"dsa:{home}/e")
    assert "copied 0 files" in ran.err
    assert "4 unchanged" in ran.err
    assert below(filled, f"{home}/e") == before


def test_a_copy_replaces_what_differs_and_leaves_the_rest(filled: Dsa) -> None:
    home, other = filled.home, os.urandom(20)
    filled.store.write_bytes(f"{home}/e/a", os.urandom(10))
    filled.store.write_bytes(f"{home}/e/mine", other)
    filled.ok("cp", f"dsa:{home}/d", f"dsa:{home}/e")
    assert filled.tree(f"{home}/e") == filled.tree(f"{home}/d") | {"mine": other}


def test_several_sources_and_a_slash_copy_inside(filled: Dsa) -> None:
    home = filled.home
    filled.ok("cp", f"dsa:{home}/d/a", f"dsa:{home}/d/sub", f"dsa:{home}/many")
    assert set(filled.tree(f"{home}/many")) == {"a", "sub", "sub/b", "sub/deep", "sub/deep/c"}
    filled.ok("cp", f"dsa:{home}/d/a", f"dsa:{home}/one/")
    assert set(filled.tree(f"{home}/one")) == {"a"}


@pytest.mark.parametrize("target", ["d", "d/inner", "d/sub/deep/x"])
def test_a_directory_is_not_copied_into_itself(filled: Dsa, target: str) -> None:
    before = filled.tree()
    ran = filled("cp", f"dsa:{filled.home}/d", f"dsa:{filled.home}/{target}")
    assert ran.status == 4
    assert "cannot be copied into itself" in ran.err
    assert filled.tree() == before


def test_a_neighbour_with_a_longer_name_is_not_inside(filled: Dsa) -> None:
    filled.ok("cp", f"dsa:{filled.home}/d", f"dsa:{filled.home}/d2")
    assert filled.tree(f"{filled.home}/d2") == filled.tree(f"{filled.home}/d")


def test_a_file_is_not_copied_onto_itself_or_a_directory(filled: Dsa) -> None:
    home = filled.home
    assert filled("cp", f"dsa:{home}/d/a", f"dsa:{home}/d/a").status == 2
    ran = filled("cp", f"dsa:{home}/d/a", f"dsa:{home}/d/sub")
    assert ran.status == 4
    assert "add /" in ran.err
    assert filled("cp", f"dsa:{home}/d", f"dsa:{home}/d/a").status == 4


def test_kinds_in_each_others_way_are_said_and_the_rest_is_copied(filled: Dsa) -> None:
    home = filled.home
    filled.store.write_bytes(f"{home}/e/sub", b"")
    filled.store.mkdir(f"{home}/e/a")
    ran = filled("cp", f"dsa:{home}/d", f"dsa:{home}/e")
    assert ran.status == 1
    assert f"'{home}/e/sub' is a file" in ran.err
    assert f"'{home}/e/a' is a directory" in ran.err
    assert "2 failed" in ran.err
    assert set(filled.tree(f"{home}/e")) == {"a", "sub", "empty", "nothing"}


def test_the_prefix_says_which_side_is_which(dsa: Dsa, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_bytes(content := os.urandom(100))
    dsa.ok("cp", str(tmp_path / "d"), f"dsa:{dsa.home}/d")
    assert dsa.tree() == {"d": None, "d/x": content}
    dsa.ok("cp", f"dsa:{dsa.home}/d", str(tmp_path / "back"))
    assert (tmp_path / "back/x").read_bytes() == content


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (["/a", "/b"], "neither source nor target is in the store"),
        (["dsa:/a", "/b", "dsa:/c"], "some sources are in the store and others are not"),
        (["-", "dsa:/c"], "'-' is no path"),
        (["dsa:/a", "-"], "'-' is no path"),
        (["-L", "dsa:/a", "dsa:/b"], "the store has no symbolic links"),
        (["dsa:/a"], "say what to copy, and where"),
        (["dsa:/", "dsa:/x/"], "the root has no name"),
    ],
)
def test_sides_that_make_no_sense_are_refused(dsa: Dsa, line: list[str], complaint: str) -> None:
    ran = dsa("cp", *line)
    assert ran.status == 2
    assert complaint in ran.err
