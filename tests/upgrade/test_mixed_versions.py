"""Clients, nodes and a master of this build and the previous one in every combination: each does its work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsa_zmq import __version__
from dsa_zmq.protocol.messages import PROTOCOL_VERSION
from tests.upgrade.builds import PREVIOUS_PROTOCOL, Build

pytestmark = [pytest.mark.process, pytest.mark.slow]

SESSION = Path(__file__).with_name("session.py")


@pytest.fixture
def folder(tmp_path: Path, content: Callable[[int], bytes]) -> Path:
    """Two files to store: one that a code really cuts, and one that is kept as copies."""
    made = tmp_path / "folder"
    made.mkdir()
    (made / "one").write_bytes(content(200_000))
    (made / "two").write_bytes(content(3_000))
    return made


@pytest.mark.parametrize(
    ("master", "nodes"), [("old", "old"), ("new", "old"), ("old", "new"), ("new", "new")],
    ids=["previous servers", "new master, previous nodes", "previous master, new nodes", "new servers"],
)  # fmt: skip
def test_clients_of_both_builds_use(
    old: Build, new: Build, servers: Callable[..., Any], folder: Path, master: str, nodes: str
) -> None:
    builds = {"old": old, "new": new}
    cluster = servers(master=builds[master], nodes=builds[nodes], names=("node-1", "node-2", "node-3"))
    for name, build in builds.items():
        ended = build.run(SESSION, cluster.url, folder, f"/{name}")
        assert ended.returncode == 0, ended.stdout + ended.stderr
    if master == "new":
        assert cluster.store.health().catalog_at_risk == (nodes == "old"), "only nodes of this build keep copies of it"
    for reader, writer in (("old", "new"), ("new", "old")):
        for path in ("one", "coded/one"):
            back = folder / f"{reader}-{path.replace('/', '-')}"
            ended = builds[reader].dsa("get", "--url", cluster.url, f"/{writer}/{path}", back)
            assert ended.returncode == 0, ended.stderr
            assert back.read_bytes() == (folder / "one").read_bytes()


def test_it_is_shown_how_far_an_upgrade_has_come(old: Build, new: Build, servers: Callable[..., Any]) -> None:
    cluster = servers(master=new, nodes=old, names=("node-1", "node-2"))
    before, this = ("", PREVIOUS_PROTOCOL), (f"dsa-zmq {__version__}", PROTOCOL_VERSION)
    for upgraded, builds in ((None, [before, before]), ("node-1", [this, before]), ("node-2", [this, this])):
        if upgraded is not None:
            cluster.replace(upgraded, new)
        assert [(node.software, node.protocol) for node in cluster.store.nodes()] == builds
        told = [note for note in cluster.store.health().notes if "different builds" in note]
        assert len(told) == (builds[0] != builds[1])
        assert all(f"node-1: {this[0]}, protocol {this[1]}" in note for note in told)
        assert all(f"node-2: an earlier build, protocol {before[1]}" in note for note in told)
