"""The client's talk with the master: greeting, batching, retries."""

from __future__ import annotations

import pytest

from dsa_zmq.client.pace import SHORTEST_NS
from dsa_zmq.errors import Conflict, Incompatible, Overloaded, Timeout, Unavailable
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import Calls, Hello, Refused
from dsa_zmq.protocol.values import Entry, Failure
from tests.unit.client.talk import FOUND, SECOND, Talk


def test_nothing_is_asked_before_the_welcome():
    talk = Talk()
    talk.ask(op.Stat("/a"))
    assert [type(message) for _, message in talk.sent] == [Hello]
    talk.welcome()
    assert talk.take()[0].calls[0].operation == op.Stat("/a")


def test_hosts_are_tried_in_turn():
    talk = Talk(("tcp://a:1", "tcp://b:1", "tcp://c:1"))
    talk.ask(op.Stat("/a"))
    talk.wait(3.5)
    assert [host for host, _ in talk.sent] == ["tcp://a:1", "tcp://b:1", "tcp://c:1", "tcp://a:1"]


def test_connect_fails_in_time():
    talk = Talk()
    talk.settle(talk.session.connect("me", 0, 5 * SECOND))
    talk.wait(4.9)
    assert not talk.settled
    talk.wait(0.2)
    assert isinstance(talk.settled["me"], Unavailable)
    assert "tcp://a:1" in str(talk.settled["me"])


def test_connect_to_a_known_master_is_settled_at_once(talk):
    assert talk.session.connect("me", talk.now, SECOND)[0][1].role == "master"


@pytest.mark.parametrize("role", ["node", "something"])
def test_who_is_no_master_is_refused(role):
    talk = Talk()
    talk.ask(op.Stat("/a"))
    talk.welcome(role=role)
    assert isinstance(talk.settled[1], Incompatible)


def test_another_cluster_at_the_same_address_is_refused(talk):
    talk.session.lost(talk.now)
    talk.ask(op.Stat("/a"))
    talk.wait(0.3)
    talk.welcome(cluster=b"d" * 16)
    assert isinstance(talk.settled[2], Incompatible)


def test_refused_greeting_is_final_unless_it_is_overload():
    talk = Talk()
    talk.ask(op.Stat("/a"))
    number = talk.take(Hello)[0].number
    talk.settle(talk.session.refused(Refused(number, Failure("overloaded", "busy"))))
    assert not talk.settled
    talk.settle(talk.session.refused(Refused(number, Failure("incompatible", "too old"))))
    assert isinstance(talk.settled[1], Incompatible)


def test_what_was_asked_waits_while_the_lost_master_is_restored_and_keeps_its_number(talk):
    talk.ask(op.Stat("/a"))
    (asked,) = talk.take()
    talk.session.lost(talk.now)
    talk.wait(0.5)
    number = talk.take(Hello)[-1].number
    talk.settle(talk.session.refused(Refused(number, Failure("unavailable", "a lost master is being restored here"))))
    assert not talk.settled, "it may be done: only its repetition can tell"
    talk.wait(5)
    talk.welcome()
    talk.wait(1)
    again = talk.take()[-1]
    assert [call.number for call in again.calls] == [call.number for call in asked.calls]


def test_who_comes_while_a_lost_master_is_restored_hears_of_it_at_once():
    talk = Talk()
    talk.settle(talk.session.connect("me", 0, 5 * SECOND))
    talk.flush()
    number = talk.take(Hello)[-1].number
    talk.settle(talk.session.refused(Refused(number, Failure("unavailable", "a lost master is being restored here"))))
    assert "is being restored" in str(talk.settled["me"])


def test_operations_gather_while_messages_are_under_way(talk):
    for number in range(100):
        talk.ask(op.Stat(f"/{number}"))
    (first,) = talk.take()
    assert len(first.calls) == 1
    talk.answer(first)
    (second,) = talk.take()
    assert len(second.calls) == 99
    assert len({call.number for message in (first, second) for call in message.calls}) == 100


def test_operations_do_not_wait_for_an_answer_that_is_late(talk):
    for number in range(3):
        talk.ask(op.Stat(f"/{number}"))
    talk.take()
    talk.now += SHORTEST_NS
    talk.flush()
    (second,) = talk.take()
    assert len(second.calls) == 2
    talk.ask(op.Stat("/third"))
    talk.now += 5 * SHORTEST_NS
    talk.flush()
    assert talk.take() == []  # two are under way


def test_a_message_has_no_more_calls_and_bytes_than_it_may(talk):
    for number in range(700):
        talk.ask(op.Stat("/" + "x" * 3000 + str(number)))
    total = 0
    while messages := talk.take():
        for message in messages:
            assert len(message.calls) <= 256
            assert sum(len(call.operation.path) for call in message.calls) < 1 << 20
            total += len(message.calls)
            talk.answer(message)
    assert total == 700
    assert len(talk.settled) == 700


def test_reads_do_not_wait_for_writes(talk):
    talk.ask(op.MakeDirectory("/a"))
    talk.open()
    for number in range(5):
        talk.ask(op.MakeDirectory(f"/{number}"))
    talk.take()
    talk.ask(op.Stat("/x"))
    assert len(talk.take()) == 1


def test_a_session_is_opened_for_the_first_change_only(talk):
    talk.ask(op.Stat("/x"))
    (read,) = talk.take()
    assert read.session == 0
    talk.answer(read)
    talk.ask(op.MakeDirectory("/a"))
    talk.ask(op.MakeDirectory("/b"))
    talk.open()
    calls = talk.take()
    assert {message.session for message in calls} == {77}
    assert sum(len(message.calls) for message in calls) == 2


def test_a_repeat_keeps_its_number_and_changes_are_repeated_until_answered(talk):
    talk.ask(op.MakeDirectory("/a"))
    talk.open()
    first = talk.take()[0].calls[0]
    talk.wait(1.5)
    assert [message.calls for message in talk.take()] == [[first]] * 3
    talk.answer(Calls(77, 0, [first]))
    talk.answer(Calls(77, 0, [first]))  # a repeated answer is nobody's
    assert list(talk.settled.values()) == [FOUND]


def test_the_floor_is_the_oldest_open_change(talk):
    first = talk.ask(op.MakeDirectory("/a"))
    talk.open()
    (one,) = talk.take()
    talk.ask(op.MakeDirectory("/b"))
    talk.now += SHORTEST_NS
    talk.flush()
    (two,) = talk.take()
    assert one.done_below == two.done_below == one.calls[0].number
    talk.answer(one)
    talk.ask(op.MakeDirectory("/c"))
    talk.now += SHORTEST_NS
    talk.flush()
    (three,) = talk.take()
    assert three.done_below == two.calls[0].number
    assert first in talk.settled


def test_silence_is_a_timeout_that_may_have_had_its_effect(talk):
    token = talk.ask(op.MakeDirectory("/a"))
    talk.open()
    talk.wait(10.2)
    assert isinstance(talk.settled[token], Timeout)
    assert talk.settled[token].indefinite


def test_a_long_silence_is_answered_with_a_new_greeting_and_then_with_repeats(talk):
    talk.ask(op.MakeDirectory("/a"))
    talk.open()
    (first,) = talk.take()
    talk.wait(4)
    assert talk.sent
    assert isinstance(talk.sent[-1][1], Hello)
    talk.welcome(term=2)
    talk.wait(0.1)
    assert talk.take()[-1].calls == first.calls


def test_answers_of_an_earlier_term_are_not_believed(talk):
    token = talk.ask(op.Stat("/a"))
    (calls,) = talk.take()
    talk.ask(op.Stat("/b"))
    talk.now += SHORTEST_NS
    talk.flush()
    talk.answer(talk.take()[0], term=5)
    talk.answer(calls, term=4)
    assert token not in talk.settled
    assert talk.session.term == 5


def test_overload_is_asked_again_later_under_a_new_number(talk):
    token = talk.ask(op.Stat("/a"))
    (calls,) = talk.take()
    talk.answer(calls, Failure("overloaded", "busy"))
    assert token not in talk.settled
    talk.wait(0.3)
    (again,) = talk.take()
    assert again.calls[0].number > calls.calls[0].number
    for _ in range(20):
        talk.answer(again, Failure("overloaded", "busy"))
        talk.wait(2.2)
        if token in talk.settled:
            break
        again = talk.take()[-1]
    assert isinstance(talk.settled[token], Overloaded)


def test_overload_of_a_repeated_change_keeps_its_number_since_the_first_try_may_be_done(talk):
    token = talk.ask(op.Remove("/a"))
    talk.open()
    (calls,) = talk.take()
    talk.wait(0.3)  # its answer is lost: it is repeated
    (again,) = talk.take()
    assert again.calls == calls.calls
    talk.answer(again, Failure("overloaded", "busy"))
    assert token not in talk.settled
    talk.wait(1)
    later = talk.take()
    assert later
    assert all(message.calls == calls.calls and message.done_below == calls.done_below for message in later)
    talk.answer(later[-1], op.Done(1))
    assert talk.settled[token] == op.Done(1)


def test_errors_are_errors_of_their_kind(talk):
    token = talk.ask(op.Stat("/a"))
    talk.answer(talk.take()[0], Failure("conflict", "no", "yes", "/a"))
    error = talk.settled[token]
    assert isinstance(error, Conflict)
    assert (error.message, error.remedy, error.path) == ("no", "yes", "/a")


def test_refused_session_fails_what_waits_for_it(talk):
    token = talk.ask(op.MakeDirectory("/a"))
    talk.answer(talk.take()[0], Failure("denied", "not you"))
    assert talk.settled[token].code == "denied"


def test_a_lost_master_is_greeted_again_and_everything_open_repeated(talk):
    token = talk.ask(op.Stat("/a"))
    (calls,) = talk.take()
    talk.session.lost(talk.now)
    talk.wait(0.3)
    talk.welcome()
    talk.wait(0.1)
    assert talk.take()[0].calls == calls.calls
    talk.answer(calls)
    assert talk.settled[token] == FOUND


def test_no_more_changes_are_open_than_a_session_may_have(talk):
    for number in range(3000):
        talk.ask(op.MakeDirectory(f"/{number}"))
    talk.open()
    talk.wait(0.1)
    assert len(talk.session._open_stored) <= 1000
    most = 0
    while len(talk.settled) < 3000:
        most = max(most, len(talk.session._open_stored))
        for message in talk.take():
            talk.answer(message)
    assert most <= 1000


@pytest.mark.parametrize(
    ("operation", "answer", "kind"),
    [
        (op.Stat("/a"), op.Done(1), Incompatible),
        (op.ListDirectory("/a", after="b"), op.Listing([Entry("a", FOUND.attributes)], True, 1), Incompatible),
        (op.MakeDirectory("/a"), op.Nodes([]), Unavailable),
    ],
)
def test_an_answer_that_cannot_be_one_is_an_error_that_says_so(talk, operation, answer, kind):
    token = talk.ask(operation)
    if kind is Unavailable:  # a stored one
        talk.open()
    talk.answer(talk.take()[-1], answer)
    assert isinstance(talk.settled[token], kind)
    assert f"to {type(operation).__name__} makes no sense" in talk.settled[token].message
