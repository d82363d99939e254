"""Writes that may be degraded, with real nodes that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq import aio
from dsa_zmq.errors import TooFewNodes

pytestmark = [pytest.mark.process, pytest.mark.slow]

MIB = 1 << 20


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[dsa_zmq.LocalCluster]:
    options: dict[str, Any] = {"nodes": 6, "redundancy": "ec=4+2", "processes": True}
    with dsa_zmq.LocalCluster(**options, directory=tmp_path / "c") as cluster:
        yield cluster


def dsa(cluster: dsa_zmq.LocalCluster, *line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DSA_URL": cluster.url, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "dsa_zmq", *line]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def kill(cluster: dsa_zmq.LocalCluster, store: Any, eventually: Any, *nodes: int) -> None:
    """Until the master knows."""
    before = sum(node.state == "up" for node in store.nodes())
    for node in nodes:
        cluster.kill(node)
    eventually(lambda: sum(node.state == "up" for node in store.nodes()) == before - len(nodes), 20)


def test_what_is_stored_with_five_of_six_shards_survives_a_loss_and_is_whole_when_nodes_are_there(
    cluster: dsa_zmq.LocalCluster, content: Any, eventually: Any, tmp_path: Path
) -> None:
    store = cluster.connect()
    kill(cluster, store, eventually, 5)
    data = content(5 * MIB)
    with pytest.raises(TooFewNodes, match=r"5 are up; .* with 5 of its 6 shards for now: --degraded"):
        store.write_bytes("/plain", data)
    stored = store.write_bytes("/a", data, degraded=True)
    assert (stored.missing_shards, stored.redundancy) == (5, "ec=4+2")
    with store.open("/b", "wb", degraded=True) as file:
        file.write(data)
    assert file.missing_shards == 5
    assert store.write_bytes("/small", content(1000), degraded=True).missing_shards == 0
    assert "5 chunks of 5 have fewer shards than ec=4+2 asks for." in store.explain("/a")
    eventually(lambda: store.health().degraded_chunks == 10, 20)
    assert store.health().endangered_chunks == 0
    kill(cluster, store, eventually, 0)
    with pytest.raises(TooFewNodes, match=r"ec=4\+2 needs 5 nodes at least, 4 are up"):
        store.write_bytes("/c", data, degraded=True)
    assert store.read_bytes("/a") == store.read_bytes("/b") == data
    cluster.wipe(0)
    cluster.restart(5)
    cluster.wait_healthy(60)
    assert not store.exists("/c")
    kill(cluster, store, eventually, 1, 2)
    assert store.read_bytes("/a") == store.read_bytes("/b") == data


def test_a_node_that_dies_in_the_middle_of_such_a_put_is_left_out(
    cluster: dsa_zmq.LocalCluster, content: Any, eventually: Any
) -> None:
    store = cluster.connect()
    data = content(60 * MIB)

    def pieces(dying: int) -> Iterator[bytes]:
        for at in range(0, len(data), MIB):
            if at == 20 * MIB:
                cluster.kill(dying)
            yield data[at : at + MIB]

    stored = store.put(pieces(3), "/file", degraded=True)
    assert 30 <= stored.missing_shards <= 60
    assert store.read_bytes("/file") == data
    with pytest.raises(TooFewNodes):
        store.put(pieces(4), "/other", degraded=True)
    assert not store.exists("/other")
    cluster.restart(3)
    cluster.restart(4)
    cluster.wait_healthy(60)
    eventually(lambda: store.health().degraded_chunks == 0, 20)


def test_the_command_warns_and_counts_what_is_missing(
    cluster: dsa_zmq.LocalCluster, content: Any, eventually: Any, tmp_path: Path
) -> None:
    store = cluster.connect()
    kill(cluster, store, eventually, 2)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(content(2 * MIB + 5))
    refused = dsa(cluster, "put", str(folder), "/folder")
    assert refused.returncode == 6
    assert "--degraded" in refused.stderr
    for line in (["put", str(folder), "/folder"], ["cp", str(folder / "a"), "dsa:/copy"]):
        ran = dsa(cluster, *line, "-q", "--degraded")
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr.startswith("warning: ")
        shards, files = ("6 shards", "2 files") if line[0] == "put" else ("3 shards", "1 file")
        assert f"{shards} of {files} are missing: they are made when there are nodes for that" in ran.stderr
    ran = dsa(cluster, "put", "--json", "--all", "--degraded", str(folder), "/folder")
    assert (json.loads(ran.stdout)["missing_shards"], ran.stderr) == (6, "")
    assert dsa(cluster, "cp", "--degraded", "dsa:/folder", "dsa:/again").returncode == 2


def test_the_same_with_asyncio(cluster: dsa_zmq.LocalCluster, content: Any, eventually: Any) -> None:
    kill(cluster, cluster.connect(), eventually, 4)
    asyncio.run(asyncio.wait_for(put_in_all_ways(cluster, content(MIB), content(MIB)), 30))


async def put_in_all_ways(cluster: dsa_zmq.LocalCluster, data: bytes, other: bytes) -> None:
    async with await aio.connect(cluster.url) as store:
        assert (await store.put(data, "/a", degraded=True)).missing_shards == 1
        assert (await store.write_bytes("/b", data, degraded=True)).missing_shards == 1
        many = await store.put_many([(data, "/c"), (other, "/d")], degraded=True)
        assert [each.missing_shards for each in many] == [1, 1]
        async with await store.open("/e", "wb", degraded=True) as file:
            await file.write(data)
        with pytest.raises(TooFewNodes):
            await store.write_bytes("/f", data)
        assert await store.read_bytes("/e") == data
