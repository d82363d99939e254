"""A cluster of real processes, all killed at once: what was acknowledged is in the nodes' directories, catalog included."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.errors import DSAError
from dsa_zmq.salvage.run import Salvaged
from tests.salvage.conftest import Kept, fingerprint, written

pytestmark = [pytest.mark.process, pytest.mark.slow]

Run = Callable[..., Salvaged]
NODES = 4


def with_catalog(nodes: list[Path]) -> list[Path]:
    """Those that hold a copy of the catalog."""
    return [node for node in nodes if list(node.glob("catalog/*.volume"))]


@pytest.mark.parametrize("redundancy", ["copies=2", "ec=2+1"])
def test_all_that_was_acknowledged_before_everything_was_killed(
    run: Run, kept: Kept, out: Path, tmp_path: Path, redundancy: str
) -> None:
    rng, acknowledged, stop = random.Random(redundancy), {}, threading.Event()
    gone: set[str] = set()
    cluster = dsa_zmq.LocalCluster(NODES, redundancy, processes=True, directory=tmp_path / "c")

    def work(store: Any, user: int) -> None:
        """Write, replace, move and remove until the cluster is no more; what is under way then may be either way."""
        for number in range(100_000):
            path, data = f"/{user}/{number % 40}", rng.randbytes(rng.choice([10, 3000, 100_000]))
            gone.add(path)
            try:
                if number % 7 == 6 and path in acknowledged:
                    store.rm(path)
                    acknowledged.pop(path)
                elif number % 7 == 5 and path in acknowledged:
                    store.mv(path, f"{path}-{number}")
                    acknowledged[f"{path}-{number}"] = acknowledged.pop(path)
                else:
                    store.write_bytes(path, data)
                    acknowledged[path] = data
            except DSAError:
                return
            gone.discard(path)
            if stop.is_set():
                return

    with cluster:
        stores = [cluster.connect() for _ in range(3)]
        workers = [threading.Thread(target=work, args=(store, user)) for user, store in enumerate(stores)]
        for worker in workers:
            worker.start()
        time.sleep(2.0)  # a load of that length, not a wait for anything
        pids = [server.pid for server in cluster._hold.servers.values()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        stop.set()
        for store in stores:
            store.close()
        for worker in workers:
            worker.join()
    nodes = [tmp_path / "c" / f"node-{number}" for number in range(1, NODES + 1)]
    assert len(with_catalog(nodes)) == 3
    before = fingerprint(nodes)
    result = run(*nodes)
    assert fingerprint(nodes) == before
    assert not result.totals.lost, kept.items
    there = written(out)
    assert len(acknowledged) > 20
    for path, data in acknowledged.items():
        assert path in gone or there.get(path) == data, path


@pytest.fixture(name="nodes", scope="module")
def _nodes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of a cluster with two hundred files, stopped."""
    top = tmp_path_factory.mktemp("stopped")
    rng = random.Random(5)
    with dsa_zmq.LocalCluster(NODES, directory=top / "c") as cluster, cluster.connect() as store:
        store.put_many([(rng.randbytes(2000), f"/set/{number}") for number in range(200)])
        store.write_bytes("/new\nline", b"odd")
    return [top / "c" / f"node-{number}" for number in range(1, NODES + 1)]


def dsa(*words: str | Path) -> tuple[int, str, str]:
    line = [sys.executable, "-m", "dsa_zmq", "salvage", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_command_writes_everything_and_says_so(nodes: list[Path], out: Path, tmp_path: Path) -> None:
    status, stdout, stderr = dsa(*nodes, "--to", out, "--report", tmp_path / "report")
    assert status == 0, stderr
    assert "written    201 files, 400.0 kB" in stdout
    assert "/new\\nline: it has another name here" in stderr
    assert len(written(out)) == 201
    item, summary = map(json.loads, (tmp_path / "report").read_text().splitlines())
    assert (item["path"], item["fate"]) == ("/new\nline", "written")
    assert (summary["written"], summary["written_bytes"], summary["damaged"]) == (201, 400_003, 0)
    status, stdout, _ = dsa(*nodes, "--to", out, "--json")
    last = json.loads(stdout.splitlines()[-1])
    assert (status, last["written"], last["skipped"]) == (0, 0, 201)


def test_what_cannot_be_read_is_a_status_of_its_own(nodes: list[Path], out: Path) -> None:
    some = with_catalog(nodes)[0]
    status, stdout, stderr = dsa(some, "--to", out, "-n")
    assert status == 8
    assert "unreadable" in stdout
    assert "more lines" in stderr
    assert not out.exists()
    (out / "set").mkdir(parents=True)
    (out / "set" / "0").write_text("mine")
    assert dsa(*nodes, "--to", out)[0] == 1
    assert dsa(*(node for node in nodes if node not in with_catalog(nodes)), "--to", out)[0] == 3
    assert dsa(nodes[0], "--to", nodes[1] / "in", nodes[1])[0] == 2
    assert dsa(*nodes, "--to", out, "--at", "yesterday")[0] == 2
    status, _, stderr = dsa(*nodes, "--to", out, "--at", "2001-01-01T00:00")
    assert status == 4
    assert "it can be had as of" in stderr


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_but_whole_files(nodes: list[Path], out: Path, kind: signal.Signals) -> None:
    line = [sys.executable, "-m", "dsa_zmq", "salvage", *map(str, nodes), "--to", str(out)]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (out / ".dsa-salvage" / "records.sqlite").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(kind)
    assert process.wait(20) in (130, 0)
    assert not (out / ".dsa-salvage").exists()
    assert dsa(*nodes, "--to", out)[0] == 0
    assert len(written(out)) == 201
    assert all(len(data) in (2000, 3) for data in written(out).values())
