"""``dsa demo`` on small folders: what it stores, what it leaves out and says so, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dsa_zmq
from dsa_zmq.cli.demo_files import DEFAULT_FILES, Sources, default, given
from dsa_zmq.errors import LocalError

pytestmark = [pytest.mark.process, pytest.mark.slow]


def demo(tmp: Path, *line: str | Path) -> subprocess.CompletedProcess[str]:
    tmp.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "dsa_zmq", "demo", *map(str, line)]
    environment = {**os.environ, "TMPDIR": str(tmp)}
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of odd sizes and names, an empty folder, and things that cannot be stored."""
    root = tmp_path / "my files"
    (root / "empty").mkdir(parents=True)
    for number, size in enumerate((0, 1, 4095, 1 << 20, (1 << 20) + 1, 3_000_000)):
        (root / f"file {number}").write_bytes(os.urandom(size))
    for name in ("ünï\N{SNOWMAN}", "new\nline", "-rf", "a" * 255, " lead", "per%cent", "quote'\""):
        (root / name).write_bytes(os.urandom(100))
    (root / "link").symlink_to("file 1")
    os.mkfifo(root / "pipe")
    (root.joinpath(os.fsdecode(b"bad\xff"))).write_bytes(b"x")
    return root


def test_it_stores_kills_heals_kills_again_reads_back_and_loses_nothing(tmp_path: Path, folder: Path) -> None:
    ended = demo(tmp_path / "tmp", folder, "--nodes", "3")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("got SIGKILL") == 2
    assert "every file has all its copies again" in ended.stdout
    assert "killed    node-3 and node-2" in ended.stdout
    assert "13 files identical, byte for byte" in ended.stdout
    assert "lost      nothing" in ended.stdout
    assert "left out  1 unreadable, 1 symbolic links, 1 special files" in ended.stdout
    assert "bad\\\\xff: its name is not UTF-8" in ended.stdout
    assert os.listdir(tmp_path / "tmp") == []


def test_its_figures_come_as_json(tmp_path: Path, folder: Path) -> None:
    ended = demo(tmp_path / "tmp", folder, "--nodes", "2", "--json")
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert (figures["files"], figures["identical"], figures["lost"], figures["killed"]) == (13, 13, 0, ["node-2"])
    assert figures["heal_seconds"] is None
    assert figures["not_healed"] == "copies=2 needs 2 nodes, and 1 is left"


def test_where_no_loss_can_be_borne_nobody_is_killed(tmp_path: Path, folder: Path) -> None:
    ended = demo(tmp_path / "tmp", folder, "--nodes", "1", "--redundancy", "copies=1")
    assert ended.returncode == 0, ended.stderr
    assert "nobody: copies=1 survives no loss" in ended.stdout
    assert "13 files identical, byte for byte" in ended.stdout


def test_kept_data_can_be_served_again(tmp_path: Path, folder: Path) -> None:
    ended = demo(tmp_path / "tmp", folder, "--nodes", "2", "--keep", "--json")
    directory = json.loads(ended.stdout)["directory"]
    with dsa_zmq.LocalCluster(2, processes=True, directory=directory) as cluster, cluster.connect() as store:
        assert store.read_bytes("/my files/-rf") == (folder / "-rf").read_bytes()
        assert store.is_dir("/my files/empty")


def test_ctrl_c_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "dsa_zmq", "demo", "--nodes", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "cluster" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "Traceback" not in process.stderr.read()
    deadline = time.monotonic() + 5
    while os.listdir(tmp_path / "tmp"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_path_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    ended = demo(tmp_path / "tmp", tmp_path / "nowhere")
    assert ended.returncode == 1
    assert "nowhere cannot be stored: No such file or directory" in ended.stderr


def test_too_few_nodes_for_the_redundancy_is_refused(tmp_path: Path) -> None:
    ended = demo(tmp_path / "tmp", "--nodes", "2", "--redundancy", "copies=3")
    assert ended.returncode == 2
    assert "copies=3 needs 3 nodes" in ended.stderr


# --- what there is to store -------------------------------------------------------------------------------------------


def test_by_default_it_takes_the_library_without_caches_and_tops_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsa_zmq.cli.demo_files.BIG_FILE_BYTES", 1_000_000)
    sources = default(tmp_path)
    assert len(sources.files) >= DEFAULT_FILES
    assert not any("__pycache__" in source.remote or "site-packages" in source.remote for source in sources.files)
    assert any(source.remote.endswith("/argparse.py") for source in sources.files)
    assert sources.files[-1].size == 1_000_000
    assert len({source.remote for source in sources.files}) == len(sources.files)


def test_two_paths_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "same").write_bytes(side.encode())
    sources = given([str(tmp_path / "a" / "same"), str(tmp_path / "b" / "same")])
    assert [source.remote for source in sources.files] == ["/same", "/same-2"]


def test_folders_may_be_nested_deeper_than_pythons_stack(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    sources = Sources()
    sources.add(tmp_path, "/deep")
    assert len(sources.folders) == 1501
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest's own cleaning goes by recursion


def test_an_unreadable_path_is_an_error_with_its_reason() -> None:
    for path in ("a\0b", "\udcff-nowhere"):
        with pytest.raises(LocalError, match="cannot be stored"):
            given([path])
