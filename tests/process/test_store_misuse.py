"""What a program may do wrong to a store, and what may be odd on its side: one clear error, and everybody else goes on."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.client.put_tree import put_tree
from dsa_zmq.client.store import Store
from dsa_zmq.errors import DSAError, LocalError

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


def outcome_of(work: Callable[[], object]) -> str:
    try:
        work()
    except DSAError as error:
        return error.code
    return "done"


def test_numbers_that_no_message_can_carry_are_refused_or_bent(store: Store) -> None:
    threads = threading.active_count()
    huge = 1 << 70
    for refused in (
        lambda: store.put(b"x", "/n", mode=huge),
        lambda: store.put(b"x", "/n", mode=-1),
        lambda: store.put(b"x", "/n", if_version=huge),
        lambda: store.put(b"x", "/n", if_version=-1),
        lambda: store.rm("/n", if_version=huge),
        lambda: store.mkdir("/d", mode=huge),
        lambda: dsa_zmq.connect(store.url, timeout=float("inf")),
    ):
        assert outcome_of(refused) == "invalid"
    assert store.put(b"x", "/n", mtime_ns=huge).mtime_ns == (1 << 63) - 1
    assert store.put(b"x", "/n", mtime_ns=-huge).mtime_ns == -(1 << 63) + 1
    assert threading.active_count() == threads  # the same actor


def test_a_file_from_a_far_future_is_stored_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "far").write_bytes(b"x")
    os.utime(tmp_path / "far", (16e9, 16e9))  # in 2477
    assert [put_tree(store, tmp_path, "/far").files for _ in range(2)] == [1, 0]


def test_local_paths_that_are_none_are_told_like_any_other_failure(store: Store, tmp_path: Path) -> None:
    store.write_bytes("/there", b"x")
    none = str(tmp_path / "a\0b")
    assert outcome_of(lambda: store.put(none, "/n")) == "local"
    assert outcome_of(lambda: store.get("/there", none)) == "local"
    assert [str(each) for each in store.put_many([(none, "/n")])] == [f"{none}: embedded null byte; check the path"]
    assert [str(each) for each in store.get_many([("/there", none)])] == [f"{none}: embedded null byte; check the path"]


def test_a_pipe_is_read_to_its_end_and_never_replaced(store: Store, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"once"), daemon=True)
    writer.start()
    putter = threading.Thread(target=lambda: store.put(pipe, "/piped"), daemon=True)
    putter.start()
    putter.join(10)
    assert not putter.is_alive()
    assert store.read_bytes("/piped") == b"once"
    with pytest.raises(LocalError, match="is a pipe or a device"):
        store.get("/piped", pipe)
    assert pipe.is_fifo()
    assert [str(each) for each in store.put_many([(pipe, "/p")])] == [f"{pipe} is not a regular file; put it by itself"]


class Hesitant(io.RawIOBase):
    """Has something, then nothing yet, then more; takes a hundred bytes at a time."""

    def __init__(self) -> None:
        self.waiting: list[bytes | None] = [b"abc", None, b"def"]
        self.taken = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes | None:
        return self.waiting.pop(0) if self.waiting else b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(data)[:100]
        self.taken += part
        return len(part)


def test_unbuffered_files_lose_nothing_in_silence(store: Store) -> None:
    with pytest.raises(LocalError, match="no bytes right now"):
        store.put(Hesitant(), "/hesitant")
    assert not store.exists("/hesitant")
    data = os.urandom(5000)
    store.write_bytes("/there", data)
    target = Hesitant()
    store.get("/there", target)
    assert target.taken == data


def test_any_buffer_is_stored_as_its_bytes(store: Store) -> None:
    wide = memoryview(os.urandom(3 * MIB)).cast("I")  # a third as many items as bytes
    spread = memoryview(os.urandom(1000))[::2]
    for view in (wide, spread):
        store.put(view, "/one")
        assert [each for each in store.put_many([(view, "/two")]) if isinstance(each, DSAError)] == []
        assert store.read_bytes("/one") == store.read_bytes("/two") == view.tobytes()
