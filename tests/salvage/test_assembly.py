"""Chunks come out of whatever sound shards there are, and only with the bytes that the catalog vouches for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import apsw
import pytest
from blake3 import blake3

from actors.disk import OsDisk
from dsa_zmq.model.erasure import split
from dsa_zmq.model.hashes import UNKNOWN_HASH, join_hashes
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.store import NewShard, ShardKey
from dsa_zmq.salvage.assembly import Assembly, Lack, Wanted
from dsa_zmq.salvage.shard_map import ShardMap
from dsa_zmq.salvage.sources import find_sources

pytestmark = pytest.mark.slow

CHUNK = 77
LENGTH = 10_000
DATA = random.Random(8).randbytes(LENGTH)
CODES = ["ec=2+1", "ec=4+2", "ec=3+4"]

Stored = Callable[..., Assembly]


def hash_of(data: bytes) -> bytes:
    return blake3(data).digest()


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """What salvage finds when a node has these shards of the chunk."""
    numbers = itertools.count()

    def call(shards: Mapping[int, bytes], dropped: tuple[int, ...] = ()) -> Assembly:
        top = tmp_path / f"node-{next(numbers)}"
        top.mkdir()
        store = DiskStore(OsDisk(top), rng=random.Random(1), capacity=1 << 30, reserve=0, segment_bytes=1 << 20)
        for index, data in shards.items():
            store.put([NewShard(ShardKey(CHUNK, index), LENGTH, hash_of(data), data)])
        store.drop([ShardKey(CHUNK, index) for index in dropped])
        store.close()
        found = ShardMap(apsw.Connection(":memory:"), find_sources([top]).nodes)
        assert list(found.scan())[-1] == len(shards)
        return Assembly(found)

    return call


def coded(name: str) -> tuple[Wanted, dict[int, bytes]]:
    code = parse_redundancy(name)
    shards = [bytes(shard) for shard in split(DATA, code)]
    hashes = join_hashes(hash_of(DATA), [hash_of(shard) for shard in shards])
    return Wanted(CHUNK, LENGTH, hashes, code), dict(enumerate(shards))


def copied(name: str = "copies=2") -> Wanted:
    return Wanted(CHUNK, LENGTH, hash_of(DATA), parse_redundancy(name))


@pytest.mark.parametrize("name", CODES)
def test_any_shards_that_are_enough_make_the_chunk(stored: Stored, name: str) -> None:
    wanted, shards = coded(name)
    sets = list(itertools.combinations(shards, wanted.redundancy.needed))
    for some in random.Random(1).sample(sets, min(6, len(sets))):
        assembly = stored({index: shards[index] for index in some})
        assert assembly.look(wanted) is None
        assert assembly.make(wanted) == DATA
        short = stored({index: shards[index] for index in some[1:]})
        lack = short.make(wanted)
        assert lack == short.look(wanted)
        assert isinstance(lack, Lack)
        assert f"{wanted.redundancy.needed - 1} of {wanted.redundancy.needed} needed" in lack.why


def test_a_shard_whose_hash_the_catalog_does_not_know_yet_is_tried(stored: Stored) -> None:
    wanted, shards = coded("ec=4+2")
    hashes = bytearray(wanted.hashes)
    hashes[32 * 2 : 32 * 3] = UNKNOWN_HASH
    wanted = wanted._replace(hashes=bytes(hashes))
    some = {index: shards[index] for index in (1, 2, 3, 5)}
    assert stored(some).make(wanted) == DATA
    wrong = stored(some | {1: bytes(len(shards[1]))})
    assert isinstance(wrong.make(wanted), Lack)
    assert stored(some | {1: bytes(len(shards[1])), 4: shards[4]}).make(wanted) == DATA


def test_parity_that_is_not_of_this_chunk_is_found_out(stored: Stored) -> None:
    wanted, shards = coded("ec=4+2")
    wrong = random.Random(2).randbytes(len(shards[4]))
    hashes = bytearray(wanted.hashes)
    hashes[32 * 5 : 32 * 6] = hash_of(wrong)
    wanted = wanted._replace(hashes=bytes(hashes))
    shards[4] = wrong
    assert stored(shards).make(wanted) == DATA
    del shards[0]
    assert stored(shards).make(wanted) == DATA
    del shards[1]
    assert stored(shards).make(wanted) == Lack("the shards of a chunk that are here do not make it")


def test_a_copy_of_any_number_will_do(stored: Stored) -> None:
    for index in (0, 1, 9):
        assembly = stored({index: DATA})
        assert assembly.look(copied()) is None
        assert assembly.make(copied()) == DATA


def test_what_was_dropped_and_is_still_on_the_disk_is_good_enough(stored: Stored) -> None:
    assembly = stored({0: DATA}, (0,))
    assert assembly.make(copied()) == DATA


def test_other_bytes_under_the_same_number_are_never_taken(stored: Stored) -> None:
    others = random.Random(3).randbytes(LENGTH)
    assembly = stored({0: others, 1: DATA[:-1]})
    assert assembly.look(copied()) == assembly.make(copied()) == Lack("no shard of a chunk is in these directories")
    assert stored({0: others, 1: DATA}).make(copied()) == DATA
    zeros = Wanted(CHUNK, LENGTH, UNKNOWN_HASH, parse_redundancy("copies=2"))
    assert isinstance(assembly.make(zeros), Lack)


def test_what_the_catalog_does_not_know_is_said(stored: Stored) -> None:
    assembly = stored({0: DATA})
    assert assembly.look(None) == assembly.make(None)
    assert "the catalog does not know" in str(assembly.make(None))
