"""Rounds of probes: who is asked next, and when it is known whether a node can be reached."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.master.probes import PROBERS, Probes, Verdict
from dsa_zmq.protocol.values import NodeAddress, ProbeOutcome

ANSWER_NS = 100
TARGET = NodeAddress(9, "tcp://10.0.0.9:7710", 77, "n9")
GOOD, BAD, OTHER = [ProbeOutcome(9, 77, 5)], [ProbeOutcome(9)], [ProbeOutcome(9, 76, 5)]


def test_one_that_reaches_it_is_enough() -> None:
    probes = Probes(ANSWER_NS)
    (question,) = probes.begin(TARGET, [1, 2, 3], 0)
    assert (question.prober, question.target) == (1, TARGET)
    assert probes.answered(1, question.number, GOOD, 5) == ([], Verdict(TARGET, True, (), False))
    assert len(probes) == 0


def test_after_one_that_failed_two_others_are_asked_at_once() -> None:
    probes = Probes(ANSWER_NS)
    (first,) = probes.begin(TARGET, [1, 2, 3, 4], 0)
    (second, third), verdict = probes.answered(1, first.number, BAD, 5)
    assert verdict is None
    assert (second.prober, third.prober) == (2, 3)
    assert probes.answered(3, third.number, BAD, 6) == ([], None)
    assert probes.answered(2, second.number, GOOD, 7) == ([], Verdict(TARGET, True, (1, 3), False))


def test_three_that_fail_or_all_there_are_end_it() -> None:
    for probers in ([1], [1, 2], [1, 2, 3], [1, 2, 3, 4]):
        probes = Probes(ANSWER_NS)
        questions, verdict = probes.begin(TARGET, probers, 0), None
        while questions:
            question = questions.pop(0)
            more, verdict = probes.answered(question.prober, question.number, BAD, 5)
            questions += more
            probes.check_invariants()
        assert verdict == Verdict(TARGET, False, tuple(probers[:PROBERS]), False)


def test_another_process_at_the_address_is_told_apart_from_silence() -> None:
    probes = Probes(ANSWER_NS)
    (question,) = probes.begin(TARGET, [1], 0)
    assert probes.answered(1, question.number, OTHER, 5) == ([], Verdict(TARGET, False, (1,), True))


def test_a_prober_that_does_not_answer_says_nothing_of_the_node() -> None:
    probes = Probes(ANSWER_NS)
    (question,) = probes.begin(TARGET, [1], 0)
    assert probes.expire(ANSWER_NS - 1) == ([], [], [])
    assert probes.expire(ANSWER_NS) == ([], [Verdict(TARGET, False, (), False)], [question])
    assert probes.answered(1, question.number, GOOD, ANSWER_NS + 1) == ([], None), "it is too late then"


def test_others_are_asked_instead_of_one_that_does_not_answer() -> None:
    probes = Probes(ANSWER_NS)
    probes.begin(TARGET, [1, 2], 0)
    ((question,), verdicts, (late,)) = probes.expire(ANSWER_NS)
    assert (question.prober, verdicts, late.prober) == (2, [], 1)


def test_nobody_answers_for_another_and_nobody_twice() -> None:
    probes = Probes(ANSWER_NS)
    (question,) = probes.begin(TARGET, [1, 2], 0)
    assert probes.answered(2, question.number, GOOD, 1) == ([], None)
    probes.answered(1, question.number, BAD, 1)
    assert probes.answered(1, question.number, GOOD, 2) == ([], None)
    assert 9 in probes


def test_a_node_does_not_vouch_for_itself() -> None:
    assert Probes(ANSWER_NS).begin(TARGET, [9], 0) == []


def test_a_round_goes_on_until_the_node_is_another_process() -> None:
    probes = Probes(ANSWER_NS)
    (first,) = probes.begin(TARGET, [1, 2, 3], 0)
    assert probes.begin(TARGET, [1, 2, 3], 1) == []
    (hurried,) = probes.begin(TARGET, [1, 2, 3], 1, at_once=2)
    assert hurried.prober == 2
    (fresh,) = probes.begin(NodeAddress(9, TARGET.address, 78, "n9"), [1, 2, 3], 2)
    assert fresh.target.incarnation == 78
    for question in (first, hurried):
        assert probes.answered(question.prober, question.number, GOOD, 3) == ([], None)


@given(st.lists(st.sampled_from(["good", "bad", "other", "silent"]), min_size=1, max_size=8))
def test_every_round_ends_and_ends_well_if_and_only_if_somebody_who_was_asked_reached_it(ways: list[str]) -> None:
    probes = Probes(ANSWER_NS)
    now, asked, verdict = 0, set[int](), None
    questions = probes.begin(TARGET, range(len(ways)), now)
    while verdict is None:
        answers = [question for question in questions if ways[question.prober] != "silent"]
        asked |= {question.prober for question in questions}
        questions = []
        for question in answers:
            outcome = {"good": GOOD, "bad": BAD, "other": OTHER}[ways[question.prober]]
            more, said = probes.answered(question.prober, question.number, outcome, now)
            questions += more
            verdict = verdict or said
        if not questions and verdict is None:
            now += ANSWER_NS
            questions, said_late, _ = probes.expire(now)
            verdict = said_late[0] if said_late else None
        probes.check_invariants()
    assert verdict.reached is any(ways[prober] == "good" for prober in asked)
    assert len(verdict.failed) <= PROBERS
    if not verdict.reached and len(verdict.failed) < PROBERS:
        assert asked == set(range(len(ways))), "nobody was left to ask"
