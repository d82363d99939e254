"""Sessions and kept answers: a repeated request has its effect once."""

from __future__ import annotations

from dsa_zmq.model.limits import MAX_OPEN_CALLS
from dsa_zmq.protocol.operations import (
    CloseSession,
    Confirm,
    Copy,
    Done,
    MakeDirectory,
    Move,
    OpenSession,
    Remove,
    Stat,
)


def test_a_repeated_request_gets_the_same_answer_and_has_no_second_effect(kit):
    request = kit.request(kit.commit("/f"))
    first = kit.one(request)
    before = kit.dump()
    assert kit.one(request) == first
    assert kit.dump() == before


def test_a_repeat_is_recognised_after_a_restart(kit):
    request = kit.request(Copy("/f", "/g"))
    kit.good(kit.commit("/f"))
    first = kit.one(request)
    kit.good(Remove("/g"))
    kit.reopen()
    assert kit.one(request) == first
    assert kit.bad(Stat("/g")) == "not-found"


def test_the_number_decides_not_the_operation(kit):
    first = kit.one(kit.request(MakeDirectory("/a"), number=7))
    assert kit.one(kit.request(MakeDirectory("/b"), number=7)) == first
    assert kit.bad(Stat("/b")) == "not-found"


def test_the_same_number_twice_in_one_batch_runs_once(kit):
    kit.good(kit.commit("/f"))
    request = kit.request(Move("/f", "/g"))
    first, second, third = kit.run(request, request, request)
    assert first == second == third
    assert first.attributes.kind == "file"


def test_error_answers_are_kept_too(kit):
    request = kit.request(Remove("/f"))
    first = kit.one(request)
    assert first.code == "not-found"
    kit.good(kit.commit("/f"))
    assert kit.one(request) == first
    kit.good(Stat("/f"))


def test_a_request_of_an_unknown_session_is_never_run(kit):
    result = kit.do(MakeDirectory("/a"), session=12345)
    assert result.code == "outcome-unknown"
    assert kit.bad(MakeDirectory("/a"), session=0) == "outcome-unknown"
    assert kit.bad(Stat("/a")) == "not-found"


def test_a_request_of_an_ended_session_is_never_run(kit):
    request = kit.request(MakeDirectory("/a"))
    kit.one(request)
    assert kit.do(CloseSession(kit.session)) == Done(1)
    assert kit.one(request).code == "outcome-unknown"
    assert kit.bad(MakeDirectory("/b")) == "outcome-unknown"
    assert kit.bad(Stat("/b")) == "not-found"
    assert kit.dump()["replies"] == []
    assert kit.do(CloseSession(kit.session)) == Done(0)


def test_done_below_forgets_answers_and_never_runs_those_numbers_again(kit):
    requests = [kit.request(MakeDirectory(f"/{number}")) for number in range(1, 6)]
    kit.run(*requests)
    kit.good(MakeDirectory("/last"), done_below=4)
    assert [number for _, number, _ in kit.dump()["replies"]] == [4, 5, 6]
    assert kit.one(requests[2]).code == "outcome-unknown"
    assert kit.one(requests[3]).attributes.kind == "dir"
    assert kit.bad(MakeDirectory("/late"), number=2) == "outcome-unknown"
    assert kit.bad(Stat("/late")) == "not-found"


def test_the_floor_never_goes_down(kit):
    kit.good(MakeDirectory("/a"), done_below=1)
    kit.good(MakeDirectory("/b"), number=50, done_below=50)
    kit.good(MakeDirectory("/c"), number=51, done_below=3)
    assert kit.bad(MakeDirectory("/d"), number=49) == "outcome-unknown"


def test_answers_made_and_forgotten_in_one_batch_leave_nothing(kit):
    requests = [kit.request(MakeDirectory(f"/{number}"), done_below=number) for number in range(1, 40)]
    results = kit.run(*requests)
    assert all(result.attributes.kind == "dir" for result in results)
    assert [number for _, number, _ in kit.dump()["replies"]] == [39]


def test_a_large_jump_of_the_floor_forgets_everything_below(kit):
    kit.run(*[kit.request(MakeDirectory(f"/{number}")) for number in range(1, 10)])
    kit.good(MakeDirectory("/x"), number=1 << 60, done_below=1 << 60)
    assert [number for _, number, _ in kit.dump()["replies"]] == [1 << 60]


def test_a_session_with_too_many_kept_answers_is_held_back_and_goes_on_when_it_acknowledges(kit):
    kit.run(*[kit.request(MakeDirectory(f"/{number}")) for number in range(MAX_OPEN_CALLS)])
    request = kit.request(MakeDirectory("/more"))
    assert kit.one(request).code == "overloaded"
    assert kit.bad(Stat("/more")) == "not-found"
    assert len(kit.dump()["replies"]) == MAX_OPEN_CALLS
    assert kit.one(kit.request(MakeDirectory("/more"), number=request.number, done_below=2)).attributes.kind == "dir"
    assert len(kit.dump()["replies"]) == MAX_OPEN_CALLS


def test_confirm_is_not_kept_so_that_the_same_question_may_be_asked_again(kit):
    commit = kit.commit("/f")
    restarted = {receipt.node for receipt in commit.chunks[0].receipts}
    for node in [node for node in kit.nodes if node.node in restarted]:
        kit.register(node.name, start=2)
    request = kit.request(commit)
    assert isinstance(kit.one(request), Confirm)
    assert kit.dump()["replies"] == []
    assert isinstance(kit.one(request), Confirm)


def test_open_session_is_idempotent_for_one_start_of_a_client_and_new_for_the_next(kit):
    first = kit.open_session(b"x" * 16, 5)
    assert kit.open_session(b"x" * 16, 5) == first
    kit.reopen()
    assert kit.open_session(b"x" * 16, 5) == first
    assert kit.open_session(b"x" * 16, 6) != first
    assert kit.open_session(b"y" * 16, 5) != first
    one, two = kit.run(*[kit.request(OpenSession(b"z" * 16, 1)) for _ in range(2)])
    assert one == two
    assert kit.bad(OpenSession(b"short", 1)) == "invalid"


def test_opening_a_session_again_keeps_it_alive(kit):
    session = kit.open_session(b"x" * 16)
    kit.now += 10_000
    assert kit.open_session(b"x" * 16) == session
    kit.collect(wall_ns=kit.now, reply_keep_ns=5_000)
    assert [row[0] for row in kit.sessions()] == [session]


def test_numbers_of_different_sessions_are_apart(kit):
    other = kit.open_session(b"o" * 16)
    kit.good(MakeDirectory("/a"), number=1)
    kit.good(MakeDirectory("/b"), number=1, session=other, done_below=1)
    kit.good(MakeDirectory("/c"), number=9, session=other, done_below=9)
    assert kit.one(kit.request(MakeDirectory("/z"), number=1)).attributes.kind == "dir"
    assert kit.bad(Stat("/z")) == "not-found"


def test_idle_sessions_end_with_their_answers_and_busy_ones_stay(kit):
    idle = kit.open_session(b"i" * 16)
    kit.good(MakeDirectory("/a"), session=idle)
    then = kit.now
    kit.now += 10_000
    kit.good(MakeDirectory("/b"))
    kit.collect(wall_ns=kit.now, reply_keep_ns=kit.now - then - 1)
    assert [row[0] for row in kit.sessions()] == [kit.session]
    assert kit.bad(MakeDirectory("/c"), session=idle) == "outcome-unknown"
    kit.good(MakeDirectory("/c"))


def test_a_session_used_in_the_future_of_a_clock_turned_back_still_ends(kit):
    kit.now = 1 << 60
    kit.good(MakeDirectory("/a"))
    kit.collect(wall_ns=5_000, reply_keep_ns=1_000)
    assert len(kit.sessions()) == 1
    kit.collect(wall_ns=7_000, reply_keep_ns=1_000)
    assert kit.sessions() == []
