"""Bad input to the client commands: one message with cause and remedy, the right status, no traceback, no harm."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsa_zmq.cluster import LocalCluster
from tests.cli.conftest import Dsa

REMOTE_COMMANDS = [
    ["ls"], ["cat"], ["stat"], ["mkdir"], ["rm"], ["get"], ["mv", "/a"], ["cp", "dsa:/a"], ["put", os.devnull],
]  # fmt: skip
BAD_PATHS = {
    "nul": "/a\0b",
    "parent": "/a/../b",
    "dot": "/./a",
    "long": "/" + "/".join(["x" * 200] * 25),
    "name": "/" + "x" * 256,
    "surrogate": "/a\udcff",
    "address": "dsa://host/a",
}


@pytest.mark.parametrize("command", REMOTE_COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("kind", BAD_PATHS)
def test_a_path_that_cannot_be_is_refused(dsa: Dsa, command: list[str], kind: str) -> None:
    path = BAD_PATHS[kind]
    if command[0] == "cp" and kind != "address":
        path = "dsa:" + path
    ran = dsa(*command, path)
    assert ran.status == 2
    assert ran.out == b""
    first, second = ran.err.splitlines()
    assert first.startswith("dsa: ")
    assert second.startswith("  ")
    assert len(ran.err) < 400
    ran = dsa(*command, path, "--json")
    assert ran.status == 2
    assert ran.error["code"] == "invalid"
    assert ran.error["remedy"]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("a\0b", "NUL"),
        ("x" * 5000, "name too long"),
        ("missing", "No such file"),
        ("", "names nothing"),
        ("dsa:/x", "'dsa cp'"),
    ],
)
def test_a_local_source_that_cannot_be_is_refused(dsa: Dsa, source: str, complaint: str) -> None:
    ran = dsa("put", source, f"{dsa.home}/x")
    assert ran.status in (1, 2)
    assert complaint in ran.err
    assert dsa.tree() == {}


@pytest.mark.parametrize(("target", "complaint"), [("a\0b", "NUL"), ("x" * 5000, "name too long")])
def test_a_local_target_that_cannot_be_is_refused(dsa: Dsa, target: str, complaint: str) -> None:
    dsa.store.write_bytes(f"{dsa.home}/x", b"x")
    for path in (f"{dsa.home}/x", dsa.home):
        ran = dsa("get", path, target)
        assert ran.status in (1, 2)
        assert complaint in ran.err


@pytest.mark.parametrize("line", [["put"], ["put", "x"], ["get"], ["cat"], ["rm"], ["stat"], ["mkdir"], ["mv"], ["cp"]])
def test_a_line_without_its_paths_is_status_2(dsa: Dsa, line: list[str]) -> None:
    ran = dsa(*line)
    assert ran.status == 2
    assert f"see 'dsa {line[0]} --help'" in ran.err


@pytest.mark.parametrize("url", ["host", "http://host", "dsa://", "dsa://host:0", "dsa://a b", "dsa://host/path"])
def test_a_malformed_address_is_status_2(dsa: Dsa, url: str) -> None:
    ran = dsa("ls", "--url", url)
    assert ran.status == 2
    assert "write dsa://" in ran.err or "write a number" in ran.err


@pytest.mark.slow
def test_nobody_at_the_address_is_status_7(dsa: Dsa) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        ran = dsa("ls", "--url", f"dsa://127.0.0.1:{taken.getsockname()[1]}")
    assert ran.status == 7
    assert "127.0.0.1" in ran.err


def test_url_wins_over_the_environment(dsa: Dsa, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSA_URL", "dsa://127.0.0.1:1")
    dsa.ok("ls", "--url", cluster.url, dsa.home)
    dsa.ok("--url", cluster.url, "ls", dsa.home)


@pytest.fixture
def lonely(dsa: Dsa, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dsa]:
    """A cluster of which too few nodes are up to store anything."""
    with LocalCluster(nodes=2, speed=4) as cluster, cluster.connect() as store:
        cluster.kill(1)
        cluster.wait_healthy()
        monkeypatch.setenv("DSA_URL", cluster.url)
        store.mkdir(home := "/home")
        yield Dsa(monkeypatch, store, home)


def test_too_few_nodes_is_status_6(lonely: Dsa, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b"):
        (tmp_path / "d" / name).write_bytes(os.urandom(10))
    for source in (tmp_path / "d" / "a", tmp_path / "d"):
        ran = lonely("put", str(source), f"{lonely.home}/five/x")
        assert ran.status == 6
        assert ran.err.count("dsa: ") == 1  # the whole command ends, rather than each file
    assert set(lonely.tree()) <= {"five", "five/x"}


def test_a_failed_put_leaves_no_name_and_a_failed_get_no_file(lonely: Dsa, tmp_path: Path) -> None:
    assert lonely("put", "-", f"{lonely.home}/x", stdin=os.urandom(3_000_000)).status == 6
    assert lonely.tree() == {}
    assert lonely("get", f"{lonely.home}/nope", str(tmp_path / "out" / "nope")).status == 3
    assert not list(tmp_path.rglob("*"))


def test_a_directory_cannot_ask_for_more_copies_than_there_are_nodes(dsa: Dsa) -> None:
    ran = dsa("mkdir", "--redundancy", "copies=5", f"{dsa.home}/five")
    assert ran.status == 6
    assert "copies=5 needs 5 nodes" in ran.err
    assert dsa.tree() == {}


def test_a_path_below_a_file_is_said_to_be_so(dsa: Dsa) -> None:
    dsa.store.write_bytes(f"{dsa.home}/x", b"x")
    assert dsa("ls", f"{dsa.home}/x/y").status in (3, 4)
    assert dsa("mkdir", f"{dsa.home}/x/y").status == 4


def test_a_directory_cannot_be_explained_and_it_is_said_what_can(dsa: Dsa) -> None:
    ran = dsa("explain", dsa.home)
    assert ran.status == 4
    assert "is a directory" in ran.err
    assert "--if-lost" in ran.err
    assert "recursively" not in ran.err
