"""Servers as real processes: what they say when they cannot start, and how they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import dsa_zmq

pytestmark = [pytest.mark.process, pytest.mark.slow]

DEADLINE_S = 20.0


def dsa(*line: str | Path, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsa_zmq", *map(str, line)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **settings)  # type: ignore[call-overload, no-any-return]


@contextmanager
def server(tmp_path: Path, *line: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    ready = tmp_path / f"ready-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "dsa_zmq", *map(str, line), "--ready-file", str(ready)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not ready.exists():
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process, json.loads(ready.read_text())
        finally:
            process.kill()


def port_of(endpoints: dict[str, str]) -> int:
    return int(endpoints["listen"].rpartition(":")[2])


@contextmanager
def listener(answer: bytes) -> Iterator[int]:
    """A program that is no DSA server: it says ``answer`` to whoever connects, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.sendall(answer)
                kept.append(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        for connection in kept:
            connection.close()
        listening.shutdown(socket.SHUT_RDWR)


# --- how servers end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_server_in_order(tmp_path: Path, kind: signal.Signals) -> None:
    with server(tmp_path, "master", "--dir", tmp_path / "m", "--port", "0") as (process, _):
        process.send_signal(kind)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_a_child_ends_with_its_parent_even_a_killed_one(tmp_path: Path) -> None:
    code = (
        "import sys, dsa_zmq, time; c = dsa_zmq.LocalCluster(2, processes=True, directory=sys.argv[1]).start(); "
        "print(*c.pids().values(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 3
        parent.kill()
    deadline = time.monotonic() + DEADLINE_S
    while any(_runs(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_log_is_json_on_request(tmp_path: Path) -> None:
    with server(tmp_path, "master", "--dir", tmp_path / "m", "--port", "0", "--log-json") as (process, _):
        process.terminate()
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    events = [line["event"] for line in lines]
    assert "serving" in events
    assert events[-1] == "ended"


def test_a_master_on_an_old_copy_ends_and_starts_again_only_to_take_over(tmp_path: Path) -> None:
    cluster = dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "c")
    with cluster:
        pass
    shutil.copytree(tmp_path / "c" / "master", tmp_path / "old")
    with cluster:
        cluster.restart_master()
        cluster.wait_healthy()
    (tmp_path / "quick.toml").write_text("[master]\nheartbeat_s = 0.1\nsuspect_s = 0.2\ndown_s = 0.5\n")
    line = ("master", "--dir", tmp_path / "old", "--port", "0", "--config", tmp_path / "quick.toml")
    node = ("node", "--path", tmp_path / "c" / "node-1", "--port", "0", "--capacity", "2GB")
    with server(tmp_path, *line) as (process, endpoints):
        with server(tmp_path, *node, "--master", f"127.0.0.1:{port_of(endpoints)}"):
            assert process.wait(DEADLINE_S) == 4
        ended = dsa(*line)
        assert ended.returncode == 2
        assert "it is an old copy" in ended.stderr
        assert str(tmp_path / "old") in ended.stderr
        assert "--take-over" in ended.stderr
    with server(tmp_path, *line, "--take-over") as (_, endpoints):
        master = f"127.0.0.1:{port_of(endpoints)}"
        with server(tmp_path, *node, "--master", master), dsa_zmq.connect(f"dsa://{master}") as store:
            deadline = time.monotonic() + DEADLINE_S
            while [info.state for info in store.nodes()] != ["up"]:
                assert time.monotonic() < deadline
                time.sleep(0.02)


# --- what keeps them from starting ------------------------------------------------------------------------------------


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with listener(b"") as port:
        ended = dsa("master", "--dir", tmp_path / "m", "--port", str(port))
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} is in use by another program" in ended.stderr
    assert "--port" in ended.stderr


def test_an_address_of_another_machine_cannot_be_bound(tmp_path: Path) -> None:
    ended = dsa("master", "--dir", tmp_path / "m", "--bind", "192.0.2.1", "--insecure", "--port", "0")
    assert ended.returncode == 2
    assert "is no address of this machine" in ended.stderr


def test_other_machines_are_not_let_in_by_accident(tmp_path: Path) -> None:
    ended = dsa("master", "--dir", tmp_path / "m", "--bind", "0.0.0.0")
    assert ended.returncode == 2
    assert "--insecure" in ended.stderr
    assert not (tmp_path / "m").exists()


def test_two_nodes_cannot_share_a_directory(tmp_path: Path) -> None:
    line = ("node", "--path", tmp_path / "n", "--port", "0", "--capacity", "2GB")
    with server(tmp_path, *line) as (process, _):
        ended = dsa(*line)
        assert ended.returncode == 2
        assert f"in use by process {process.pid}" in ended.stderr
        assert process.poll() is None


def test_a_masters_directory_is_not_taken_for_a_nodes(tmp_path: Path) -> None:
    with server(tmp_path, "master", "--dir", tmp_path / "m", "--port", "0"):
        pass
    before = sorted(os.listdir(tmp_path / "m"))
    ended = dsa("node", "--path", tmp_path / "m", "--port", "0")
    assert ended.returncode == 2
    assert "is a master's directory, not a node's directory" in ended.stderr
    assert sorted(os.listdir(tmp_path / "m")) == before


def test_a_classic_file_with_letters_for_the_port_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.dsa").write_text("127.0.0.1\nwelcome\n1000000000\nstorage\n")
    ended = dsa("node", tmp_path / "config.dsa")
    assert ended.returncode == 2
    assert "config.dsa, line 2: port_of_welcoming_socket: 'welcome' is not a port" in ended.stderr
    assert not (tmp_path / "storage").exists()


def test_a_classic_file_starts_a_node(tmp_path: Path) -> None:
    with server(tmp_path, "master", "--dir", tmp_path / "m", "--port", "0") as (_, endpoints):
        port = port_of(endpoints)
        (tmp_path / "config.dsa").write_text(f"127.0.0.1\n{port}\n2000000000\nstorage\n")
        with (
            server(tmp_path, "node", tmp_path / "config.dsa", "--port", "0", "--name", "shelf"),
            dsa_zmq.connect(f"dsa://127.0.0.1:{port}") as store,
        ):
            deadline = time.monotonic() + DEADLINE_S
            while [node.name for node in store.nodes() if node.state == "up"] != ["shelf"]:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    assert (tmp_path / "storage").is_dir()


# --- what the master refuses -----------------------------------------------------------------------------------------


def test_a_node_of_another_cluster_is_refused_and_ends(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "a"):
        pass
    with dsa_zmq.LocalCluster(1, "copies=1") as other:
        ended = dsa("node", "--master", other.url, "--path", tmp_path / "a" / "node-1", "--port", "0")
    assert ended.returncode == 2
    assert "belongs to another cluster" in ended.stderr
    assert "node 'node-1'" in ended.stderr  # it has kept its name


def test_a_second_node_of_one_name_is_refused_and_ends(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1") as cluster:
        line = ("node", "--master", cluster.url, "--path", tmp_path / "n", "--port", "0", "--name", "node-1")
        ended = dsa(*line, "--capacity", "2GB")
        assert cluster.ended() == []
    assert ended.returncode == 4
    assert "the node name 'node-1' is taken" in ended.stderr
