"""The horizon: never above what may still be alive, and never far behind it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.master.horizon import MARKS, Horizon

SPAN, FLOOR = 320, 1_000


def test_right_after_a_start_the_horizon_stays_where_it_was() -> None:
    horizon = Horizon(SPAN, FLOOR)
    assert [horizon.advance(now, FLOOR + now, None) for now in (0, 100, SPAN - 1)] == [0, 0, 0]
    assert horizon.advance(SPAN, FLOOR + SPAN, None) == FLOOR


@given(st.integers(0, 2**32))
def test_the_horizon_is_below_live_uploads_and_recent_ids_and_never_moves_back(seed: int) -> None:
    draw = random.Random(seed)
    horizon = Horizon(SPAN, FLOOR)
    now, upcoming, last = 0, FLOOR, 0
    drawn: list[tuple[int, int]] = []  # (moment, id)
    live = [FLOOR - 7] if draw.random() < 0.3 else []
    for _ in range(60):
        now += draw.randrange(0, 60)
        if draw.random() < 0.6:
            drawn.append((now, upcoming))
            live.append(upcoming)
            upcoming += draw.randint(1, 5)
        elif live:
            live.remove(draw.choice(live))
        value = horizon.advance(now, upcoming, min(live, default=None))
        assert value >= last
        last = value
        assert all(number >= value for moment, number in drawn if now - moment < SPAN)
        assert not live or value <= max(min(live), 0)
        assert len(horizon._marks) <= MARKS + 2


def test_without_live_uploads_the_horizon_follows_one_span_behind() -> None:
    horizon = Horizon(SPAN, FLOOR)
    step = SPAN // MARKS
    for now in range(0, 10 * SPAN, step):
        value = horizon.advance(now, FLOOR + now, None)
    assert FLOOR + now - SPAN - 2 * step <= value <= FLOOR + now - SPAN
