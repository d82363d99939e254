"""Bytes from strangers: whatever they are, the decoder answers with a message or with ProtocolError."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from actors.errors import ProtocolError
from dsa_zmq.protocol.codec import CODEC
from tests.fuzz.conftest import GOOD


def survives(data: bytes) -> bool:
    """Whether ``data`` is a message. Anything but a message or ProtocolError escapes and fails the test."""
    try:
        message = CODEC.decode(data)
    except ProtocolError:
        return False
    assert CODEC.decode(CODEC.encode(message)) == message
    return True


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    survives(data)


@given(st.sampled_from(GOOD), st.data())
def test_real_messages_with_changes(message: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(message)))
    end = data.draw(st.integers(start, len(message)))
    survives(message[:start] + data.draw(st.binary(max_size=12)) + message[end:])


@given(st.sampled_from(GOOD), st.sampled_from(GOOD), st.data())
def test_two_messages_grown_together(first: bytes, second: bytes, data: st.DataObject) -> None:
    survives(first[: data.draw(st.integers(0, len(first)))] + second[data.draw(st.integers(0, len(second))) :])


def test_many_single_byte_changes_reach_both_outcomes() -> None:
    generator = random.Random(20260101)
    outcomes = set()
    for _ in range(3000):
        message = bytearray(generator.choice(GOOD))
        message[generator.randrange(len(message))] = generator.randrange(256)
        outcomes.add(survives(bytes(message)))
    assert outcomes == {True, False}
