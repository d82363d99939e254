"""``dsa health --watch`` and ``--metrics``, with real servers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import dsa_zmq
from dsa_zmq import app
from dsa_zmq.config import MasterOptions, NodeOptions
from dsa_zmq.model.addresses import split_endpoint

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_watch_tells_of_a_death_and_of_the_healing_until_ctrl_c() -> None:
    command = [sys.executable, "-m", "dsa_zmq", "health", "--watch", "--json"]
    with dsa_zmq.LocalCluster(nodes=3, speed=10) as cluster, cluster.connect() as store:
        for number in range(20):
            store.write_bytes(f"/{number}", os.urandom(1000 + number))
        environment = {**os.environ, "DSA_URL": cluster.url, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as ran:
            assert ran.stdout is not None
            assert ran.stderr is not None
            first = json.loads(ran.stdout.readline())
            assert (first["state"], first["nodes_up"], first["healthy_files"]) == ("healthy", 3, 20)
            assert (first["moves"], first["seconds_left"], first["held"]) == (0, 0, "")
            cluster.kill(0)
            deadline = time.monotonic() + 30
            while True:
                report = json.loads(ran.stdout.readline())
                if report["nodes_up"] == 2 and report["state"] == "healthy":
                    break
                assert time.monotonic() < deadline, report
            assert any("node 'node-1' is down" in note for note in report["notes"])
            assert report["healthy_files"] == 20
            ran.send_signal(signal.SIGINT)
            assert ran.wait(10) == 130
            assert "Traceback" not in ran.stderr.read()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
def test_a_terminal_gets_colours_with_watch_and_without_unless_nobody_wants_them() -> None:
    with dsa_zmq.LocalCluster(nodes=2) as cluster:
        for words in (["health"], ["health", "--watch"]):
            assert "\x1b[32mhealthy\x1b[0m; 2 of 2 nodes up" in on_a_terminal(cluster.url, words, {})
            assert "\nhealthy; 2 of 2 nodes up" in "\n" + on_a_terminal(cluster.url, words, {"NO_COLOR": "1"}).replace(
                "\x1b[H\x1b[2J", ""
            )


def on_a_terminal(url: str, words: list[str], changes: dict[str, str]) -> str:
    """What a command shows on a terminal, up to its first empty line; then it is ended by Ctrl-C if it goes on."""
    controller, terminal = os.openpty()
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment = {**inherited, "DSA_URL": url, "PYTHONPATH": os.pathsep.join(sys.path), **changes}
    command = [sys.executable, "-m", "dsa_zmq", *words]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=terminal, env=environment) as ran:
        os.close(terminal)
        shown = b""
        deadline = time.monotonic() + 30
        while b"\r\n\r\n" not in shown:
            assert time.monotonic() < deadline, shown
            shown += os.read(controller, 4096)
        ran.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # that is how it ends
            while os.read(controller, 4096):
                continue
    os.close(controller)
    return shown.decode()


def test_master_and_node_serve_their_figures(tmp_path: Path) -> None:
    master = app.start(MasterOptions(dir=str(tmp_path / "m"), port=0, redundancy="copies=1", metrics=0).checked())
    try:
        host, port = split_endpoint(str(master.endpoint("listen")))
        options = NodeOptions(
            master=f"{host}:{port}", path=str(tmp_path / "n"), name="n1", port=0, reserve=0, metrics=0
        )
        node = app.start(options.checked())
        try:
            with dsa_zmq.connect(f"dsa://{host}:{port}") as store:
                deadline = time.monotonic() + 10
                while not any(each.state == "up" for each in store.nodes()):
                    assert time.monotonic() < deadline
                store.write_bytes("/x", os.urandom(5000))
                assert store.health().healthy_chunks == 1
                lines = scraped(master)
                assert 'dsa_master_stored_bytes{state="healthy"} 5000' in lines
                assert 'dsa_master_stored_chunks{state="lost"} 0' in lines
                assert any(line.startswith("dsa_node_requests ") for line in scraped(node))
                (told,) = store.nodes()
                wanted = {f"dsa_node_capacity_bytes {told.capacity}", "dsa_node_shards 1", "dsa_node_garbage_bytes 0"}
                while not wanted <= set(lines := scraped(node)):
                    assert time.monotonic() < deadline, lines
                figures = dict(line.split() for line in lines if not line.startswith("#"))
                assert 5000 < int(figures["dsa_node_used_bytes"]) < int(figures["dsa_node_capacity_bytes"])
                assert 0 < int(figures["dsa_node_free_bytes"]) < int(figures["dsa_node_capacity_bytes"])
        finally:
            node.stop()
    finally:
        master.stop()


def scraped(server: app.Server) -> list[str]:
    with urllib.request.urlopen(f"{server.endpoints()['metrics']}/metrics", timeout=5) as answer:
        return str(answer.read().decode()).splitlines()
