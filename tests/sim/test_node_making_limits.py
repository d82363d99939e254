"""What a node gathers at a time to make shards is bounded, and a silent source holds up nobody for long."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from dsa_zmq.node.fetching import MAX_BYTES
from dsa_zmq.protocol.messages import GetShards, ShardGrant
from dsa_zmq.protocol.values import FetchShard, ShardSource
from tests.sim.conftest import LATER_S, SECOND
from tests.sim.market import code_of
from tests.sim.yard import BAD, NODES, Yard


@pytest.fixture
def world() -> Yard:
    return Yard()


class Wide(Yard):
    """With large chunks, of which many make much more than may be gathered at a time."""

    def __init__(self) -> None:
        super().__init__(tuple(range(10, 26)))

    def chunk(self, number: int) -> bytes:
        return random.Random(number).randbytes(40_000 * 12)

    def wishes(self) -> list[FetchShard]:
        """Of fifty chunks one shard each, with a source more than it takes."""
        wishes = []
        for number in range(1000, 1050):
            sources = [self.source(number, "ec=12+4", index, node=10 + index) for index in range(1, 14)]
            wishes.append(self.wish(number, "ec=12+4", 0, *sources, chunk_length=480_000))
        return wishes

    def held(self) -> int:
        """Bytes that the command which is under way says that it holds."""
        (command,) = self.actor._named["fetch"]._under_way.values()
        return sum(shard.held for shard in command.shards)

    def bytes_asked(self) -> int:
        questions: list[GetShards] = [each for source in self.sources.values() for each in source.asked]
        return sum(grant.length for question in questions for grant in question.shards)


@pytest.mark.slow
def test_a_command_is_gathered_in_portions() -> None:
    world = Wide()
    wishes = world.wishes()
    held: list[int] = []

    def give(grant: ShardGrant) -> bytes:
        held.append(world.held())
        return Yard.give(world, grant)

    for source in world.sources.values():
        source.answer = give
    assert world.outcomes(1, *wishes) == [world.got(wish) for wish in wishes]
    assert world.bytes_asked() == 12 * sum(wish.length for wish in wishes) > MAX_BYTES
    assert MAX_BYTES * 0.9 < max(held) <= MAX_BYTES


@pytest.mark.slow
def test_no_more_is_asked_for_than_may_be_held() -> None:
    world = Wide()
    for source in world.sources.values():
        source.answer = None
    world.fetch(1, *world.wishes())
    world.sim.run_for(SECOND)
    assert MAX_BYTES * 0.9 < world.bytes_asked() <= MAX_BYTES


@pytest.mark.slow
def test_shards_that_fail_hold_nothing_and_the_others_get_their_turn() -> None:
    world = Wide()
    wishes = [replace(wish, hash=b"h" * 32) for wish in world.wishes()]
    outcomes = world.outcomes(1, *wishes)
    assert {(code_of(outcome), tuple(outcome.blamed)) for outcome in outcomes} == {("corrupt", ())}
    assert world.bytes_asked() == 12 * sum(wish.length for wish in wishes)


def test_the_room_that_a_failed_shard_leaves_is_there_for_one_before_it(world: Yard) -> None:
    size = 6 << 20
    world.sources[10].answer = lambda grant: bytes(size)
    world.sources[11].answer = None
    world.sources[12].answer = BAD["absent"]
    wishes = []
    for number, known, indexes in (
        (1000, b"h" * 32, (0, 2)),
        (1001, b"", (0, 1)),
    ):  # the first is looked for here meanwhile
        sources = [ShardSource(NODES[at], number, at, size, LATER_S, b"m" * 16, b"h" * 32) for at in indexes]
        wishes.append(FetchShard(number, number, 3, 2 * size, size, known, "ec=2+2", sources, b"h" * 32))
    outcomes = world.outcomes(1, *wishes)
    assert [(code_of(outcome), outcome.blamed) for outcome in outcomes] == [
        ("unavailable", [12]),
        ("unavailable", [11]),
    ]
    assert world.asked() == [2, 1, 1, 0, 0, 0]


@pytest.mark.slow
def test_a_silent_node_is_waited_for_once_in_a_command() -> None:
    world = Wide()
    world.sources[11].answer = None
    wishes = world.wishes()
    began = world.sim.now_ns
    outcomes = world.outcomes(1, *wishes)
    assert world.sim.now_ns - began < 6 * SECOND
    first = sum(len(question.shards) for question in world.sources[11].asked)
    assert 0 < first < len(wishes), "later portions do not ask it"
    assert outcomes == [world.got(wish, *[11] * (at < first)) for at, wish in enumerate(wishes)]
