"""What a transfer costs on the wire while all is well."""

from __future__ import annotations

from typing import Any

import pytest

import dsa_zmq

pytestmark = [pytest.mark.process, pytest.mark.slow]

PER_CHUNK, PER_FILE = 600, 2000  #: bytes of manifest and headers


@pytest.mark.parametrize("size", [1, 4096, (1 << 20) - 1, 1 << 20, (5 << 20) + 12_345, 40_000_000])
def test_a_healthy_read_fetches_each_chunk_once(client: Any, content: Any, tmp_path: Any, size: int) -> None:
    with dsa_zmq.LocalCluster(4, directory=tmp_path / "c") as cluster:
        store = cluster.connect()
        data = content(size)
        store.put([data], "/file")
        chunks = -(-size // (1 << 20))
        reader = client(cluster.url)
        for read in (
            lambda: reader.store.read_bytes("/file"),
            lambda: b"".join(reader.store.iter_bytes("/file")),
            lambda: reader.store.get("/file", tmp_path / "local") and (tmp_path / "local").read_bytes(),
            lambda: reader.store.open("/file").read(),
        ):
            before = reader.bytes_in
            assert read() == data
            assert size <= reader.bytes_in - before <= size + chunks * PER_CHUNK + PER_FILE


def test_a_range_fetches_only_its_chunks(client: Any, content: Any, tmp_path: Any) -> None:
    with dsa_zmq.LocalCluster(4, directory=tmp_path / "c") as cluster:
        data = content(20 << 20)
        cluster.connect().put([data], "/file")
        reader = client(cluster.url)
        before = reader.bytes_in
        assert reader.store.read_bytes("/file", 7_000_000, 7_000_100) == data[7_000_000:7_000_100]
        assert reader.bytes_in - before < (1 << 20) + 20 * PER_CHUNK + PER_FILE


def test_a_healthy_put_sends_each_shard_once(client: Any, content: Any, tmp_path: Any) -> None:
    with dsa_zmq.LocalCluster(4, directory=tmp_path / "c") as cluster:
        writer = client(cluster.url)
        size = 30_000_000
        before = writer.runtime.statistics()["bytes_out"]
        writer.store.put([content(size)], "/file")
        sent = writer.runtime.statistics()["bytes_out"] - before
        assert 2 * size <= sent <= 2 * size + 30 * 2 * PER_CHUNK + PER_FILE
