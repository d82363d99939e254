"""The master is away for three seconds, or hears nobody: every call waits and goes on, and has its effect once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq

pytestmark = [pytest.mark.process, pytest.mark.slow]

AWAY_S = 3.0
HEARS_NOBODY_S = 3.0  #: with times divided by five, all nodes are down to the master after two seconds


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[Any]:
    with dsa_zmq.LocalCluster(3, processes=True, directory=tmp_path / "c", speed=5) as cluster:
        yield cluster


def calls_of(store: Any, rng: random.Random) -> dict[str, Callable[[], object]]:
    """One of each kind. Those that change something could not be done twice."""
    large = rng.randbytes(3_000_000)
    return {
        "put small": lambda: store.write_bytes("/small", b"small", if_absent=True),
        "put large": lambda: store.put([large], "/large", if_absent=True),
        "get": lambda: store.read_bytes("/there"),
        "stat": lambda: store.stat("/there"),
        "ls": lambda: store.ls("/"),
        "glob": lambda: store.glob("/*"),
        "du": lambda: store.du("/"),
        "mkdir": lambda: store.mkdir("/made"),
        "mv": lambda: store.mv("/from", "/moved"),
        "cp": lambda: store.cp("/there", "/copied"),
        "rm": lambda: store.rm("/old"),
        "nodes": store.nodes,
        "statfs": store.statfs,
        "health": store.health,
        "explain": lambda: store.explain("/there"),
        "set redundancy": lambda: store.admin.set_redundancy("/set", "copies=3"),
        "plan": store.admin.plan_gc,
        "tasks": store.admin.tasks,
    }


def prepare(store: Any, rng: random.Random) -> None:
    for path in ("/there", "/from", "/old"):
        store.write_bytes(path, rng.randbytes(5_000))
    store.mkdir("/set")


@pytest.mark.parametrize("fault", ["stopped", "restarted"])
def test_every_call_waits_for_a_master_that_is_away_and_has_its_effect_once(cluster: Any, fault: str) -> None:
    rng = random.Random(fault)
    make, undo = {
        "stopped": (cluster.pause, cluster.resume),
        "restarted": (cluster.kill, cluster.restart),
    }[fault]
    with cluster.connect() as store:
        prepare(store, rng)
        calls = calls_of(store, rng)
        make("master")
        back = threading.Timer(AWAY_S, undo, ["master"])
        back.start()
        with ThreadPoolExecutor(len(calls)) as pool:
            asked = {name: pool.submit(call) for name, call in calls.items()}
            failed = {name: error for name, each in asked.items() if (error := each.exception())}
        back.join()
        assert failed == {}
        names = {found.path for found in store.ls("/")}
        assert names == {"/there", "/small", "/large", "/made", "/moved", "/copied", "/set"}
        assert store.stat("/set").redundancy == "copies=3"


def test_a_write_waits_for_a_master_that_hears_no_node(cluster: Any) -> None:
    rng = random.Random(3)
    files = {f"/{number}": rng.randbytes(size) for number, size in enumerate((5_000, 60_000, 3_000_000))}
    with cluster.connect() as store:
        store.write_bytes("/there", rng.randbytes(100))
        cluster.partition(["master"], cluster.names)
        states = lambda: {node.state for node in store.nodes()}  # noqa: E731
        while "up" in states():
            pass
        back = threading.Timer(HEARS_NOBODY_S, cluster.heal)
        back.start()
        with ThreadPoolExecutor(len(files)) as pool:
            asked = [pool.submit(store.write_bytes, path, data) for path, data in files.items()]
            failed = [error for each in asked if (error := each.exception())]
        back.join()
        assert failed == []
        assert {path: store.read_bytes(path) for path in files} == files


def test_too_few_nodes_are_still_said_once_they_had_their_time(cluster: Any) -> None:
    with cluster.connect() as store:
        store.write_bytes("/there", b"there")
        for name in cluster.names:
            cluster.kill(name)
        with pytest.raises(dsa_zmq.DSAError) as caught:
            store.write_bytes("/new", b"new")
        assert caught.value.code == "too-few-nodes"
        assert caught.value.remedy
