"""Calls in flight: run once, answered once, together, within bounds."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core import Address
from dsa_zmq.master.calls import CallTable, Group
from dsa_zmq.model.limits import MAX_CALLS
from dsa_zmq.protocol.messages import Call, Calls
from dsa_zmq.protocol.operations import Done, Operation, Remove, Stage, Stat
from dsa_zmq.protocol.values import Failure, StagedChunk

PEER, OTHER = Address("client-a/1"), Address("client-b/1")


def calls(*numbers: int, session: int = 5, operation: Operation | None = None) -> Calls:
    return Calls(session, 0, [Call(number, operation or Stat("/")) for number in numbers])


def refusals(group: Group) -> list[tuple[int, str]]:
    return [(answer.number, answer.result.code) for answer in group.answers if isinstance(answer.result, Failure)]


def test_the_answers_of_one_message_leave_together_when_the_last_is_there() -> None:
    table = CallTable()
    group, fresh = table.admit(PEER, calls(1, 2, 3))
    assert [call.number for call in fresh] == [1, 2, 3]
    assert table.finish(fresh[2], Done(3)) is None
    assert table.finish(fresh[0], Done(1)) is None
    ready = table.finish(fresh[1], Done(2))
    assert ready is group
    assert [(answer.number, answer.result) for answer in group.answers] == [(3, Done(3)), (1, Done(1)), (2, Done(2))]
    assert len(table) == 0


def test_a_call_repeated_while_it_is_in_flight_is_neither_run_nor_answered_twice() -> None:
    table = CallTable()
    _, fresh = table.admit(PEER, calls(1, 2))
    group, again = table.admit(PEER, calls(1, 2, 3))
    assert [call.number for call in again] == [3]
    assert group.answers == []
    assert [call.number for call in table.admit(OTHER, calls(1))[1]] == [1]
    assert [call.number for call in table.admit(PEER, calls(1, session=6))[1]] == [1]
    for call in fresh:
        table.finish(call, Done())
    assert [call.number for call in table.admit(PEER, calls(1))[1]] == [1]


def test_a_detached_call_does_not_hold_its_companions_up() -> None:
    table = CallTable()
    group, (slow, quick) = table.admit(PEER, calls(1, 2))
    assert table.detach(slow) is None
    assert table.finish(quick, Done(2)) is group
    own = table.finish(slow, Done(1))
    assert own is not None
    assert own is not group
    assert [answer.number for answer in own.answers] == [1]


def test_companions_that_are_done_leave_when_the_last_other_one_is_detached() -> None:
    table = CallTable()
    group, (slow, quick) = table.admit(PEER, calls(1, 2))
    assert table.finish(quick, Done(2)) is None
    assert table.detach(slow) is group
    assert table.detach(slow) is None


def test_a_peer_that_asks_too_much_is_told_so_and_others_are_served() -> None:
    table = CallTable(max_peer=3, max_all=5)
    group, fresh = table.admit(PEER, calls(*range(4)))
    assert (len(fresh), refusals(group)) == (3, [(3, "overloaded")])
    group, others = table.admit(OTHER, calls(*range(3)))
    assert (len(others), refusals(group)) == (2, [(2, "overloaded")])
    table.finish(fresh[0], Done())
    assert len(table.admit(OTHER, calls(9))[1]) == 1


def test_what_calls_in_flight_carry_is_bounded_too() -> None:
    def page(number: int, chunks: int) -> Calls:
        staged = [StagedChunk(chunk, 5, b"h" * 32, []) for chunk in range(chunks)]
        return Calls(5, 0, [Call(number, Stage(1, number, 4096, "copies=1", staged))])

    table = CallTable(max_rows=10)
    _, (first,) = table.admit(PEER, page(1, 6))
    group, fresh = table.admit(OTHER, page(2, 5))
    assert (fresh, refusals(group)) == ([], [(2, "overloaded")])
    assert len(table.admit(OTHER, calls(3))[1]) == 1
    table.finish(first, Done())
    assert len(table.admit(OTHER, page(4, 5))[1]) == 1
    table.check_invariants()


def test_too_many_calls_in_one_message_are_refused_without_being_run() -> None:
    group, fresh = CallTable().admit(PEER, calls(*range(MAX_CALLS + 1)))
    assert fresh == []
    assert refusals(group) == [(number, "invalid") for number in range(MAX_CALLS)]


def test_calls_that_share_a_number_are_all_refused() -> None:
    group, fresh = CallTable().admit(PEER, calls(1, 2, 1))
    assert [call.number for call in fresh] == [2]
    assert refusals(group) == [(1, "invalid"), (1, "invalid")]


def test_a_stored_operation_without_a_session_is_refused() -> None:
    group, fresh = CallTable().admit(PEER, calls(1, session=0, operation=Remove("/f")))
    assert fresh == []
    assert refusals(group) == [(1, "invalid")]
    assert len(CallTable().admit(PEER, calls(1, session=0))[1]) == 1


def test_numbers_that_no_database_can_hold_are_refused() -> None:
    table = CallTable()
    for message in (calls(-1), calls(2**63), calls(1, session=2**64 - 1), Calls(5, -1, [Call(1, Stat("/"))])):
        group, fresh = table.admit(PEER, message)
        assert fresh == []
        assert [code for _, code in refusals(group)] == ["invalid"]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_every_admitted_call_is_answered_exactly_once(seed: int) -> None:
    draw = random.Random(seed)
    table = CallTable(max_peer=10, max_all=15)
    in_flight = []
    expected: list[tuple[Address, int]] = []
    answered: list[tuple[Address, int]] = []

    def leave(group: Group | None) -> None:
        if group is not None:
            answered.extend((group.peer, answer.number) for answer in group.answers)
            group.answers.clear()

    for _ in range(40):
        if draw.random() < 0.5 or not in_flight:
            peer = draw.choice((PEER, OTHER))
            group, fresh = table.admit(peer, calls(*draw.sample(range(20), draw.randint(0, 5))))
            expected += [(peer, answer.number) for answer in group.answers]
            expected += [(peer, call.number) for call in fresh]
            in_flight += fresh
            if not group.waiting:
                leave(group)
        elif draw.random() < 0.2:
            leave(table.detach(draw.choice(in_flight)))
        else:
            leave(table.finish(in_flight.pop(draw.randrange(len(in_flight))), Done()))
        table.check_invariants()
    for call in in_flight:
        leave(table.finish(call, Done()))
    table.check_invariants()
    assert len(table) == 0
    assert sorted(answered) == sorted(expected)
