"""Manifest pages: what was written is read, and damage is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import Corrupt
from dsa_zmq.model.manifest import pack_page, unpack_page

IDS = st.lists(st.integers(0, (1 << 64) - 1), max_size=20)


@given(IDS)
def test_a_page_reads_back(ids: list[int]) -> None:
    page = pack_page(ids)
    assert unpack_page(page) == ids
    assert len(page) == 5 + 8 * len(ids)


def test_the_format_is_fixed() -> None:
    assert pack_page([1, 1 << 40]).hex() == "01f3b01143" + "0100000000000000" + "0000000000010000"


@given(IDS, st.data())
def test_a_flipped_bit_is_noticed(ids: list[int], data: st.DataObject) -> None:
    page = bytearray(pack_page(ids))
    bit = data.draw(st.integers(0, 8 * len(page) - 1))
    page[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt):
        unpack_page(bytes(page))


@given(IDS, st.data())
def test_a_page_cut_short_or_grown_is_noticed(ids: list[int], data: st.DataObject) -> None:
    page = pack_page(ids)
    with pytest.raises(Corrupt):
        unpack_page(page[: data.draw(st.integers(0, len(page) - 1))])
    with pytest.raises(Corrupt):
        unpack_page(page + bytes(data.draw(st.integers(1, 17))))


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_a_number_that_is_no_chunk_id_is_refused(number: int) -> None:
    with pytest.raises(ValueError):
        pack_page([number])
