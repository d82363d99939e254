"""Copies of the catalog with real servers: what was acknowledged is on two nodes' disks, whenever the master dies; and the
commands that look after the copies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dsa_zmq
from dsa_zmq.errors import DSAError
from dsa_zmq.model.records import CHANGES, ROWS, Record, unpack_runs
from dsa_zmq.model.volumes import VolumeChain, read_records

pytestmark = [pytest.mark.process, pytest.mark.slow]


def command(cluster: Any, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DSA_URL": cluster.url, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "dsa_zmq", *words], env=environment, capture_output=True, text=True, timeout=60
    )


def volumes(cluster: Any) -> dict[Path, tuple[VolumeChain, list[Record]]]:
    """What lies on all nodes' disks, as far as it is whole."""
    found = {}
    for file in sorted(cluster.directory.glob("node-*/catalog/*.volume")):
        chain, records = VolumeChain(), []
        data = file.read_bytes()
        end = len(data.rstrip(b"\0"))  # room that was made ahead
        try:
            for _, record in read_records(data[: end + 200]):
                chain.take(record)
                records.append(record)
        except DSAError:  # the zeros behind the last record
            pass
        found[file] = chain, records
    return found


def holders_of_names(cluster: Any) -> Counter[str]:
    """By name, the number of nodes in whose usable volumes it is."""
    held: set[tuple[str, str]] = set()
    for file, (chain, records) in volumes(cluster).items():
        if not chain.usable:
            continue
        for record in records:
            if record.kind not in (ROWS, CHANGES):
                continue
            for table, rows, _ in unpack_runs(record.body()):
                if table == "names":
                    held |= {(row[1], file.parts[-3]) for row in rows}
    return Counter(name for name, _ in held)


@pytest.mark.parametrize("after", [1, 7, 40])
def test_what_was_acknowledged_is_on_two_nodes_when_the_master_is_killed(after: int) -> None:
    """Killed right after the n-th answer, with others on their way."""
    with dsa_zmq.LocalCluster(nodes=4, processes=True, speed=5) as cluster:
        acknowledged: list[str] = []
        enough = threading.Event()

        def write(number: int) -> None:
            with cluster.connect() as store:
                for at in range(200):
                    name = f"file-{number}-{at}"
                    try:
                        store.write_bytes(f"/{name}", os.urandom(500))
                    except DSAError:
                        return
                    acknowledged.append(name)
                    if len(acknowledged) >= after:
                        enough.set()
                    if enough.is_set() and at > 3:
                        return

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        assert enough.wait(30)
        cluster.kill_master()
        told = list(acknowledged)
        held = holders_of_names(cluster)
        assert len(told) >= after
        assert not {name: held[name] for name in told if held[name] < 2}
        cluster.restart_master()
        cluster.wait_up()
        for writer in writers:
            writer.join(60)
        with cluster.connect() as store:
            assert {*told} <= {entry.name for entry in store.ls("/")}


def test_the_copies_can_be_seen_backed_up_and_verified(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(nodes=4, processes=True, speed=5, catalog_history_s=600) as cluster:
        with cluster.connect() as store:
            for number in range(30):
                store.write_bytes(f"/d/{number}", os.urandom(300))
        shown = json.loads(command(cluster, "catalog", "history", "--json").stdout)
        assert (shown["level"], shown["wanted"], shown["enough"], shown["unprotected_since"]) == ("sync", 3, 2, None)
        assert shown["position"] == shown["safe"]
        newest = shown["volumes"][-1]
        assert newest["usable"]
        assert len(newest["nodes"]) == 3
        assert "any moment from" in command(cluster, "catalog", "history").stdout

        file = tmp_path / "catalog.backup"
        made = command(cluster, "catalog", "backup", str(file), "--json")
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["bytes"] == file.stat().st_size
        again = command(cluster, "catalog", "backup", str(file))
        assert again.returncode == 4
        assert "exists" in again.stderr
        assert command(cluster, "catalog", "backup", str(file), "--force").returncode == 0
        assert os.listdir(tmp_path) == [file.name]

        for words in (["verify"], ["verify", str(file)]):
            said = command(cluster, "catalog", *words, "--json")
            assert said.returncode == 0, said.stderr
            last = json.loads(said.stdout.splitlines()[-1])
            assert (last["restorable"], last["files"], last["bytes"], last["wrong"]) == (True, 30, 9000, [])
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        assert command(cluster, "catalog", "verify", str(file)).returncode == 8
        file.write_bytes(b"something else")
        assert command(cluster, "catalog", "verify", str(file)).returncode == 8


def test_a_backup_is_read_from_whichever_node_has_it(tmp_path: Path) -> None:
    with dsa_zmq.LocalCluster(nodes=4, processes=True, speed=5) as cluster:
        with cluster.connect() as store:
            for number in range(200):
                store.write_bytes(f"/{number}", os.urandom(300))
            newest = store.admin.catalog_copies().volumes[-1]
            for name in newest.nodes[:2]:  # a byte that rots, on two of three
                (file,) = (cluster.directory / name / "catalog").glob(f"{newest.state.volume:016x}.volume")
                with file.open("r+b") as stream:
                    stream.seek(newest.state.size // 2)
                    byte = stream.read(1)
                    stream.seek(newest.state.size // 2)
                    stream.write(bytes([byte[0] ^ 4]))
            said = command(cluster, "catalog", "verify", "--json")
            assert said.returncode == 8
            states = [json.loads(line)["state"] for line in said.stdout.splitlines()[:-1]]
            assert sorted(states[-3:]) == ["damaged", "damaged", "good"]
            made = store.admin.backup_catalog(tmp_path / "b")
            assert len(made.passed_over) == 2
            assert made.position == newest.state.position
        assert command(cluster, "catalog", "verify", str(tmp_path / "b")).returncode == 0


def test_what_a_node_has_found_damaged_is_not_good_and_who_is_away_is_not_damaged() -> None:
    with dsa_zmq.LocalCluster(nodes=4, processes=True, speed=5, catalog_history_s=600) as cluster:
        with cluster.connect() as store:
            for number in range(200):
                store.write_bytes(f"/{number}", os.urandom(300))
            newest = store.admin.catalog_copies().volumes[-1]
        name = newest.nodes[0]
        number = f"{newest.state.volume:x}"

        def verify() -> tuple[int, dict[str, str]]:
            said = command(cluster, "catalog", "verify", "--json")
            told = [json.loads(line) for line in said.stdout.splitlines()]
            return said.returncode, {each["node"]: each["state"] for each in told if each.get("volume") == number}

        assert verify() == (0, dict.fromkeys(newest.nodes, "good"))
        cluster.kill(int(name[-1]) - 1)
        status, states = verify()
        assert (status, states[name]) == (7, "not read")
        (file,) = (cluster.directory / name / "catalog").glob(f"{newest.state.volume:016x}.volume")
        data = bytearray(file.read_bytes())
        data[newest.state.size - 2000] ^= 4  # in the log, so what is before it is a catalog all the same
        file.write_bytes(data)
        cluster.restart(int(name[-1]) - 1)
        cluster.wait_up()
        status, states = verify()
        assert (status, states[name]) == (8, "damaged")
        shown = json.loads(command(cluster, "catalog", "history", "--json").stdout)
        [held] = [each for each in shown["volumes"] if each["volume"] == number]
        assert {each["name"] for each in held["nodes"] if "damaged at byte" in each["damage"]} == {name}


def test_health_says_aloud_that_the_catalog_is_unprotected_and_since_when() -> None:
    with dsa_zmq.LocalCluster(nodes=2, redundancy="copies=1", speed=5) as cluster, cluster.connect() as store:
        store.write_bytes("/a", b"a")
        assert not store.health().catalog_at_risk
        cluster.kill(1)
        store.mkdir("/d")  # waits until the master goes on alone
        said = command(cluster, "health")
        assert said.returncode in (1, 2), said.stdout  # /a may have been there
        assert "catalog: unprotected for" in said.stdout
        assert "'node-2' is " in said.stdout


def test_a_level_that_does_not_exist_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dsa_zmq", "master", "--dir", "/nowhere/at/all", "--catalog-copies", "maybe"],
        capture_output=True, text=True, timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "sync, async, off" in done.stderr
