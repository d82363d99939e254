"""The master's drops are carried out durably, each once, and only those of the present term."""

from __future__ import annotations

from dsa_zmq.protocol.messages import Drop, Dropped
from dsa_zmq.protocol.values import ShardRef
from tests.sim.conftest import SECOND, NodeWorld


def test_the_master_can_drop_shards_durably(world: NodeWorld, data: bytes) -> None:
    world.put((10, data), (11, data))
    refs = [ShardRef(10, 0), ShardRef(12, 0), ShardRef(-4, 300)]
    for _ in range(2):
        world.tell(Drop(70, 5, refs))
        world.tell(Drop(70, 5, refs))
        world.sim.run_until(lambda: bool(world.master.of(Dropped)))
    world.sim.run_for(SECOND)
    assert {dropped.number for dropped in world.master.of(Dropped)} == {70}
    assert world.master.of(Dropped)[0].shards == refs
    world.sim.crash(world.spec.name, power_loss=True)
    world.up()
    answer, frames = world.get(world.grant(10, 5000), world.grant(11, 5000))
    assert [shard.failure and shard.failure.code for shard in answer.shards] == ["not-found", None]
    assert frames == [data]


def test_a_repeated_drop_does_not_take_what_has_come_back(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.tell(Drop(70, 5, [ShardRef(10, 0)]))
    world.sim.run_until(lambda: bool(world.master.of(Dropped)))
    world.put((10, data))
    for number in (70, 69):
        world.tell(Drop(number, 5, [ShardRef(10, 0)]))
        world.sim.run_for(SECOND)
        assert world.get(world.grant(10, 5000))[1] == [data]
    assert [dropped.number for dropped in world.master.of(Dropped)] == [70, 70], "the repeat is answered all the same"
    world.tell(Drop(71, 5, [ShardRef(10, 0)]))
    world.sim.run_until(lambda: len(world.master.of(Dropped)) == 3)
    assert world.get(world.grant(10, 5000))[1] == []


def test_a_drop_of_an_earlier_term_is_not_obeyed(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.tell(Drop(70, 4, [ShardRef(10, 0)]))
    world.sim.run_for(2 * SECOND)
    assert world.master.of(Dropped) == []
    assert world.get(world.grant(10, 5000))[1] == [data]
