"""Files stored with an erasure code, end to end: what travels, and what may be lost."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.errors import DSAError, TooFewNodes, Unavailable
from dsa_zmq.model.redundancy import SMALL_BYTES, parse_redundancy

pytestmark = [pytest.mark.process, pytest.mark.slow]

CODE = parse_redundancy("ec=4+2")
CHUNK_BYTES = 1 << 20
PER_SHARD, PER_FILE = 600, 2000  #: bytes of manifest and headers
SIZES = [1, SMALL_BYTES, SMALL_BYTES + 1, CHUNK_BYTES - 1, CHUNK_BYTES, 5 * CHUNK_BYTES + 12_345, 40_000_000]
HASTY = {"node_dead_s": 1.0, "progress_timeout_s": 5.0}


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[dsa_zmq.LocalCluster]:
    with dsa_zmq.LocalCluster(nodes=6, redundancy=CODE.name, directory=tmp_path / "c") as cluster:
        yield cluster


def shard_bytes(size: int) -> tuple[int, int]:
    """Of all chunks of a file together: one shard of each; and how many chunks there are."""
    lengths = [min(CHUNK_BYTES, size - at) for at in range(0, size, CHUNK_BYTES)]
    return sum(CODE.shard_bytes(length) for length in lengths), len(lengths)


def up(store: Any) -> int:
    """How many nodes are up, as far as the master knows."""
    return sum(node.state == "up" for node in store.nodes())


def readers(store: Any, path: str, local: Path) -> list[Any]:
    """All ways to read a whole file."""
    return [
        lambda: store.read_bytes(path),
        lambda: b"".join(store.iter_bytes(path)),
        lambda: store.get(path, local) and local.read_bytes(),
        lambda: store.open(path).read(),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_healthy_read_fetches_exactly_the_shards_that_are_needed(
    cluster: dsa_zmq.LocalCluster, client: Any, content: Any, tmp_path: Path, size: int
) -> None:
    data, store = content(size), cluster.connect()
    store.put([data], "/file")
    small = size <= SMALL_BYTES
    assert store.stat("/file").redundancy == ("copies=3" if small else CODE.name)
    each, chunks = shard_bytes(size)
    least = size if small else CODE.needed * each
    reader = client(cluster.url)
    for read in readers(reader.store, "/file", tmp_path / "local"):
        before = reader.bytes_in
        assert read() == data
        assert least <= reader.bytes_in - before <= least + chunks * CODE.needed * PER_SHARD + PER_FILE


def test_a_healthy_put_sends_each_shard_once(cluster: dsa_zmq.LocalCluster, client: Any, content: Any) -> None:
    size = 30_000_000
    each, chunks = shard_bytes(size)
    writer = client(cluster.url)
    before = writer.runtime.statistics()["bytes_out"]
    writer.store.put([content(size)], "/file")
    sent = writer.runtime.statistics()["bytes_out"] - before
    assert CODE.shards * each <= sent <= CODE.shards * (each + chunks * PER_SHARD) + PER_FILE


def test_files_streams_and_ranges_read_back(cluster: dsa_zmq.LocalCluster, content: Any, tmp_path: Path) -> None:
    store = cluster.connect()
    data = content(7 * CHUNK_BYTES + 77)
    (tmp_path / "source").write_bytes(data)
    store.put(tmp_path / "source", "/file")
    store.put((data[at : at + 100_000] for at in range(0, len(data), 100_000)), "/stream")
    with store.open("/written", "wb") as file:
        for at in range(0, len(data), 333_333):
            file.write(data[at : at + 333_333])
    for path in ("/file", "/stream", "/written"):
        assert store.stat(path).redundancy == CODE.name
        assert store.read_bytes(path) == data
        for start, stop in [(0, 1), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (3_000_000, 5_000_000), (len(data) - 3, None)]:
            assert store.read_bytes(path, start, stop) == data[start:stop]


def test_a_short_read_fetches_only_the_shards_that_have_its_bytes(
    cluster: dsa_zmq.LocalCluster, client: Any, content: Any
) -> None:
    data = content(8 * CHUNK_BYTES)
    cluster.connect().put([data], "/file")
    shard = CODE.shard_bytes(CHUNK_BYTES)
    reader = client(cluster.url)

    def fetched(read: Any, expected: bytes) -> float:
        before = reader.bytes_in
        assert read() == expected
        return (reader.bytes_in - before) / shard

    def seek(at: int, size: int) -> bytes:
        with reader.store.open("/file") as file:
            file.seek(at)
            return bytes(file.read(size))

    margin = (PER_FILE + 8 * PER_SHARD * CODE.needed) / shard
    in_one, over_two = 3 * CHUNK_BYTES + shard + 777, 5 * CHUNK_BYTES + 2 * shard - 1000
    for at, shards in ((in_one, 1), (over_two, 2)):
        wanted = data[at : at + 4096]
        for read in (
            lambda at=at: reader.store.read_bytes("/file", at, at + 4096),
            lambda at=at: b"".join(reader.store.iter_bytes("/file", at, at + 4096)),
        ):
            assert shards <= fetched(read, wanted) < shards + margin
    assert 1 <= fetched(lambda: seek(in_one, 4096), data[in_one : in_one + 4096]) < 1 + margin
    whole_and_rest = 4 + 1 + margin
    start = CHUNK_BYTES - 10
    stop = 2 * CHUNK_BYTES
    assert fetched(lambda: reader.store.read_bytes("/file", start, stop), data[start:stop]) < whole_and_rest
    with reader.store.open("/file") as file:
        file.seek(in_one)
        assert file.read() == data[in_one:]
    cluster.kill(1)
    cluster.kill(3)
    hasty = client(cluster.url, **HASTY).store
    for at in range(0, len(data) - 4096, 299_993):
        assert hasty.read_bytes("/file", at, at + 4096) == data[at : at + 4096]


def test_many_small_files_are_copies_and_are_read_with_two_nodes_dead(
    cluster: dsa_zmq.LocalCluster, client: Any, content: Any
) -> None:
    files = {f"/d/{number:03}": content(100 + number) for number in range(300)}
    store = cluster.connect()
    store.mkdir("/d")
    outcomes = store.put_many([(data, path) for path, data in files.items()])
    assert not [outcome for outcome in outcomes if isinstance(outcome, DSAError)]
    assert {found.redundancy for found in store.ls("/d")} == {"copies=3"}
    cluster.kill(1)
    cluster.kill(4)
    reader = client(cluster.url, **HASTY).store
    assert {path: reader.read_bytes(path) for path in files} == files


def test_any_two_nodes_may_die_and_a_third_is_told_in_words(
    cluster: dsa_zmq.LocalCluster, client: Any, content: Any, eventually: Any, tmp_path: Path
) -> None:
    store = cluster.connect()
    data = content(5 * CHUNK_BYTES + 12_345)
    store.put([data], "/file")
    for pair in list(itertools.combinations(range(6), 2))[::4]:
        for node in pair:
            cluster.kill(node)
        reader = client(cluster.url, **HASTY)
        for read in readers(reader.store, "/file", tmp_path / "local"):
            assert read() == data
        for node in pair:
            cluster.restart(node)
        cluster.wait_up()
    for node in (0, 2, 3):
        cluster.kill(node)
    reader = client(cluster.url, **HASTY)
    begin = time.monotonic()
    with pytest.raises(Unavailable, match=r"chunk 1 of /file could not be read .*3 of 4 needed shards"):
        reader.store.read_bytes("/file")
    assert time.monotonic() - begin < 10
    eventually(lambda: up(store) == 3, 20)
    with pytest.raises(TooFewNodes, match=r"ec=4\+2 needs 6 nodes, 3 are up"):
        store.put([content(CHUNK_BYTES)], "/other")
    cluster.restart(0)
    eventually(lambda: up(store) == 4)
    assert reader.store.read_bytes("/file") == data


def test_a_node_that_dies_during_transfers_of_a_code_costs_nothing_but_time(tmp_path: Path, content: Any) -> None:
    data = content(60_000_000)
    with dsa_zmq.LocalCluster(nodes=7, redundancy=CODE.name, directory=tmp_path / "c") as cluster:
        store = cluster.connect()

        def pieces() -> Iterator[bytes]:
            for at in range(0, len(data), CHUNK_BYTES):
                if at == 20 * CHUNK_BYTES:
                    cluster.kill(3)
                yield data[at : at + CHUNK_BYTES]

        store.put(pieces(), "/file")
        parts = []
        for part in store.iter_bytes("/file"):
            parts.append(part)
            if len(parts) == 20:
                cluster.kill(5)
        assert b"".join(parts) == data


def test_a_damaged_shard_is_replaced_by_parity(cluster: dsa_zmq.LocalCluster, content: Any) -> None:
    store = cluster.connect()
    data = content(3 * CHUNK_BYTES)
    store.put([data], "/file")
    for node in (0, 1):
        cluster.corrupt("/file", node)
    assert store.read_bytes("/file") == data


def test_a_directory_with_a_code_and_one_with_copies_stand_side_by_side(
    cluster: dsa_zmq.LocalCluster, content: Any
) -> None:
    store = cluster.connect()
    data = content(2 * CHUNK_BYTES + 1)
    for path, redundancy in (("/a", "copies=2"), ("/b", "ec=2+1"), ("/c", "")):
        store.mkdir(path, redundancy=redundancy)
        store.put([data], f"{path}/file")
        assert store.stat(f"{path}/file").redundancy == (redundancy or CODE.name)
    store.put([data], "/a/named", redundancy="ec=3+1")
    assert store.stat("/a/named").redundancy == "ec=3+1"
    for path in ("/a/file", "/b/file", "/c/file", "/a/named"):
        assert store.read_bytes(path) == data
    with pytest.raises(DSAError, match="'ec=1' is not a redundancy"):
        store.put([data], "/a/wrong", redundancy="ec=1")
