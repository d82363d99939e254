"""What holds for those who go back to the previous build after this one has run: nodes may, a master may not once the
catalog has a newer format."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from tests.golden.write_store import SEGMENT_BYTES
from tests.upgrade.builds import NODES, PREVIOUS_FORMAT, Build, Servers

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_nodes_go_back_to_the_previous_build_with_all_that_they_hold(
    old: Build, new: Build, golden: Callable[[int], Any], content: Callable[[int], bytes]
) -> None:
    stored = golden(PREVIOUS_FORMAT)
    options = {"master": new, "segment_bytes": SEGMENT_BYTES}
    with Servers(stored.directory, nodes=new, **options) as cluster:
        data = {f"/{kind}/by-new-{number}": content(9_000) for kind in ("plain", "coded") for number in range(20)}
        for path, body in data.items():
            cluster.store.write_bytes(path, body)
        for number in range(0, 20, 2):
            cluster.store.rm(f"/plain/by-new-{number}")
            del data[f"/plain/by-new-{number}"]
        for name in NODES:
            cluster.replace(name, old)
            for path, body in data.items():
                assert cluster.store.read_bytes(path) == body
        cluster.store.write_bytes("/plain/by-old", content(9_000))
        cluster.wait_healthy()
        stored.check(cluster.store, [*data, "/plain/by-old"])


def test_a_master_of_the_previous_build_refuses_a_catalog_of_a_newer_format_and_leaves_it_as_it_is(
    old: Build, new: Build, golden: Callable[[int], Any]
) -> None:
    """While the formats are the same it may take it back."""
    stored = golden(PREVIOUS_FORMAT)
    with Servers(stored.directory, master=new, nodes=new, segment_bytes=SEGMENT_BYTES) as cluster:
        stored.read_all(cluster.store)
    if schema.NEWEST_FORMAT == PREVIOUS_FORMAT:
        with Servers(stored.directory, master=old, nodes=new, segment_bytes=SEGMENT_BYTES) as cluster:
            stored.check(cluster.store)
        stored.raise_format()
    master = stored.directory / "master"
    before = (master / CATALOG_FILE).read_bytes()
    ended = refusal(old, master)
    assert ended.returncode == 2, ended.stderr
    newer = max(schema.NEWEST_FORMAT, PREVIOUS_FORMAT + 1)
    assert f"has format {newer}" in ended.stderr
    assert f"up to {PREVIOUS_FORMAT}" in ended.stderr
    assert "newer software" in ended.stderr
    assert str(master / CATALOG_FILE) in ended.stderr
    assert (master / CATALOG_FILE).read_bytes() == before


def refusal(build: Build, directory: Path) -> subprocess.CompletedProcess[str]:
    return build.dsa("master", "--dir", directory, "--port", "0")
