"""Records and volumes: every flipped bit is noticed, and only what follows is taken."""

from __future__ import annotations

import contextlib
import random
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import Conflict, Corrupt
from dsa_zmq.model.records import (
    BEGIN,
    BODY_BYTES,
    CHANGES,
    END,
    MAX_BODY_BYTES,
    NO_HASH,
    ROWS,
    VOLUME_FORMAT,
    Record,
    VolumeEnd,
    VolumeHead,
    cut,
    pack_runs,
    read_record,
    seal,
    unpack_runs,
)
from dsa_zmq.model.volumes import VolumeChain, read_records

CELLS = st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.text(max_size=20), st.binary(max_size=40))
ROWS_OF = st.lists(st.lists(CELLS, min_size=1, max_size=5).map(tuple), max_size=4)
RUNS = st.lists(st.tuples(st.text(max_size=10), ROWS_OF, ROWS_OF), max_size=4)
ANY = random.Random(7)


def head(volume: int = 5, position: int = 10) -> bytes:
    return msgspec.json.encode(VolumeHead(VOLUME_FORMAT, "ab" * 16, volume, 3, position, "dsa-zmq test"))


class Writer:
    """Seals records that follow each other."""

    def __init__(self, position: int = 10) -> None:
        self.position, self.hash = position, ANY.randbytes(32)
        self.begin = seal(BEGIN, 0, 3, 1000, self.hash, head(position=position))
        self.parts, self.part_hash = 1, self.begin.hash

    def change(self, *, ends: bool = True, term: int = 3) -> Record:
        self.position += 1
        record = seal(CHANGES, self.position, term, 2000, self.hash, ANY.randbytes(50), ends=ends)
        self.hash = record.hash
        return record

    def part(self, kind: int = ROWS) -> Record:
        body = msgspec.json.encode(VolumeEnd(self.position, 1)) if kind == END else ANY.randbytes(50)
        record = seal(kind, self.parts, 3, 3000, self.part_hash, body)
        self.parts, self.part_hash = self.parts + 1, record.hash
        return record


@given(RUNS)
def test_rows_come_back_as_they_were(runs: list[Any]) -> None:
    record = seal(CHANGES, 1, 2, 3, NO_HASH, pack_runs(runs))
    read = read_record(record.data)
    assert read == record
    assert unpack_runs(record.body()) == runs


@pytest.mark.parametrize("size", [0, 1, 511, 512, 100_000, MAX_BODY_BYTES])
@pytest.mark.parametrize("filled", [bytes, ANY.randbytes])
def test_bodies_of_all_sizes_come_back(size: int, filled: Any) -> None:
    record = seal(ROWS, 1, 2, 3, NO_HASH, filled(size))
    read = read_record(b"before" + record.data + b"after", 6)
    assert read is not None
    assert read.body() == record.body()
    assert len(read.body()) == size


def test_a_body_that_no_message_could_carry_is_not_sealed() -> None:
    with pytest.raises(ValueError):
        seal(ROWS, 1, 2, 3, NO_HASH, bytes(MAX_BODY_BYTES + 1))


@pytest.mark.parametrize("filled", [bytes, ANY.randbytes])
def test_every_flipped_bit_is_noticed(filled: Any) -> None:
    data = seal(CHANGES, 1, 2, 3, NO_HASH, filled(600)).data
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        with pytest.raises(Corrupt):
            read_record(bytes(damaged))


def test_a_record_that_is_cut_off_is_not_there_yet() -> None:
    data = seal(CHANGES, 1, 2, 3, NO_HASH, ANY.randbytes(100)).data
    assert all(read_record(data[:length]) is None for length in range(len(data)))


def test_a_body_that_unpacks_to_more_than_is_ever_written_is_refused() -> None:
    bomb = seal(CHANGES, 1, 2, 3, NO_HASH, bytes(MAX_BODY_BYTES))
    record = bomb._replace(data=bomb.data[:112] + zlib.compress(bytes(MAX_BODY_BYTES + 1), 1))
    with pytest.raises(Corrupt):
        record.body()


@given(st.binary(max_size=300))
def test_nonsense_is_no_record(data: bytes) -> None:
    with contextlib.suppress(Corrupt):
        assert read_record(data) is None


@given(st.lists(st.integers(0, 3 * BODY_BYTES), max_size=30))
def test_rows_are_cut_into_portions_without_gaps(sizes: list[int]) -> None:
    portions = list(cut(sizes))
    assert [at for first, end in portions for at in range(first, end)] == list(range(len(sizes)))
    for first, end in portions:
        assert end == first + 1 or sum(sizes[first:end]) <= BODY_BYTES


def test_a_volume_is_usable_once_its_log_reaches_the_end_of_its_snapshot() -> None:
    chain, writer = VolumeChain(), Writer()
    assert chain.take(writer.begin)
    assert chain.take(writer.part())
    half, rest, part, last = writer.change(ends=False), writer.change(), writer.part(), None
    last = writer.part(END)
    for record in (half, part, last):
        assert chain.take(record)
        assert not chain.usable
    assert (chain.position, chain.ended, chain.whole) == (11, 10, 12)
    assert chain.take(rest)
    assert chain.usable
    assert (chain.position, chain.ended, chain.parts, chain.term) == (12, 12, 4, 3)


def test_what_is_there_is_passed_over_and_what_does_not_follow_is_refused() -> None:
    chain, writer = VolumeChain(), Writer()
    first, second, third = writer.change(), writer.change(), writer.change()
    part, another = writer.part(), writer.part()
    for record in (first, part):
        with pytest.raises(Conflict):
            chain.take(record)
    chain.take(writer.begin)
    chain.take(first)
    chain.take(part)
    assert not chain.take(writer.begin)
    assert not chain.take(first)
    assert not chain.take(part)
    with pytest.raises(Conflict):
        chain.take(third)
    with pytest.raises(Conflict):
        chain.take(seal(CHANGES, 12, 3, 0, bytes(32), b""))
    with pytest.raises(Conflict):
        chain.take(seal(CHANGES, 11, 3, 0, first.previous, b"another"))
    with pytest.raises(Conflict):
        chain.take(seal(CHANGES, 12, 2, 0, first.hash, b"an earlier term"))
    with pytest.raises(Conflict):
        chain.take(seal(BEGIN, 0, 3, 1000, first.previous, head(volume=6)))
    assert chain.take(second)
    assert chain.take(third)
    assert chain.take(another)
    assert chain.take(writer.part(END))
    with pytest.raises(Conflict):
        chain.take(writer.part())


def test_a_file_of_another_kind_is_no_volume() -> None:
    body = msgspec.json.encode(VolumeHead("something else", "", 1, 1, 1, ""))
    with pytest.raises(Corrupt, match="something else"):
        VolumeChain().take(seal(BEGIN, 0, 1, 1, NO_HASH, body))
    with pytest.raises(Corrupt):
        VolumeChain().take(seal(BEGIN, 0, 1, 1, NO_HASH, b"{}"))


def test_records_are_read_up_to_where_they_end() -> None:
    writer = Writer()
    records = [writer.begin, writer.change(), writer.part()]
    data = b"".join(record.data for record in records)
    assert [record for _, record in read_records(data + records[0].data[:-1])] == records
    assert [offset for offset, _ in read_records(data)][-1] == len(data)
