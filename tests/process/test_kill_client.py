"""A client killed in the middle of a put: no name appears, or the whole file does."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

SHARD_FRAME = 16 << 10
PROGRAM = """
import os, sys, dsa_zmq
with dsa_zmq.connect(sys.argv[1]) as store:
    sys.stdin.read(1)
    store.put(sys.argv[2], sys.argv[3])
"""


@pytest.mark.parametrize("place", ["1st shard", "4th shard", "last shard", "commit", "answer to the commit"])
def test_a_put_whose_client_is_killed_leaves_the_whole_file_or_no_name(
    proxied_cluster: Any, client: Any, trip: Any, content: Any, tmp_path: Any, place: str
) -> None:
    cluster = proxied_cluster(3)
    data = content(3 * (1 << 20) + 77_777)  # four chunks, two copies
    (tmp_path / "source").write_bytes(data)
    command = [sys.executable, "-c", PROGRAM, cluster.front, str(tmp_path / "source"), "/new"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    direction, count, when, frame, at = {
        "1st shard": ("to server", 1, "half", SHARD_FRAME, cluster.names),
        "4th shard": ("to server", 4, "after", SHARD_FRAME, cluster.names),
        "last shard": ("to server", 8, "before", SHARD_FRAME, cluster.names),
        "commit": ("to server", 4, "before", 0, ("master",)),
        "answer to the commit": ("to client", 4, "before", 0, ("master",)),
    }[place]
    killer = trip(direction, count, when, lambda _: process.kill(), frame)
    cluster.set_trip(killer, *at)
    process.communicate(b"x", 20)
    # On a busy machine answers gather in fewer messages (then the put has succeeded), or are repeated in more (then the
    # fourth may be an earlier answer, and there is no name).
    if place != "answer to the commit" or process.returncode != 0:
        assert killer.fired.wait(5)
        assert process.returncode == -9
    store = client(cluster.url).store
    if place == "answer to the commit":
        assert process.returncode != 0 or store.exists("/new")
        assert not store.exists("/new") or store.read_bytes("/new") == data
    elif place != "commit":  # which the killed process may have handed to the kernel whole
        assert store.ls() == []
    again = client(cluster.front).store
    again.put(tmp_path / "source", "/new")
    assert again.read_bytes("/new") == data
    assert [found.path for found in store.ls()] == ["/new"]
