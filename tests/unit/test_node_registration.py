"""What a node says of a master that does not answer."""

from __future__ import annotations

from dsa_zmq.node.registration import PATIENCE, Registration


def told(registration: Registration, attempts: int) -> list[int]:
    """What is to be told in so many attempts."""
    lines = []
    for _ in range(attempts):
        registration.ask()
        lines.append(registration.silence_to_tell())
    return [line for line in lines if line]


def test_a_silence_is_told_soon_and_then_more_and_more_seldom() -> None:
    assert told(Registration(1.0), 100) == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, 8 * PATIENCE, 16 * PATIENCE]


def test_a_master_that_answers_within_the_usual_time_is_not_complained_about() -> None:
    registration = Registration(1.0)
    assert told(registration, PATIENCE) == []
    registration.heard()
    assert told(registration, PATIENCE) == [], "a refusal is an answer, too: the next silence begins anew"
    assert told(registration, 1) == [PATIENCE]
