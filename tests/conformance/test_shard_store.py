"""What every shard store promises, run over all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blake3 import blake3

from actors.disk import OsDisk
from actors.sim.disk import SimDisk
from dsa_zmq.errors import Conflict, Corrupt, Invalid, NoSpace, NotFound, Unavailable
from dsa_zmq.model.erasure import split
from dsa_zmq.model.inventory import SHARDS, SHIFTS, bucket_of, digests, id_range, shard_digest
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.memory_store import MemoryStore
from dsa_zmq.node.space import MIN_BALLAST_BYTES, MIN_WAL_PAGES, PAGE_BYTES
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey, ShardStore

SEGMENT = 16 << 10
CAPACITY = MIN_BALLAST_BYTES + 2 * MIN_WAL_PAGES * PAGE_BYTES + 16 * SEGMENT

DRAW = random.Random(7)


def shard(chunk: int, size: int = 100, *, index: int = 0, chunk_length: int | None = None) -> NewShard:
    data = DRAW.randbytes(size)
    return NewShard(ShardKey(chunk, index), size if chunk_length is None else chunk_length, blake3(data).digest(), data)


def shards_of_code(chunk: int, content: bytes, name: str) -> list[NewShard]:
    """All shards of a chunk. Each is shorter than the chunk, or, of a tiny one, longer."""
    parts = [bytes(part) for part in split(content, parse_redundancy(name))]
    return [
        NewShard(ShardKey(chunk, index), len(content), blake3(part).digest(), part) for index, part in enumerate(parts)
    ]


def info(new: NewShard) -> ShardInfo:
    return ShardInfo(new.key, len(new.data), new.chunk_length, new.hash)


class Bench:
    """A store, and the ways to hurt it that the contract speaks of."""

    def __init__(self, store: ShardStore, rot: Callable[[NewShard], None], fail: Callable[[], None]) -> None:
        self.store, self.rot, self.fail = store, rot, fail


def _memory(tmp_path: Any) -> Bench:
    store = MemoryStore(capacity=CAPACITY, reserve=CAPACITY - 16 * SEGMENT)
    return Bench(store, lambda new: store.damage(new.key), lambda: store.fail("broken"))


def _on(disk: Any) -> Bench:
    store = DiskStore(disk, capacity=CAPACITY, reserve=0, segment_bytes=SEGMENT, rng=random.Random(1))

    def rot(new: NewShard) -> None:
        """Flip a bit of the newest copy of that payload."""
        for name in reversed(disk.listdir("segments")):
            file = disk.open(f"segments/{name}")
            at = file.pread(file.size(), 0).rfind(bytes(new.data))
            if at >= 0:
                file.pwritev([bytes([new.data[0] ^ 1])], at)
                return
        raise AssertionError("the payload is nowhere")

    def fail() -> None:
        writer = store._writer._active
        assert writer is not None or store.put([shard(1 << 40)])
        store._writer._active.file.close()  # every later write of it raises EBADF

    return Bench(store, rot, fail)


def _os_disk(tmp_path: Any) -> Bench:
    return _on(OsDisk(tmp_path))


def _sim_disk(tmp_path: Any) -> Bench:
    return _on(SimDisk(random.Random(3)))


@pytest.fixture(params=[_memory, _os_disk, _sim_disk], ids=["memory", "os-disk", "sim-disk"])
def bench(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Bench]:
    made = request.param(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def store(bench: Bench) -> ShardStore:
    return bench.store


def test_what_was_put_comes_back_exactly(store: ShardStore) -> None:
    news = [shard(1, 1), shard(2, 4096), shard(3, 333, index=5, chunk_length=1000), shard(4, 0)]
    assert store.put(news) == [info(new) for new in news]
    for new in news:
        assert store.get(new.key) == (info(new), new.data)
        assert store.verify(new.key) == store.has(new.key) == info(new)


def test_a_memoryview_is_as_good_as_bytes(store: ShardStore) -> None:
    new = shard(1, 500)
    view = memoryview(b"x" + new.data)[1:]
    assert store.put([NewShard(new.key, 500, new.hash, view)]) == [info(new)]
    assert store.get(new.key)[1] == new.data


@pytest.mark.parametrize("length", [1, 64, 65, 10_001])
@pytest.mark.parametrize("name", ["ec=2+1", "ec=4+2", "ec=12+4"])
def test_shards_of_codes_are_kept_with_the_length_of_their_chunk(store: ShardStore, name: str, length: int) -> None:
    news = shards_of_code(5, DRAW.randbytes(length), name)
    other = shard(6)
    assert store.put([*news, other]) == [info(new) for new in (*news, other)]
    for new in news:
        assert store.get(new.key, len(new.data)) == (info(new), new.data)
        assert store.has(new.key) == store.verify(new.key, len(new.data)) == info(new)
        with pytest.raises(Conflict):
            store.get(new.key, len(new.data) + 1)
    assert store.list(None, 100) == [info(new) for new in (*news, other)]
    assert store.range(5, 6) == [info(new) for new in news]
    assert store.digests(0) == digests([new.key for new in (*news, other)], 0)
    assert store.usage().shards == len(news) + 1


def test_equal_shards_of_one_chunk_are_kept_apart(store: ShardStore) -> None:
    """All shards of a chunk of zeros are equal."""
    news = shards_of_code(5, bytes(1000), "ec=4+2")
    assert len({new.hash for new in news}) == 1
    assert store.put(news) == [info(new) for new in news]
    assert store.drop([ShardKey(5, 0), ShardKey(5, 5)]) == [ShardKey(5, 0), ShardKey(5, 5)]
    assert store.list(None, 100) == [info(new) for new in news[1:5]]
    assert store.get(ShardKey(5, 4)) == (info(news[4]), news[4].data)


def test_damage_to_one_shard_of_a_code_is_its_own_and_is_mended(bench: Bench) -> None:
    news = shards_of_code(5, DRAW.randbytes(5000), "ec=4+2")
    bench.store.put(news)
    bench.rot(news[4])
    with pytest.raises(Corrupt):
        bench.store.verify(news[4].key)
    assert bench.store.damaged() == [info(news[4])]
    assert bench.store.list(None, 100) == [info(new) for new in news if new is not news[4]]
    assert bench.store.put([news[4]]) == [info(news[4])]
    assert bench.store.damaged() == []
    assert bench.store.get(news[4].key) == (info(news[4]), news[4].data)


def test_an_unknown_shard_is_not_found(store: ShardStore) -> None:
    store.put([shard(7)])
    for key in (ShardKey(8, 0), ShardKey(7, 1), ShardKey(-1, 0), ShardKey(1 << 63, 0), ShardKey(7, 256)):
        assert store.has(key) is None
        with pytest.raises(NotFound):
            store.get(key)
        with pytest.raises(NotFound):
            store.verify(key)
        assert store.drop([key]) == []


def test_bytes_that_do_not_match_their_hash_are_refused_and_the_others_stored(store: ShardStore) -> None:
    good, bad = shard(1), shard(2)
    outcomes = store.put([NewShard(bad.key, 100, good.hash, bad.data), good])
    assert isinstance(outcomes[0], Corrupt)
    assert outcomes[1] == info(good)
    assert store.has(bad.key) is None


@pytest.mark.parametrize("key", [ShardKey(-1, 0), ShardKey(1 << 63, 0), ShardKey(1, 256), ShardKey(1, -1)])
def test_impossible_keys_are_refused(store: ShardStore, key: ShardKey) -> None:
    new = shard(1)
    assert isinstance(store.put([NewShard(key, 100, new.hash, new.data)])[0], Invalid)


def test_putting_the_same_again_is_a_success_and_takes_no_room(store: ShardStore) -> None:
    new = shard(1)
    store.put([new])
    before = store.usage()
    assert store.put([new, new]) == [info(new)] * 2
    assert store.usage() == before


def test_other_bytes_under_the_same_key_are_a_conflict(store: ShardStore) -> None:
    first, second = shard(1), shard(1)
    store.put([first])
    assert isinstance(store.put([second])[0], Conflict)
    assert store.get(first.key)[1] == first.data


def test_twins_in_one_batch_are_stored_once_and_strangers_conflict(store: ShardStore) -> None:
    first, other = shard(1), shard(1)
    outcomes = store.put([first, first, other])
    assert outcomes[:2] == [info(first)] * 2
    assert isinstance(outcomes[2], Conflict)
    assert store.usage().shards == 1


def test_damaged_bytes_are_never_served(bench: Bench) -> None:
    new, other = shard(1), shard(2)
    bench.store.put([new, other])
    bench.rot(new)
    for _ in range(2):
        with pytest.raises(Corrupt):
            bench.store.get(new.key)
        with pytest.raises(Corrupt):
            bench.store.verify(new.key)
    assert bench.store.has(new.key) is None
    assert bench.store.list(None, 10) == [info(other)]
    assert bench.store.damaged() == [info(new)]  # type: ignore[attr-defined]
    assert bench.store.usage().shards == 1


def test_a_put_replaces_damaged_bytes(bench: Bench) -> None:
    new = shard(1)
    bench.store.put([new])
    bench.rot(new)
    assert bench.store.put([new]) == [info(new)]
    assert bench.store.get(new.key)[1] == new.data
    assert bench.store.damaged() == []  # type: ignore[attr-defined]


def test_a_put_replaces_quarantined_bytes_even_with_others(bench: Bench) -> None:
    new, other = shard(1), shard(1, 200)
    bench.store.put([new])
    bench.rot(new)
    with pytest.raises(Corrupt):
        bench.store.get(new.key)
    assert bench.store.put([other]) == [info(other)]
    assert bench.store.get(new.key) == (info(other), other.data)


def test_dropped_shards_are_gone_and_may_come_again(store: ShardStore) -> None:
    news = [shard(chunk) for chunk in range(1, 5)]
    store.put(news)
    keys = [new.key for new in news]
    assert store.drop([keys[1], keys[3], keys[1], ShardKey(99, 0)]) == [keys[1], keys[3]]
    assert store.drop([keys[1]]) == []
    assert [i.key for i in store.list(None, 10)] == [keys[0], keys[2]]
    assert store.put([news[1]]) == [info(news[1])]
    assert store.get(keys[1])[1] == news[1].data


def test_a_damaged_shard_can_be_dropped(bench: Bench) -> None:
    new = shard(1)
    bench.store.put([new])
    bench.rot(new)
    with pytest.raises(Corrupt):
        bench.store.get(new.key)
    assert bench.store.drop([new.key]) == [new.key]
    assert bench.store.damaged() == []  # type: ignore[attr-defined]
    with pytest.raises(NotFound):
        bench.store.get(new.key)


def test_the_inventory_comes_in_pages_in_key_order(store: ShardStore) -> None:
    news = [shard(chunk, 10, index=index) for chunk in (5, 3, 900, 1 << 62) for index in (2, 0, 255)]
    store.put(news)
    wanted = sorted((info(new) for new in news), key=lambda i: i.key)
    seen: list[ShardInfo] = []
    while page := store.list(seen[-1].key if seen else None, 5):
        assert len(page) <= 5
        seen += page
    assert seen == wanted


def kept(store: ShardStore) -> dict[int, int]:
    """Level 0 as it must be, from the list."""
    return digests([one.key for one in store.list(None, 100_000)], 0)


def test_a_range_has_the_shards_of_its_chunks_in_key_order_and_no_others(bench: Bench) -> None:
    last = (1 << 63) - 1
    news = [shard(chunk, 10, index=index) for chunk in (last, 16, 5, 31, 32, 15) for index in (3, 0)]
    bench.store.put(news)
    bench.rot(news[2])
    with pytest.raises(Corrupt):
        bench.store.get(news[2].key)
    good = sorted((info(new) for new in news if new is not news[2]), key=lambda one: one.key)
    for first, end in ((16, 32), (0, 16), (5, 6), (6, 15), (last, last + 1), (0, 1 << 63), (40, 30), (-5, 1 << 70)):
        assert bench.store.range(first, end) == [one for one in good if first <= one.key.chunk < end]


def test_digests_are_those_of_what_is_listed_after_every_kind_of_change(bench: Bench) -> None:
    store, near = bench.store, 1 << 20
    news = [shard(chunk, 50, index=index) for chunk in (1, 2, near - 1, near, 5 * near) for index in (0, 1)]
    store.put(news)
    assert store.digests(0) == kept(store)
    assert sorted(store.digests(0)) == [0, 1, 5]
    some = [news[0].key, news[-1].key, news[-2].key]
    assert store.drop(some) == some
    assert store.digests(0) == kept(store)
    assert sorted(store.digests(0)) == [0, 1]  # an empty bucket is not told
    bench.rot(news[1])
    with pytest.raises(Corrupt):
        store.get(news[1].key)
    assert store.digests(0) == kept(store)  # quarantined ones are not in it
    store.put([news[1], news[0]])
    assert store.digests(0) == kept(store)
    assert store.drop([new.key for new in news]) == [new.key for new in news[:-2]]
    assert store.digests(0) == {}


def test_each_level_divides_a_bucket_of_the_one_above(store: ShardStore) -> None:
    draw = random.Random(2)
    chunks = sorted({draw.randrange(1 << 21) >> draw.choice((0, 0, 9)) for _ in range(300)})
    store.put([shard(chunk, 1) for chunk in chunks])
    above = store.digests(0)
    for level in range(1, len(SHIFTS)):
        below: dict[int, int] = {}
        for bucket, digest in above.items():
            inside = store.digests(level, bucket)
            assert all(one << SHIFTS[level] >> SHIFTS[level - 1] == bucket for one in inside)
            whole = 0
            for part in inside.values():
                whole ^= part
            assert whole == digest
            below |= inside
        assert below == digests([(chunk, 0) for chunk in chunks], level)
        above = below
    for bucket, digest in above.items():
        whole = 0
        for one in store.range(*id_range(SHARDS - 1, bucket)):
            whole ^= shard_digest(*one.key)
        assert whole == digest


def test_buckets_that_cannot_be_are_empty(store: ShardStore) -> None:
    last = (1 << 63) - 1
    store.put([shard(last)])
    assert store.digests(1, bucket_of(last, 0)) == {bucket_of(last, 1): shard_digest(last, 0)}
    for within in (-1, bucket_of(last, 0) + 1, 1 << 70):
        assert store.digests(1, within) == {}


def test_marks_are_kept_by_name(store: ShardStore) -> None:
    assert store.marks() == {}
    store.mark({"scrub segment": 7, "scrub offset": 1 << 40})
    store.mark({"scrub segment": -1})
    assert store.marks() == {"scrub segment": -1, "scrub offset": 1 << 40}


def test_full_is_no_space_for_what_does_not_fit_and_only_that(store: ShardStore) -> None:
    large = [shard(chunk, 10_000) for chunk in range(1, 40)]
    outcomes = store.put(large)
    stored = [outcome for outcome in outcomes if isinstance(outcome, ShardInfo)]
    assert stored
    assert len(stored) < len(large)
    assert all(isinstance(outcome, (ShardInfo, NoSpace)) for outcome in outcomes)
    assert store.usage().used <= CAPACITY
    assert store.failure == ""
    for new, outcome in zip(large, outcomes, strict=True):
        assert (store.has(new.key) == outcome) is isinstance(outcome, ShardInfo)
    small = shard(100, 1)
    assert isinstance(store.put([shard(101, 10_000), small])[1], ShardInfo)


def test_a_full_store_can_be_emptied_and_used_again(store: ShardStore) -> None:
    for round_number in range(3):
        news = [shard(1000 * round_number + number, 3000) for number in range(1, 120)]
        outcomes = store.put(news)
        held = [outcome.key for outcome in outcomes if isinstance(outcome, ShardInfo)]
        assert len(held) > 40
        assert any(isinstance(outcome, NoSpace) for outcome in outcomes)
        assert store.drop(held) == held
    assert store.list(None, 10) == []


def test_free_falls_as_shards_come_and_used_rises(store: ShardStore) -> None:
    before = store.usage()
    store.put([shard(chunk, 1000) for chunk in range(1, 31)])
    after = store.usage()
    assert after.shards == before.shards + 30
    assert before.capacity == after.capacity == CAPACITY
    assert after.used >= before.used + 30_000
    assert 0 < after.free <= before.free - 30_000


def test_a_failed_store_refuses_puts_says_why_and_still_serves(bench: Bench) -> None:
    new = shard(1)
    bench.store.put([new])
    bench.fail()
    assert isinstance(bench.store.put([shard(2)])[0], Unavailable)
    assert bench.store.failure
    assert isinstance(bench.store.put([shard(3)])[0], Unavailable)
    assert bench.store.get(new.key)[1] == new.data
    assert bench.store.usage().free == 0


def test_a_closed_store_says_so(store: ShardStore) -> None:
    store.put([shard(1)])
    store.close()
    store.close()
    with pytest.raises(Unavailable):
        store.get(ShardKey(1, 0))
