"""A node makes shards of codes from those of others, any so many of them, and believes none that does not match its hash."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from blake3 import blake3
from msgspec.structs import replace

from dsa_zmq.model import erasure
from dsa_zmq.model.macs import READ
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.node.fetching import MAX_BYTES
from dsa_zmq.protocol.messages import GetShards, PutShards, ShardGrant
from dsa_zmq.protocol.values import Failure, FetchOutcome, FetchShard, ShardSource
from tests.sim.conftest import LATER_S, NODE, SECOND
from tests.sim.market import Answer, Market, code_of

NODES = (10, 11, 12, 13, 14, 15)  #: node 10 + i has shard i of everything
LENGTH = 1000


def digest(data: Any) -> bytes:
    return blake3(data).digest()


class Yard(Market):
    """Six sources. Any chunk is there with any redundancy: its bytes depend on its number modulo 1000 alone, so that chunks
    1001 and 2001 are equal."""

    def __init__(self, nodes: tuple[int, ...] = NODES) -> None:
        super().__init__(*nodes)
        self.made: dict[tuple[int, str], list[bytes]] = {}
        self.kept: dict[int, str] = {}  #: redundancy of chunks that were named as sources
        for source in self.sources.values():
            source.answer = self.give

    def chunk(self, number: int) -> bytes:
        return random.Random(number % 1000).randbytes(LENGTH)

    def shards(self, number: int, name: str) -> list[bytes]:
        """All shards of a chunk with this redundancy."""
        if (number, name) not in self.made:
            redundancy, chunk = parse_redundancy(name), self.chunk(number)
            made = [chunk] * redundancy.shards if redundancy.alike else erasure.split(chunk, redundancy)
            self.made[number, name] = [bytes(shard) for shard in made]
        return self.made[number, name]

    def give(self, grant: ShardGrant) -> bytes:
        return self.shards(grant.chunk, self.kept[grant.chunk])[grant.index]

    def source(self, number: int, name: str, index: int, node: int = 0, **changes: Any) -> ShardSource:
        """Of that node, or of the one that has all shards of this index."""
        self.kept[number] = name
        data = self.shards(number, name)[index]
        mac = self.mac(READ, number, len(data), index=index)
        values = {"hash": digest(data), **changes}
        return ShardSource(node or NODES[index], number, index, len(data), LATER_S, mac, **values)

    def wish(self, number: int, name: str, index: int, *sources: int | ShardSource, **changes: Any) -> FetchShard:
        """That shard, from shards of these indexes of the same chunk."""
        data = self.shards(number, name)[index]
        named = [self.source(number, name, each) if isinstance(each, int) else each for each in sources]
        values: dict[str, Any] = {
            "move": 5000 + number, "chunk": number, "index": index, "chunk_length": LENGTH, "length": len(data),
            "hash": digest(data), "redundancy": name, "sources": named, "chunk_hash": digest(self.chunk(number)), **changes,
        }  # fmt: skip
        return FetchShard(**values)

    def got(self, wish: FetchShard, *blamed: int) -> FetchOutcome:
        """It is here, and these were found wanting."""
        data = self.shards(wish.chunk, wish.redundancy)[wish.index]
        receipt = self.receipt(wish.chunk, data, wish.move, wish.index)
        return FetchOutcome(
            wish.move, receipt=receipt, blamed=list(blamed), hash=b"" if wish.hash else digest(data)
        )  # fmt: skip

    def asked(self) -> list[int]:
        """How many shards each source was asked for."""
        return [sum(len(question.shards) for question in source.asked) for source in self.sources.values()]


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


def refuse(code: str) -> Answer:
    return lambda grant: Failure(code, "so it is")


BAD: dict[str, Answer | None] = {
    "silent": None,
    "absent": refuse("not-found"),
    "rotten": refuse("corrupt"),
    "lying": lambda grant: b"x" * grant.length,
    "short": lambda grant: b"x" * (grant.length - 1),
    "long": lambda grant: b"x" * (grant.length + 1),
    "empty": lambda grant: b"",
}


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


# --- limits -----------------------------------------------------------------------------------------------------------


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


# --- without the library ----------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """A node on a machine that has no library for codes."""
    world = Yard()
    for name in ("ec=2+1", "copies=2"):
        for number in (1000, 2000):
            world.shards(number, name)
    monkeypatch.setitem(sys.modules, "pyeclib", None)
    erasure._checked_library.cache_clear()
    world.sim.crash(world.spec.name)
    world.up()
    yield world
    erasure._checked_library.cache_clear()


def test_a_node_without_the_library_says_what_to_install_and_asks_nobody(bare: Yard) -> None:
    copy = bare.source(1000, "copies=2", 0)
    made = bare.wish(2000, "ec=2+1", 2, copy, source_redundancy="copies=2")
    rebuilt = bare.wish(1000, "ec=2+1", 2, 0, 1)
    for outcome in bare.outcomes(1, made, rebuilt):
        assert code_of(outcome) == "config"
        assert outcome.failure is not None
        assert "dsa-zmq[ec]" in outcome.failure.remedy
    assert bare.asked() == [0] * 6


def test_a_node_says_once_at_its_start_whether_codes_can_be_made(world: Yard, bare: Yard) -> None:
    (usable,) = world.sim.story("erasure-codes")
    assert "usable=True" in usable
    before, after = bare.sim.story("erasure-codes")
    assert "usable=True" in before
    assert "usable=False" in after
    assert "dsa-zmq[ec]" in after


def test_a_node_without_the_library_keeps_shards_that_others_have(bare: Yard) -> None:
    wish = bare.wish(1000, "ec=2+1", 2, 0, 1, 2)
    assert bare.outcomes(1, wish) == [bare.got(wish)]
