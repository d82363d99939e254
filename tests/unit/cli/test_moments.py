"""A moment that somebody types is a number that a catalog can hold, or refused."""

from __future__ import annotations

import datetime

import pytest

from dsa_zmq.cli.restoring import LAST_NS, moment_of
from dsa_zmq.errors import Invalid


def test_a_moment_with_an_offset_is_the_same_everywhere() -> None:
    assert moment_of("2026-11-01T12:00Z") == moment_of("2026-11-01T13:00+01:00") == 1_793_534_400_000_000_000


def test_a_moment_without_one_is_of_this_machine() -> None:
    here = datetime.datetime(2026, 11, 1, 12, 0).astimezone()
    assert moment_of("2026-11-01T12:00") == int(here.timestamp()) * 1_000_000_000


@pytest.mark.parametrize("text", ["", "noon", "2026-13-01", "0001-01-01T00:00", "9999-12-31T23:59:59.9999999999"])
def test_what_is_no_moment_is_refused_or_out_of_reach(text: str) -> None:
    try:
        assert not 0 <= moment_of(text) < LAST_NS
    except Invalid as error:
        assert "2026-11-01T12:00" in error.remedy


@pytest.mark.parametrize("text", ["2300-01-01T00:00Z", "9999-12-31T00:00Z"])
def test_a_moment_that_no_catalog_can_hold_is_the_last_that_it_can(text: str) -> None:
    assert moment_of(text) == LAST_NS
