"""Byte-credit windows: never exceeded, never leaking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.credit import Credit

PEER, TOTAL = 100, 250


class Windows(RuleBasedStateMachine):
    """Any order of taking and giving."""

    def __init__(self):
        super().__init__()
        self.credit = Credit(PEER, TOTAL)
        self.out = []

    @rule(peer=st.integers(1, 5), size=st.integers(0, 120))
    def take(self, peer, size):
        peer_out = sum(s for p, s in self.out if p == peer)
        total = sum(s for _, s in self.out)
        fits = (peer_out == 0 or peer_out + size <= PEER) and (total == 0 or total + size <= TOTAL)
        assert self.credit.room(peer, size) == fits
        assert self.credit.take(peer, size) == fits
        if fits:
            self.out.append((peer, size))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def give(self, data):
        peer, size = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.credit.give(peer, size)

    @invariant()
    def balanced(self):
        self.credit.check()
        assert self.credit.total == sum(size for _, size in self.out)
        for peer in range(1, 6):
            sizes = [size for p, size in self.out if p == peer and size]
            assert self.credit.out(peer) == sum(sizes)
            assert self.credit.out(peer) <= PEER or len(sizes) == 1


TestWindows = Windows.TestCase


@given(st.integers(1, 1 << 40))
def test_something_larger_than_a_window_passes_alone(size):
    credit = Credit(PEER, TOTAL)
    assert credit.take("a", size)
    assert credit.take("b", 1) == (size + 1 <= TOTAL)
    assert credit.take("a", PEER) == (size + PEER <= PEER)


def test_giving_back_more_than_was_taken_is_a_bug():
    credit = Credit(PEER, TOTAL)
    credit.take("a", 5)
    with pytest.raises(AssertionError):
        credit.give("a", 6)


def test_windows_need_room():
    with pytest.raises(ValueError):
        Credit(0, 5)
