"""``python -m bench.shard_store``: the shard store of a node, beside what its disk does with the same bytes, in one run.

The limit is what a store cannot beat: the same payloads appended to a preallocated file with one ``pwritev`` and one
``fdatasync`` per batch, without hashes, headers or an index. Rounds of both alternate, since disks have moods.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import tempfile
import time

from blake3 import blake3

from actors.disk import OsDisk
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey

BATCH = 64  #: shards per sync
ROUNDS = 7


def make(first: int, count: int, size: int, noise: bytes) -> list[NewShard]:
    """Unique shards: a counter and random bytes."""
    shards = []
    for chunk in range(first, first + count):
        data = chunk.to_bytes(8, "little") + noise[: size - 8]
        shards.append(NewShard(ShardKey(chunk, 0), size, blake3(data).digest(), data))
    return shards


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Raw:
    """The limit."""

    def __init__(self, disk: OsDisk, size: int) -> None:
        self.file = disk.open("raw", create=True)
        self.file.allocate(size)
        self.position = 0

    def write(self, shards: list[NewShard]) -> None:
        self.position += self.file.pwritev([shard.data for shard in shards], self.position)
        self.file.datasync()


def measure(root: str, size: int, count: int) -> None:
    disk = OsDisk(root)
    noise = random.Random(size).randbytes(size)
    store = DiskStore(disk, capacity=1 << 40, reserve=0, rng=random.Random())
    raw = Raw(disk, (ROUNDS + 1) * count * size)
    rates: dict[str, list[float]] = {"store": [], "raw": [], "get": []}
    spent = 0.0
    first = 1
    for number in range(ROUNDS + 1):
        shards = make(first, count, size, noise)
        batches = [shards[start : start + BATCH] for start in range(0, count, BATCH)]
        begun, cpu = time.perf_counter(), cpu_s()
        for batch in batches:
            assert all(isinstance(outcome, ShardInfo) for outcome in store.put(batch))
        stored, used = time.perf_counter(), cpu_s() - cpu
        for batch in batches:
            raw.write(batch)
        written = time.perf_counter()
        for chunk in range(first, first + count):
            store.get(ShardKey(chunk, 0))
        read = time.perf_counter()
        first += count
        if number:  # the first round warms up
            rates["store"].append(count / (stored - begun))
            rates["raw"].append(count / (written - stored))
            rates["get"].append(count / (read - written))
            spent += used
    median = {name: statistics.median(values) for name, values in rates.items()}
    ratio = statistics.median(a / b for a, b in zip(rates["store"], rates["raw"], strict=True))
    segments = os.path.join(root, "segments")
    on_disk = store.usage().used
    print(f"shards of {size} bytes, {BATCH} per sync, medians of {ROUNDS}")
    for name, label in (("store", "put"), ("raw", "limit"), ("get", "get")):
        print(f"  {label:6} {median[name]:12,.0f} /s {median[name] * size / 1e9:8.2f} GB/s")
    print(f"  put / limit {ratio:.2f}; CPU {spent / (ROUNDS * count) * 1e6:.1f} us per put", end="; ")
    print(f"{on_disk / ((ROUNDS + 1) * count * size):.3f} disk bytes per byte in {len(os.listdir(segments))} segments")
    store.close()


def restart(root: str, count: int) -> None:
    """How long it takes to open a store of small shards, with its index and without."""
    disk = OsDisk(root)
    noise = random.Random(0).randbytes(64)
    store = DiskStore(disk, capacity=1 << 40, reserve=0, rng=random.Random())
    for first in range(1, count + 1, 1024):
        store.put(make(first, min(1024, count + 1 - first), 64, noise))
    store.close()
    for label in ("with its index", "without its index"):
        begun = time.perf_counter()
        store = DiskStore(disk, capacity=1 << 40, reserve=0, rng=random.Random())
        took = time.perf_counter() - begun
        assert store.usage().shards == count
        store.close()
        print(f"open {count:,} shards {label}: {took:.2f} s")
        disk.unlink("index.sqlite")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest resident size of this process: {resident:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.shard_store", description=__doc__)
    parser.add_argument("--dir", help="where to make the stores; default: the temporary directory")
    parser.add_argument("--restart", type=int, default=100_000, help="how many small shards to restart with")
    arguments = parser.parse_args()
    for size, count in ((4096, 6400), (1 << 20, 128)):
        root = tempfile.mkdtemp(dir=arguments.dir)
        try:
            measure(root, size, count)
        finally:
            shutil.rmtree(root)
    root = tempfile.mkdtemp(dir=arguments.dir)
    try:
        restart(root, arguments.restart)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
