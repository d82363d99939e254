"""Rewriting what lives in half-dead segments: space comes back, the living live on, the dead stay dead, whatever happens."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.errors import Corrupt, DSAError, Unavailable
from dsa_zmq.model.inventory import digests
from dsa_zmq.node.compactor import Rewritten, Share, emptiest
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.index import SegmentState
from dsa_zmq.node.store import ShardInfo, ShardKey
from tests.unit.disk_store.conftest import (
    CAPACITY,
    SEGMENT,
    contents,
    crash,
    drop,
    lose_index,
    open_store,
    put,
    rot,
    shard,
)

STEP = 2 << 10  #: so that a segment takes several


def wanted(*chunks: int, size: int = 1000) -> dict[ShardKey, bytes]:
    return {ShardKey(chunk, 0): bytes(shard(chunk, size).data) for chunk in chunks}


def states(store: DiskStore) -> dict[int, SegmentState]:
    return store._writer.segments


def compact(store: DiskStore, share: float = 0.25, between: Any = lambda: None) -> int:
    """Until there is nothing to do or one must wait; returns how many segments went."""
    freed = 0
    for _ in range(100):
        number = store.compactor.choose(share)
        if number is None:
            return freed
        while True:
            part = store.compactor.gather(number, STEP)
            if part is None:
                return freed
            between()
            done = store.compactor.rewrite(part)
            freed += done.freed
            if done.ended:
                break
        if not done.gone:
            return freed
    raise AssertionError("compaction does not come to an end")


def check(store: DiskStore, expected: dict[ShardKey, bytes]) -> None:
    assert contents(store) == expected
    assert store.digests(0) == digests(expected, 0)
    assert store.usage().shards == len(expected)
    for state in states(store).values():
        assert 0 <= state.live_bytes <= state.written


def rebuilt(disk: SimDisk, store: DiskStore) -> DiskStore:
    """The same after the index was lost."""
    store.close()
    lose_index(disk)
    return open_store(disk, seed=9)


def test_space_comes_back_and_all_that_lives_is_there(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 61))
    drop(store, *(chunk for chunk in range(1, 61) if chunk % 3))
    before = store.usage()
    assert before.garbage > 20_000
    assert compact(store) >= 6
    after = store.usage()
    assert after.free > before.free + 4 * SEGMENT
    assert after.garbage < 0.25 * SEGMENT * len(states(store))
    check(store, wanted(*range(3, 61, 3)))
    check(rebuilt(disk, store), wanted(*range(3, 61, 3)))


def test_what_is_mostly_alive_is_left_alone(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 40))
    drop(store, 1, 15, 29)
    assert compact(store) == 0
    assert compact(store, share=0.1) > 0
    check(store, wanted(*sorted(set(range(1, 40)) - {1, 15, 29})))


def test_it_comes_to_an_end_although_the_last_records_do_not_fill_a_segment(disk: SimDisk) -> None:
    """Three shards fill three quarters of a segment: what no record takes is not dead."""
    store = open_store(disk)
    put(store, *range(1, 31), size=2500)
    drop(store, *range(1, 31, 3))
    compact(store)
    state = dict(states(store))
    assert compact(store) == 0
    assert states(store) == state
    check(store, wanted(*(chunk for chunk in range(1, 31) if chunk % 3 != 1), size=2500))


def test_what_is_dropped_between_reading_and_writing_stays_dropped(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 31))
    drop(store, *range(1, 31, 2))
    left = list(range(2, 31, 2))
    goes = [4, 10, 12, 22, 26]

    def drop_one() -> None:
        if goes:
            left.remove(goes[0])
            drop(store, goes.pop(0))

    assert compact(store, between=drop_one) > 0
    check(store, wanted(*left))
    check(rebuilt(disk, store), wanted(*left))


def test_what_was_dropped_and_put_again_meanwhile_is_not_taken_for_the_old(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 31))
    drop(store, *range(1, 31, 2))
    again: list[int] = []

    def replace_one() -> None:
        if len(again) < 5:
            chunk = 2 * len(again) + 2
            again.append(chunk)
            drop(store, chunk)
            put(store, chunk, size=700)

    compact(store, between=replace_one)
    expected = {**wanted(*range(2, 31, 2)), **wanted(*again, size=700)}
    assert again
    check(store, expected)
    check(rebuilt(disk, store), expected)


def test_damage_is_not_copied_and_its_segment_waits_until_it_is_dropped(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 15))
    drop(store, 2, 3, 4)
    path = f"segments/{disk.listdir('segments')[0]}"
    rot(disk, shard(1))
    assert compact(store) == 0
    with pytest.raises(Corrupt):
        store.get(ShardKey(1, 0))
    assert disk.exists(path)
    assert [info.key.chunk for info in store.damaged()] == [1]
    drop(store, 1)
    assert compact(store) == 1
    assert not disk.exists(path)
    check(store, wanted(*range(5, 15)))


def keeps_dead(disk: SimDisk) -> tuple[DiskStore, set[int]]:
    """A store with a segment that holds the drop of a shard which is still in an older one, which is mostly alive."""
    store = open_store(disk)
    put(store, *range(1, 8))  # fills the first
    put(store, *range(8, 12))
    drop(store, 1)
    put(store, *range(12, 40))
    drop(store, *range(8, 14))
    assert any(store._books.victims(number) for number in states(store))
    return store, set(range(2, 8)) | set(range(14, 40))


def test_records_that_keep_older_ones_dead_are_carried_on(disk: SimDisk) -> None:
    store, alive = keeps_dead(disk)
    killers = [number for number in states(store) if 1 in store._books.victims(number)]
    assert compact(store) >= 1
    assert any(number not in states(store) for number in killers), "the one that kept it dead was rewritten"
    assert 1 in states(store), "the older one is still there"
    check(store, wanted(*alive))
    check(rebuilt(disk, store), wanted(*alive))


def test_only_what_keeps_something_dead_is_carried_on(disk: SimDisk) -> None:
    store, _ = keeps_dead(disk)
    compact(store)
    put(store, *range(100, 120))
    drop(store, *range(100, 120), *(info.key.chunk for info in store.list(None, 100) if info.key.chunk < 100))
    put(store, *range(200, 208))
    compact(store, share=0.01)
    assert sum(state.drops for state in states(store).values() if state.sealed) <= 1
    check(rebuilt(disk, store), wanted(*range(200, 208)))


def churned(disk: SimDisk) -> tuple[DiskStore, set[int]]:
    """A store of many half-dead segments."""
    store = open_store(disk)
    put(store, *range(1, 41))
    drop(store, *(chunk for chunk in range(1, 41) if chunk % 3))
    return store, set(range(3, 41, 3))


@pytest.mark.slow
@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("make", [keeps_dead, churned])
def test_a_crash_at_any_disk_operation_loses_nothing_and_raises_nobody(make: Any, power: bool) -> None:
    operations = 0
    finished = False
    while not finished:
        disk = SimDisk(random.Random(operations))
        store, alive = make(disk)
        disk.die_after(operations)
        finished = True
        try:
            compact(store)
        except DSAError:
            finished = False
            store.close()
        store = crash(disk, power=power)
        check(store, wanted(*alive))
        compact(store)
        check(store, wanted(*alive))
        check(rebuilt(disk, store), wanted(*alive))
        operations += 1
    assert operations > 10


def empty_all_but_the_oldest(disk: SimDisk, store: DiskStore, alive: set[int]) -> None:
    """What was carried on is in a full segment then, with nothing else; and still it keeps shard 1 dead."""
    put(store, *range(50, 60))
    drop(store, *(alive - set(range(2, 8))), *range(50, 60))
    put(store, *range(60, 68))
    drop(store, *range(60, 68))
    put(store, *range(70, 78))
    assert 1 in states(store)
    check(rebuilt(disk, store), wanted(*range(2, 8), *range(70, 78)))


def test_what_was_carried_on_stays_as_long_as_the_old_one(disk: SimDisk) -> None:
    store, alive = keeps_dead(disk)
    compact(store)
    empty_all_but_the_oldest(disk, store, alive)


@pytest.mark.slow
@pytest.mark.parametrize("power", [True, False])
def test_after_a_crash_what_was_carried_on_still_stays(power: bool) -> None:
    """The index alone knows what must outlive what: so it is durable before a segment goes."""
    for operations in range(30):
        disk = SimDisk(random.Random(operations))
        store, alive = keeps_dead(disk)
        store._index.sync()  # up to here, and by chance no further
        store._index._index._db.execute("PRAGMA wal_autocheckpoint=0")
        disk.die_after(operations)
        with contextlib.suppress(DSAError):
            compact(store)
        if power:
            disk.power_loss()
        else:
            disk.process_crash()
        store.close()  # too late for it to change anything
        store = open_store(disk, seed=2)
        empty_all_but_the_oldest(disk, store, alive)


def test_a_full_store_gets_room_by_compaction_and_drops_still_find_theirs(disk: SimDisk) -> None:
    store = open_store(disk, capacity=4 * CAPACITY, segment_bytes=4 * SEGMENT)
    chunk = 0
    while True:
        chunk += 1
        if not isinstance(store.put([shard(chunk)])[0], ShardInfo):
            break
    drop(store, *range(2, chunk, 2))
    alive = set(range(1, chunk, 2))
    while isinstance(store.put([shard(chunk)])[0], ShardInfo):  # the drops have begun a segment
        alive.add(chunk)
        chunk += 1

    def puts_come_in_between() -> None:
        store.put([shard(5000 + len(alive))])

    freed = compact(store, share=0.1, between=puts_come_in_between)
    assert freed > 5
    more = {info.key.chunk for info in store.list(None, 1000)} - alive
    put(store, *range(10_000, 10_010))
    check(store, wanted(*alive, *more, *range(10_000, 10_010)))
    assert len(store._writer._spares) == 2
    assert store.failure == ""


def test_without_any_spare_it_leaves_the_last_to_drops(disk: SimDisk) -> None:
    store = open_store(disk)
    chunk = 0
    while isinstance(store.put([shard(chunk + 1)])[0], ShardInfo):
        chunk += 1
    drop(store, 2, 3)
    disk.capacity_bytes -= disk.free_bytes()[0]
    number = store.compactor.choose(0.1)
    assert number is not None
    while not step(store, number).ended:
        assert len(store._writer._spares) >= 1
    drop(store, 1, *range(4, chunk + 1))
    assert contents(store) == {}


def step(store: DiskStore, number: int) -> Rewritten:
    share = store.compactor.gather(number, STEP)
    assert isinstance(share, Share)
    return store.compactor.rewrite(share)


def test_a_share_that_was_lost_is_gathered_anew(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 15))
    drop(store, 1, 2, 3)
    number = store.compactor.choose(0.25)
    assert number is not None
    step(store, number)
    assert store.compactor.gather(number, STEP) is not None  # and nobody rewrites it
    while not step(store, number).ended:
        pass
    check(store, wanted(*range(4, 15)))
    check(rebuilt(disk, store), wanted(*range(4, 15)))


def test_a_failed_store_is_left_alone(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 15))
    drop(store, 1, 2, 3)
    number = store.compactor.choose(0.25)
    assert number is not None
    step(store, number)
    share = store.compactor.gather(number, STEP)
    assert share is not None
    disk.die_after(0)
    with pytest.raises(Unavailable):
        store.compactor.rewrite(share)
    with pytest.raises(Unavailable):
        store.compactor.gather(number, STEP)
    store.close()


def state_of(number: int, live_bytes: int, written: int = 8000, *, sealed: bool = True) -> tuple[SegmentState, int]:
    state = SegmentState(number, 1, SEGMENT, sealed, live=1, live_bytes=live_bytes, written=written)
    return state, written - live_bytes


def test_the_emptiest_goes_first_if_its_rest_has_room() -> None:
    states = [state_of(1, 5000), state_of(2, 3000), state_of(3, 1000, sealed=False), state_of(4, 7900)]
    assert emptiest(states, (), 0.25, 1 << 20) == 2
    assert emptiest(states, {2}, 0.25, 1 << 20) == 1
    assert emptiest(states, (), 0.5, 1 << 20) == 2
    assert emptiest(states, (), 0.7, 1 << 20) is None
    assert emptiest(states, (), 0.25, 3063) is None
    assert emptiest(states, (), 0.25, 3064) == 2
    assert emptiest([], (), 0.25, 1 << 20) is None
