"""A node that dies or hangs under writes, with the times as in life: the client finds out by itself, and once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.errors import DSAError
from dsa_zmq.model.limits import NODE_SILENT_S, REQUEST_TIMEOUT_S

pytestmark = [pytest.mark.process, pytest.mark.slow]

KILL_AT = 60  #: the put whose end kills the node; others are under way then
PUTS = 200
BIG = 20 << 20
WRITES = 500
NEVER_S = 300.0  #: a time-out that must not be what helps


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[Any]:
    with dsa_zmq.LocalCluster(4, processes=True, directory=tmp_path / "c", speed=1) as cluster:
        yield cluster


class Writers:
    """Threads that put files of a size each, until there were ``PUTS``; ``fault`` comes at the end of the ``KILL_AT``-th."""

    def __init__(self, store: Any, sizes: list[int], fault: Any) -> None:
        self._store, self._fault = store, fault
        self._lock = threading.Lock()
        self._ended = 0
        self.fired = threading.Event()
        self.worst_s = 0.0  #: of the puts that ended after the fault
        self.failed: list[DSAError] = []
        self.stored: dict[str, bytes] = {}
        threads = [threading.Thread(target=self._write, args=(who, size)) for who, size in enumerate(sizes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _write(self, who: int, size: int) -> None:
        rng, number = random.Random(who), 0
        while self._ended < PUTS:
            path, data, number = f"/{who}-{number}", rng.randbytes(size), number + 1
            begin = time.monotonic()
            try:
                self._store.write_bytes(path, data)
            except DSAError as error:
                self.failed.append(error)
            took = time.monotonic() - begin
            with self._lock:
                self._ended += 1
                self.stored[path] = data
                if self._ended == KILL_AT:
                    self._fault()
                    self.fired.set()
                elif self._ended > KILL_AT:
                    self.worst_s = max(self.worst_s, took)


@pytest.mark.parametrize("sizes", [[4096] * 6, [4096] * 3 + [BIG] * 2], ids=["small", "small and large"])
def test_puts_under_way_to_a_node_that_is_killed_wait_for_no_timeout(
    cluster: Any, client: Any, sizes: list[int]
) -> None:
    settings = {"node_dead_s": NEVER_S, "node_timeout_s": NEVER_S, "progress_timeout_s": NEVER_S}
    store = client(cluster.url, **settings).store
    writers = Writers(store, sizes, lambda: os.kill(cluster.pids()["node-2"], signal.SIGKILL))
    assert writers.fired.is_set()
    assert writers.failed == []
    assert writers.worst_s < REQUEST_TIMEOUT_S
    small = {path: data for path, data in writers.stored.items() if len(data) < BIG}
    assert {path: store.read_bytes(path) for path in small} == small


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "hangs"])
def test_five_hundred_writes_with_a_lost_node_do_not_wait_for_it_each(cluster: Any, fault: signal.Signals) -> None:
    rng, waited = random.Random(1), 0
    with cluster.connect() as store:
        store.write_bytes("/first", rng.randbytes(100))
        pid = cluster.pids()["node-3"]
        os.kill(pid, fault)
        try:
            for number in range(WRITES):
                begin = time.monotonic()
                store.write_bytes(f"/{number}", rng.randbytes(4096))
                waited += time.monotonic() - begin >= 0.9 * NODE_SILENT_S
        finally:
            os.kill(pid, signal.SIGCONT)
    assert waited <= 3, "one time-out, and two busy moments of the machine"
