"""Disk stores on simulated disks: shards for them, and the ways in which they and their disks come to harm."""

from __future__ import annotations

import random
from typing import Any

import pytest
from blake3 import blake3

from actors.sim.disk import SimDisk
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.index_file import PATH as INDEX
from dsa_zmq.node.space import MIN_BALLAST_BYTES, MIN_WAL_PAGES, PAGE_BYTES
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey

SEGMENT = 8 << 10
CAPACITY = MIN_BALLAST_BYTES + 2 * MIN_WAL_PAGES * PAGE_BYTES + 40 * SEGMENT


def shard(chunk: int, size: int = 1000, *, index: int = 0) -> NewShard:
    data = blake3(f"{chunk} {index} {size}".encode()).digest(size)  # unique, and quicker than a generator
    return NewShard(ShardKey(chunk, index), size, blake3(data).digest(), data)


def open_store(disk: Any, *, seed: int = 1, **changes: Any) -> DiskStore:
    settings: dict[str, Any] = {"capacity": CAPACITY, "reserve": 0, "segment_bytes": SEGMENT, **changes}
    return DiskStore(disk, rng=random.Random(seed), **settings)


def put_all(store: DiskStore, *shards: NewShard) -> None:
    outcomes = store.put(shards)
    assert all(isinstance(outcome, ShardInfo) for outcome in outcomes), outcomes


def put(store: DiskStore, *chunks: int, size: int = 1000) -> None:
    """The first shard of each of these chunks."""
    put_all(store, *(shard(chunk, size) for chunk in chunks))


def drop(store: DiskStore, *chunks: int) -> None:
    """The first shard of each of these chunks, which all have to be there."""
    keys = [ShardKey(chunk, 0) for chunk in chunks]
    assert store.drop(keys) == keys


def contents(store: DiskStore) -> dict[ShardKey, bytes]:
    """All that is there, each read and verified."""
    return {info.key: store.get(info.key)[1] for info in store.list(None, 10_000)}


def segments(disk: Any) -> list[str]:
    return [f"segments/{name}" for name in disk.listdir("segments")]


def image(disk: SimDisk, path: str) -> bytes:
    file = disk.open(path, readonly=True)
    return file.pread(file.size(), 0)


def place(disk: SimDisk, new: NewShard) -> tuple[str, int]:
    """File and offset of a shard's payload."""
    for path in segments(disk):
        if (at := image(disk, path).find(bytes(new.data))) >= 0:
            return path, at
    raise AssertionError("the payload is nowhere")


def rot(disk: SimDisk, new: NewShard) -> None:
    """Turn a bit in the payload of this shard."""
    path, at = place(disk, new)
    disk.flip_bit(path, at)


def crash(disk: SimDisk, *, power: bool = True, **changes: Any) -> DiskStore:
    """The process dies; the next one opens."""
    if power:
        disk.power_loss()
    else:
        disk.process_crash()
    return open_store(disk, seed=2, **changes)


def lose_index(disk: SimDisk) -> None:
    for name in (INDEX, f"{INDEX}-wal"):
        if disk.exists(name):
            disk.unlink(name)
    disk.sync_dir("")


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(5))
