"""``dsa ls`` and ``dsa stat``: for people at a terminal, for pipes, and as JSON."""

from __future__ import annotations

import os
import re

import pytest

from dsa_zmq.cli import listing
from tests.cli.conftest import Dsa


@pytest.fixture
def filled(dsa: Dsa) -> Dsa:
    for name in ("b", "a", "sub/c", "sub/deep/d"):
        dsa.store.put(os.urandom(1500), f"{dsa.home}/{name}", mode=0o644, mtime_ns=1_700_000_000 * 10**9)
    dsa.store.mkdir(f"{dsa.home}/empty", mode=0o750)
    return dsa


def test_in_a_pipe_there_is_one_name_a_line_in_order(filled: Dsa) -> None:
    assert filled.ok("ls", filled.home).text == "a\nb\nempty\nsub\n"


def test_at_a_terminal_names_stand_in_columns(dsa: Dsa) -> None:
    for number in range(30):
        dsa.store.write_bytes(f"{dsa.home}/name-{number:02}", b"")
    lines = dsa.ok("ls", dsa.home, terminal=True).text.splitlines()
    assert 1 < len(lines) < 10
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:2] == ["name-00", f"name-{len(lines):02}"]
    assert sorted(" ".join(lines).split()) == [f"name-{number:02}" for number in range(30)]


def test_at_a_terminal_control_characters_are_harmless_and_in_a_pipe_names_are_exact(dsa: Dsa) -> None:
    name = "red\x1b[31m\n"
    dsa.store.write_bytes(f"{dsa.home}/{name}", b"")
    for line in (["ls", dsa.home], ["ls", "-l", dsa.home], ["ls", "-R", dsa.home], ["stat", f"{dsa.home}/{name}"]):
        shown = dsa.ok(*line, terminal=True).text
        assert "red\\x1b[31m\\n" in shown
        assert "\x1b" not in shown
    assert dsa.ok("ls", dsa.home).text == name + "\n"
    assert dsa.ok("ls", "--json", dsa.home).objects[0]["path"] == f"{dsa.home}/{name}"


def test_long_shows_mode_size_time_and_name(filled: Dsa) -> None:
    lines = filled.ok("ls", "-l", filled.home).text.splitlines()
    assert re.fullmatch(r"-rw-r--r--    1\.5 kB  2023-11-1\d \d\d:\d\d  a", lines[0])
    assert re.fullmatch(r"drwxr-x---         -  20\d\d-\d\d-\d\d \d\d:\d\d  empty", lines[2])
    assert "     1500  " in filled.ok("ls", "-l", "--bytes", filled.home).text


def test_a_file_lists_itself(filled: Dsa) -> None:
    assert filled.ok("ls", f"{filled.home}/a").text == f"{filled.home}/a\n"
    assert filled.ok("ls", "-l", f"{filled.home}/sub/c").text.endswith(f"{filled.home}/sub/c\n")


def test_recursive_lists_each_directory_under_its_path(filled: Dsa) -> None:
    home = filled.home
    assert filled.ok("ls", "-R", home).text == (
        f"{home}:\na\nb\nempty\nsub\n\n{home}/empty:\n\n{home}/sub:\nc\ndeep\n\n{home}/sub/deep:\nd\n"
    )


def test_json_is_an_object_for_each_entry(filled: Dsa) -> None:
    found = filled.ok("ls", "-R", "--json", filled.home).objects
    assert [entry["path"][len(filled.home) :] for entry in found] == [
        "/a", "/b", "/empty", "/sub", "/sub/c", "/sub/deep", "/sub/deep/d",
    ]  # fmt: skip
    entry = found[0]
    assert (entry["kind"], entry["size"], entry["mode"]) == ("file", 1500, "0644")
    assert entry["mtime"] == "2023-11-14T22:13:20+00:00"
    assert entry["mtime_ns"] == 1_700_000_000 * 10**9


def test_of_several_paths_the_missing_one_is_said_and_the_others_are_listed(filled: Dsa) -> None:
    home = filled.home
    ran = filled("ls", f"{home}/sub", f"{home}/nope", f"{home}/a")
    assert ran.status == 3
    assert f"'{home}/nope'" in ran.err
    assert ran.text == f"{home}/a\n\n{home}/sub:\nc\ndeep\n"
    ran = filled("stat", f"{home}/nope", f"{home}/a", "--json")
    assert ran.status == 3
    assert ran.error["code"] == "not-found"
    assert [entry["path"] for entry in ran.objects] == [f"{home}/a"]


def test_a_listing_longer_than_a_block_is_whole(dsa: Dsa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "BLOCK", 7)
    names = [f"{number:03}" for number in range(25)]
    dsa.store.put_many((b"", f"{dsa.home}/{name}") for name in names)
    assert dsa.ok("ls", dsa.home).text.split() == names
    assert len(dsa.ok("ls", "-l", dsa.home).text.splitlines()) == 25
    assert dsa.ok("ls", dsa.home, terminal=True).text.split() == names
    assert len(dsa.ok("ls", "--json", dsa.home).objects) == 25


def test_a_name_that_stdout_cannot_express_is_escaped(dsa: Dsa) -> None:
    dsa.store.write_bytes(f"{dsa.home}/smile-🙂", b"")
    assert dsa.ok("ls", dsa.home, encoding="ascii").out == b"smile-\\U0001f642\n"
    assert dsa.ok("ls", "--json", dsa.home, encoding="ascii").objects[0]["path"] == f"{dsa.home}/smile-🙂"


def test_stat_shows_what_is_known(filled: Dsa) -> None:
    text = filled.ok("stat", f"{filled.home}/a").text
    for part in (
        "size        1.5 kB (1,500 bytes)",
        "mode        -rw-r--r-- (0644)",
        "redundancy  copies=2",
        "version     1",
    ):
        assert part in text
    assert "kind        directory" in filled.ok("stat", "/").text
    entry = filled.ok("stat", "--json", f"{filled.home}/a").objects[0]
    assert entry["version"] == entry["chunks"] == 1


def test_moments_that_no_calendar_has_are_no_obstacle(dsa: Dsa) -> None:
    dsa.store.put(b"", f"{dsa.home}/far", mtime_ns=(1 << 63) - 1)
    dsa.store.put(b"", f"{dsa.home}/early", mtime_ns=-(1 << 62))
    assert len(dsa.ok("ls", "-l", dsa.home).text.splitlines()) == 2
    assert len(dsa.ok("ls", "--json", dsa.home).objects) == 2
