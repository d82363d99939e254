"""Deadlines and retries of a sender; the duplicate table of a receiver."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from actors.requests import Backoff, Duplicates, Requests, Seen

SECOND = 1_000_000_000


def test_pauses_double_from_a_fifth_of_a_second_to_two():
    pauses = [Backoff().delay_ns(tries) / SECOND for tries in range(1, 8)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert Backoff().delay_ns(10_000) == 2 * SECOND


def test_a_request_is_repeated_on_schedule_and_given_up_at_its_deadline():
    requests = Requests()
    requests.open(7, "x", 0, 10 * SECOND)
    times, now = [], 0
    while now < 20 * SECOND:
        now += SECOND // 100
        again, expired = requests.due(now)
        times += [now / SECOND for _ in again]
        if expired:
            break
    assert now == 10 * SECOND
    assert [round(b - a, 2) for a, b in zip([0, *times], times, strict=False)] == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert len(requests) == 0


def test_an_answer_closes_once_and_late_answers_are_nobodys():
    requests = Requests()
    requests.open(1, "x", 0, SECOND)
    assert requests.close(1).item == "x"
    assert requests.close(1) is None
    assert requests.due(10 * SECOND) == ([], [])


def test_after_a_lost_connection_everything_goes_again_at_once():
    requests = Requests()
    requests.open(1, "x", 0, 10 * SECOND)
    requests.open(2, "y", 0, SECOND)
    requests.hasten(SECOND)
    again, expired = requests.due(SECOND)
    assert ([r.number for r in again], [r.number for r in expired]) == ([1], [2])
    assert requests.due(SECOND + 1) == ([], [])


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_no_request_is_forgotten_or_kept_beyond_its_deadline(seed, count):
    rng, requests, deadlines, now = random.Random(seed), Requests(), {}, 0
    for number in range(count):
        now += rng.randrange(SECOND)
        deadlines[number] = now + rng.randrange(1, 6 * SECOND)
        requests.open(number, None, now, deadlines[number])
        _, expired = requests.due(now)
        for request in expired:
            assert deadlines.pop(request.number) <= now
        if deadlines and rng.random() < 0.3:
            number = rng.choice(list(deadlines))
            assert requests.close(number).number == number
            del deadlines[number]
        assert {request.number for request in requests} == set(deadlines)
    _, expired = requests.due(now + 10 * SECOND)
    assert {request.number for request in expired} == set(deadlines)


def test_a_repeat_is_answered_like_the_first():
    table = Duplicates()
    assert table.look("c", 1, 5) == (Seen.NEW, None)
    assert table.look("c", 1, 5) == (Seen.RUNNING, None)
    table.finish("c", 1, 5, "answer")
    assert table.look("c", 1, 5) == (Seen.DONE, "answer")


def test_the_floor_forgets_answers_and_refuses_what_is_below():
    table = Duplicates()
    table.look("c", 1, 5)
    table.finish("c", 1, 5, "answer")
    assert table.look("c", 1, 6, done_below=6)[0] is Seen.NEW
    assert table.look("c", 1, 5) == (Seen.STALE, None)


def test_a_newer_incarnation_voids_the_older():
    table = Duplicates()
    table.look("c", 1, 5)
    assert table.look("c", 2, 5)[0] is Seen.NEW
    assert table.look("c", 1, 9)[0] is Seen.STALE
    table.finish("c", 1, 5, "of the dead")
    assert table.look("c", 2, 5) == (Seen.RUNNING, None)


def test_memory_is_bounded_per_sender_and_in_senders():
    table = Duplicates(max_open=3, max_peers=2)
    assert [table.look("a", 1, number)[0] for number in range(4)] == [Seen.NEW] * 3 + [Seen.FULL]
    table.look("b", 1, 1)
    table.look("c", 1, 1)
    assert table.look("a", 1, 0)[0] is Seen.NEW, "the longest silent sender was forgotten"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 9)), max_size=60))
def test_every_request_runs_at_most_once_in_its_incarnation(requests):
    table, ran = Duplicates(), set()
    for incarnation, number, floor in requests:
        seen, reply = table.look("c", incarnation, number, floor)
        if seen is Seen.NEW:
            assert (incarnation, number) not in ran
            ran.add((incarnation, number))
            table.finish("c", incarnation, number, (incarnation, number))
        elif seen is Seen.DONE:
            assert reply == (incarnation, number)
