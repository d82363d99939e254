"""``LocalCluster``: whole clusters in threads or processes, their faults, and that nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import dsa_zmq
from dsa_zmq import app
from dsa_zmq.config import NodeOptions
from dsa_zmq.errors import ConfigError, DSAError, Invalid, Timeout

pytestmark = [pytest.mark.process, pytest.mark.slow]

BOTH = pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])


@BOTH
def test_files_survive_a_killed_node_its_return_and_the_masters(processes: bool, tmp_path: Path) -> None:
    data = os.urandom(3_500_000)
    (tmp_path / "source").write_bytes(data)
    with dsa_zmq.LocalCluster(nodes=3, processes=processes) as cluster, cluster.connect() as store:
        store.put(tmp_path / "source", "/a/file")
        cluster.kill(0)
        assert store.read_bytes("/a/file") == data
        cluster.restart(0)
        cluster.wait_healthy()
        cluster.kill("node-2")
        assert b"".join(store.iter_bytes("/a/file")) == data
        url = cluster.url
        cluster.kill_master()
        cluster.restart_master()
        assert cluster.url == url
        assert store.stat("/a/file").size == len(data)
        cluster.restart(1)
        cluster.wait_healthy()
        store.write_bytes("/a/other", data[:1000])
        assert store.read_bytes("/a/other") == data[:1000]


def test_it_starts_in_well_under_a_second() -> None:
    with dsa_zmq.LocalCluster(1, "copies=1"):
        pass  # the imports
    begin = time.monotonic()
    with dsa_zmq.LocalCluster():
        assert time.monotonic() - begin < 1


@BOTH
def test_a_given_directory_is_kept_and_found_again(processes: bool, tmp_path: Path) -> None:
    data = os.urandom(100_000)
    with dsa_zmq.LocalCluster(2, processes=processes, directory=tmp_path) as cluster, cluster.connect() as store:
        store.write_bytes("/kept", data)
    with dsa_zmq.LocalCluster(2, processes=processes, directory=tmp_path) as cluster, cluster.connect() as store:
        assert store.read_bytes("/kept") == data


def test_a_node_whose_disk_was_not_mounted_has_everything_again_when_it_is(tmp_path: Path) -> None:
    data = os.urandom(16_000_000)  # enough chunks that every node has some
    place = tmp_path / "node-1"
    with dsa_zmq.LocalCluster(3, directory=tmp_path) as cluster, cluster.connect() as store:
        store.write_bytes("/file", data)
        cluster.kill(0)
        place.rename(tmp_path / "unmounted")
        cluster.restart(0)
        cluster.wait_up()
        report = store.health()
        assert report.endangered_chunks > 0
        assert any("'node-1' came back with another store" in note for note in report.notes)
        assert store.read_bytes("/file") == data
        cluster.kill(0)
        place.rename(tmp_path / "mount point")
        (tmp_path / "unmounted").rename(place)
        cluster.restart(0)
        cluster.wait_up()
        deadline = time.monotonic() + 10
        while (report := store.health()).endangered_chunks:  # a report may be a second old
            assert time.monotonic() < deadline, report
            time.sleep(0.05)
        assert report.healthy_chunks == 16
        assert report.lost_chunks == report.degraded_chunks == 0
        assert not any("another store" in note for note in report.notes)
        cluster.kill(1)
        assert store.read_bytes("/file") == data


@BOTH
def test_nothing_stays_behind(processes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = set(threading.enumerate())
    pids: set[int] = set()

    def fail() -> None:
        with dsa_zmq.LocalCluster(2, processes=processes) as cluster:
            pids.update(set(cluster.pids().values()) - {os.getpid()})
            cluster.connect().write_bytes("/x", b"x")  # not closed by its user
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == []
    assert len(pids) == (3 if processes else 0)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - threads:
        assert time.monotonic() < deadline, set(threading.enumerate()) - threads
        time.sleep(0.01)


@BOTH
def test_the_end_of_the_interpreter_ends_a_cluster_that_nobody_stopped(processes: bool, tmp_path: Path) -> None:
    code = (
        f"import dsa_zmq; c = dsa_zmq.LocalCluster(2, processes={processes}).start(); "
        "print(*c.pids().values()); print(c.directory)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert ended.stderr == ""
    pids, directory = ended.stdout.splitlines()
    assert not Path(directory).exists()
    for pid in map(int, pids.split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_failed_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with dsa_zmq.LocalCluster(1, "copies=1") as running:
        port = int(running.url.rpartition(":")[2])
        for processes in (False, True):
            with pytest.raises(ConfigError, match=f"127.0.0.1:{port} is in use"):
                dsa_zmq.LocalCluster(1, "copies=1", processes=processes, port=port).start()
    assert os.listdir(tmp_path) == []


def test_a_second_cluster_on_the_directory_is_refused(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path) as first:
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
            dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path).start()
        assert first.ended() == []


def test_a_directory_from_another_cluster_is_not_taken_in(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "a"):
        pass
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "b"):
        pass
    (tmp_path / "b" / "node-1").rename(tmp_path / "b" / "own")
    (tmp_path / "a" / "node-1").rename(tmp_path / "b" / "node-1")
    with pytest.raises(DSAError):
        dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "b").start()


def test_wait_up_names_what_is_missing() -> None:
    with dsa_zmq.LocalCluster(2) as cluster:
        cluster.kill(1)
        with pytest.raises(Timeout, match=r"node-2 is (not running|known to be down)"):
            cluster.wait_up(timeout=0.3)
        assert cluster.ended() == ["node-2"]


def test_killed_is_killed() -> None:
    with dsa_zmq.LocalCluster(2, processes=True) as cluster:
        pid = cluster.pids()["node-1"]
        os.kill(pid, signal.SIGSTOP)  # it cannot stop in order any more
        cluster.kill(0)
        assert cluster.ended() == ["node-1"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"nodes": 1}, "copies=2 needs 2 nodes"),
        ({"nodes": "4"}, "'4' nodes"),
        ({"nodes": 0}, "0 nodes"),
        ({"redundancy": "raid"}, "'raid' is not a redundancy"),
        ({"placement": "random"}, "'random' is not a placement"),
        ({"speed": 0}, "speed 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        dsa_zmq.LocalCluster(**settings)  # type: ignore[arg-type]


def test_a_node_that_is_not_there_is_no_node() -> None:
    cluster = dsa_zmq.LocalCluster(2)
    for node in (2, -1, "node-9"):
        with pytest.raises(Invalid, match="there is no node"):
            cluster.kill(node)
    with pytest.raises(ConnectionError, match="not running"):
        cluster.kill(0)


def test_a_node_that_somebody_added_by_hand_is_not_waited_for(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "c") as cluster:
        port = cluster.url.rpartition(":")[2]
        options = NodeOptions(master=f"127.0.0.1:{port}", path=str(tmp_path / "guest"), name="guest", port=0, reserve=0)
        guest = app.start_node(options)
        with cluster.connect() as store:
            deadline = time.monotonic() + 10
            while {node.name for node in store.nodes()} != {"node-1", "guest"}:
                assert time.monotonic() < deadline
        guest.stop()
    with dsa_zmq.LocalCluster(1, "copies=1", directory=tmp_path / "c") as cluster, cluster.connect() as store:
        store.write_bytes("/still", b"here")
