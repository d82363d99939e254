"""Conversations about drops: nothing is recorded that was not asked for and answered."""

from __future__ import annotations

from dsa_zmq.master.drops import RETRY_FIRST_NS, RETRY_MAX_NS, Drops, Step
from dsa_zmq.protocol.messages import Dropped
from dsa_zmq.protocol.values import ShardRef

A, B, C = ShardRef(1, 0), ShardRef(2, 1), ShardRef(3, 0)


def telling(drops: Drops, node: int, *shards: ShardRef, now: int = 0) -> int:
    """Begin a conversation; the number of the Drop."""
    talk = drops.begin(node)
    assert talk is not None
    drop = drops.loaded(talk, list(shards), now)
    assert drop is not None
    return drop.number


def test_a_conversation_goes_on_until_nothing_is_left() -> None:
    drops = Drops(7)
    talk = drops.begin(1)
    assert talk is not None
    assert drops.begin(1) is None
    drop = drops.loaded(talk, [A, B], 0)
    assert drop is not None
    assert (drop.term, drop.shards) == (7, [A, B])
    assert drops.gone(1, Dropped(drop.number, [B, A])) == (talk, [A, B])
    assert talk.step is Step.RECORDING
    drops.recorded(talk)
    assert drops.loaded(talk, [], 0) is None
    assert len(drops) == 0
    assert drops.dropped == 2


def test_only_what_was_asked_for_and_is_out_counts_as_dropped() -> None:
    drops = Drops(1)
    number = telling(drops, 1, A, B)
    assert drops.gone(2, Dropped(number, [A])) is None
    assert drops.gone(1, Dropped(number + 1, [A])) is None
    assert drops.gone(1, Dropped(number, [C])) is None
    answered = drops.gone(1, Dropped(number, [C, A]))
    assert answered is not None
    assert answered[1] == [A]
    assert drops.gone(1, Dropped(number, [A])) is None


def test_an_unanswered_drop_is_repeated_with_growing_pauses() -> None:
    drops = Drops(1)
    number = telling(drops, 4, A)
    now, pauses = 0, []
    for _ in range(8):
        pause = 0
        while not (again := drops.due(now + pause)):
            pause += RETRY_FIRST_NS // 2
        assert [(node, drop.number, drop.shards) for node, drop in again] == [(4, number, [A])]
        now += pause
        pauses.append(pause)
    assert pauses[:3] == [RETRY_FIRST_NS, 2 * RETRY_FIRST_NS, 4 * RETRY_FIRST_NS]
    assert pauses[-1] == RETRY_MAX_NS


def test_a_conversation_that_was_given_up_is_not_confused_with_its_successor() -> None:
    drops = Drops(1)
    first = drops.begin(1)
    assert first is not None
    drops.keep_only([2, 3])
    second = drops.begin(1)
    assert second is not None
    assert drops.find(1, first.serial) is None
    assert drops.find(1, second.serial) is second
    number = telling(drops, 2, A)
    drops.give_up(2)
    assert drops.gone(2, Dropped(number, [A])) is None
    assert drops.due(10**15) == []
    drops.check_invariants()
