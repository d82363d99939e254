"""``dsa up`` and ``dsa down`` as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dsa_zmq
from dsa_zmq.directory import owner_of
from dsa_zmq.errors import ConfigError

pytestmark = [pytest.mark.process, pytest.mark.slow]

SMALL = ("--nodes", "2", "--port", "0")


def dsa(*line: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsa_zmq", *map(str, line)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def detached(directory: Path, *line: str) -> Iterator[str]:
    """A cluster in the background, and its address."""
    try:
        ended = dsa("--json", "up", "--dir", directory, "-d", *line)
        assert ended.returncode == 0, ended.stderr
        yield json.loads(ended.stdout)["url"]
    finally:
        dsa("down", "--dir", directory)


def test_a_detached_cluster_serves_until_down_and_finds_its_data_again(tmp_path: Path) -> None:
    data = os.urandom(50_000)
    with detached(tmp_path / "c", *SMALL) as url, dsa_zmq.connect(url) as store:
        store.write_bytes("/kept", data)
        owner = owner_of(tmp_path / "c")
        again = dsa("up", "--dir", tmp_path / "c", "-d")
        assert again.returncode == 4
        assert f"already runs at {url} (process {owner})" in again.stderr
    assert owner_of(tmp_path / "c") is None
    with detached(tmp_path / "c", "--port", "0") as url, dsa_zmq.connect(url) as store:
        assert [node.name for node in store.nodes()] == ["node-1", "node-2"]
        assert store.read_bytes("/kept") == data
    ended = dsa("down", "--dir", tmp_path / "c")
    assert ended.returncode == 3
    assert "no cluster runs in" in ended.stderr


def test_a_lost_catalog_is_never_replaced_by_an_empty_one_and_comes_back_from_the_nodes(tmp_path: Path) -> None:
    data, root = os.urandom(50_000), tmp_path / "c"
    with detached(root, *SMALL) as url, dsa_zmq.connect(url) as store:
        store.write_bytes("/kept", data)
        used = dsa("cluster", "restore", "--from-nodes", "--dir", root, "-n")
        assert used.returncode == 2
        assert "is in use by process" in used.stderr
    shutil.rmtree(root / "master")
    remedy = f"dsa cluster restore --from-nodes --dir {root}"
    for line in (("up", "--dir", root), ("up", "--dir", root, "-d")):
        refused = dsa(*line)
        assert refused.returncode == 2
        assert remedy in refused.stderr
    with pytest.raises(ConfigError, match="node-1, node-2 belong to it"):
        dsa_zmq.LocalCluster(directory=root).start()
    assert not (root / "master").exists()
    restored = dsa(*remedy.split()[1:], "-y")
    assert restored.returncode == 0, restored.stderr
    assert f"start it now: dsa up --dir {root}" in restored.stdout
    with detached(root, "--port", "0") as url, dsa_zmq.connect(url) as store:
        assert store.read_bytes("/kept") == data


def test_in_the_foreground_it_says_where_first_and_stops_with_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsa_zmq", "up", "--tmp", *SMALL]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(3)]
        assert [line[0] for line in lines] == ["data", "url", "ready"]
        with dsa_zmq.connect(lines[1][1]) as store:
            assert len(store.nodes()) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert os.listdir(tmp_path) == []


def test_a_server_that_ends_is_started_again(tmp_path: Path) -> None:
    with detached(tmp_path / "c", *SMALL) as url, dsa_zmq.connect(url) as store:
        before = {node.name: node.incarnation for node in store.nodes()}
        pid = int((tmp_path / "c" / "node-1" / "lock").read_text())
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while True:
            now = {node.name: node.incarnation for node in store.nodes() if node.state == "up"}
            if now.get("node-1", 0) > before["node-1"]:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_contradicts_the_data_is_refused(tmp_path: Path) -> None:
    with detached(tmp_path / "c", "--nodes", "3", "--port", "0"):
        pass
    for line, complaint in (
        (("--nodes", "2"), "has 3 nodes"),
        (("--redundancy", "copies=3"), "was made with copies=2, not copies=3"),
        (("--placement", "chained"), "was made with rendezvous, not chained"),
    ):
        ended = dsa("up", "--dir", tmp_path / "c", *line)
        assert ended.returncode == 2
        assert complaint in ended.stderr


def test_a_detached_start_that_fails_says_why(tmp_path: Path) -> None:
    with detached(tmp_path / "a", *SMALL) as url:
        port = url.rpartition(":")[2]
        ended = dsa("up", "--dir", tmp_path / "b", "-d", "--nodes", "2", "--port", port)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} is in use" in ended.stderr
    assert owner_of(tmp_path / "b") is None


def test_tmp_and_a_directory_exclude_each_other(tmp_path: Path) -> None:
    ended = dsa("up", "--tmp", "--dir", tmp_path)
    assert ended.returncode == 2
    assert "give one of them" in ended.stderr


def test_down_does_not_say_that_temporary_data_stays() -> None:
    ended = dsa("--json", "up", "--tmp", "-d", *SMALL)
    directory = json.loads(ended.stdout)["directory"]
    ended = dsa("down", "--dir", directory)
    assert (ended.returncode, ended.stdout) == (0, "stopped   and removed\n")
