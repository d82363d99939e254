"""A node fetches what the master wants it to have, from data ports that may be slow, wrong or gone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from blake3 import blake3

from dsa_zmq.model.macs import READ
from dsa_zmq.protocol.messages import Drop, Dropped
from dsa_zmq.protocol.values import Failure, FetchOutcome, FetchShard, ShardRef, ShardSource
from tests.sim.conftest import LATER_S, NODE, SECOND, TERM
from tests.sim.market import Answer, Market, code_of


class Copies(Market):
    """With two sources, nodes 1 and 2, which have copies of chunks of 1000 bytes."""

    def __init__(self) -> None:
        super().__init__(1, 2)
        self.bytes = {chunk: random.Random(chunk).randbytes(1000) for chunk in range(10, 20)}
        for source in self.sources.values():
            source.answer = lambda grant: self.bytes[grant.chunk]

    def shard(self, chunk: int, *nodes: int, **changes: Any) -> FetchShard:
        """To be fetched from these nodes, in this order."""
        mac = self.mac(READ, chunk, 1000, index=1)
        sources = [ShardSource(node, chunk, 1, 1000, LATER_S, mac) for node in nodes]
        digest = blake3(self.bytes[chunk]).digest()
        values: dict[str, Any] = {
            "move": 1000 + chunk, "chunk": chunk, "index": 0, "chunk_length": 1000, "length": 1000, "hash": digest,
            "redundancy": "copies=2", "sources": sources, **changes,
        }  # fmt: skip
        return FetchShard(**values)

    def got(self, chunk: int, *blamed: int) -> FetchOutcome:
        """It was fetched, and these were found wanting."""
        receipt = self.receipt(chunk, self.bytes[chunk], upload=1000 + chunk)
        return FetchOutcome(1000 + chunk, receipt=receipt, blamed=list(blamed))


@pytest.fixture
def world() -> Copies:
    return Copies()


def test_shards_of_one_source_come_in_one_message_and_are_receipted(world: Copies) -> None:
    shards = [world.shard(chunk, 1, 2) for chunk in range(10, 15)]
    assert world.outcomes(1, *shards) == [world.got(chunk) for chunk in range(10, 15)]
    assert [len(asked.shards) for asked in world.sources[1].asked] == [5]
    assert not world.sources[2].asked


def test_what_was_receipted_is_durable(world: Copies) -> None:
    world.outcomes(1, world.shard(10, 1))
    world.sim.crash(world.spec.name, power_loss=True)
    world.up()
    world.sources[1].answer = None
    assert world.outcomes(2, world.shard(10, 1)) == [world.got(10)], "it is there, and need not travel"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        lambda grant: Failure("not-found", "it is not here"),
        lambda grant: b"x" * 1000,
        lambda grant: b"x" * 999,
    ],
    ids=["silent", "absent", "damaged", "short"],
)
def test_a_bad_source_is_blamed_and_the_next_one_asked(world: Copies, answer: Answer | None) -> None:
    world.sources[1].answer = answer
    assert world.outcomes(1, world.shard(10, 1, 2), world.shard(11, 2)) == [world.got(10, 1), world.got(11)]


def test_without_a_good_source_the_shard_fails_and_the_others_do_not(world: Copies) -> None:
    for source in world.sources.values():
        source.answer = lambda grant: b"x" * 1000 if grant.chunk == 10 else world.bytes[grant.chunk]
    bad, good = world.outcomes(1, world.shard(10, 1, 2), world.shard(11, 2))
    assert (code_of(bad), bad.blamed, good) == ("corrupt", [1, 2], world.got(11))


def test_a_shard_may_come_from_another_chunk_of_the_same_node(world: Copies) -> None:
    world.outcomes(1, world.shard(10, 1))
    world.bytes[11] = world.bytes[10]
    own = ShardSource(NODE, 10, 0, 1000, LATER_S, world.mac(READ, 10, 1000))
    assert world.outcomes(2, world.shard(11, sources=[own])) == [world.got(11)]
    assert len(world.sources[1].asked) == 1


@pytest.mark.parametrize(
    "changes",
    [{"hash": b""}, {"length": 0}, {"index": -1}, {"index": 999}, {"length": 1 << 40}, {"sources": []}],
    ids=lambda changes: next(iter(changes)),
)
def test_nonsense_is_answered(world: Copies, changes: dict[str, Any]) -> None:
    shard = world.shard(10, 1, **changes)
    (outcome,) = world.outcomes(1, shard)
    assert code_of(outcome) in ("invalid", "unavailable")
    assert not world.sources[1].asked


def test_a_command_is_carried_out_once_and_a_repeat_gets_the_same_answer(world: Copies) -> None:
    first = world.outcomes(1, world.shard(10, 1))
    world.fetch(1, world.shard(10, 1))
    world.sim.run_until(lambda: len(world.answers(1)) == 2, 5 * SECOND)
    assert world.answers(1) == [first, first]
    assert len(world.sources[1].asked) == 1


def test_a_repeat_of_what_is_at_work_is_ignored(world: Copies) -> None:
    for _ in range(3):
        world.fetch(1, world.shard(10, 1))
    world.sim.run_for(SECOND)
    assert len(world.answers(1)) == 1
    assert len(world.sources[1].asked) == 1


def test_a_late_command_does_not_bring_back_what_was_dropped(world: Copies) -> None:
    for number in range(1, 11):
        world.outcomes(number, world.shard(9 + number, 1))
    world.tell(Drop(1, TERM, [ShardRef(10, 0)]))
    world.sim.run_until(lambda: world.master.of(Dropped), 5 * SECOND)
    asked = len(world.sources[1].asked)
    world.fetch(1, world.shard(10, 1))
    world.sim.run_for(SECOND)
    assert len(world.answers(1)) == 1
    assert len(world.sources[1].asked) == asked


def test_an_older_master_is_not_obeyed(world: Copies) -> None:
    world.fetch(1, world.shard(10, 1), term=TERM - 1)
    world.sim.run_for(SECOND)
    assert not world.answers(1)
    assert not world.sources[1].asked


def test_too_much_at_once_is_refused(world: Copies) -> None:
    shards = [world.shard(chunk, 1, length=4 << 20, chunk_length=4 << 20) for chunk in range(10, 15)]
    assert {code_of(outcome) for outcome in world.outcomes(1, *shards)} == {"invalid"}


def test_a_full_node_says_so(world: Copies) -> None:
    world.bytes = {chunk: random.Random(chunk).randbytes(50_000) for chunk in range(100, 200)}
    sources = [[ShardSource(1, chunk, 1, 50_000, LATER_S, b"m" * 16)] for chunk in world.bytes]
    shards = [
        world.shard(chunk, length=50_000, chunk_length=50_000, sources=own)
        for chunk, own in zip(world.bytes, sources, strict=True)
    ]
    outcomes = world.outcomes(1, *shards)
    full = [outcome for outcome in outcomes if outcome.receipt is None]
    assert 20 < len(full) < 80
    assert {(code_of(outcome), tuple(outcome.blamed)) for outcome in full} == {("no-space", ())}
