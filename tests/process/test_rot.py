"""Real servers: a flipped byte is never served; the read that met it has it mended, where it was if need be."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dsa_zmq
from dsa_zmq.client.scrubbing import begin_scrub

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_S = 30.0


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def flip(node: Path, data: bytes) -> None:
    """Turn a bit of these bytes in the segments of a node that runs."""
    for path in node.glob("**/*.seg"):
        with path.open("r+b") as file:
            at = file.read().find(data)
            if at >= 0:
                file.seek(at + len(data) // 3)
                file.write(bytes([data[len(data) // 3] ^ 4]))
                return
    raise AssertionError(f"{node} does not have it")


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "processes"])
def test_a_flipped_byte_is_not_served_and_mended_because_it_was_read(processes: bool) -> None:
    data = random.Random(7).randbytes(300_000)
    with dsa_zmq.LocalCluster(nodes=2, processes=processes) as cluster:
        store = cluster.connect()
        store.write_bytes("/file", data)
        flip(cluster.directory / cluster.names[0], data)
        cluster.kill(1)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(lambda: cluster.connect().read_bytes("/file"))  # nothing but bad bytes are in reach

            def damaged() -> list[int]:
                return [node.damaged for node in store.nodes() if node.name == cluster.names[0]]

            until(lambda: damaged() == [1], "the damage was not noticed")
            assert not reading.done() or reading.exception() is not None
            cluster.restart(1)
            until(lambda: damaged() == [0], "it was not mended")
            if reading.exception(PATIENCE_S) is None:
                assert reading.result() == data
        cluster.wait_healthy()
        cluster.kill(1)
        assert cluster.connect().read_bytes("/file") == data


def test_what_has_rotted_at_the_end_of_a_node_that_was_stopped_is_found_by_a_scrub_and_mended(tmp_path: Path) -> None:
    data = random.Random(8).randbytes(300_000)
    with dsa_zmq.LocalCluster(nodes=2, directory=tmp_path) as cluster, cluster.connect() as store:
        store.write_bytes("/file", data)
    flip(tmp_path / "node-1", data)
    with dsa_zmq.LocalCluster(nodes=2, directory=tmp_path) as cluster, cluster.connect() as store:
        begin_scrub(store)
        until(lambda: is_whole(tmp_path / "node-1", data), "it was not mended")
        cluster.wait_healthy()
        cluster.kill(1)
        assert store.read_bytes("/file") == data


def test_what_has_rotted_at_the_end_of_a_node_that_was_killed_is_missed_and_made_anew() -> None:
    """There it looks like a write that was never done: the node says that it does not have it, when it is asked."""
    data = random.Random(9).randbytes(300_000)
    with dsa_zmq.LocalCluster(nodes=2, processes=True) as cluster, cluster.connect() as store:
        store.write_bytes("/file", data)
        cluster.kill(0)
        for path in (cluster.directory / "node-1").glob("index.sqlite*"):
            path.unlink()  # it may have been told of the record already: then this would be damage
        flip(cluster.directory / "node-1", data)
        cluster.restart(0)
        assert "being written" in (cluster.directory / "run" / "node-1.log").read_text()
        until(lambda: is_whole(cluster.directory / "node-1", data), "it was not made anew")
        cluster.wait_healthy()
        cluster.kill(1)
        assert store.read_bytes("/file") == data


def is_whole(node: Path, data: bytes) -> bool:
    return any(data in path.read_bytes() for path in node.glob("**/*.seg"))
