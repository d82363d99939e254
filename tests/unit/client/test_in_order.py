"""A reader gets exactly the bytes that it wants, in the order of the file, whatever comes first."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.client.in_order import InOrder

CHUNK = 16


@given(size=st.integers(1, 100), low=st.integers(0, 99), high=st.integers(1, 100), seed=st.integers(0, 999))
def test_any_order_and_any_parts_give_the_range_once_and_every_byte_is_given_or_unwanted(size, low, high, seed):
    draw = random.Random(seed)
    data = draw.randbytes(size)
    start, stop = min(low, size - 1), min(max(high, low + 1), size)
    start = min(start, stop - 1)
    order = InOrder(start, stop, CHUNK)
    wanted = range(start // CHUNK, -(-stop // CHUNK))
    out, unwanted = b"", 0
    for index in draw.sample(wanted, len(wanted)):
        chunk = data[index * CHUNK : (index + 1) * CHUNK]
        first, last = order.within(index, len(chunk))
        at, end = draw.randint(0, first), draw.randint(last, len(chunk))  # what is more than wanted may be there, too
        cut = draw.randint(at, end)
        parts = [part for part in (chunk[at:cut], memoryview(chunk)[cut:end]) if len(part)]
        given, passed = order.put(index, len(chunk), at, parts)
        out += b"".join(given)
        unwanted += passed
        assert b"" not in given
    assert out == data[start:stop]
    assert unwanted == sum(len(data[index * CHUNK : (index + 1) * CHUNK]) for index in wanted) - len(out)
    assert not order.waiting
