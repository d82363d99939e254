"""A moment that somebody types is a number that a catalog can hold, or refused."""

from __future__ import annotations

import datetime
from contextlib import suppress

import pytest

from dsa_zmq.cli.restoring import LAST_NS, moment_of
from dsa_zmq.errors import Invalid


def test_a_moment_with_an_offset_is_the_same_everywhere() -> None:
    assert moment_of("2026-11-01T12:00Z") == moment_of("2026-11-01T13:00+01:00") == 1_793_534_400_000_000_000


def test_a_moment_without_one_is_of_this_machine() -> None:
    here = datetime.datetime(2026, 11, 1, 12, 0).astimezone()
    assert moment_of("2026-11-01T12:00") == int(here.timestamp()) * 1_000_000_000


@pytest.mark.parametrize("text", ["", "noon", "2026-13-01"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Invalid, match="2026-11-01T12:00"):
        moment_of(text)


def test_a_moment_at_the_edge_of_the_calendar_is_no_crash() -> None:
    with suppress(Invalid):  # in some time zones it cannot be told
        assert moment_of("0001-01-01T00:00") < 0


@pytest.mark.parametrize("text", ["2300-01-01T00:00Z", "9999-12-31T00:00Z"])
def test_a_moment_that_no_catalog_can_hold_is_the_last_that_it_can(text: str) -> None:
    assert moment_of(text) == LAST_NS
