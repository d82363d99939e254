"""Every name of the store has one on this machine: its own, or a safe one that is the same in each run."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from dsa_zmq.master.catalog.tables import FILE, LIVE
from dsa_zmq.salvage.names import Names, folds_names
from dsa_zmq.salvage.namespace import Entry, Namespace, open_namespace

HERE = 7  #: a directory


@pytest.fixture(name="namespace")
def _namespace(tmp_path: Path) -> Namespace:
    database = apsw.Connection(str(tmp_path / "catalog"))
    database.execute("CREATE TABLE meta (name, number, body)")
    database.execute("CREATE TABLE names (parent, name, to_seq, inode, kind)")
    names = ["taken~a1.txt", "book.partial", "taken~a1.txt~"]
    database.executemany("INSERT INTO names VALUES (?, ?, ?, 1, ?)", [(HERE, name, LIVE, FILE) for name in names])
    database.close()
    return open_namespace(tmp_path / "catalog")


def chosen(namespace: Namespace, name: str, inode: int = 0xA1, suffix: str = "", **kind: bool) -> list[str]:
    names = Names(namespace, apsw.Connection(":memory:"), **({"folds": False, "windows": False} | kind))
    return list(names.candidates(HERE, Entry(name, inode, FILE), suffix))


@pytest.mark.parametrize(
    "name", ["plain", "a b", ".hidden", "日本語", "a" * 255, "50%", "back\\slash", "con", "q?", "é"]
)
def test_what_is_no_trouble_keeps_its_name(namespace: Namespace, name: str) -> None:
    assert chosen(namespace, name)[0] == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("two\nlines.txt", "two%0Alines~a1.txt"),
        ("bell\x07", "bell%07~a1"),
        ("\x7f", "%7F~a1"),
        (".dsa-salvage", "dsa-salvage~a1"),
        ("..", "~a1"),
        ("../../etc/passwd", "%2F..%2Fetc%2Fpasswd~a1"),
        ("/etc/passwd", "%2Fetc%2Fpasswd~a1"),
    ],
)
def test_what_is_trouble_anywhere_gets_a_safe_name(namespace: Namespace, name: str, safe: str) -> None:
    assert chosen(namespace, name) == [safe]


@pytest.mark.parametrize(
    "name", ["a:b", "q?", "what*", "<x>", "NUL", "com1.txt", "dot.", "blank ", 'say "x"', "a|b", "a\\b"]
)
def test_windows_and_its_disks_get_only_names_that_they_take(namespace: Namespace, name: str) -> None:
    for kind in ({"windows": True}, {"folds": True}):
        [safe] = chosen(namespace, name, **kind)
        assert safe.endswith(("~a1", "~a1.txt"))
        assert not set('<>:"/\\|?*') & set(safe)


def test_a_safe_name_is_short_ascii_and_taken_by_nothing_else(namespace: Namespace) -> None:
    names = ["é" * 120 + ".txt", "a" * 255, "x." + "y" * 200, "taken\n.txt", "日" * 80 + ".tar.gz"]
    for name in names:
        safe = chosen(namespace, name)[-1]
        assert safe.isascii()
        assert len(safe) < 143
        assert not namespace.has(HERE, safe)
    assert chosen(namespace, "taken.txt")[-1] == "taken~a1.txt~~"


def test_a_suffix_never_leads_to_the_name_of_another_file(namespace: Namespace) -> None:
    assert chosen(namespace, "book", suffix=".partial") == ["book~a1.partial"]
    assert chosen(namespace, "other", suffix=".partial") == ["other.partial", "other~a1.partial"]


def test_of_names_that_the_target_takes_for_equal_the_first_keeps_its_own(namespace: Namespace) -> None:
    names = Names(namespace, apsw.Connection(":memory:"), folds=True, windows=False)
    asked = [
        ("README", 1),
        ("Readme", 2),
        ("readme", 3),
        ("e\u0301", 4),
        ("é", 5),
        ("É", 6),
        ("straße", 7),
        ("STRASSE", 8),
    ]
    got = {name: next(names.candidates(HERE, Entry(name, inode, FILE))) for name, inode in asked}
    assert [name for name in got if got[name] == name] == ["README", "e\u0301", "straße"]
    assert len({name.lower() for name in got.values()}) == len(asked)
    assert next(names.candidates(HERE, Entry("README", 1, FILE))) == "README", "the same when asked again"
    assert next(names.candidates(HERE + 1, Entry("readme", 9, FILE))) == "readme", "in another directory"


def test_it_is_found_out_what_the_file_system_takes_for_equal(tmp_path: Path) -> None:
    (tmp_path / "A").touch()
    assert folds_names(tmp_path) == (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["A"]
