"""Split content into chunks of one size (the last may be shorter), and put them together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Anything that :class:`memoryview` takes; other C-contiguous buffers (mmap, array, numpy) work as well."""


def chunk_count(size: int, chunk_bytes: int) -> int:
    """How many chunks ``size`` bytes make; none for an empty file."""
    if size < 0 or chunk_bytes < 1:
        raise ValueError(f"cannot cut {size} bytes into chunks of {chunk_bytes}")
    return -(-size // chunk_bytes)


def chunk_length(size: int, chunk_bytes: int, index: int) -> int:
    """Bytes of chunk ``index`` (from 0) of a content of ``size`` bytes. IndexError if there is no such chunk."""
    count = chunk_count(size, chunk_bytes)
    if not 0 <= index < count:
        raise IndexError(f"chunk {index} of {count}")
    return min(chunk_bytes, size - index * chunk_bytes)


def split(data: Buffer, chunk_bytes: int) -> Iterator[memoryview]:
    """Cut a buffer into views of ``chunk_bytes`` each, the last one shorter. Nothing is copied."""
    view = _as_bytes(data)
    for index in range(chunk_count(len(view), chunk_bytes)):
        yield view[index * chunk_bytes : (index + 1) * chunk_bytes]


def merge(parts: Iterable[Buffer]) -> bytes:
    """The inverse of :func:`split`."""
    return b"".join(parts)


class Chunker:
    """Cuts a stream of buffers of any sizes into chunks of ``chunk_bytes``.

    Every byte is copied at most once. Whole chunks inside one read-only buffer are passed on as views without a copy, so
    such a buffer belongs to the chunks from then on. A writable buffer is copied, because its owner may fill it again; who
    gives it away for good passes ``memoryview(buffer).toreadonly()``.
    """

    def __init__(self, chunk_bytes: int) -> None:
        if chunk_bytes < 1:
            raise ValueError(f"chunk_bytes {chunk_bytes} is not positive")
        self._chunk_bytes = chunk_bytes
        self._pending = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for the rest of their chunk; less than one chunk."""
        return len(self._pending)

    def feed(self, buffer: Buffer) -> list[bytes | memoryview]:
        """Add a buffer; returns the chunks that are full now, in order."""
        if isinstance(buffer, bytes) and len(buffer) == self._chunk_bytes and not self._pending:
            return [buffer]
        view = _as_bytes(buffer)
        chunks: list[bytes | memoryview] = []
        start = 0
        while start < len(view):
            missing = self._chunk_bytes - len(self._pending)
            piece = view[start : start + missing]
            start += missing
            if not self._pending and len(piece) == missing:
                chunks.append(piece if piece.readonly else bytes(piece))
                continue
            self._pending += piece
            if len(piece) == missing:
                chunks.append(memoryview(self._pending).toreadonly())
                self._pending = bytearray()
        return chunks

    def finish(self) -> bytes | memoryview | None:
        """The last, shorter chunk, or None if the stream ended on a boundary."""
        if not self._pending:
            return None
        last = memoryview(self._pending).toreadonly()
        self._pending = bytearray()
        return last


def _as_bytes(data: Buffer) -> memoryview:
    """A flat view of bytes. An empty view cannot be cast, and needs no cast."""
    view = memoryview(data)
    if view.nbytes == 0:
        return memoryview(b"")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
