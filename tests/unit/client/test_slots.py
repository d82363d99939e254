"""The pool of slots by itself: each slot leaves it once, it is bounded, and whoever is alone never meets it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.client.effects import Begin
from dsa_zmq.client.inherited import Inherited
from dsa_zmq.client.slots import (
    BURST_FILES,
    IDLE_NS,
    LEAST_SLOTS,
    MAX_HELD,
    MAX_HELD_BYTES,
    REST_NS,
    SlotPool,
    Taken,
    Turn,
)
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.errors import NoSpace
from dsa_zmq.model.limits import MAX_SLOTS, SLOT_SIZES
from dsa_zmq.protocol.operations import (
    Allocate,
    AllocatedSlots,
    AllocateSlots,
    MakeDirectory,
    Move,
    Remove,
    ReturnSlots,
    SetRedundancy,
)
from dsa_zmq.protocol.values import Place, UploadSlot

SECOND = 1_000_000_000
EPOCH = (1, 5)
SMALL = 100, 1 << 20  #: size of a file and of its chunks
FULL = 4096, 4096


class Bench:
    """A pool, what asks it, and a master that gives what is asked."""

    def __init__(self, burst: int = BURST_FILES) -> None:
        self.suspicion = Suspicion()
        self.pool = SlotPool(self.suspicion, burst)
        self.pool.inherited.learn("/d/first", "copies=2", *SMALL)
        self.owners = itertools.count(1)
        self.ids = itertools.count(1000)
        self.now = 0
        self.epoch = EPOCH
        self.open: list[tuple[Any, AllocateSlots]] = []  # questions without an answer
        self.given: set[int] = set()
        self.taken: list[Taken] = []
        self.returned: list[int] = []

    def put(
        self, size: int = 100, path: str = "/d/f", redundancy: str = "", chunk_bytes: int = 1 << 20
    ) -> Taken | Turn:
        begin = Begin(Allocate(0, path, chunk_bytes, 0, [size], redundancy=redundancy), "tag")
        found = self.pool.take(next(self.owners), begin, self.epoch, self.now)
        if isinstance(found, Taken):
            self.taken.append(found)
        self.look()
        return found

    def puts(self, count: int, **options: Any) -> list[Taken | Turn]:
        return [self.put(**options) for _ in range(count)]

    def look(self) -> None:
        for kind, operation in self.pool.questions():
            if isinstance(operation, ReturnSlots):
                self.returned += operation.uploads
            else:
                assert isinstance(operation, AllocateSlots)
                self.open.append((kind, operation))
        self.pool.check()

    def answer(self, at: int = 0, last_ms: int = 60_000, nodes: tuple[int, int] = (1, 2)) -> list[Taken | None]:
        """The question's answer comes. Returns what those who waited have got."""
        kind, asked = self.open.pop(at)
        slots = [
            UploadSlot(next(self.ids), next(self.ids), [Place(node, i, b"m" * 16) for i, node in enumerate(nodes)])
            for _ in range(asked.count)
        ]
        self.given |= {slot.upload for slot in slots}
        served = self.pool.arrived(kind, AllocatedSlots(slots, [], 7, last_ms), self.epoch, self.now)
        self.taken += [found for _, _, found in served if found is not None]
        self.look()
        return [found for _, _, found in served]

    def tick(self, later_ns: int = 0) -> None:
        self.now += later_ns
        self.pool.tick(self.now)
        self.look()

    def balance(self) -> None:
        """No slot is used or returned twice, and none is both."""
        left = [found.slot.upload for found in self.taken] + self.returned
        assert len(set(left)) == len(left)
        assert set(left) <= self.given


def test_whoever_puts_a_few_files_asks_for_each_as_if_there_were_no_pool() -> None:
    bench = Bench()
    for _ in range(5):
        assert bench.puts(BURST_FILES - 1) == [Turn.ASK] * (BURST_FILES - 1)
        bench.tick(2 * SECOND)
    assert not bench.open
    assert bench.pool.held == 0


def test_a_burst_is_answered_from_one_block_and_waits_for_it_no_longer_than_for_an_answer_of_its_own() -> None:
    bench = Bench()
    found = bench.puts(BURST_FILES + LEAST_SLOTS)
    assert found == [Turn.ASK] * (BURST_FILES - 1) + [Turn.WAIT] * LEAST_SLOTS + [Turn.ASK]
    ((kind, asked),) = bench.open
    assert (kind, asked) == (("copies=2", 4096), AllocateSlots(LEAST_SLOTS, 4096, "copies=2"))
    assert all(isinstance(one, Taken) for one in bench.answer())
    bench.balance()
    assert len(bench.taken) == LEAST_SLOTS


def test_blocks_grow_with_use_and_the_next_one_is_there_before_the_last_is_used_up() -> None:
    bench = Bench()
    sizes = []
    for _ in range(600):
        bench.put()
        while bench.open:
            sizes.append(bench.open[0][1].count)
            bench.answer()
    assert sizes[0] == LEAST_SLOTS
    assert max(sizes) == MAX_SLOTS
    assert bench.pool.taken >= 600 - BURST_FILES
    assert len(sizes) < 12
    bench.balance()


def test_after_a_second_without_small_files_everything_goes_back() -> None:
    bench = Bench()
    bench.puts(BURST_FILES)
    bench.answer()
    assert bench.pool.held == LEAST_SLOTS - 1
    bench.tick(IDLE_NS - 1)
    assert not bench.returned
    bench.tick(1)
    assert bench.pool.held == 0
    assert len(bench.returned) == LEAST_SLOTS - 1
    bench.balance()


def test_a_block_that_comes_when_nobody_wants_it_any_more_goes_back() -> None:
    bench = Bench()
    bench.puts(BURST_FILES)
    bench.pool.cancel(BURST_FILES)  # the one that waited
    bench.tick(2 * SECOND)
    assert bench.answer() == []
    bench.tick()
    assert len(bench.returned) == LEAST_SLOTS


def test_a_slot_is_not_begun_after_its_time_counted_from_the_question() -> None:
    bench = Bench()
    bench.puts(BURST_FILES)
    bench.now += 700_000_000
    assert isinstance(bench.answer(last_ms=1000)[0], Taken)
    bench.now += 299_000_000
    assert isinstance(bench.put(), Taken)
    bench.now += 1_000_000
    assert not isinstance(bench.put(), Taken)
    assert len(bench.returned) == LEAST_SLOTS - 2
    bench.balance()


def test_an_answer_that_is_later_than_its_slots_last_gives_none() -> None:
    bench = Bench()
    bench.puts(BURST_FILES)
    bench.now += SECOND
    assert bench.answer(last_ms=1000) == [None]
    assert len(bench.returned) == LEAST_SLOTS


@pytest.mark.parametrize("epoch", [(2, 5), (1, 6), (1, 0)])
def test_another_term_or_session_voids_what_is_there(epoch: tuple[int, int]) -> None:
    bench = Bench()
    bench.puts(BURST_FILES)
    bench.answer()
    before = set(bench.given)
    bench.epoch = epoch
    assert not isinstance(bench.put(), Taken)
    assert len(bench.returned) == LEAST_SLOTS - 1
    bench.answer()
    found = bench.put()
    assert isinstance(found, Taken)
    assert found.slot.upload not in before


def test_where_a_code_is_given_small_files_take_slots_of_what_they_are_kept_as() -> None:
    bench = Bench()
    bench.pool.inherited.forget()
    bench.pool.inherited.learn("/d/large", "ec=4+2", 10 << 20, 1 << 20)
    bench.puts(BURST_FILES)
    assert bench.open[0][1].redundancy == "copies=3"
    bench.puts(BURST_FILES, redundancy="ec=2+1")
    assert bench.open[1][1].redundancy == "copies=2"


def test_a_small_file_that_fills_its_chunk_and_is_made_into_a_code_takes_no_slot() -> None:
    bench = Bench()
    found = bench.puts(2 * BURST_FILES, size=4096, chunk_bytes=4096, redundancy="ec=4+2")
    assert found == [Turn.ASK] * 2 * BURST_FILES
    assert not bench.open


def test_slots_on_suspected_nodes_are_skipped_and_go_back() -> None:
    bench = Bench()
    bench.puts(BURST_FILES)
    bench.answer(nodes=(1, 2))
    bench.suspicion.accuse(2, bench.now)
    assert bench.put() is Turn.WAIT
    assert bench.open[0][1].avoid == [2]
    assert len(bench.returned) == LEAST_SLOTS - 1
    assert all(isinstance(found, Taken) for found in bench.answer(nodes=(1, 3)))


def test_after_a_refusal_those_who_waited_ask_for_themselves_and_the_pool_rests() -> None:
    bench = Bench()
    bench.puts(BURST_FILES + 3)
    (kind, _) = bench.open.pop()
    served = bench.pool.arrived(kind, NoSpace("full"), EPOCH, bench.now)
    assert [found for _, _, found in served] == [None] * 4
    assert bench.puts(30) == [Turn.ASK] * 30
    bench.now += REST_NS
    assert bench.put() is Turn.WAIT


def test_an_upload_that_was_given_up_takes_no_slot() -> None:
    bench = Bench()
    bench.puts(BURST_FILES + 3)
    bench.pool.cancel(BURST_FILES + 1)
    bench.pool.cancel(12345)
    assert len(bench.answer()) == 3
    assert bench.pool.held == LEAST_SLOTS - 3


def test_files_take_slots_of_their_size_and_of_the_redundancy_that_was_named() -> None:
    bench = Bench()
    for size in (1, 4096, 4097, 16384, 16385, 65536):
        bench.puts(BURST_FILES, size=size)
    bench.puts(BURST_FILES, redundancy="copies=3")
    kinds = [kind for kind, _ in bench.open]
    assert kinds == [*(("copies=2", size) for size in SLOT_SIZES), ("copies=3", 4096)]


def test_a_pool_that_is_switched_off_never_asks() -> None:
    assert set(Bench(burst=0).puts(100)) == {Turn.ASK}


def test_nobody_knows_the_redundancy_before_the_first_file_was_made() -> None:
    bench = Bench()
    bench.pool.inherited.forget()
    assert set(bench.puts(100)) == {Turn.ASK}


class Walk:
    """Any course of events."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.bench = Bench(burst=self.draw.choice([1, 2, BURST_FILES]))

    def step(self) -> None:
        draw, bench = self.draw, self.bench
        match draw.choices(range(7), (30, 8, 2, 6, 1, 1, 2))[0]:
            case 0:
                bench.puts(
                    draw.randrange(1, 60),
                    size=draw.choice([100, 9000, 60_000]),
                    redundancy=draw.choice(["", "copies=1", "copies=3"]),
                )
            case 1 if bench.open:
                nodes = tuple(draw.sample(range(1, 6), 2))
                at = draw.randrange(len(bench.open))
                bench.answer(at, draw.choice([0, 300, 60_000]), nodes)  # type: ignore[arg-type]
            case 2 if bench.open:
                kind, _ = bench.open.pop(draw.randrange(len(bench.open)))
                bench.pool.arrived(kind, NoSpace("full"), bench.epoch, bench.now)
            case 3:
                bench.tick(draw.choice([1_000_000, 100_000_000, SECOND]))
            case 4:
                bench.epoch = (draw.randrange(1, 3), draw.randrange(3))
            case 5:
                bench.suspicion.accuse(draw.randrange(1, 6), bench.now)
            case 6:
                bench.pool.cancel(draw.randrange(1, 500))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_no_slot_is_used_twice_and_the_pool_is_bounded(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(60):
        walk.step()
        walk.bench.look()
        walk.bench.balance()
        assert walk.bench.pool.held <= MAX_HELD
        assert walk.bench.pool.held_bytes <= MAX_HELD_BYTES
    while walk.bench.open:
        walk.bench.answer()
    walk.bench.pool.clear()
    walk.bench.look()
    walk.bench.balance()
    bench = walk.bench
    assert {found.slot.upload for found in bench.taken} | set(bench.returned) == bench.given


# --- what directories give ---------------------------------------------------------------------------------------------


def test_a_directory_that_is_not_known_is_taken_for_like_the_others_while_all_are_alike() -> None:
    known = Inherited()
    assert known.find("/a/x", *SMALL) == ""
    known.learn("/a/x", "copies=2", *SMALL)
    assert (known.find("/a/y", *SMALL), known.find("/b/c/y", *SMALL)) == ("copies=2", "copies=2")
    known.learn("/safe/x", "copies=3", *SMALL)
    assert (known.find("/a/y", *SMALL), known.find("/safe/y", *SMALL), known.find("/b/y", *SMALL)) == (
        "copies=2",
        "copies=3",
        "",
    )


def test_after_a_wrong_belief_nothing_is_guessed() -> None:
    known = Inherited()
    known.learn("/a/x", "copies=2", *SMALL)
    known.doubt("/b/x")
    assert (known.find("/a/y", *SMALL), known.find("/b/y", *SMALL), known.find("/c/y", *SMALL)) == ("copies=2", "", "")
    known.doubt("/a/x")
    assert known.find("/a/y", *SMALL) == ""


@pytest.mark.parametrize(
    "operation",
    [
        MakeDirectory("/d", redundancy="copies=3"),
        Move("/a", "/b"),
        SetRedundancy("/a", "copies=1"),
        Remove("/a", recursive=True),
    ],
)
def test_own_changes_of_directories_end_all_beliefs(operation: Any) -> None:
    known = Inherited()
    known.learn("/a/x", "copies=2", *SMALL)
    for harmless in (MakeDirectory("/d"), Remove("/a/x")):
        known.follow(harmless)
        assert known.find("/a/y", *SMALL) == "copies=2"
    known.follow(operation)
    assert known.find("/a/y", *SMALL) == ""


def test_the_memory_of_directories_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsa_zmq.client.inherited.MAX_DIRECTORIES", 3)
    known = Inherited()
    for number in range(10):
        known.learn(f"/{number}/x", "copies=2", *SMALL)
        assert known.find(f"/{number}/y", *SMALL) == "copies=2"
        assert len(known._small.known) <= 3


def test_small_files_of_a_directory_with_a_code_do_not_hide_what_others_get_there() -> None:
    known = Inherited()
    known.learn("/a/x", "copies=3", *SMALL)
    assert (known.find("/a/y", *SMALL), known.find("/a/y", *FULL)) == ("copies=3", "")
    known.learn("/a/large", "ec=4+2", 10 << 20, 1 << 20)
    known.learn("/a/z", "copies=3", *SMALL)
    for path in ("/a/y", "/unknown/y"):
        assert (known.find(path, *SMALL), known.find(path, *FULL)) == ("copies=3", "ec=4+2")


def test_what_a_large_file_got_tells_what_a_small_one_gets() -> None:
    known = Inherited()
    known.learn("/code/large", "ec=4+2", 10 << 20, 1 << 20)
    known.learn("/copies/large", "copies=2", 10 << 20, 1 << 20)
    assert (known.find("/code/x", *SMALL), known.find("/copies/x", *SMALL)) == ("copies=3", "copies=2")


def test_files_without_content_teach_nothing() -> None:
    known = Inherited()
    known.learn("/a/empty", "", 0, 0)
    known.learn("/a/x", "copies=2", *SMALL)
    assert known.find("/b/x", *SMALL) == "copies=2"
