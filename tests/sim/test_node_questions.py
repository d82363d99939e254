"""What is here: a node answers the master's questions about its shards, and never says more than it knows."""

from __future__ import annotations

import pytest

from dsa_zmq.model.inventory import SHARDS, digests, root
from dsa_zmq.protocol.messages import (
    ABSENT,
    DAMAGED,
    GOOD,
    UNREADABLE,
    AskInventory,
    Drop,
    Dropped,
    Examine,
    Examined,
    Heartbeat,
    Inventory,
)
from dsa_zmq.protocol.values import ShardRef
from tests.sim.conftest import SECOND, NodeWorld


def examine(world: NodeWorld, number: int, *chunks: int, read: bool = False) -> list[int]:
    """What the node says of the first shard of each chunk."""
    world.tell(Examine(number, world.term, [ShardRef(chunk, 0) for chunk in chunks], read))
    world.sim.run_until(lambda: any(answer.number == number for answer in world.master.of(Examined)))
    return next(answer.states for answer in world.master.of(Examined) if answer.number == number)


def test_a_node_says_what_it_has_and_with_reading_what_of_it_is_good(world: NodeWorld, data: bytes) -> None:
    world.put((10, data), (11, data[1:]))
    world.rot(data)
    assert examine(world, 1, 10, 11, 12) == [GOOD, GOOD, ABSENT]
    assert examine(world, 2, 12, 11, 10, read=True) == [ABSENT, GOOD, DAMAGED]
    assert examine(world, 3, 10) == [DAMAGED], "it is in quarantine now"
    assert examine(world, 4, read=True) == []


def test_a_question_of_an_earlier_term_or_for_too_many_is_not_answered(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.tell(Examine(1, world.term - 1, [ShardRef(10, 0)]))
    world.tell(AskInventory(1, world.term - 1, 0, []))
    world.tell(Examine(2, world.term, [ShardRef(10, 0)] * 2000))
    world.tell(AskInventory(2, world.term, 1, [0] * 2000))
    world.tell(AskInventory(3, world.term, 9, [0]))
    world.sim.run_for(2 * SECOND)
    assert world.master.of(Examined) == world.master.of(Inventory) == []


def test_a_failed_store_does_not_say_that_something_is_missing(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.disk.failing_syncs = 1
    world.put((11, data))
    assert examine(world, 1, 10, 11, 12) == [UNREADABLE] * 3
    assert examine(world, 2, 10, 11, 12, read=True) == [UNREADABLE] * 3


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_said_to_be_good_after_its_drop_was_confirmed(seed: int, data: bytes) -> None:
    """The drop overtakes the reading of many shards."""
    world = NodeWorld(seed, capacity=64 << 20, segment_bytes=1 << 20).up()
    shards = [(chunk, data * 100 + bytes([chunk])) for chunk in range(20, 50)]
    for number, pair in enumerate(shards):
        world.put(pair, number=number + 1)
    world.tell(Examine(1, world.term, [ShardRef(chunk, 0) for chunk, _ in shards], True))
    examining = world.actor._named["examine"]
    world.sim.run_until(lambda: examining._read)
    assert examining._read[0] == GOOD
    world.tell(Drop(70, world.term, [ShardRef(20, 0)]))
    world.sim.run_until(lambda: bool(world.master.of(Dropped) and world.master.of(Examined)))
    kinds = [type(message) for message in world.master.of(Dropped | Examined)]
    (examined,) = world.master.of(Examined)
    assert kinds == [Dropped, Examined], "or this shows nothing"
    assert examined.states[0] == UNREADABLE
    assert set(examined.states[1:]) == {GOOD}


def test_a_question_that_comes_twice_is_worked_on_once_and_a_newer_one_first(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    for number in (1, 1, 3, 2, 3):
        world.tell(Examine(number, world.term, [ShardRef(10, 0)], True))
    world.sim.run_for(2 * SECOND)
    assert [answer.number for answer in world.master.of(Examined)] == [3]


def test_heartbeats_and_inventories_tell_the_digests_of_all_good_shards(world: NodeWorld, data: bytes) -> None:
    chunks = [3, 17, 300, 5000, 5001, (1 << 20) + 7, (7 << 20) + 9, (1 << 62) + 5]
    world.put(*((chunk, data[:50] + bytes([number])) for number, chunk in enumerate(chunks)))
    world.put((77, data), number=2)
    world.rot(data)
    examine(world, 1, 77, read=True)
    pairs = [(chunk, 0) for chunk in chunks]
    beaten = lambda: world.master.of(Heartbeat)  # noqa: E731
    world.sim.run_until(lambda: beaten() and beaten()[-1].inventory == root(digests(pairs, 0)))
    within: list[int] = []
    for number, level in enumerate(range(SHARDS), 1):
        world.tell(AskInventory(number, world.term, level, within))
        world.sim.run_until(lambda number=number: len(world.master.of(Inventory)) == number)  # type: ignore[misc]
        answer = world.master.of(Inventory)[-1]
        assert dict(zip(answer.buckets, answer.digests, strict=True)) == digests(pairs, level)
        within = answer.buckets
    world.tell(AskInventory(9, world.term, SHARDS, [*within[2:], -1, 1 << 62]))
    world.sim.run_until(lambda: world.master.of(Inventory)[-1].number == 9)
    assert world.master.of(Inventory)[-1].shards == [ShardRef(chunk, 0) for chunk in chunks[2:]]
