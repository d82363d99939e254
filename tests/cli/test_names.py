"""``dsa cat``, ``dsa mkdir``, ``dsa mv``, ``dsa rm``: contents out, names changed, and nothing lost by mistake."""

from __future__ import annotations

import os
import time

import pytest

from tests.cli.conftest import Dsa


@pytest.fixture
def filled(dsa: Dsa) -> Dsa:
    for name in ("a", "b", "sub/c", "sub/deep/d"):
        dsa.store.write_bytes(f"{dsa.home}/{name}", os.urandom(500))
    return dsa


@pytest.mark.parametrize("line", ["ls", "stat", "rm -r", "get", "mkdir", "put setup.cfg", "mv dsa:/a"])
def test_an_empty_path_in_the_store_is_a_mistake_and_not_the_root(filled: Dsa, line: str) -> None:
    """So a shell's variable that is not set does no harm."""
    before = filled.tree()
    result = filled(*line.split(), "")
    assert result.status == 2
    assert "an empty path names nothing" in result.err
    assert filled.tree() == before


def test_the_root_has_the_time_when_the_cluster_was_made(dsa: Dsa) -> None:
    assert abs(dsa.store.stat("/").mtime_ns - time.time_ns()) < 3600 * 10**9


def test_cat_of_what_is_no_file_is_an_error(filled: Dsa) -> None:
    assert filled("cat", f"{filled.home}/sub").status == 4
    assert filled("cat", f"{filled.home}/nope").status == 3


def test_mkdir_makes_parents_only_when_asked(dsa: Dsa) -> None:
    assert dsa("mkdir", f"{dsa.home}/x/y").status == 3
    dsa.ok("mkdir", "-p", f"{dsa.home}/x/y", f"{dsa.home}/z")
    assert dsa("mkdir", f"{dsa.home}/x").status == 4
    dsa.ok("mkdir", "-p", f"{dsa.home}/x")
    assert set(dsa.tree()) == {"x", "x/y", "z"}


def test_mkdir_chooses_the_redundancy_of_what_comes(dsa: Dsa) -> None:
    dsa.ok("mkdir", "--redundancy", "copies=1", f"{dsa.home}/once")
    dsa.ok("put", "-", f"{dsa.home}/once/x", stdin=os.urandom(10))
    assert dsa.ok("stat", "--json", f"{dsa.home}/once/x").objects[0]["redundancy"] == "copies=1"
    assert dsa("mkdir", "--redundancy", "copies=0", f"{dsa.home}/none").status == 2


def test_mv_renames_and_makes_parents(filled: Dsa) -> None:
    before = filled.tree()
    filled.ok("mv", f"{filled.home}/sub", f"{filled.home}/new/name")
    assert filled.tree(f"{filled.home}/new/name") == {
        "c": before["sub/c"],
        "deep": None,
        "deep/d": before["sub/deep/d"],
    }
    filled.ok("mv", f"{filled.home}/a", f"{filled.home}/b", f"{filled.home}/both/")
    assert filled.tree(f"{filled.home}/both") == {"a": before["a"], "b": before["b"]}


def test_mv_replaces_a_file_only_when_forced(filled: Dsa) -> None:
    before = filled.tree()
    ran = filled("mv", f"{filled.home}/a", f"{filled.home}/b")
    assert ran.status == 4
    assert "say -f to replace it" in ran.err
    assert filled.tree() == before
    filled.ok("mv", "-f", f"{filled.home}/a", f"{filled.home}/b")
    assert filled.tree()["b"] == before["a"]
    assert "a" not in filled.tree()


@pytest.mark.parametrize(
    ("source", "target", "status"),
    [
        ("a", "sub", 4),
        ("sub", "sub/deep", 4),
        ("sub", "sub/inner", 4),
        ("nope", "x", 3),
        ("a", "b/", 4),
        ("sub", "a", 4),
    ],
)
def test_mv_harms_nothing_when_it_makes_no_sense(filled: Dsa, source: str, target: str, status: int) -> None:
    before = filled.tree()
    assert filled("mv", f"{filled.home}/{source}", f"{filled.home}/{target}").status == status
    assert filled.tree() == before


def test_mv_of_several_moves_none_if_one_is_missing(filled: Dsa) -> None:
    before = filled.tree()
    assert filled("mv", f"{filled.home}/a", f"{filled.home}/nope", f"{filled.home}/sub/").status == 3
    assert filled.tree() == before
    assert filled("mv", f"{filled.home}/a").status == 2


# --- rm ----------------------------------------------------------------------------------------------------------------


def test_files_are_removed_without_a_question(filled: Dsa) -> None:
    filled.ok("rm", f"{filled.home}/a", f"{filled.home}/sub/c")
    assert set(filled.tree()) == {"b", "sub", "sub/deep", "sub/deep/d"}


def test_a_directory_needs_r(filled: Dsa) -> None:
    before = filled.tree()
    ran = filled("rm", f"{filled.home}/a", f"{filled.home}/sub")
    assert ran.status == 4
    assert "say -r" in ran.err
    assert filled.tree() == before


def test_without_a_terminal_and_without_y_the_plan_is_shown_and_nothing_removed(filled: Dsa) -> None:
    before = filled.tree()
    ran = filled("rm", "-r", f"{filled.home}/sub", stdin=b"y\n")
    assert ran.status == 2
    assert ran.text == f"would remove {filled.home}/sub/  2 files in 2 directories, 1.0 kB\n"
    assert "say -y" in ran.err
    assert filled.tree() == before


def test_at_a_terminal_the_plan_is_shown_and_the_answer_decides(filled: Dsa) -> None:
    before = filled.tree()
    ran = filled("rm", "-r", f"{filled.home}/sub", stdin=b"n\n", terminal=True)
    assert ran.status == 1
    assert "2 files in 2 directories" in ran.text
    assert filled.tree() == before
    assert filled("rm", "-r", f"{filled.home}/sub", stdin=b"", terminal=True).status == 130  # Ctrl-D
    assert filled.tree() == before
    filled.ok("rm", "-r", f"{filled.home}/sub", stdin=b"y\n", terminal=True)
    assert set(filled.tree()) == {"a", "b"}


def test_y_asks_nothing(filled: Dsa) -> None:
    assert filled.ok("rm", "-r", "-y", f"{filled.home}/sub", f"{filled.home}/a") == (0, b"", "")
    assert set(filled.tree()) == {"b"}


def test_a_dry_run_only_tells(filled: Dsa) -> None:
    before = filled.tree()
    ran = filled.ok("rm", "-r", "-n", "-y", f"{filled.home}/sub", f"{filled.home}/a")
    assert ran.text.splitlines() == [
        f"would remove {filled.home}/sub/  2 files in 2 directories, 1.0 kB",
        f"would remove {filled.home}/a  500 B",
    ]
    planned = filled.ok("rm", "-r", "-n", "--json", f"{filled.home}/sub").objects
    assert planned == [{"remove": f"{filled.home}/sub", "kind": "dir", "files": 2, "directories": 2, "bytes": 1000}]
    assert filled.tree() == before


def test_with_json_what_keeps_it_from_removing_is_an_error_in_json(filled: Dsa) -> None:
    ran = filled("rm", "-r", "--json", f"{filled.home}/sub")
    assert ran.status == 2
    assert ran.error == {
        "code": "usage",
        "message": "nothing was removed, because nobody can be asked here",
        "remedy": "say -y to remove all of this",
    }
    assert [plan["remove"] for plan in ran.objects] == [f"{filled.home}/sub"]


def test_nothing_is_removed_if_one_of_the_paths_is_missing(filled: Dsa) -> None:
    before = filled.tree()
    assert filled("rm", f"{filled.home}/a", f"{filled.home}/nope").status == 3
    assert filled.tree() == before


def test_what_goes_with_another_path_is_no_error(filled: Dsa) -> None:
    home = filled.home
    filled.ok("rm", "-r", "-y", f"{home}/sub/deep", f"{home}/sub", f"{home}/sub/c", f"{home}/sub/")
    assert set(filled.tree()) == {"a", "b"}


@pytest.mark.parametrize("root", ["/", "dsa:", "dsa:/", "//"])
def test_the_root_cannot_be_removed(filled: Dsa, root: str) -> None:
    before = filled.tree()
    ran = filled("rm", "-r", "-y", root)
    assert ran.status == 2
    assert "the root cannot be removed" in ran.err
    assert filled.tree() == before
