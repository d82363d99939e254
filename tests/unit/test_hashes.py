"""The hashes of a chunk and its shards, one after the other."""

from __future__ import annotations

import pytest
from blake3 import blake3

from dsa_zmq.model.hashes import (
    HASH_BYTES,
    UNKNOWN_HASH,
    chunk_hash,
    hashes_bytes,
    join_hashes,
    shard_hash,
    with_shard_hash,
)
from dsa_zmq.model.redundancy import MAX_DATA, MAX_PARITY, Redundancy, parse_redundancy

CODES = [Redundancy(k + m, k) for k in range(2, MAX_DATA + 1) for m in range(1, MAX_PARITY + 1)]
CHUNK = blake3(b"chunk").digest()


def digests(count: int) -> list[bytes]:
    return [blake3(str(number).encode()).digest() for number in range(count)]


@pytest.mark.parametrize("copies", [1, 2, 16])
def test_copies_have_the_hash_of_their_chunk(copies: int) -> None:
    assert hashes_bytes(parse_redundancy(f"copies={copies}")) == HASH_BYTES == len(CHUNK)
    assert chunk_hash(CHUNK) == CHUNK
    assert {shard_hash(CHUNK, index) for index in range(copies)} == {CHUNK}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_of_a_code_the_chunks_comes_first_and_those_of_its_shards_follow(code: Redundancy) -> None:
    shards = digests(code.shards)
    hashes = join_hashes(CHUNK, shards)
    assert len(hashes) == hashes_bytes(code)
    assert chunk_hash(hashes) == CHUNK
    assert [shard_hash(hashes, index) for index in range(code.shards)] == shards


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_hashes_that_come_one_by_one_in_any_order_are_the_same_in_the_end(code: Redundancy) -> None:
    shards = digests(code.shards)
    hashes = join_hashes(CHUNK, [UNKNOWN_HASH] * code.shards)
    for index in reversed(range(code.shards)):
        assert shard_hash(hashes, index) == UNKNOWN_HASH
        hashes = with_shard_hash(hashes, index, shards[index])
        assert shard_hash(hashes, index) == shards[index]
        assert len(hashes) == hashes_bytes(code)
    assert hashes == join_hashes(CHUNK, shards)
