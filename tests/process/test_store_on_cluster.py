"""The store on a real cluster of real sockets and files: contents, names, and transfers through failures."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.aio import AsyncStore
from dsa_zmq.client.store import Store
from dsa_zmq.errors import (
    AlreadyExists,
    Conflict,
    DSAError,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    TooFewNodes,
)

pytestmark = [pytest.mark.slow]

MIB = 1 << 20


@pytest.fixture(name="cluster", scope="module")
def _cluster() -> Iterator[Any]:
    with dsa_zmq.LocalCluster(nodes=4) as cluster:
        yield cluster


@pytest.fixture(name="store")
def _store(cluster: Any, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A connection; each test works in a directory of its own."""
    with cluster.connect() as store:
        yield store


@pytest.fixture(name="top")
def _top(request: pytest.FixtureRequest) -> str:
    return "/" + request.node.name.replace("[", "-").replace("]", "")


@pytest.mark.parametrize("size", [0, 1, 4096, MIB, MIB + 1, 9 * MIB + 7, 65 * MIB])
def test_what_was_put_comes_back(store: Store, top: str, tmp_path: Path, size: int) -> None:
    source = tmp_path / "in"
    source.write_bytes(random.randbytes(size))
    put = store.put(source, f"{top}/file")
    assert (put.size, put.redundancy) == (size, "copies=2")
    store.get(f"{top}/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert (tmp_path / "out").stat().st_mtime_ns == source.stat().st_mtime_ns
    assert store.read_bytes(f"{top}/file") == source.read_bytes()
    assert store.stat(f"{top}/file") == put


def test_streams_and_ranges(store: Store, top: str) -> None:
    data = random.randbytes(130 * MIB + 5)
    with pytest.raises(NotFound):
        store.read_bytes(f"{top}/x")
    pieces = (data[at : at + 777_777] for at in range(0, len(data), 777_777))
    assert store.put(pieces, f"{top}/x").size == len(data)
    for start, stop in ((0, 1), (MIB - 1, MIB + 1), (64 * MIB - 3, 64 * MIB + 3), (129 * MIB, None), (200 * MIB, None)):
        assert store.read_bytes(f"{top}/x", start, stop) == data[start:stop]
    assert b"".join(store.iter_bytes(f"{top}/x", 63 * MIB + 1)) == data[63 * MIB + 1 :]
    with store.open(f"{top}/x") as file:
        file.seek(-1000, io.SEEK_END)
        assert file.read() == data[-1000:]
        file.seek(64 * MIB)
        assert file.read(3 * MIB) == data[64 * MIB : 67 * MIB]


def test_names(store: Store, top: str) -> None:
    store.mkdir(f"{top}/a/b", parents=True)
    store.write_bytes(f"{top}/a/one", b"1")
    store.write_bytes(f"{top}/a/b/two.txt", b"22")
    assert [entry.name for entry in store.ls(f"{top}/a")] == ["b", "one"]
    assert store.du(f"{top}/a") == (3, 2, 2)
    assert [found.path for found in store.glob(f"{top}/**/*.txt")] == [f"{top}/a/b/two.txt"]
    assert [(path, len(files)) for path, _, files in store.walk(f"{top}/a")] == [(f"{top}/a", 1), (f"{top}/a/b", 1)]
    store.cp(f"{top}/a/one", f"{top}/a/copy")
    moved = store.mv(f"{top}/a/b", f"{top}/c")
    assert moved.is_dir
    assert store.read_bytes(f"{top}/c/two.txt") == b"22"
    assert store.read_bytes(f"{top}/a/copy") == b"1"
    assert store.is_dir(f"{top}/c")
    assert store.is_file(f"{top}/a/one")
    assert not store.exists(f"{top}/a/b")
    assert not store.exists(f"{top}/a/one/below")
    with pytest.raises(NotEmpty):
        store.rm(f"{top}/a")
    store.rm(f"{top}/a", recursive=True)
    assert [entry.name for entry in store.ls(top)] == ["c"]
    with pytest.raises(IsADirectory):
        store.read_bytes(f"{top}/c")
    with pytest.raises(NotADirectory):
        store.write_bytes(f"{top}/c/two.txt/x", b"")
    with pytest.raises(NotFound):
        store.rm(f"{top}/none")


def test_conditions(store: Store, top: str) -> None:
    first = store.write_bytes(f"{top}/x", b"1", if_absent=True)
    with pytest.raises(AlreadyExists):
        store.write_bytes(f"{top}/x", b"2", if_absent=True)
    second = store.write_bytes(f"{top}/x", b"2", if_version=first.version)
    assert second.version > first.version
    with pytest.raises(Conflict):
        store.write_bytes(f"{top}/x", b"3", if_version=first.version)
    assert store.read_bytes(f"{top}/x") == b"2"


def test_listing_of_many_pages(store: Store, top: str) -> None:
    outcomes = store.put_many((b"%d" % number, f"{top}/{number:05}") for number in range(2300))
    assert not [outcome for outcome in outcomes if isinstance(outcome, DSAError)]
    assert [entry.name for entry in store.ls(top)] == [f"{number:05}" for number in range(2300)]


def test_many_threads_and_a_pickled_store(store: Store, top: str) -> None:
    copy = pickle.loads(pickle.dumps(store))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                data = random.randbytes(random.choice([10, 5000, 2 * MIB]))
                store.write_bytes(f"{top}/{number}-{turn}", data)
                assert copy.read_bytes(f"{top}/{number}-{turn}") == data
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    copy.close()
    assert not failures


def test_a_forked_child_connects_by_itself(store: Store, top: str) -> None:
    store.write_bytes(f"{top}/x", b"before")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            store.write_bytes(f"{top}/y", store.read_bytes(f"{top}/x"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.read_bytes(f"{top}/y") == b"before"


def test_asyncio(cluster: Any, top: str) -> None:
    async def body() -> None:
        async with AsyncStore(cluster.connect()) as store:
            await asyncio.gather(*(store.write_bytes(f"{top}/{number}", b"%d" % number) for number in range(50)))
            found = await asyncio.gather(*(store.read_bytes(f"{top}/{number}") for number in range(50)))
            assert found == [b"%d" % number for number in range(50)]
            assert [entry.name async for entry in store.iter_ls(top)] == sorted(str(number) for number in range(50))

    asyncio.run(body())


def test_transfers_go_on_when_a_node_is_killed_in_their_middle(tmp_path: Path) -> None:
    data = random.randbytes(90 * MIB)
    with dsa_zmq.LocalCluster(nodes=4) as cluster, cluster.connect() as store:
        safe = 0

        def kill_at_a_third(size: int) -> None:
            nonlocal safe
            before, safe = safe, safe + size
            if before < len(data) // 3 <= safe:
                threading.Thread(target=cluster.kill, args=(1,)).start()

        assert store.put(io.BytesIO(data), "/x", progress=kill_at_a_third).size == len(data)
        assert store.read_bytes("/x") == data
        safe = 0
        cluster.restart(1)
        cluster.wait_healthy()
        store.get("/x", tmp_path / "out", progress=kill_at_a_third)
        assert (tmp_path / "out").read_bytes() == data


def test_restarted_node_and_master_during_an_upload(tmp_path: Path) -> None:
    data = random.randbytes(150 * MIB)
    with dsa_zmq.LocalCluster(nodes=3) as cluster, cluster.connect() as store:
        steps = iter([(20 * MIB, lambda: cluster.restart(0)), (70 * MIB, cluster.restart_master)])
        given = 0

        def pieces() -> Iterator[bytes]:
            nonlocal given
            step = next(steps)
            while given < len(data):
                yield data[given : given + MIB]
                given += MIB
                if step is not None and given >= step[0]:
                    step[1]()
                    step = next(steps, None)

        assert store.put(pieces(), "/x").size == len(data)
        assert store.read_bytes("/x") == data


def test_too_few_nodes_is_said_and_nothing_appears() -> None:
    with dsa_zmq.LocalCluster(nodes=2) as cluster, cluster.connect() as store:
        store.write_bytes("/x", b"1")
        cluster.kill(0)
        deadline = time.monotonic() + 10
        while store.nodes()[0].state == "up" == store.nodes()[1].state:
            assert time.monotonic() < deadline, "the master does not notice"
        with pytest.raises(TooFewNodes):
            store.write_bytes("/y", random.randbytes(3 * MIB))
        assert not store.exists("/y")
        assert store.read_bytes("/x") == b"1"
