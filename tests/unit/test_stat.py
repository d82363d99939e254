"""Stat: what a listing gives, built from what travels."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.model.stat import Stat
from dsa_zmq.protocol.values import Attributes


def test_it_is_made_of_a_path_and_the_attributes_that_travel() -> None:
    attributes = Attributes(
        kind="file", inode=7, size=123, mtime_ns=1_500_000_000, mode=0o640, version=3, content=9, chunk_bytes=1 << 20,
        chunk_count=1, redundancy="copies=2", created_ns=5,
    )  # fmt: skip
    stat = Stat(path="/a/b.csv", **msgspec.structs.asdict(attributes))
    assert {**msgspec.structs.asdict(attributes), "path": "/a/b.csv", "missing_shards": 0} == msgspec.structs.asdict(
        stat
    )
    assert stat.name == "b.csv"
    assert stat.is_file
    assert not stat.is_dir
    assert stat.mtime == 1.5


def test_the_root_is_a_directory_without_a_name() -> None:
    root = Stat(path="/", kind="dir")
    assert root.name == ""
    assert root.is_dir
    assert not root.is_file


def test_it_cannot_be_changed() -> None:
    stat = Stat(path="/a", kind="file")
    with pytest.raises(AttributeError):
        stat.size = 3  # type: ignore[misc]
