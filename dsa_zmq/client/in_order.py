"""Verified bytes on their way to a reader, in the order of the file: what is early waits for what is missing before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Bytes = memoryview | bytes


class _Chunk(NamedTuple):
    length: int  #: of the whole chunk
    at: int  #: where in the chunk the first part begins
    parts: Sequence[Bytes]  #: one behind the other; at least what is wanted of the chunk


class InOrder:
    """The bytes ``[start, stop)`` of a file, cut out of its chunks as they come."""

    def __init__(self, start: int, stop: int, chunk_bytes: int) -> None:
        self._start = start
        self._stop = stop
        self._chunk_bytes = chunk_bytes
        self._next = start // chunk_bytes
        self._ready: dict[int, _Chunk] = {}

    def __repr__(self) -> str:
        return f"<InOrder next {self._next}, {len(self._ready)} early>"

    @property
    def waiting(self) -> bool:
        """Whether something has come before its turn."""
        return bool(self._ready)

    def within(self, index: int, length: int) -> tuple[int, int]:
        """Which bytes of this chunk are wanted, counted in it."""
        begin = index * self._chunk_bytes
        return max(self._start - begin, 0), min(self._stop - begin, length)

    def put(self, index: int, length: int, at: int, parts: Sequence[Bytes]) -> tuple[list[Bytes], int]:
        """What is next now, and how many bytes of its chunks are in none of it."""
        self._ready[index] = _Chunk(length, at, parts)
        given: list[Bytes] = []
        unwanted = 0
        while (chunk := self._ready.pop(self._next, None)) is not None:
            low, high = self.within(self._next, chunk.length)
            unwanted += chunk.length - (high - low)
            at = chunk.at
            for part in chunk.parts:
                first, last = max(low - at, 0), min(high - at, len(part))
                at += len(part)
                if first < last:
                    given.append(part if last - first == len(part) else memoryview(part)[first:last])
            self._next += 1
        return given, unwanted

    def clear(self) -> None:
        """Nobody waits any more."""
        self._ready.clear()
