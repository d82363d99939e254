"""Many small files on a real cluster: slots are used, contents are right, and directories give what they say."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

import dsa_zmq
from dsa_zmq.client import carrier
from dsa_zmq.client.slots import SlotPool

pytestmark = [pytest.mark.process, pytest.mark.slow]

THREADS = 16


class WatchedPool(SlotPool):
    """Remembers the pools of all clients."""

    made: ClassVar[list[SlotPool]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.made.append(self)


@pytest.fixture(name="store")
def _store(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(carrier, "SlotPool", WatchedPool)
    WatchedPool.made.clear()
    with dsa_zmq.LocalCluster(nodes=4) as cluster, cluster.connect() as store:
        yield store


def files(directory: str, count: int, size: int = 4096) -> dict[str, bytes]:
    return {f"{directory}/{number:04}": random.randbytes(size + number % 5) for number in range(count)}


def read(store: Any, paths: list[str]) -> dict[str, bytes]:
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(paths, pool.map(store.read_bytes, paths), strict=True))


def test_many_files_at_once_take_slots_and_come_back(store: Any) -> None:
    wanted = files("/one", 300) | files("/two", 300, size=20_000)
    outcomes = store.put_many([(data, path) for path, data in wanted.items()])
    assert {outcome.redundancy for outcome in outcomes} == {"copies=2"}
    assert max(pool.taken for pool in WatchedPool.made) > 300
    assert read(store, list(wanted)) == wanted


def test_sixteen_threads_get_what_their_directory_gives_after_another_client_has_replaced_it(store: Any) -> None:
    half = threading.Barrier(THREADS + 1)
    mine = [files(f"/d/{number:02}", 60) for number in range(THREADS)]

    def write(number: int) -> None:
        for at, (path, data) in enumerate(mine[number].items()):
            if at == 30:
                half.wait()
                half.wait()
            store.write_bytes(path, data)

    with ThreadPoolExecutor(THREADS) as pool, dsa_zmq.connect(store.url) as other:
        writers = [pool.submit(write, number) for number in range(THREADS)]
        half.wait()
        other.mv("/d", "/old")
        other.mkdir("/d", redundancy="copies=3")
        half.wait()
        for writer in writers:
            writer.result()
    for top, redundancy, first in (("/old", "copies=2", 0), ("/d", "copies=3", 30)):
        found = [file for directory in store.ls(top) for file in store.ls(directory.path)]
        assert {stat.redundancy for stat in found} == {redundancy}
        expected = [entry for each in mine for entry in list(each.items())[first : first + 30]]
        assert read(store, [stat.path for stat in found]) == {
            path.replace("/d/", f"{top}/"): data for path, data in expected
        }
    assert max(pool.taken for pool in WatchedPool.made) > THREADS * 30
