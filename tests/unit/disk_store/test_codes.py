"""Shards of codes, whose length is not that of their chunk, come through everything that a disk store does by itself."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from blake3 import blake3

from actors.sim.disk import SimDisk
from dsa_zmq.model.erasure import join, split
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.scrub_steps import FIRST, ScrubSome, scrub_some
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey
from tests.unit.disk_store.conftest import contents, crash, lose_index, open_store, put_all, rot

CODE = parse_redundancy("ec=4+2")
LENGTHS = [1, 64, 1000, 4001, 12_000]


def chunk(number: int) -> bytes:
    return random.Random(number).randbytes(LENGTHS[number % len(LENGTHS)])


def shards(number: int, code: Redundancy = CODE) -> list[NewShard]:
    content = chunk(number)
    parts = [bytes(part) for part in split(content, code)]
    return [
        NewShard(ShardKey(number, index), len(content), blake3(part).digest(), part) for index, part in enumerate(parts)
    ]


def infos(*numbers: int) -> list[ShardInfo]:
    return [
        ShardInfo(new.key, len(new.data), new.chunk_length, new.hash) for number in numbers for new in shards(number)
    ]


def fill(disk: SimDisk, count: int = 20) -> DiskStore:
    store = open_store(disk)
    put_all(store, *(new for number in range(1, count + 1) for new in shards(number)))
    return store


def check(store: DiskStore, *numbers: int) -> None:
    """These chunks are there, with what is known of them, and can be read from any of their shards."""
    assert store.list(None, 1000) == infos(*numbers)
    found = contents(store)
    for number in numbers:
        kept = random.Random(number).sample(range(CODE.shards), CODE.needed)
        parts = {index: found[ShardKey(number, index)] for index in kept}
        assert join(parts, CODE, len(chunk(number))) == chunk(number)


def closed(disk: SimDisk, store: DiskStore) -> DiskStore:
    store.close()
    return open_store(disk, seed=3)


def unindexed(disk: SimDisk, store: DiskStore) -> DiskStore:
    store.close()
    lose_index(disk)
    return open_store(disk, seed=4)


@pytest.mark.parametrize("again", [closed, unindexed, lambda disk, store: crash(disk)], ids=["close", "index", "power"])
def test_they_are_there_after_a_restart(disk: SimDisk, again: Callable[[SimDisk, DiskStore], DiskStore]) -> None:
    check(again(disk, fill(disk)), *range(1, 21))


def test_they_are_compacted_like_others(disk: SimDisk) -> None:
    store = fill(disk)
    store.drop([new.key for number in range(1, 21) if number % 4 for new in shards(number)])
    rewritten = 0
    while (segment := store.compactor.choose(0.25)) is not None:
        share = store.compactor.gather(segment, 4000)
        rewritten += share is not None and store.compactor.rewrite(share).written_bytes
    assert rewritten > 0
    check(store, *range(4, 21, 4))
    check(unindexed(disk, store), *range(4, 21, 4))


def test_scrubbing_finds_the_one_that_has_rotted(disk: SimDisk) -> None:
    store = fill(disk)
    bad = shards(8)[5]
    rot(disk, bad)
    result = scrub_some(store, ScrubSome(FIRST, 1 << 20))
    assert (result.shards, result.damaged) == (20 * CODE.shards, 1)
    assert [info.key for info in store.damaged()] == [bad.key]
    put_all(store, bad)
    check(store, *range(1, 21))
