"""A node makes shards of codes from those of others, any so many of them, and believes none that does not match its hash."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.messages import PutShards
from tests.sim.conftest import NODE
from tests.sim.market import Answer, code_of
from tests.sim.yard import BAD, LENGTH, NODES, Yard


@pytest.fixture
def world() -> Yard:
    return Yard()


# --- which sources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ec=2+1", "ec=2+4", "ec=3+2", "ec=4+2", "ec=5+1"])
def test_any_shards_that_are_enough_make_any_other(world: Yard, name: str) -> None:
    code = parse_redundancy(name)
    wishes = []
    for index in range(code.shards):
        for kept in combinations([each for each in range(code.shards) if each != index], code.needed):
            wishes.append(world.wish(1000 + len(wishes), name, index, *kept))
    assert world.outcomes(1, *wishes) == [world.got(wish) for wish in wishes]


def test_so_many_are_asked_as_it_takes_and_those_of_one_node_together(world: Yard) -> None:
    wishes = [world.wish(number, "ec=3+3", 5, 0, 1, 2, 3, 4) for number in range(1000, 1007)]
    assert world.outcomes(1, *wishes) == [world.got(wish) for wish in wishes]
    assert world.asked() == [7, 7, 7, 0, 0, 0]
    assert [len(source.asked) for source in world.sources.values()] == [1, 1, 1, 0, 0, 0]


def test_what_was_made_is_durable_and_need_not_be_made_again(world: Yard) -> None:
    wish = world.wish(1000, "ec=2+1", 2, 0, 1)
    world.outcomes(1, wish)
    world.sim.crash(world.spec.name, power_loss=True)
    world.up()
    assert world.outcomes(2, wish) == [world.got(wish)]
    assert world.asked() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_bad_source_is_blamed_and_another_shard_takes_its_place(world: Yard, bad: str, at: int) -> None:
    world.sources[NODES[at]].answer = BAD[bad]
    wish = world.wish(1000, "ec=4+2", 5, 0, 1, 2, 3, 4)
    assert world.outcomes(1, wish) == [world.got(wish, NODES[at])]
    assert world.asked() == [1, 1, 1, 1, 1, 0], "what was good was not asked for twice"


def test_one_lies_one_is_silent_and_one_is_rotten(world: Yard) -> None:
    for node, bad in zip(NODES, ("lying", "silent", "rotten"), strict=False):
        world.sources[node].answer = BAD[bad]
    wish = world.wish(1000, "ec=2+4", 5, 0, 1, 2, 3, 4)
    (outcome,) = world.outcomes(1, wish)
    assert sorted(outcome.blamed) == [10, 11, 12]
    assert outcome == world.got(wish, *outcome.blamed)


@pytest.mark.parametrize("bad", BAD)
def test_one_good_source_too_few_is_a_failure_of_that_shard_alone(world: Yard, bad: str) -> None:
    world.sources[10].answer = BAD[bad]
    hopeless, other = world.wish(1000, "ec=3+2", 3, 0, 1, 2), world.wish(1001, "ec=3+2", 3, 1, 2, 4)
    failed, made = world.outcomes(1, hopeless, other)
    assert (code_of(failed) in ("unavailable", "corrupt"), failed.blamed, made) == (True, [10], world.got(other))


def test_who_cannot_be_enough_is_not_asked(world: Yard) -> None:
    (outcome,) = world.outcomes(1, world.wish(1000, "ec=3+2", 3, 0, 1))
    assert (code_of(outcome), outcome.blamed, world.asked()) == ("unavailable", [], [0] * 6)


def test_two_sources_of_one_shard_count_once_and_stand_in_for_each_other(world: Yard) -> None:
    twin = world.source(1000, "ec=2+2", 0, node=14)
    wish = world.wish(1000, "ec=2+2", 3, 0, twin, 1)
    assert world.outcomes(1, wish) == [world.got(wish)]
    assert world.asked() == [1, 1, 0, 0, 0, 0]
    world.sources[10].answer = BAD["lying"]
    again = world.wish(1001, "ec=2+2", 3, 0, world.source(1001, "ec=2+2", 0, node=14), 1)
    assert world.outcomes(2, again) == [world.got(again, 10)]


@pytest.mark.parametrize("known", [True, False])
def test_the_very_shard_is_asked_for_first_and_is_enough(world: Yard, known: bool) -> None:
    changes = {} if known else {"hash": b""}
    wish = world.wish(1000, "ec=3+2", 4, 0, 1, 2, 4, **changes)
    assert world.outcomes(1, wish) == [world.got(wish)]
    assert world.asked() == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("bad", BAD)
def test_where_the_very_shard_is_bad_it_is_made(world: Yard, bad: str, known: bool) -> None:
    changes = {} if known else {"hash": b""}
    world.sources[14].answer = BAD[bad]
    wish = world.wish(1000, "ec=3+2", 4, 4, 0, 1, 2, **changes)
    assert world.outcomes(1, wish) == [world.got(wish, 14)]


@pytest.mark.parametrize("seed", range(8))
def test_a_shard_is_made_exactly_if_enough_sources_are_good(world: Yard, seed: int) -> None:
    draw = random.Random(seed)
    silent = draw.sample(NODES, draw.randrange(3))
    said: dict[tuple[int, int], Answer] = {}
    worse = [answer for answer in BAD.values() if answer is not None]
    wishes, hopes = [], []
    for number in range(1000, 1030):
        code = draw.choice(["ec=2+4", "ec=3+3", "ec=4+2"])
        order = draw.sample(range(5), 5)
        bad = draw.sample(range(5), draw.randrange(5))
        said.update({(number, index): draw.choice(worse) for index in bad})
        wishes.append(world.wish(number, code, 5, *order))
        good = sum(NODES[index] not in silent for index in set(order) - set(bad))
        hopes.append(good >= parse_redundancy(code).needed)
    for node, source in world.sources.items():
        source.answer = (
            None if node in silent else lambda grant: said.get((grant.chunk, grant.index), world.give)(grant)
        )
    outcomes = world.outcomes(1, *wishes)
    assert [outcome.receipt is not None for outcome in outcomes] == hopes
    for wish, outcome in zip(wishes, outcomes, strict=True):
        assert outcome.receipt in (None, world.got(wish).receipt)
        culprits = {NODES[index] for number, index in said if number == wish.chunk} | set(silent)
        assert set(outcome.blamed) <= culprits


def test_what_this_node_has_itself_is_read_here(world: Yard) -> None:
    data = world.shards(1000, "ec=2+2")[1]
    put = replace(world.put_shard(1000, data, index=1), index=1, chunk_length=LENGTH)
    world.ask(PutShards(1, [put]), [data])
    own = world.source(1000, "ec=2+2", 1, node=NODE)
    wish = world.wish(1000, "ec=2+2", 3, own, 0, 2)
    assert world.outcomes(1, wish) == [world.got(wish)]
    assert world.asked() == [1, 0, 0, 0, 0, 0]
    world.rot(data)
    again = world.wish(1000, "ec=2+2", 2, own, 0, 3)
    assert world.outcomes(2, again) == [world.got(again, NODE)]


# --- conversions ------------------------------------------------------------------------------------------------------


CONVERSIONS = [
    ("copies=2", "ec=2+1", 1),
    ("copies=3", "ec=4+2", 1),
    ("ec=2+1", "copies=2", 2),
    ("ec=4+2", "copies=3", 4),
    ("ec=2+2", "ec=4+2", 2),
    ("ec=4+2", "ec=2+2", 4),
    ("ec=4+2", "ec=4+1", 4),
    ("copies=2", "copies=3", 1),
]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("before", "after", "needed"), CONVERSIONS)
def test_a_shard_is_made_from_a_chunk_of_another_redundancy(
    world: Yard, before: str, after: str, needed: int, known: bool
) -> None:
    """Where its hash was not known, the outcome says it."""
    changes = {} if known else {"hash": b""}
    wishes = []
    for index in range(parse_redundancy(after).shards):
        old, new = 1000 + index, 2000 + index
        sources = [world.source(old, before, each) for each in reversed(range(parse_redundancy(before).shards))]
        wishes.append(world.wish(new, after, index, *sources, source_redundancy=before, **changes))
    assert world.outcomes(1, *wishes) == [world.got(wish) for wish in wishes]
    assert sum(world.asked()) == needed * len(wishes)


def test_copies_as_sources_need_no_hash_of_their_own(world: Yard) -> None:
    source = world.source(1000, "copies=2", 0, hash=b"")
    wishes = [
        world.wish(2000, "ec=2+1", 2, source, source_redundancy="copies=2", hash=b""),
        world.wish(3000, "copies=3", 2, source, source_redundancy="copies=2", chunk_hash=b""),
    ]
    assert world.outcomes(1, *wishes) == [world.got(wish) for wish in wishes]


def test_a_bad_copy_is_blamed_and_the_next_one_converted(world: Yard) -> None:
    world.sources[10].answer = BAD["lying"]
    sources = [world.source(1000, "copies=2", index, hash=b"") for index in (0, 1)]
    wish = world.wish(2000, "ec=2+1", 2, *sources, source_redundancy="copies=2", hash=b"")
    assert world.outcomes(1, wish) == [world.got(wish, 10)]


def test_a_shard_of_unknown_hash_is_made_of_its_own_code_over_the_whole_chunk(world: Yard) -> None:
    wish = world.wish(1000, "ec=3+2", 4, 0, 2, 3, hash=b"")
    assert world.outcomes(1, wish) == [world.got(wish)]


def test_a_repeat_after_a_restart_makes_what_has_no_known_hash_again_and_says_the_same(world: Yard) -> None:
    wish = world.wish(2000, "ec=2+1", 1, world.source(1000, "copies=2", 0), source_redundancy="copies=2", hash=b"")
    assert world.outcomes(1, wish) == [world.got(wish)]
    world.sim.crash(world.spec.name, power_loss=True)
    world.up()
    assert world.outcomes(2, wish) == [world.got(wish)]


# --- what does not match ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        ("ec=3+2", {"hash": b"h" * 32}),
        ("ec=3+2", {"hash": b"", "chunk_hash": b"h" * 32}),
        ("ec=2+2", {"hash": b"h" * 32}),
        ("ec=2+2", {"hash": b"", "chunk_hash": b"h" * 32}),
        ("ec=2+2", {"chunk_hash": b"h" * 32}),
        ("copies=2", {"hash": b"h" * 32}),
    ],
)
def test_sound_sources_of_something_else_make_nothing_and_nobody_is_blamed(
    world: Yard, before: str, changes: dict[str, Any]
) -> None:
    sources = [world.source(1000, before, index) for index in range(parse_redundancy(before).needed)]
    (outcome,) = world.outcomes(1, world.wish(2000, "ec=3+2", 4, *sources, source_redundancy=before, **changes))
    assert (code_of(outcome), outcome.blamed) == ("corrupt", [])
    assert world.actor._office.status.usage.shards == 0


def test_other_bytes_under_the_same_number_stay_and_are_told(world: Yard) -> None:
    world.put((2000, b"else" * 100))
    wish = world.wish(2000, "ec=2+1", 0, world.source(1000, "copies=2", 0), source_redundancy="copies=2", hash=b"")
    (outcome,) = world.outcomes(1, wish)
    assert (code_of(outcome), outcome.blamed) == ("conflict", [])


@pytest.mark.parametrize(
    "changes",
    [
        {"redundancy": "ec=99+1"}, {"source_redundancy": "many"}, {"index": 6}, {"length": 1000}, {"chunk_length": 2000},
        {"chunk_length": 0}, {"chunk_length": -1}, {"chunk_length": 1 << 60}, {"hash": b"h"}, {"chunk_hash": b"h"},
        {"hash": b"", "chunk_hash": b""}, {"source_redundancy": "copies=2"},
    ],
    ids=str,
)  # fmt: skip
def test_nonsense_is_answered(world: Yard, changes: dict[str, Any]) -> None:
    (outcome,) = world.outcomes(1, replace(world.wish(1000, "ec=4+2", 5, 0, 1, 2, 3), **changes))
    assert (code_of(outcome), outcome.blamed, world.asked()) == ("invalid", [], [0] * 6)


@pytest.mark.parametrize(
    "changes", [{"hash": b""}, {"hash": b"h"}, {"index": 6}, {"index": -1}, {"length": 16}], ids=str
)
def test_a_source_that_makes_no_sense_is_answered(world: Yard, changes: dict[str, Any]) -> None:
    bad = replace(world.source(1000, "ec=2+2", 1), **changes)
    (outcome,) = world.outcomes(1, world.wish(1000, "ec=2+2", 3, 0, bad))
    assert (code_of(outcome), outcome.blamed, world.asked()) == ("invalid", [], [0] * 6)
