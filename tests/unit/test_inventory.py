"""Digests of inventories: equal sets agree, differences are found, and finding ten of them moves little."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.model.inventory import SHARDS, SHIFTS, bucket_of, differing, digests, id_range, root, shard_digest
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import AskInventory, Inventory
from dsa_zmq.protocol.values import ShardRef

SHARD_SETS = st.sets(st.tuples(st.integers(1, (1 << 63) - 1) | st.integers(1, 5000), st.integers(0, 15)), max_size=30)
LEVELS = range(len(SHIFTS))


@given(ours=SHARD_SETS, theirs=SHARD_SETS)
def test_the_buckets_that_differ_are_those_with_shards_that_one_side_lacks(ours, theirs):
    for level in LEVELS:
        wanted = {bucket_of(chunk, level) for chunk, _ in ours ^ theirs}
        assert differing(digests(ours, level), digests(theirs, level)) == sorted(wanted)


@given(shards=SHARD_SETS, level=st.sampled_from(LEVELS))
def test_adding_and_removing_one_by_one_is_the_same_as_counting_all(shards, level):
    kept = 0
    for chunk, index in shards:
        kept ^= shard_digest(chunk, index)
    assert kept == root(digests(shards, level))
    for chunk, index in sorted(shards):
        kept ^= shard_digest(chunk, index)
    assert kept == 0


@given(chunk=st.integers(0, (1 << 63) - 1), level=st.sampled_from(LEVELS))
def test_a_bucket_is_the_range_of_its_ids_and_lies_in_one_of_the_level_above(chunk, level):
    first, end = id_range(level, bucket_of(chunk, level))
    assert first <= chunk < end
    if level:
        assert bucket_of(first, level - 1) == bucket_of(end - 1, level - 1)


@given(st.integers(0, (1 << 63) - 1), st.integers(0, 255))
def test_a_digest_fits_a_signed_sql_integer(chunk, index):
    assert 0 <= shard_digest(chunk, index) < 1 << 63


def test_a_digest_is_what_the_protocol_says():
    assert shard_digest(0, 0) == 0xE220A8397B1DCDAF >> 1, "the first output of splitmix64 from seed 0"


@pytest.mark.slow
def test_ten_differences_among_100_000_shards_move_less_than_a_hundredth_of_the_list():
    rng = random.Random(1)
    everything = {(chunk, rng.randrange(2)) for chunk in rng.sample(range(7 << 40, (7 << 40) + 200_000), 100_000)}
    changed = set(rng.sample(sorted(everything), 10))
    ours, theirs = everything - set(sorted(changed)[:5]), everything - set(sorted(changed)[5:])
    moved, asked = 0, []
    for level in LEVELS:
        inside = [s for s in theirs if not level or bucket_of(s[0], level - 1) in set(asked)]
        said = digests(inside, level)
        moved += len(CODEC.encode(AskInventory(1, 1, level, asked)))
        moved += len(CODEC.encode(Inventory(1, list(said), list(said.values()))))
        mine = digests((s for s in ours if not level or bucket_of(s[0], level - 1) in set(asked)), level)
        asked = differing(mine, said)
    listed = [s for s in theirs if bucket_of(s[0], SHARDS - 1) in set(asked)]
    moved += len(CODEC.encode(Inventory(1, [], [], [ShardRef(*shard) for shard in listed])))
    in_question = {s for s in ours | theirs if bucket_of(s[0], SHARDS - 1) in set(asked)}
    assert changed <= in_question
    whole = len(msgspec.msgpack.encode([ShardRef(*shard) for shard in theirs]))
    assert moved < whole / 100, f"{moved} of {whole} bytes"
