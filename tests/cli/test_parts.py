"""The pure parts of the client commands: targets, merging side by side, columns, tables, what is said at the end."""

from __future__ import annotations

import errno
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.cli import output
from dsa_zmq.cli.remote_paths import local_name, local_target, remote, remote_target
from dsa_zmq.cli.restoring import moment_of
from dsa_zmq.cli.transfer_bar import summary
from dsa_zmq.client.local_file import local_error
from dsa_zmq.client.merging import TreeResult, as_final, beside, byte_order, ends_everything
from dsa_zmq.errors import Corrupt, Denied, Invalid, LocalError, NoSpace, Timeout, TooFewNodes, Unavailable
from dsa_zmq.model.stat import Stat

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "sources", "path", "inside"),
    [
        ("/a", 1, "/a", False), ("/a/", 1, "/a", True), ("/a", 2, "/a", True), ("/", 1, "/", True),
        ("dsa:", 1, "/", True), ("dsa:/a//b", 1, "/a/b", False), ("dsa:a/", 1, "/a", True),
    ],
)  # fmt: skip
def test_a_target_in_the_store_is_a_name_or_a_directory(text: str, sources: int, path: str, inside: bool) -> None:
    target = remote_target(text, sources)
    assert (target.path, target.inside) == (path, inside)


@pytest.mark.parametrize(
    ("text", "sources", "path", "inside"),
    [
        ("a", 1, "a", False), ("a/", 1, "a", True), ("a//", 1, "a", True), ("a", 2, "a", True), (".", 1, ".", True),
        ("..", 1, "..", True), ("x/..", 1, "x/..", True), ("/", 1, "/", True), (".a", 1, ".a", False),
        ("a.", 1, "a.", False),
    ],
)  # fmt: skip
def test_a_target_here_is_a_name_or_a_folder(text: str, sources: int, path: str, inside: bool) -> None:
    target = local_target(text, sources)
    assert (target.path, target.inside) == (path, inside)


def test_a_source_brings_the_name_of_the_folder_that_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    here = os.path.basename(os.fspath(tmp_path))
    assert [local_name(path) for path in ("x", "x/", "a/b//", ".", "./")] == ["x", "x", "b", here, here]
    with pytest.raises(Invalid, match="has no name"):
        local_name("/")


def test_an_undecodable_argument_that_is_utf8_after_all_is_taken() -> None:
    assert remote(b"/gr\xc3\xbcn".decode("ascii", "surrogateescape")) == "/grün"
    with pytest.raises(Invalid, match="not valid Unicode"):
        remote("/a\udcff")


@given(ours=st.lists(names, unique=True), theirs=st.lists(names, unique=True))
def test_side_by_side_finds_each_twin_and_nothing_else(ours: list[str], theirs: list[str]) -> None:
    left = [(name, number) for number, name in enumerate(sorted(ours, key=byte_order))]
    right = [Stat(path=f"/d/{name}", kind="file") for name in sorted(theirs, key=str.encode)]
    found = list(beside(left, iter(right)))
    assert [(name, value) for name, value, _ in found] == left
    for name, _, twin in found:
        assert (twin.name if twin is not None else None) == (name if name in theirs else None)


@given(st.lists(names.map(output.shown), min_size=1, max_size=60), st.integers(1, 200))
def test_columns_hold_every_name_once_and_fit(found: list[str], width: int) -> None:
    from rich.cells import cell_len

    lines = output.columns(found, width)
    assert sum(line.count("") for line in lines) >= len(lines)
    for name in found:
        assert any(name.rstrip(" ") in line for line in lines)
    widest = max(map(cell_len, found))
    assert all(cell_len(line) <= max(width, widest) for line in lines)


def test_columns_are_read_downwards() -> None:
    assert output.columns(["a", "bb", "c", "d", "e"], 9) == ["a   c  e", "bb  d"]


def test_a_table_is_aligned() -> None:
    assert output.table(["A", "N"], [["x", "1"], ["long", "100"]], frozenset("N")) == [
        "A       N",
        "x       1",
        "long  100",
    ]


@given(st.text(max_size=30))
def test_shown_text_is_one_harmless_line(text: str) -> None:
    shown = output.shown(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_the_last_line_counts_what_happened() -> None:
    result = TreeResult(files=1, bytes=5_000_000, unchanged=1200, symlinks=1, special=2, failed=3)
    assert summary(result, 2.0) == (
        "1 file, 5.0 MB in 2.0 s (2.5 MB/s); 1,200 unchanged; skipped: 1 symbolic link, 2 special files; 3 failed"
    )
    assert summary(TreeResult(), 0.0) == "0 files, 0 B in 0.0 s"


def test_only_what_every_file_would_meet_ends_everything() -> None:
    full = local_error(OSError(errno.ENOSPC, "No space left on device"), "/x")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert ends_everything(full)
    assert isinstance(as_final(full), NoSpace)
    unreadable = LocalError("/x: Permission denied")
    unreadable.__cause__ = PermissionError(errno.EACCES, "Permission denied")
    assert not ends_everything(unreadable)
    assert as_final(unreadable) is unreadable
    assert all(map(ends_everything, (NoSpace("x"), TooFewNodes("x"), Unavailable("x"), Timeout("x"))))
    assert not any(map(ends_everything, (Corrupt("x"), Denied("x"), Invalid("x"))))


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "1969-12-31T23:00Z", "9999-12-31T23:59:59-14:00"])
def test_a_moment_of_any_year_is_one_that_a_record_can_have(text: str) -> None:
    assert 0 <= moment_of(text) < 1 << 63


def test_a_moment_is_that_of_its_time_zone_or_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert moment_of("2026-11-01T12:00") == moment_of("2026-11-01T17:00Z") == moment_of("2026-11-01T18:00+01:00")
    finally:
        monkeypatch.undo()
        time.tzset()
    for text in ("yesterday", "0001-01-01", ""):
        with pytest.raises(Invalid, match="is not a moment"):
            moment_of(text)
