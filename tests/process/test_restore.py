"""A master that is lost with its disk: its nodes alone bring back everything that was acknowledged."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.cli import restoring
from dsa_zmq.cli.main import main
from dsa_zmq.config import MasterOptions
from dsa_zmq.errors import AlreadyExists, ConfigError, DSAError, Unavailable
from dsa_zmq.master.restore_events import Planned, Restored, Wanted
from dsa_zmq.restore import Restore

pytestmark = [pytest.mark.process, pytest.mark.slow]

QUICK = {"quiet_s": 1.0, "settle_s": 0.5, "wait_s": 20.0}  #: the servers' times of liveness are a twentieth, too
SECOND = 1_000_000_000


@pytest.fixture(name="cluster", params=["threads", "processes"])
def _cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dsa_zmq.LocalCluster]:
    processes = request.param == "processes"
    with dsa_zmq.LocalCluster(nodes=4, directory=tmp_path / "c", processes=processes) as cluster:
        yield cluster


@pytest.fixture(name="small")
def _small(tmp_path: Path) -> Iterator[dsa_zmq.LocalCluster]:
    with dsa_zmq.LocalCluster(nodes=3, directory=tmp_path / "c") as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "QUIET_S", QUICK["quiet_s"])


def lose_master(cluster: dsa_zmq.LocalCluster) -> Path:
    """Kill it and remove all that it had; the directory."""
    cluster.kill_master()
    directory = cluster.directory / "master"
    shutil.rmtree(directory)
    return directory


def options(cluster: dsa_zmq.LocalCluster) -> MasterOptions:
    port = int(cluster.url.rpartition(":")[2])
    return MasterOptions(dir=str(cluster.directory / "master"), port=port).checked()


def restore(cluster: dsa_zmq.LocalCluster, file: Path | None = None, **wanted: Any) -> tuple[Planned, Restored]:
    with Restore(options(cluster), Wanted(**{**QUICK, **wanted}), file) as running:
        plan = running.plan(lambda event: None)
        return plan, running.carry_out(lambda event: None)


def fill(store: Any, content: Any) -> dict[str, bytes]:
    """Files of all kinds; what is in them."""
    files: dict[str, bytes] = {}
    for directory, redundancy in (("/two", "copies=2"), ("/three", "copies=3"), ("/code", "ec=2+1")):
        store.mkdir(directory)
        store.admin.set_redundancy(directory, redundancy)
        for number, size in enumerate((0, 1, 5000, 300_000, 2_500_000)):
            files[f"{directory}/{number}"] = content(size)
    for path, data in files.items():
        store.write_bytes(path, data)
    for path in ("/two/2", "/code/4"):  # overwritten
        files[path] = content(len(files[path]) + 7)
        store.write_bytes(path, files[path])
    store.mv("/three/3", "/two/moved")
    files["/two/moved"] = files.pop("/three/3")
    store.cp("/code/4", "/code/copied")
    files["/code/copied"] = files["/code/4"]
    store.rm("/two/1")
    del files["/two/1"]
    return files


def look(store: Any, files: dict[str, bytes]) -> dict[str, Any]:
    """All that is shown of these files and of the directories."""
    return {path: store.stat(path) for path in [*files, "/", "/two", "/three", "/code"]}


def check(store: Any, files: dict[str, bytes]) -> None:
    assert {path: store.read_bytes(path) for path in files} == files
    assert {entry.path for directory in ("/two", "/three", "/code") for entry in store.ls(directory)} == set(files)


def test_everything_acknowledged_is_back_and_the_cluster_goes_on(cluster: Any, content: Any) -> None:
    with cluster.connect() as store:
        files = fill(store, content)
        seen = look(store, files)
        lose_master(cluster)
        plan, done = restore(cluster)
        assert (plan.absent, done.rebuilt.odd) == ([], [])
        assert done.rebuilt.files == len(files)
        assert done.nodes == list(cluster.names)
        cluster.restart_master()
        cluster.wait_up(30)
        check(store, files)
        assert look(store, files) == seen
        inodes = {entry.inode for entry in seen.values()}
        for path in ("/two/new", "/three/new", "/code/new"):
            files[path] = content(400_000)
            assert store.write_bytes(path, files[path]).inode not in inodes
        cluster.kill(0)
        cluster.wait_healthy(60)
        check(store, files)


def test_a_second_loss_is_survived_like_the_first(small: Any, content: Any) -> None:
    with small.connect() as store:
        files = {}
        for turn in range(3):
            for number in range(5):
                files[f"/{turn}-{number}"] = content(3000)
                store.write_bytes(f"/{turn}-{number}", files[f"/{turn}-{number}"])
            lose_master(small)
            restore(small)
            small.restart_master()
            small.wait_up(30)
            assert {path: store.read_bytes(path) for path in files} == files


def test_an_absent_node_has_to_be_named(small: Any, content: Any) -> None:
    with small.connect() as store:
        files = {f"/{number}": content(20_000) for number in range(20)}
        for path, data in files.items():
            store.write_bytes(path, data)
        lose_master(small)
        small.kill(1)
        with pytest.raises(Unavailable, match="1 of the 3 nodes have not come: node-2"):
            restore(small, wait_s=8)
        plan, _ = restore(small, without=("node-2",))
        assert plan.absent == ["node-2"]
        small.restart_master()
        check_all = {path: store.read_bytes(path) for path in files}
        assert check_all == files
        small.restart(1)
        small.wait_up(30)
        small.wait_healthy(60)
        assert {path: store.read_bytes(path) for path in files} == files


def test_the_state_of_an_earlier_moment_can_be_had(small: Any, content: Any) -> None:
    with small.connect() as store:
        for number in range(10):
            store.write_bytes(f"/{number}", content(100))
        time.sleep(0.05)  # moments are those of the master's clock; this one lies between two changes
        moment_ns = time.time_ns()
        time.sleep(0.05)
        for number in range(10, 20):
            store.write_bytes(f"/{number}", content(100))
        lose_master(small)
        plan, _ = restore(small, at_ns=moment_ns)
        assert plan.newest_position > plan.preview.position
        small.restart_master()
        small.wait_up(30)
        assert sorted(int(entry.name) for entry in store.ls("/")) == list(range(10))
        with pytest.raises(FileNotFoundError):
            store.read_bytes("/15")


def test_beside_a_living_master_it_does_not_begin(small: Any, tmp_path: Path) -> None:
    living = options(small)
    with pytest.raises(ConfigError, match="is in use by another program"):
        Restore(MasterOptions(dir=str(tmp_path / "elsewhere"), port=living.port), Wanted(**QUICK))
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(DSAError):
        Restore(living, Wanted(**QUICK))
    small.wait_up()


def test_a_former_master_that_comes_back_stops(small: Any, content: Any) -> None:
    """From a copy of its disk."""
    with small.connect() as store:
        store.write_bytes("/before", content(100))
        small.kill_master()
        directory = small.directory / "master"
        shutil.copytree(directory, small.directory / "copy")
        shutil.rmtree(directory)
        restore(small)
        restored = small.directory / "restored"
        directory.rename(restored)
        (small.directory / "copy").rename(directory)
        small.restart_master()
        deadline = time.monotonic() + 30
        while "master" not in small.ended():
            assert time.monotonic() < deadline, "the former master goes on"
            time.sleep(0.02)
        shutil.rmtree(directory)
        restored.rename(directory)
        small.restart_master()
        small.wait_up(30)
        assert len(store.read_bytes("/before")) == 100


def test_a_directory_with_a_catalog_is_refused(small: Any) -> None:
    small.kill_master()
    with pytest.raises(AlreadyExists, match="there is a catalog already"):
        Restore(options(small), Wanted(**QUICK))
    small.restart_master()
    small.wait_up()


def test_the_command_says_what_it_would_do_and_does_it(
    small: Any, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with small.connect() as store:
        data = content(10_000)
        store.write_bytes("/file", data)
        directory = lose_master(small)
        port = small.url.rpartition(":")[2]
        line = ["cluster", "restore", "--from-nodes", "--dir", str(directory), "--port", port]
        assert main([*line, "-n"]) == 0
        said = capsys.readouterr()
        assert "1 file, 10.0 kB" in said.out
        assert "3 nodes: node-1, node-2, node-3" in said.out
        assert "waiting for nodes at 127.0.0.1" in said.err
        assert not directory.exists(), "a plan leaves nothing behind"
        assert main([*line, "--at", "2001-01-01T12:00", "--wait", "8", "-y"]) == 4
        said = capsys.readouterr()
        assert "the catalog can be had as of" in said.err
        assert main(line) == 2
        assert "say -y to do this" in capsys.readouterr().err
        small.kill(0)
        assert main([*line, "--wait", "8", "-y"]) == 7
        said = capsys.readouterr()
        assert "leave them out with --without node-1" in said.err
        assert "without node-1: what was acknowledged after" in said.err
        assert main([*line, "--without", "node-1", "--json", "-y"]) == 0
        assert '"restored": true' in capsys.readouterr().out
        small.restart_master()
        assert store.read_bytes("/file") == data
        assert os.listdir(directory)


def test_the_line_that_starts_the_master_is_the_one_that_was_told(
    small: Any, content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small.connect() as store:
        store.write_bytes("/file", content(10))
        shutil.rmtree(lose_master(small), ignore_errors=True)
        port = small.url.rpartition(":")[2]
        directory, file = tmp_path / "a new one", tmp_path / "dsa.toml"
        file.write_text(f'[master]\ndir = "{directory}"\nport = {port}\n')
        assert main(["cluster", "restore", "--from-nodes", "--config", str(file), "-n", "--at", "2199-01-01"]) == 0
        assert "nothing is known of 2199-01-01" in capsys.readouterr().out
        line = ["cluster", "restore", "--from-nodes", "--dir", str(directory), "--port", port, "--without", "node-1"]
        assert main([*line, "-y"]) == 0
        said = capsys.readouterr()
        assert f"dsa master --dir '{directory}' --port {port}" in said.out
        assert "node-1 came after all" in said.err


def test_copies_that_are_damaged_on_all_nodes_are_not_restored_in_silence(
    small: Any, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with small.connect() as store:
        for number in range(30):
            store.write_bytes(f"/{number}", content(10))
        small.kill_master()
        for number in range(3):
            small.kill(number)
        shutil.rmtree(small.directory / "master")
        newest = max(file.name for file in small.directory.glob("node-*/catalog/*.volume"))
        for file in small.directory.glob(f"node-*/catalog/{newest}"):
            data = bytearray(file.read_bytes())
            data[len(data.rstrip(b"\0")) // 2] ^= 1
            file.write_bytes(data)
        for number in range(3):
            small.restart(number)
        line = ["cluster", "restore", "--from-nodes", "--dir", str(small.directory / "master")]
        line += ["--port", small.url.rpartition(":")[2], "-y"]
        assert main(line) == 8
        assert "say --older" in capsys.readouterr().err
        assert main([*line, "--older"]) == 0
        assert "damaged on node-1, node-2, node-3" in capsys.readouterr().out


def test_a_backup_is_restored(small: Any, content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small.connect() as store:
        store.write_bytes("/old", b"old")
        kept = max((small.directory / "node-1" / "catalog").glob("*.volume"))
        backup = tmp_path / "backup"
        shutil.copy(kept, backup)
        _cut(backup)
        data = content(5000)
        store.write_bytes("/new", data)
        directory = lose_master(small)
        line = [
            "catalog",
            "restore",
            str(backup),
            "--dir",
            str(directory),
            "--port",
            small.url.rpartition(":")[2],
            "-y",
        ]
        assert main(line) == 4
        assert "is newer by" in capsys.readouterr().err
        assert main([*line, "--older"]) == 0
        assert "are given up" in capsys.readouterr().out
        small.restart_master()
        small.wait_up(30)
        assert store.read_bytes("/old") == b"old"
        with pytest.raises(FileNotFoundError):
            store.read_bytes("/new")


def _cut(path: Path) -> None:
    """Of a node's file only the records, as a backup has them."""
    from dsa_zmq.errors import Corrupt
    from dsa_zmq.model.records import read_record

    data, end = path.read_bytes(), 0
    try:
        while (record := read_record(data, end)) is not None:
            end += len(record.data)
    except Corrupt:
        path.write_bytes(data[:end])
