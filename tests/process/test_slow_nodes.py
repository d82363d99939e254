"""Nodes that are dead, paused or slow: found out once, and then left aside."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.protocol.operations import Locate

pytestmark = [pytest.mark.process, pytest.mark.slow]

READS = 2000
SLOW_S = 0.4
FILES = 40


@pytest.fixture
def stocked(tmp_path: Any, content: Any) -> Any:
    """A cluster in which liveness takes as long as in life, so that a client must help itself, and small files in it."""
    with (
        dsa_zmq.LocalCluster(4, processes=True, directory=tmp_path / "c", speed=1) as cluster,
        cluster.connect() as store,
    ):
        files = {f"/{number}": content(3000 + number) for number in range(FILES)}
        store.put_many((data, path) for path, data in files.items())
        yield cluster, files


def first_asked(store: Any, paths: Any) -> str:
    """The node that healthy reads of these files ask most often."""
    names = {node.node: node.name for node in store.nodes()}
    first = Counter(store._connection.ask(Locate(path)).chunks[0].places[0].node for path in paths)
    return names[first.most_common(1)[0][0]]


@pytest.mark.parametrize("fault", ["dead", "paused"])
def test_two_thousand_reads_with_a_lost_node_cost_one_timeout_in_all(stocked: Any, fault: str) -> None:
    cluster, files = stocked
    with cluster.connect() as store:
        assert all(store.read_bytes(path) == data for path, data in files.items())
        pid = cluster.pids()[first_asked(store, files)]
        os.kill(pid, signal.SIGKILL if fault == "dead" else signal.SIGSTOP)
        try:
            paths = list(files)
            slow = []
            for number in range(READS):
                path = paths[number % len(paths)]
                begin = time.monotonic()
                data = store.read_bytes(path)
                took = time.monotonic() - begin
                assert data == files[path]
                if took > SLOW_S:
                    slow.append(took)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert len(slow) <= 2, f"slow reads took {slow}"
    assert slow or fault == "dead", "no read waited for the node that hangs"
    assert sum(slow) < 1.5, f"slow reads took {slow}"


def test_a_read_waits_for_a_silent_node_half_a_second_more(stocked: Any) -> None:
    cluster, files = stocked
    some = dict(list(files.items())[:8])
    with cluster.connect() as store:
        pid = cluster.pids()[first_asked(store, some)]
    os.kill(pid, signal.SIGSTOP)
    try:
        waits = []
        for path, data in some.items():
            with cluster.connect() as store:  # each finds out anew
                begin = time.monotonic()
                assert store.read_bytes(path) == data
                waits.append(time.monotonic() - begin)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert max(waits) < 1.2, waits
    assert max(waits) > SLOW_S, f"no read needed the node: {waits}"


def test_many_reads_at_once_wait_together_and_once(stocked: Any) -> None:
    cluster, files = stocked
    with cluster.connect() as store:
        os.kill(cluster.pids()[first_asked(store, files)], signal.SIGKILL)
        results: dict[str, bytes] = {}
        threads = [
            threading.Thread(target=lambda path=path: results.update({path: store.read_bytes(path)})) for path in files
        ]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        took = time.monotonic() - begin
    assert results == files
    assert took < 2


def test_a_paused_node_does_not_hang_a_put_and_serves_again_when_it_goes_on(
    client: Any, content: Any, tmp_path: Any, eventually: Any
) -> None:
    with dsa_zmq.LocalCluster(3, processes=True, directory=tmp_path / "c", speed=5) as cluster:
        store = client(cluster.url, node_dead_s=1.5).store
        pid = cluster.pids()["node-1"]
        os.kill(pid, signal.SIGSTOP)
        try:
            begin = time.monotonic()
            data = content(5_000_000)
            store.put([data], "/file")
            assert time.monotonic() - begin < 6
            assert store.read_bytes("/file") == data
        finally:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: {node.name: node.state for node in store.nodes()}["node-1"] == "up")
        assert cluster.ended() == []
        store.write_bytes("/all", data[:1000], redundancy="copies=3")  # which needs every node
        assert store.read_bytes("/all") == data[:1000]


def test_a_paused_master_delays_a_put_and_loses_nothing_of_it(client: Any, content: Any, tmp_path: Any) -> None:
    with dsa_zmq.LocalCluster(2, processes=True, directory=tmp_path / "c") as cluster:
        store = client(cluster.url).store
        pid = cluster.pids()["master"]
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(2.0, os.kill, (pid, signal.SIGCONT))
        timer.start()
        data = content(100_000)
        try:
            store.write_bytes("/file", data, if_absent=True)  # its own repeats must not meet their first
        finally:
            timer.join()
        assert store.read_bytes("/file") == data
        assert [node.state for node in store.nodes()] == ["up", "up"]
