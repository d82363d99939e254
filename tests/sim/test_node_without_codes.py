"""A node on a machine without the library for erasure codes says so, and does what it can."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from dsa_zmq.model import erasure
from tests.sim.market import code_of
from tests.sim.yard import Yard


@pytest.fixture
def world() -> Yard:
    return Yard()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """A node on a machine that has no library for codes."""
    world = Yard()
    for name in ("ec=2+1", "copies=2"):
        for number in (1000, 2000):
            world.shards(number, name)
    monkeypatch.setitem(sys.modules, "pyeclib", None)
    erasure._checked_library.cache_clear()
    world.sim.crash(world.spec.name)
    world.up()
    yield world
    erasure._checked_library.cache_clear()


def test_a_node_without_the_library_says_what_to_install_and_asks_nobody(bare: Yard) -> None:
    copy = bare.source(1000, "copies=2", 0)
    made = bare.wish(2000, "ec=2+1", 2, copy, source_redundancy="copies=2")
    rebuilt = bare.wish(1000, "ec=2+1", 2, 0, 1)
    for outcome in bare.outcomes(1, made, rebuilt):
        assert code_of(outcome) == "config"
        assert outcome.failure is not None
        assert "dsa-zmq[ec]" in outcome.failure.remedy
    assert bare.asked() == [0] * 6


def test_a_node_says_once_at_its_start_whether_codes_can_be_made(world: Yard, bare: Yard) -> None:
    (usable,) = world.sim.story("erasure-codes")
    assert "usable=True" in usable
    before, after = bare.sim.story("erasure-codes")
    assert "usable=True" in before
    assert "usable=False" in after
    assert "dsa-zmq[ec]" in after


def test_a_node_without_the_library_keeps_shards_that_others_have(bare: Yard) -> None:
    wish = bare.wish(1000, "ec=2+1", 2, 0, 1, 2)
    assert bare.outcomes(1, wish) == [bare.got(wish)]
