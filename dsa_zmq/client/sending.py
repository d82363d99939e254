"""The caller's side of an upload: opens and reads sources, hands bytes to the actor, waits for the end.

One-chunk content is read and hashed in the caller's thread and handed over in one call. Files of several chunks are read by
the client's workers. Streams are read here, one chunk ahead of what has been handed over, so that the last chunk is known
to be the last; and no faster than the actor asks for.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Protocol, TypeAlias

from blake3 import blake3

from actors.core import Handle
from dsa_zmq.client.calls import Feed, StartUpload, Supply, Whole
from dsa_zmq.client.connection import Connection
from dsa_zmq.client.given import MAX_NUMBER, kind_of, number, number_within, piece
from dsa_zmq.client.given import redundancy as given_redundancy
from dsa_zmq.client.local_file import LocalFile, local_error
from dsa_zmq.client.target import Target
from dsa_zmq.client.tickets import Event, Stream, Waiter
from dsa_zmq.errors import DSAError, Invalid, LocalError
from dsa_zmq.model.chunking import Chunker
from dsa_zmq.protocol.values import Attributes

Progress: TypeAlias = Callable[[int], object] | None
"""Called with the number of bytes that have become safe (or arrived) since the last call, in another thread."""


class Readable(Protocol):
    """The part of a binary file that is needed to put it."""

    def read(self, size: int = ..., /) -> bytes | None: ...


Buffer: TypeAlias = bytes | bytearray | memoryview
Source: TypeAlias = str | os.PathLike[str] | Buffer | IO[bytes] | Readable | Iterable[Buffer]


class Sender:
    """Puts content of any kind. ``chunk_bytes``: the size of chunks of new files."""

    def __init__(self, connection: Connection, chunk_bytes: int) -> None:
        self._connection = connection
        self._chunk_bytes = chunk_bytes

    @property
    def chunk_bytes(self) -> int:
        return self._chunk_bytes

    def target(
        self,
        path: str,
        length: int | None,
        *,
        mtime_ns: int | None = None,
        mode: int | None = None,
        redundancy: str = "",
        if_absent: bool = False,
        if_version: int | None = None,
        degraded: bool = False,
    ) -> Target:
        """What is to appear, with the defaults filled in."""
        return Target(
            path,
            self._chunk_bytes,
            length,
            time.time_ns() if mtime_ns is None else storable_time(mtime_ns),
            0o644 if mode is None else number_within("mode", mode, 0o7777),
            given_redundancy(redundancy),
            bool(if_absent),
            number_within("if_version", if_version or 0, MAX_NUMBER),
            bool(degraded),
        )

    def send(self, source: Source, path: str, progress: Progress, **options: Any) -> Attributes:
        """Put one source and wait."""
        if isinstance(source, str | os.PathLike):
            return self._send_file(os.fspath(source), path, progress, options)
        if isinstance(source, bytes | bytearray | memoryview):
            return self._send_bytes(source, path, progress, options)
        if hasattr(source, "read"):
            return self.send_stream(read_pieces(source, self._chunk_bytes), path, progress, **options)
        if isinstance(source, Iterable):
            return self.send_stream(iter(source), path, progress, **options)
        raise Invalid(f"{kind_of(source)} is nothing that can be put", "give a path, a binary file or bytes")

    def _send_file(self, name: str, path: str, progress: Progress, options: dict[str, Any]) -> Attributes:
        status = look_at(name)
        if not stat.S_ISREG(status.st_mode):
            with _open_stream(name) as stream:
                return self.send_stream(read_pieces(stream, self._chunk_bytes), path, progress, **options)
        file = LocalFile.open_to_read(name)
        try:
            options = {"mtime_ns": status.st_mtime_ns, "mode": stat.S_IMODE(status.st_mode), **_given(options)}
            waiter = Waiter(progress)
            owner = self._connection.new_owner()
            actor = self.start_file(owner, file, self.target(path, file.size, **options), waiter)
            return self._wait(owner, waiter, actor)
        finally:
            file.close()

    def start_file(self, owner: int, file: LocalFile, target: Target, ticket: Any) -> Handle:
        """Begin to put an open regular file; it may be closed when the ticket is finished, or given up. Returns the actor
        that does it."""
        if file.size <= self._chunk_bytes:
            data = file.read_at(file.size, 0) if file.size else file.read_untold(self._chunk_bytes)
            return self._connection.call(StartUpload(owner, target, Whole(blake3(data).digest(), data), ticket))
        return self._connection.call(StartUpload(owner, target, file, ticket))

    def _send_bytes(self, data: Buffer, path: str, progress: Progress, options: dict[str, Any]) -> Attributes:
        view = piece(data)
        if len(view) > self._chunk_bytes:
            return self.send_stream(iter([view]), path, progress, **options)
        owned = view if isinstance(view, bytes) else bytes(view)
        waiter = Waiter(progress)
        owner = self._connection.new_owner()
        target = self.target(path, len(owned), **options)
        actor = self._connection.call(StartUpload(owner, target, Whole(blake3(owned).digest(), owned), waiter))
        return self._wait(owner, waiter, actor)

    def _wait(self, owner: int, waiter: Waiter, actor: Handle) -> Attributes:
        try:
            result: Attributes = waiter.wait(actor)
        except BaseException:  # of an ended transfer it has no effect
            self._connection.cancel(owner)
            raise
        return result

    def send_stream(self, pieces: Iterator[Buffer], path: str, progress: Progress, **options: Any) -> Attributes:
        """Put what an iterator gives, as it comes."""
        feed = FeedWriter(self._connection, self.target(path, None, **options), progress)
        try:
            for each in pieces:
                feed.write(each)
            return feed.publish()
        except OSError as error:
            feed.discard()
            if isinstance(error, DSAError):
                raise
            raise local_error(error, f"the source of {path}") from error
        except BaseException:
            feed.discard()
            raise


class FeedWriter:
    """An upload whose content is written by one thread, piece by piece."""

    def __init__(self, connection: Connection, target: Target, progress: Progress = None) -> None:
        self._connection = connection
        self._target = target
        self._progress = progress
        self._chunker = Chunker(target.chunk_bytes)
        self._pending: bytes | memoryview | None = None  # a full chunk that may be the last
        self._stream: Stream | None = None
        self._actor: Handle | None = None  # that the upload was begun with
        self._owner = 0
        self._index = 0
        self._until = 0
        self._ended = False

    def write(self, given: Buffer) -> None:
        """Take the bytes; blocks while the client is full. A failed transfer raises here."""
        for chunk in self._chunker.feed(piece(given)):
            self._push(chunk)

    def _push(self, chunk: bytes | memoryview) -> None:
        if self._pending is not None:
            self._supply(self._pending, last=False)
        self._pending = chunk

    def publish(self) -> Attributes:
        """The end of the content: commit it and wait."""
        rest = self._chunker.finish()
        if rest is not None:
            self._push(rest)
        last, self._pending = self._pending, None
        if self._stream is None or self._actor is None:
            return self._publish_whole(last if last is not None else b"")
        assert last is not None  # a started stream has handed over all chunks but one
        self._supply(last, last=True)
        while True:
            event, value = self._stream.next(self._actor)
            if event is Event.END:
                self._ended = True
                assert isinstance(value, Attributes)
                return value

    def _publish_whole(self, data: bytes | memoryview) -> Attributes:
        waiter = Waiter(self._progress)
        self._owner = self._connection.new_owner()
        start = StartUpload(self._owner, self._target, Whole(blake3(data).digest(), data), waiter)
        result: Attributes = waiter.wait(self._connection.call(start))
        self._ended = True
        return result

    def _supply(self, chunk: bytes | memoryview, last: bool) -> None:
        if self._stream is None or self._actor is None:
            self._stream = Stream(progress=self._progress)
            self._owner = self._connection.new_owner()
            self._actor = self._connection.call(StartUpload(self._owner, self._target, Feed(), self._stream))
        while (told := self._stream.poll()) is not None or self._index >= self._until:
            event, value = told or self._stream.next(self._actor)
            if event is Event.WANT:
                self._until = value
        self._connection.call(Supply(self._owner, self._index, blake3(chunk).digest(), chunk, last))
        self._index += 1

    def discard(self) -> None:
        """Nothing of it will appear. Idempotent."""
        if self._owner and not self._ended:
            self._ended = True
            self._connection.cancel(self._owner)
        self._pending = None


def storable_time(mtime_ns: int) -> int:
    """The nearest moment that a 64-bit number of nanoseconds can tell: from 1677 to 2262."""
    return max(-MAX_NUMBER, min(number("mtime_ns", mtime_ns), MAX_NUMBER))


def look_at(name: str) -> os.stat_result:
    """What a local file or stream to be put is; :class:`LocalError` for a directory, or if there is nothing.

    Looked at before it is opened: of a file that is replaced meanwhile the time is then too old, and the next comparison
    notices.
    """
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        raise local_error(error, name) from error
    if stat.S_ISDIR(status.st_mode):
        raise LocalError(f"{name} is a directory", "put its files one by one, or use 'dsa cp'", name)
    return status


def _open_stream(name: str) -> IO[bytes]:
    """A pipe or device. Opened once: its writer may come and go only once."""
    try:
        return open(name, "rb")
    except OSError as error:
        raise local_error(error, name) from error


def read_pieces(stream: Any, size: int) -> Iterator[Buffer]:
    """What a binary file has left, in pieces of about ``size`` bytes."""
    while True:
        given = stream.read(size)
        if given is None:
            raise LocalError("the source has no bytes right now, and does not wait for them", "make it a blocking one")
        if isinstance(given, str):
            raise Invalid("the source is a text file", "open it in binary mode, as in open(name, 'rb')")
        if not given:
            return
        yield given


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
