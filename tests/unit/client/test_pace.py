"""When a second message follows one that is under way."""

from __future__ import annotations

from dsa_zmq.client.pace import LONGEST_NS, SHORTEST_NS, USUAL_ROUNDS, Pace


def paced(round_ns: int) -> Pace:
    pace = Pace()
    for at in range(100):
        pace.answered(at, at + round_ns)
    pace.sent(1000)
    return pace


def test_an_answer_is_late_when_it_takes_longer_than_answers_do() -> None:
    pace = paced(8_000_000)
    assert not pace.late(1000 + 8_000_000)
    assert pace.late(1000 + USUAL_ROUNDS * 8_000_000)


def test_quick_answers_leave_time_to_gather_and_slow_ones_do_not_hold_up_for_ever() -> None:
    assert not paced(1000).late(1000 + SHORTEST_NS - 1)
    assert paced(1000).late(1000 + SHORTEST_NS)
    assert not paced(10**12).late(1000 + LONGEST_NS - 1)
    assert paced(10**12).late(1000 + LONGEST_NS)
