"""Chunks: cut and joined without losing, adding or needlessly copying a byte."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.model.chunking import Chunker, chunk_count, chunk_length, merge, split


@given(st.binary(max_size=200), st.integers(1, 50))
def test_merge_undoes_split(data: bytes, chunk_bytes: int) -> None:
    chunks = list(split(data, chunk_bytes))
    assert merge(chunks) == data
    assert len(chunks) == chunk_count(len(data), chunk_bytes)
    assert [len(chunk) for chunk in chunks] == [
        chunk_length(len(data), chunk_bytes, index) for index in range(len(chunks))
    ]
    assert all(len(chunk) == chunk_bytes for chunk in chunks[:-1])


def test_an_empty_content_has_no_chunks() -> None:
    assert chunk_count(0, 1 << 20) == 0
    assert list(split(b"", 1 << 20)) == []
    assert merge([]) == b""


def test_counting_needs_no_memory_and_no_floats() -> None:
    size = (1 << 60) + 1
    assert chunk_count(size, 4096) == (1 << 48) + 1
    assert chunk_length(size, 4096, 1 << 48) == 1


@pytest.mark.parametrize("index", [-1, 3])
def test_a_chunk_beyond_the_end_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        chunk_length(25, 10, index)


@pytest.mark.parametrize(("size", "chunk_bytes"), [(-1, 10), (1, 0), (1, -1)])
def test_nonsense_sizes_are_refused(size: int, chunk_bytes: int) -> None:
    with pytest.raises(ValueError):
        chunk_count(size, chunk_bytes)


@given(st.binary(max_size=300), st.integers(1, 40), st.lists(st.integers(0, 100), max_size=20), st.booleans())
def test_a_stream_is_cut_like_the_whole(data: bytes, chunk_bytes: int, cuts: list[int], writable: bool) -> None:
    chunker = Chunker(chunk_bytes)
    chunks: list[bytes | memoryview] = []
    start = 0
    for length in [*cuts, len(data)]:
        buffer = bytearray(data[start : start + length])
        chunks += chunker.feed(buffer if writable else bytes(buffer))
        if writable:
            buffer[:] = b"\0" * len(buffer)  # its owner fills it again
        start += length
        assert chunker.pending_bytes < chunk_bytes
    last = chunker.finish()
    assert all(len(chunk) == chunk_bytes for chunk in chunks)
    assert last is None or 0 < len(last) < chunk_bytes
    assert merge([*chunks, *([] if last is None else [last])]) == data
    assert chunker.finish() is None


def test_an_aligned_block_is_passed_on_without_a_copy() -> None:
    block = random.Random(1).randbytes(4096)
    assert Chunker(4096).feed(block)[0] is block


def test_whole_chunks_in_a_larger_buffer_are_views_of_it() -> None:
    data = random.Random(2).randbytes(10_000)
    chunks = Chunker(4096).feed(data)
    assert [chunk.obj is data for chunk in chunks if isinstance(chunk, memoryview)] == [True, True]


def test_a_buffer_given_away_read_only_is_not_copied() -> None:
    buffer = bytearray(random.Random(3).randbytes(4096))
    (chunk,) = Chunker(4096).feed(memoryview(buffer).toreadonly())
    assert isinstance(chunk, memoryview)
    assert chunk.obj is buffer


def test_chunks_cannot_be_written_to() -> None:
    chunker = Chunker(10)
    chunks = chunker.feed(bytearray(25)) + chunker.feed(bytearray(8))
    chunks.append(chunker.finish() or b"")
    assert [len(chunk) for chunk in chunks] == [10, 10, 10, 3]
    assert all(memoryview(chunk).readonly for chunk in chunks)


def test_buffers_of_other_item_sizes_count_bytes() -> None:
    view = memoryview(bytes(range(16))).cast("I")
    assert merge(Chunker(5).feed(view)) == bytes(range(15))
    assert [len(chunk) for chunk in split(view, 5)] == [5, 5, 5, 1]


def test_many_tiny_feeds_cost_linear_work() -> None:
    """Bytes held while waiting stay one chunk; a list of pieces would hold an object for each byte."""
    chunker = Chunker(1 << 16)
    full = sum(len(chunker.feed(b"x")) for _ in range((1 << 16) + 10))
    assert full == 1
    assert chunker.pending_bytes == 10


def test_a_chunk_size_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        Chunker(0)
