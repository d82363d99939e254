"""Sessions end without the client's knowing: what never ran goes again, what may have run is never run twice."""

from __future__ import annotations

import pytest

from dsa_zmq.client.repeating import IDLE_NS
from dsa_zmq.errors import OutcomeUnknown
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.values import Failure
from tests.unit.client.talk import FOUND, SECOND


def test_ended_session_is_replaced_and_what_never_ran_goes_again(talk):
    token = talk.ask(op.MakeDirectory("/a"))
    before = talk.open()
    (calls,) = talk.take()
    talk.answer(calls, Failure("outcome-unknown", "no such session"))
    after = talk.open()
    assert (after.client, after.incarnation) == (before.client, before.incarnation + 1)
    (again,) = talk.take()
    assert again.calls[0].number != calls.calls[0].number
    talk.answer(again)
    assert talk.settled[token] == FOUND


@pytest.mark.parametrize(
    ("operation", "repeated"),
    [
        (op.MakeDirectory("/a"), None),
        (op.Stage(5, 0, 4096, "copies=2", []), op.Staged(5, 0)),
        (op.Commit(5, "/a", 1, 4096, 1, "copies=2", [], 0), FOUND),
        (op.Commit(0, "/empty", 0, 4096, 0, "copies=2", [], 0), None),
    ],
)
def test_what_was_sent_before_in_an_ended_session_is_unknown_unless_it_may_be_repeated(talk, operation, repeated):
    token = talk.ask(operation)
    talk.open()
    (calls,) = talk.take()
    talk.wait(0.3)
    talk.take()
    talk.answer(calls, Failure("outcome-unknown", "no such session"))
    if repeated is not None:
        talk.open()
        talk.answer(talk.take()[0], repeated)
        assert talk.settled[token] == repeated
    else:
        assert isinstance(talk.settled[token], OutcomeUnknown)


def test_a_session_that_was_idle_for_long_is_not_used_again(talk):
    talk.ask(op.MakeDirectory("/a"))
    first = talk.open()
    talk.answer(talk.take()[0])
    for idle, same in ((IDLE_NS - SECOND, True), (IDLE_NS - SECOND, True), (IDLE_NS, False)):
        talk.now += idle
        token = talk.ask(op.MakeDirectory("/b"))
        if not same:
            assert talk.open().incarnation == first.incarnation + 1
        (calls,) = talk.take()
        assert isinstance(calls.calls[0].operation, op.MakeDirectory)
        talk.answer(calls)
        assert talk.settled[token] == FOUND


def test_a_session_in_which_a_change_is_open_is_not_left_for_being_idle(talk):
    talk.ask(op.MakeDirectory("/a"))
    talk.open()
    (first,) = talk.take()
    talk.now += IDLE_NS
    talk.ask(op.MakeDirectory("/b"))
    (second,) = talk.take()
    assert (second.session, second.done_below) == (first.session, first.calls[0].number)


def test_sessions_that_end_all_the_time_are_given_up(talk):
    token = talk.ask(op.MakeDirectory("/a"))
    for _ in range(10):
        if token in talk.settled:
            break
        talk.open()
        talk.answer(talk.take()[0], Failure("outcome-unknown", "no such session"))
    assert isinstance(talk.settled[token], OutcomeUnknown)
