"""Serving time, silence, incarnations, leases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.liveness import Leases, Liveness, LivenessTable, ServingClock, Sign

SECOND = 1_000_000_000


@given(st.lists(st.integers(-5, 50), max_size=50), st.integers(1, 20))
def test_serving_time_counts_every_gap_up_to_the_limit_and_never_goes_back(gaps: list[int], limit: int) -> None:
    clock = ServingClock(100, limit)
    now, expected, latest = 100, 0, 100
    for gap in gaps:
        now += gap
        if now > latest:
            expected += min(now - latest, limit)
            latest = now
        assert clock.read(now) == expected
    assert clock.missed_ns == (latest - 100) - expected


def test_silence_while_we_were_paused_makes_nobody_suspect() -> None:
    clock = ServingClock(0, 2 * SECOND)
    table: LivenessTable[str] = LivenessTable(3 * SECOND, 10 * SECOND)
    table.introduce("n1", 1, clock.read(0))
    assert table.state("n1", clock.read(60 * SECOND)) is Liveness.UP
    assert table.state("n1", clock.read(62 * SECOND)) is Liveness.SUSPECT


def test_silence_goes_from_up_over_suspect_to_down_and_a_sign_of_life_ends_it() -> None:
    table: LivenessTable[str] = LivenessTable(3, 10)
    table.introduce("n1", 1, 100)
    states = [table.state("n1", 100 + silence) for silence in (0, 2, 3, 9, 10, 99)]
    up, suspect, down = Liveness.UP, Liveness.SUSPECT, Liveness.DOWN
    assert states == [up, up, suspect, suspect, down, down]
    assert table.heard("n1", 1, 200) is Sign.CURRENT
    assert table.state("n1", 200) is up


def test_only_the_present_incarnation_ends_a_silence() -> None:
    table: LivenessTable[str] = LivenessTable(3, 10)
    table.introduce("n1", 5, 0)
    assert table.heard("n1", 4, 20) is Sign.OLDER
    assert table.heard("n1", 6, 20) is Sign.NEWER
    assert table.heard("n2", 5, 20) is Sign.UNKNOWN
    assert table.state("n1", 20) is Liveness.DOWN


def test_a_peer_that_was_never_heard_is_suspect_at_best() -> None:
    table: LivenessTable[str] = LivenessTable(3, 10)
    table.add("n1", 1, 0)
    assert table.state("n1", 0) is Liveness.SUSPECT
    assert not table.confirmed("n1")
    assert table.state("n1", 10) is Liveness.DOWN
    table.heard("n1", 1, 11)
    assert table.state("n1", 11) is Liveness.UP
    assert [table.confirmed("n1", since) for since in (-1, 10, 11)] == [True, True, False]


def test_times_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="suspect"):
        LivenessTable(10, 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60))
def test_a_lease_ends_exactly_its_duration_after_the_last_renewal(steps: list[tuple[int, int]]) -> None:
    leases: Leases[int] = Leases(10)
    renewed: dict[int, int] = {}
    now = 0
    for key, gap in steps:
        now += gap
        ended = leases.expire(now)
        assert sorted(ended) == sorted(k for k, at in renewed.items() if now - at >= 10)
        renewed = {k: at for k, at in renewed.items() if now - at < 10}
        leases.renew(key, now)
        renewed[key] = now
        assert set(leases) == set(renewed)


def test_leases_end_in_slices_and_early_on_demand() -> None:
    leases: Leases[int] = Leases(10)
    for key in range(5):
        leases.renew(key, 0)
    leases.end(0)
    leases.end(99)
    assert leases.expire(10, limit=3) == [1, 2, 3]
    assert leases.expire(10, limit=3) == [4]
    assert not leases
