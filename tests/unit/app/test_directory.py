"""Data directories: one process each, one kind each, and a clear word about every other state."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsa_zmq.directory import MARKER, open_directory, owner_of
from dsa_zmq.errors import ConfigError, Incompatible


def test_a_missing_directory_is_made_and_locked(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node"
    with open_directory(path, "node"):
        assert owner_of(path) == os.getpid()
    assert owner_of(path) is None


def test_a_second_user_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    with (
        open_directory(tmp_path / "node", "node"),
        pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"),
    ):
        open_directory(tmp_path / "node", "node")


def test_the_lock_is_free_again_after_the_end(tmp_path: Path) -> None:
    open_directory(tmp_path, "node").close()
    open_directory(tmp_path, "node").close()


@pytest.mark.slow
def test_the_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    code = "import sys, dsa_zmq.directory as d; held = d.open_directory(sys.argv[1], 'node'); print(1, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline()
        with pytest.raises(ConfigError, match=f"in use by process {child.pid}"):
            open_directory(tmp_path, "node")
        child.kill()
    open_directory(tmp_path, "node").close()


def test_the_wrong_kind_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_directory(tmp_path, "node").close()
    before = (tmp_path / MARKER).read_bytes()
    with pytest.raises(ConfigError, match="is a node's directory, not a master's directory"):
        open_directory(tmp_path, "master")
    assert (tmp_path / MARKER).read_bytes() == before
    open_directory(tmp_path, "node").close()


def test_a_directory_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"not empty .* contains holiday.jpg"):
        open_directory(tmp_path, "master")
    assert os.listdir(tmp_path) == ["holiday.jpg"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"/file is a file, not a directory"):
            open_directory(path, "node")


def test_a_directory_that_cannot_be_made_gets_cause_and_remedy() -> None:
    with pytest.raises(ConfigError, match="directory /proc/dsa cannot be used: ") as caught:
        open_directory("/proc/dsa", "node")
    assert caught.value.remedy


def test_a_nul_in_the_path_is_an_error_of_the_path() -> None:
    with pytest.raises(ConfigError, match=r"cannot be used: .*null"):
        open_directory("a\0b", "node")


def test_a_damaged_marker_says_how_to_mend_it(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_bytes(b"{")
    with pytest.raises(ConfigError, match="is damaged") as caught:
        open_directory(tmp_path, "node")
    assert '"kind": "node"' in caught.value.remedy


def test_a_layout_from_the_future_asks_for_a_newer_version(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"kind": "node", "format": 99}')
    with pytest.raises(
        Incompatible, match="layout 99, this build reads up to layout 1; upgrade the node to a build that"
    ):
        open_directory(tmp_path, "node")


def test_a_path_that_is_not_utf_8_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/d\xff")
    with pytest.raises(ConfigError, match="its path is not UTF-8"):
        open_directory(path, "master")
    assert os.listdir(tmp_path) == []
