"""The caller's side of a download: streams to the caller, or a temporary file that takes its name when it is whole."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from dsa_zmq.client.calls import Attach, Consumed, StartDownload
from dsa_zmq.client.connection import Connection
from dsa_zmq.client.local_file import LocalFile, local_error
from dsa_zmq.client.sending import Progress
from dsa_zmq.client.tickets import Event, Stream, Waiter
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import LocalError
from dsa_zmq.protocol.values import Attributes

FILE_WINDOW = (
    32 << 20
)  #: bytes asked for and not yet written, per file: some chunks on the way from each of several nodes
READER_WINDOW = 16 << 20  #: bytes asked for and not yet read, per reader
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
CONSUMED_BYTES = 1 << 20  #: reported at a time: small files are not worth a word each
NO_WINDOW = 1 << 62  #: content that goes into memory as a whole anyway


class Receiver:
    """Gets content in any way."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, wanted: Wanted, progress: Progress = None) -> tuple[Attributes, list[memoryview | bytes]]:
        """All the bytes, as the parts that they came in."""
        waiter = Waiter(progress)
        owner = self._connection.new_owner()
        actor = self._connection.call(StartDownload(owner, wanted, waiter))
        try:
            attributes: Attributes = waiter.wait(actor)
        except BaseException:  # of an ended transfer it has no effect
            self._connection.cancel(owner)
            raise
        return attributes, waiter.parts

    def stream(self, wanted: Wanted, progress: Progress = None) -> Iterator[memoryview | bytes]:
        """The bytes in order, in pieces of at most a chunk; a little is fetched ahead of the reader."""
        stream = Stream(progress=progress)
        owner = self._connection.new_owner()
        actor = self._connection.call(StartDownload(owner, wanted, stream))
        ended = False
        try:
            while True:
                event, value = stream.next(actor)
                if event is Event.END:
                    ended = True
                    return
                if event is Event.DATA:
                    yield value
                    self._connection.call(Consumed(owner, len(value)))
        finally:
            if not ended:
                self._connection.cancel(owner)  # after an error it may have ended; then this has no effect

    def fetch(self, path: str, name: str, progress: Progress = None) -> Attributes:
        """The file ``path`` as the local file ``name``, which is replaced only when everything is there."""
        stream = Stream(progress=progress)
        owner = self._connection.new_owner()
        incoming = Incoming(name)
        actor = self._connection.call(StartDownload(owner, file_wanted(path, incoming), stream))
        ended = False
        try:
            while True:
                event, value = stream.next(actor)
                if event is Event.END:
                    ended = True
                    assert isinstance(value, Attributes)
                    incoming.publish(value)
                    return value
                self.take(owner, incoming, event, value)
        finally:
            if not ended:
                self._connection.cancel(owner)  # after an error it may have ended; then this has no effect
            incoming.discard()

    def take(self, owner: int, incoming: Incoming | Outlet, event: Event, value: Any) -> None:
        """One event of a download to a target, other than its end."""
        if event is Event.DATA:
            incoming.append(value)
            if isinstance(incoming, Outlet) and (consumed := incoming.consumed()):
                self._connection.call(Consumed(owner, consumed))
        elif event is Event.DESCRIBED and isinstance(incoming, Incoming):
            self._connection.call(Attach(owner, incoming.open()))


def write_all(dst: Any, part: bytes | memoryview, path: str) -> None:
    """To the binary file that is the target of ``path``. Unbuffered ones may take less than they are given, and say so."""
    view = memoryview(part)
    try:
        while view.nbytes:
            taken = dst.write(view)
            if taken is None and isinstance(dst, io.RawIOBase):
                raise BlockingIOError(errno.EAGAIN, "it takes no more bytes right now, and does not wait")
            view = view[taken if taken is not None else len(view) :]  # a writer of few words has taken all
    except OSError as error:
        raise LocalError(f"cannot write to the target of {path}: {error}") from error


def file_wanted(path: str, incoming: Incoming | Outlet) -> Wanted:
    """A whole file, for :meth:`Receiver.take`."""
    if isinstance(incoming, Outlet):
        return Wanted(path, window=READER_WINDOW)
    return Wanted(path, window=FILE_WINDOW, to_file=True)


class Outlet:
    """An open binary file of the caller's, as the target of a download. Keeps what it got, also after an error."""

    def __init__(self, target: Any, path: str) -> None:
        self._target = target
        self._path = path
        self._taken = 0

    def append(self, data: memoryview | bytes) -> None:
        """Write behind what was written before."""
        write_all(self._target, data, self._path)
        self._taken += len(data)

    def consumed(self) -> int:
        """How many bytes the transfer should be told of now."""
        if self._taken < CONSUMED_BYTES:
            return 0
        taken, self._taken = self._taken, 0
        return taken

    def publish(self, attributes: Attributes) -> None:
        """Nothing is left to do."""

    def discard(self) -> None:
        """The file is the caller's."""


class Incoming:
    """A local file on its way: a temporary one beside its target, made when the first byte is there."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._temporary = ""
        self._file: LocalFile | None = None
        self._offset = 0
        try:
            mode = os.stat(name).st_mode
        except ValueError as error:  # a NUL in it
            raise local_error(error, name) from error
        except OSError:
            return  # nothing is there, or it is out of reach: writing finds out
        if stat.S_ISDIR(mode):
            raise LocalError(f"{name} is a directory", "name a file in it, or add '/' for 'dsa cp'", name)
        if not stat.S_ISREG(mode):  # it would be replaced by a file, as would /dev/null for everybody
            remedy = "write into it: 'dsa get PATH - > TARGET', or give the open file"
            raise LocalError(f"{name} is a pipe or a device", remedy, name)

    def open(self) -> LocalFile:
        """The temporary file, to be written at any offset."""
        if self._file is None:
            parent = os.path.dirname(self._name)
            self._temporary = os.path.join(parent, f".dsa-{os.urandom(8).hex()}.part")
            try:
                try:
                    descriptor = os.open(self._temporary, _CREATE, 0o600)
                except FileNotFoundError:
                    os.makedirs(parent, exist_ok=True)
                    descriptor = os.open(self._temporary, _CREATE, 0o600)
            except OSError as error:
                self._temporary = ""
                raise local_error(error, self._name) from error
            self._file = LocalFile(descriptor, self._name)
        return self._file

    def append(self, data: memoryview | bytes) -> None:
        """Write behind what was appended before."""
        self.open().write_at(data, self._offset)
        self._offset += len(data)

    def publish(self, attributes: Attributes) -> None:
        """Everything is written: give it its mode, time and name."""
        self.open().close()
        self._file = None
        try:
            os.chmod(self._temporary, attributes.mode & 0o777)
            os.utime(self._temporary, ns=(attributes.mtime_ns, attributes.mtime_ns))
            os.replace(self._temporary, self._name)
        except OSError as error:
            raise local_error(error, self._name) from error
        self._temporary = ""

    def discard(self) -> None:
        """Leave no trace, unless it was published. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._temporary:
            with suppress(OSError):  # the transfer's own error is what the caller must see
                os.unlink(self._temporary)
            self._temporary = ""
