"""What a program may do wrong to a store, and what may be odd on its side: one clear error, and everybody else goes on."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dsa_zmq
from dsa_zmq.client.store import Store

pytestmark = [pytest.mark.slow]

MIB = 1 << 20


@pytest.fixture(name="store", scope="module")
def _store() -> Iterator[Store]:
    with dsa_zmq.LocalCluster(nodes=1, redundancy="copies=1") as cluster, cluster.connect() as store:
        yield store


class StopIt(Exception):
    pass


def stop_it(_: int) -> None:
    raise StopIt


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize("way", ["bytes", "file", "stream", "get", "get-file", "many"])
def test_what_a_progress_function_raises_ends_its_own_transfer_only(
    store: Store, tmp_path: Path, way: str, size: int
) -> None:
    data = os.urandom(size)
    store.write_bytes("/there", data)
    (tmp_path / "source").write_bytes(data)
    ways: dict[str, Callable[[], object]] = {
        "bytes": lambda: store.put(data, "/p", progress=stop_it),
        "file": lambda: store.put(tmp_path / "source", "/p", progress=stop_it),
        "stream": lambda: store.put(io.BytesIO(data), "/p", progress=stop_it),
        "get": lambda: store.get("/there", io.BytesIO(), progress=stop_it),
        "get-file": lambda: store.get("/there", tmp_path / "target", progress=stop_it),
        "many": lambda: list(store.iter_put_many([(data, "/p")], progress=stop_it)),
    }
    threads = threading.active_count()
    with pytest.raises(StopIt):
        ways[way]()
    assert not (tmp_path / "target").exists()
    assert store.read_bytes("/there") == data
    assert threading.active_count() == threads  # the same actor
