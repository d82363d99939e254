"""File objects over the store: what ``Store.open`` returns."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from dsa_zmq.client.given import piece, text
from dsa_zmq.client.receiving import NO_WINDOW, Receiver
from dsa_zmq.client.sending import FeedWriter
from dsa_zmq.client.target import missing_shards
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import Invalid, IsADirectory
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.stat import Stat

BUFFER_BYTES = 256 << 10  #: of a file object open for reading


def open_kind(mode: str) -> str:
    """One of r, rb, w, wb, x, xb for a mode as Python writes it."""
    text("mode", mode)
    kind = mode.replace("t", "") if "b" not in mode else mode
    if kind not in ("r", "rb", "w", "wb", "x", "xb"):
        raise Invalid(f"mode {mode!r} is not possible", "use r, rb, w, wb, x or xb; nothing is appended or updated")
    return kind


def open_to_read(
    receiver: Receiver, found: Stat, kind: str, encoding: str, errors: str | None, newline: str | None
) -> io.BufferedReader | io.TextIOWrapper:
    """The file object for what was found."""
    if found.is_dir:
        raise IsADirectory(f"{found.path} is a directory", path=found.path)
    reader: io.BufferedReader = io.BufferedReader(StoreReader(receiver, found), BUFFER_BYTES)
    return reader if kind == "rb" else io.TextIOWrapper(reader, encoding, errors, newline)


def open_to_write(
    feed: FeedWriter, path: str, kind: str, encoding: str, errors: str | None, newline: str | None
) -> StoreWriter | TextWriter:
    """The file object for a new content of ``path``."""
    writer = StoreWriter(feed, path)
    return writer if kind.endswith("b") else TextWriter(writer, encoding, errors, newline)


class StoreReader(io.RawIOBase):
    """A file open for reading: seekable, pinned to the content that was there when it was opened.

    The first read, and each one after a seek, fetches one shard with bytes of the file, which is a whole chunk if it is kept
    as copies; going on from there the rest of the chunk; and then it streams ahead of the reader.
    """

    def __init__(self, receiver: Receiver, stat: Stat) -> None:
        super().__init__()
        self.stat = stat
        self.name = stat.path
        self.mode = "rb"
        self._receiver = receiver
        self._position = 0
        self._part: memoryview | bytes = b""
        self._part_start = 0
        self._stream: Iterator[memoryview | bytes] | None = None
        self._stream_at = -1  # where the stream, or the last fetched part, goes on

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.stat.size}.get(whence)
        if base is None:
            raise Invalid(f"whence {whence} is not 0, 1 or 2")
        if base + offset < 0:
            raise Invalid(f"position {base + offset} is before the start of {self.stat.path}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        target = memoryview(buffer).cast("B")
        if not len(target) or self._position >= self.stat.size:
            return 0
        offset = self._position - self._part_start
        if not 0 <= offset < len(self._part):
            self._fill()
            offset = 0
        count = min(len(target), len(self._part) - offset)
        target[:count] = self._part[offset : offset + count]
        self._position += count
        return count

    def readall(self) -> bytes:
        """The rest, in one transfer."""
        self._check_open()
        if self._position >= self.stat.size:
            return b""
        _, parts = self._receiver.read(self._wanted(self._position, None, NO_WINDOW))
        self._position = self.stat.size
        return b"".join(parts)

    def _fill(self) -> None:
        """Make ``_part`` hold the bytes at the position."""
        goes_on = self._position == self._stream_at
        begin = self._position - self._position % self.stat.chunk_bytes
        if not goes_on or (self._stream is None and begin < self._position):
            self._stop_stream()
            length = min(self.stat.chunk_bytes, self.stat.size - begin)
            step = length if goes_on else parse_redundancy(self.stat.redundancy).shard_bytes(length)
            end = begin + min(((self._position - begin) // step + 1) * step, length)
            _, parts = self._receiver.read(self._wanted(self._position, end, NO_WINDOW))
            self._take(b"".join(parts))
            return
        if self._stream is None:
            self._stream = self._receiver.stream(self._wanted(self._position, None, None))
        self._take(next(self._stream))

    def _take(self, part: memoryview | bytes) -> None:
        self._part, self._part_start = part, self._position
        self._stream_at = self._position + len(part)

    def _wanted(self, start: int, stop: int | None, window: int | None) -> Wanted:
        stat = self.stat
        if window is None:
            return Wanted(stat.path, start, stop, stat.content, stat.chunk_bytes)
        return Wanted(stat.path, start, stop, stat.content, stat.chunk_bytes, window)

    def _stop_stream(self) -> None:
        stream, self._stream = self._stream, None
        close: Callable[[], None] | None = getattr(stream, "close", None)
        if close is not None:
            close()

    def _check_open(self) -> None:
        if self.closed:
            raise Invalid(f"{self.stat.path} is closed", "open it again")

    def close(self) -> None:
        if not self.closed:
            self._stop_stream()
            self._part = b""
        super().close()


class StoreWriter(io.RawIOBase):
    """A file open for writing. It appears when it is closed; never if the ``with`` block raises or the object is dropped."""

    def __init__(self, feed: FeedWriter, path: str) -> None:
        super().__init__()
        self.name = path
        self.mode = "wb"
        self._feed = feed
        self._position = 0
        self.missing_shards = 0  #: once it is published with ``degraded``: so many could not be made yet

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any, /) -> int:
        if self.closed:
            raise Invalid(f"{self.name} is closed", "open it again")
        view = piece(data)
        self._feed.write(view)
        self._position += len(view)
        return len(view)

    def close(self) -> None:
        """Publish."""
        if self.closed:
            return
        try:
            self.missing_shards = missing_shards(self._feed.publish())
        except BaseException:
            self._feed.discard()
            raise
        finally:
            super().close()

    def discard(self) -> None:
        """Close without publishing. Idempotent."""
        if not self.closed:
            self._feed.discard()
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        self.discard()


class TextWriter(io.TextIOWrapper):
    """A text file open for writing: published by ``close``, discarded when the ``with`` block raises."""

    def __init__(self, writer: StoreWriter, encoding: str, errors: str | None, newline: str | None) -> None:
        self._writer = writer
        super().__init__(writer, encoding, errors, newline)

    def discard(self) -> None:
        """Close without publishing. Idempotent."""
        self._writer.discard()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        self.discard()
