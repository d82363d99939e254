"""Which moves leave next: by risk, within the limits, and each of them ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.master.catalog.move_rules import PlannedMove
from dsa_zmq.master.moves import Moves
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.model.upkeep import Placed, Standing, Why

SECOND = 1_000_000_000
PACE = HealingPace(move_shards=4, move_bytes=1000, node_bytes_s=10_000)
UP = dict.fromkeys(range(1, 9), Standing.KEEPS)


class Ledger(Counter[int]):
    """Bytes that are promised, by node."""

    def hold(self, node: int, size: int) -> None:
        self[node] += size


def move(number: int, target: int = 1, *, sources: tuple[int, ...] = (2,), **fields: object) -> PlannedMove:
    values: dict[str, object] = {
        "chunk": 1000 + number, "node": target, "shard": 0, "move": number, "why": int(Why.REPAIR), "source": 1000 + number,
        "task": 0, "remaining": 0, "shard_bytes": 100, "hash": b"h" * 32, "redundancy": "copies=2",
        "sources": [Placed(node, 1) for node in sources], "source_redundancy": "copies=2", "source_hashes": b"h" * 32,
        **fields,
    }  # fmt: skip
    values.setdefault("chunk_length", values["shard_bytes"])
    return PlannedMove(**values)  # type: ignore[arg-type]


def moves_of(*plans: PlannedMove, pace: HealingPace = PACE) -> tuple[Moves, Ledger]:
    ledger = Ledger()
    moves = Moves(pace, ledger.hold)
    moves.add(plans)
    moves.check_invariants()
    return moves, ledger


def leave(moves: Moves, now: int = 0, standings: dict[int, Standing] = UP, **options: bool) -> list[list[int]]:
    """The moves of each batch that may leave."""
    return [sorted(batch.moves) for batch in moves.batches(standings, now, **options)]


def arrive(moves: Moves, batch: object) -> None:
    moves.end(batch)  # type: ignore[arg-type]
    for number in list(batch.moves):  # type: ignore[attr-defined]
        moves.done(batch, number)  # type: ignore[arg-type]


def test_what_is_most_at_risk_leaves_first_then_what_is_damaged_then_the_oldest() -> None:
    moves, _ = moves_of(
        move(1, remaining=1), move(2, why=int(Why.DRAIN)), move(3), move(4, why=int(Why.BAD)), move(5), move(6),
        pace=replace(PACE, move_batches=1),
    )  # fmt: skip
    assert leave(moves) == [[3, 4, 5, 6]]


def test_a_batch_is_bounded_in_shards_and_in_bytes_but_for_one_large_shard() -> None:
    moves, _ = moves_of(*(move(number, shard_bytes=400) for number in range(1, 5)), move(9, shard_bytes=5000))
    assert leave(moves) == [[1, 2], [3, 4]]
    for batch in moves.under_way():
        arrive(moves, batch)
    assert leave(moves) == [[9]]


def test_a_node_has_so_many_batches_as_target_and_as_source() -> None:
    moves, _ = moves_of(*(move(number, 1 + number % 3, sources=(4,)) for number in range(30)))
    assert len(leave(moves)) == PACE.move_batches, "one source"
    moves, _ = moves_of(*(move(number, 1, sources=(2 + number % 5,)) for number in range(30)))
    assert len(leave(moves)) == PACE.move_batches, "one target"
    for batch in moves.under_way():
        arrive(moves, batch)
    assert len(leave(moves)) == PACE.move_batches


def test_bytes_per_second_hold_for_targets_and_sources() -> None:
    moves, _ = moves_of(*(move(number, shard_bytes=1000) for number in range(100)))
    now, sent = 0, 0
    while len(moves):
        for batch in moves.batches(UP, now):
            sent += batch.bytes
            arrive(moves, batch)
        wait = moves.wait_ns(now)
        if not len(moves):
            break
        assert wait is not None
        assert wait >= 1_000_000, "no storm of timers"
        now += wait
        assert sent <= PACE.node_bytes_s * (1 + now / SECOND) + PACE.move_bytes
    assert 8 * SECOND < now < 10 * SECOND


def test_sources_that_are_gone_are_not_asked_and_the_least_busy_is_asked_first() -> None:
    moves, _ = moves_of(move(1, sources=(2, 3, 4)), move(2, sources=(2, 3, 4)))
    (batch,) = moves.batches(UP | {2: Standing.AWAY, 4: Standing.SILENT}, 0)
    assert [[place.node for place in batch.asked[number]] for number in (1, 2)] == [[3, 4], [3, 4]]
    moves, _ = moves_of(move(1, sources=(2, 3)), move(2, sources=(2, 3)))
    (batch,) = moves.batches(UP, 0)
    assert {batch.asked[1][0].node, batch.asked[2][0].node} == {2, 3}


def test_what_the_target_has_itself_is_asked_of_nobody_else_though_others_are_idle() -> None:
    """For another redundancy: the chunk is another one, its bytes are the same."""
    moves, _ = moves_of(*(move(number, sources=(2, 1, 3), source=7) for number in range(9)))
    batches = list(moves.batches(UP, 0))
    assert [[place.node for place in places] for batch in batches for places in batch.asked.values()] == [[1, 2, 3]] * 8
    assert all(not batch.sources for batch in batches), "nobody's time as a source is taken"
    moves.check_invariants()
    assert leave(moves) == []
    for batch in batches:
        arrive(moves, batch)
    moves.check_invariants()
    assert leave(moves) == [[8]]


def test_copies_within_a_node_keep_to_its_rate() -> None:
    moves, _ = moves_of(*(move(number, sources=(1,), source=7, shard_bytes=8000) for number in range(4)))
    now = 0
    while len(moves):
        for batch in moves.batches(UP, now):
            arrive(moves, batch)
        now += SECOND // 10
    assert now > SECOND, "32,000 bytes at 10,000 a second; the first second's leave at once, and the last are owed"


@pytest.mark.parametrize("standing", [standing for standing in Standing if standing is not Standing.KEEPS])
def test_only_nodes_that_keep_are_targets(standing: Standing) -> None:
    moves, _ = moves_of(move(1))
    assert leave(moves, standings=UP | {1: standing}) == []
    assert leave(moves) == [[1]]


def test_a_move_without_a_source_waits_and_keeps_nobody_from_leaving() -> None:
    moves, _ = moves_of(*(move(number, sources=(7,), remaining=-1) for number in range(20)), move(99))
    assert leave(moves, standings=UP | {7: Standing.AWAY}) == [[99]]
    assert {pending.plan.move for pending in moves.blind} == set(range(20)), "the catalog may know better by now"
    assert leave(moves, int(PACE.retry_max_s * SECOND)) != []


def test_a_move_whose_rank_was_another_for_a_while_leaves_once_and_occupies_one_source() -> None:
    moves, _ = moves_of(move(1, sources=(2, 3)))
    for remaining in (1, 0):
        moves.rank([(1001, 1, remaining)])
    (batch,) = moves.batches(UP, 0)
    moves.check_invariants()
    assert (batch.bytes, len(batch.sources)) == (100, 1)
    arrive(moves, batch)
    moves.check_invariants()
    assert leave(moves) == []


def test_while_healing_is_held_only_damage_is_mended() -> None:
    moves, _ = moves_of(move(1), move(2, why=int(Why.BAD)), move(3, why=int(Why.DRAIN)))
    assert leave(moves, held=True) == [[2]]
    assert leave(moves) == [[1, 3]]


def test_failures_back_off_and_end() -> None:
    moves, ledger = moves_of(move(1))
    now, pauses = 0, []
    while True:
        (batch,) = moves.batches(UP, now)
        moves.end(batch)
        moves.nothing_arrived(1, now)
        if spent := moves.failed(batch, [1], now):
            break
        wait = moves.wait_ns(now)
        assert wait is not None
        pauses.append(wait // SECOND)
        assert leave(moves, now + wait - 1) == []
        now += wait
    assert pauses == [1, 2, 4, 8]
    assert [pending.plan.move for pending in spent] == [1]
    assert leave(moves, now + 100 * SECOND) == [], "it is to be given up"
    moves.given_up([(1001, 1, 1)])
    assert (len(moves), +ledger) == (0, Counter())


def test_one_that_could_not_be_given_up_goes_on() -> None:
    moves, _ = moves_of(move(1))
    assert [pending.plan.move for pending in moves.to(lambda node: node == 1)] == [1]
    assert leave(moves) == []
    moves.not_given_up([(1001, 1, 1)])
    assert leave(moves) == [[1]]


def test_a_move_whose_target_is_another_process_is_asked_again_at_once() -> None:
    moves, _ = moves_of(move(1))
    (batch,) = moves.batches(UP, 0)
    moves.end(batch)
    moves.again(batch, 1)
    assert leave(moves) == [[1]]


def test_a_move_that_has_become_more_urgent_leaves_sooner() -> None:
    moves, _ = moves_of(*(move(number, remaining=1) for number in range(10)), pace=replace(PACE, move_batches=1))
    moves.rank([(1009, 1, 0)])
    moves.check_invariants()
    assert leave(moves) == [[0, 1, 2, 9]]


@pytest.mark.parametrize("why", [Why.REBALANCE, Why.SPREAD])
def test_what_could_only_lie_better_and_nobody_asked_for_trickles(why: Why) -> None:
    own = [move(number, why=int(why), task=0, shard_bytes=1000) for number in range(50)]
    moves, _ = moves_of(*own)
    assert len(leave(moves)) == 1
    asked = [move(number, why=int(Why.REBALANCE), task=7, shard_bytes=1000) for number in range(50)]
    moves, _ = moves_of(*asked)
    assert len(leave(moves)) == PACE.move_batches


def test_half_of_the_table_is_for_healing() -> None:
    pace = replace(PACE, max_moves=10)
    moves, _ = moves_of(*(move(number, why=int(Why.DRAIN)) for number in range(4)), pace=pace)
    assert moves.room == (6, 1)
    moves.add(move(number) for number in range(4, 9))
    assert moves.room == (1, 1)


@given(
    st.lists(st.tuples(st.sampled_from(("leave", "done", "fail", "again", "gone", "time", "down")), st.integers(0, 9)))
)
def test_whatever_happens_every_move_ends_once_all_is_well(history: list[tuple[str, int]]) -> None:
    plans = [move(n, 1 + n % 3, sources=(4 + n % 2, 5), remaining=n % 2, why=1 + n % 3) for n in range(12)]
    moves, ledger = moves_of(*plans)
    now, standings = 0, dict(UP)
    for what, which in history:
        batches = moves.under_way()
        batch = batches[which % len(batches)] if batches else None
        match what:
            case "leave":
                list(moves.batches(standings, now))
            case "time":
                now += which * SECOND // 2
            case "down":
                standings[1 + which % 8] = Standing.AWAY if which % 2 else Standing.KEEPS
            case _ if batch is not None:
                numbers = list(batch.moves)
                moves.end(batch)
                if what == "fail":
                    spent = moves.failed(batch, numbers, now)
                    moves.given_up((each.plan.chunk, each.plan.node, each.plan.move) for each in spent)
                else:
                    for number in numbers:
                        getattr(moves, what)(batch, number)
        moves.check_invariants()
    for _ in range(200):
        for batch in [*moves.under_way(), *moves.batches(UP, now)]:
            arrive(moves, batch)
        now += SECOND
        moves.check_invariants()
    assert (len(moves), +ledger, moves.under_way()) == (0, Counter(), [])
