"""Verified bytes on their way to a reader, in the order of the file: what is early waits for what is missing before it."""

from __future__ import annotations

from collections.abc import Sequence

Bytes = memoryview | bytes

_Chunk = tuple[int, int, Sequence[Bytes]]
"""Length of the whole chunk, where in it the first part begins, and the parts, one behind the other."""


class InOrder:
    """The bytes ``[start, stop)`` of a file, cut out of its chunks as they come."""

    __slots__ = ("_chunk_bytes", "_next", "_ready", "_start", "_stop")

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
        """Bytes of a chunk, at least those that are wanted of it. Returns what is next now, and how many bytes of its chunks
        are in none of it."""
        self._ready[index] = length, at, parts
        given: list[Bytes] = []
        unwanted = 0
        while (chunk := self._ready.pop(self._next, None)) is not None:
            length, at, parts = chunk
            low, high = self.within(self._next, length)
            unwanted += length - (high - low)
            if high - low == length:
                given += parts
            else:
                given += _cut(parts, low - at, high - at)
            self._next += 1
        return given, unwanted

    def clear(self) -> None:
        """Nobody waits any more."""
        self._ready.clear()


def _cut(parts: Sequence[Bytes], low: int, high: int) -> list[Bytes]:
    """The bytes ``[low, high)`` of these together, which may begin before the first."""
    given: list[Bytes] = []
    for part in parts:
        first, last = max(low, 0), min(high, len(part))
        if first < last:
            given.append(part if last - first == len(part) else memoryview(part)[first:last])
        low, high = low - len(part), high - len(part)
    return given
