"""Many files at once: a window of transfers under way, one thread, one queue of events."""

from __future__ import annotations

import os
import queue
import stat
from collections.abc import Iterable, Iterator
from typing import IO, Any

from blake3 import blake3

from dsa_zmq.client.calls import StartDownload, StartUpload, Whole
from dsa_zmq.client.connection import Connection
from dsa_zmq.client.given import pair, pairs, piece, writable
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.receiving import Incoming, Outlet, Receiver, file_wanted
from dsa_zmq.client.sending import Buffer, Progress, Sender, look_at
from dsa_zmq.client.tickets import Event, Stream, next_event
from dsa_zmq.errors import DSAError, LocalError
from dsa_zmq.protocol.values import Attributes

AT_ONCE = 128  #: transfers under way: enough that master and nodes always have a batch waiting
AT_ONCE_BYTES = (
    256 << 20
)  #: of the files under way: big ones go a few at a time, so that an end finds most of them whole

Events = queue.SimpleQueue[tuple[Any, Event, Any]]
Outcome = tuple[str, Attributes] | DSAError


class ManyPuts:
    """Puts ``(source, path)`` pairs; sources are local files or bytes. Used once."""

    def __init__(
        self,
        connection: Connection,
        sender: Sender,
        at_once: int = AT_ONCE,
        progress: Progress = None,
        *,
        degraded: bool = False,
    ) -> None:
        self._connection = connection
        self._sender = sender
        self._degraded = degraded
        self._at_once = at_once
        self._progress = progress
        self._actor = connection.started()
        self._events: Events = queue.SimpleQueue()
        self._open: dict[int, tuple[int, str, LocalFile | None]] = {}  # item -> owner, path, file to be closed
        self._open_bytes = 0

    def run(self, items: Iterable[tuple[str | os.PathLike[str] | Buffer, str]]) -> list[Outcome]:
        """One outcome each, in order."""
        return _in_order(self.each(items))

    def each(self, items: Iterable[tuple[str | os.PathLike[str] | Buffer, str]]) -> Iterator[tuple[int, Outcome]]:
        """Number of the pair and outcome, as they end. Closed early, it gives up what is under way."""
        try:
            for item, given in enumerate(pairs("put_many", items)):
                while len(self._open) >= self._at_once or self._open_bytes >= AT_ONCE_BYTES:
                    yield from self._hear()
                try:
                    ended = self._start(item, *pair("put_many", given))
                except DSAError as error:
                    ended = error
                if ended is not None:
                    yield item, ended
            while self._open:
                yield from self._hear()
        finally:
            for owner, _, file in self._open.values():
                self._connection.cancel(owner)
                if file is not None:
                    file.close()

    def _start(self, item: int, source: str | os.PathLike[str] | Buffer, path: str) -> Outcome | None:
        """Begin a transfer; its outcome if that is known at once."""
        owner = self._connection.new_owner()
        ticket = Stream(item, self._events, self._progress)
        if isinstance(source, bytes | bytearray | memoryview) and len(piece(source)) <= self._sender.chunk_bytes:
            data = bytes(source)
            whole = Whole(blake3(data).digest(), data)
            target = self._sender.target(path, len(data), degraded=self._degraded)
            self._connection.call(StartUpload(owner, target, whole, ticket))
            self._open[item] = owner, path, None
        elif isinstance(source, str | os.PathLike):
            self._start_file(item, owner, os.fspath(source), path, ticket)
        else:
            return path, self._sender.send(source, path, self._progress, degraded=self._degraded)
        return None

    def _start_file(self, item: int, owner: int, name: str, path: str, ticket: Stream) -> None:
        status = look_at(name)
        if not stat.S_ISREG(status.st_mode):
            raise LocalError(f"{name} is not a regular file", "put it by itself", name)
        file = LocalFile.open_to_read(name)
        try:
            mtime_ns, mode = status.st_mtime_ns, stat.S_IMODE(status.st_mode)
            target = self._sender.target(path, file.size, mtime_ns=mtime_ns, mode=mode, degraded=self._degraded)
            self._sender.start_file(owner, file, target, ticket)
        except BaseException:
            file.close()
            raise
        self._open[item] = owner, path, file
        self._open_bytes += file.size

    def _hear(self) -> Iterator[tuple[int, Outcome]]:
        """Wait for one event; an outcome if it was an end."""
        item, event, value = next_event(self._events, self._actor)
        if event is Event.END:
            _, path, file = self._open.pop(item)
            if file is not None:
                self._open_bytes -= file.size
                file.close()
            yield item, value if isinstance(value, DSAError) else (path, value)


class ManyGets:
    """Gets ``(path, target)`` pairs; targets are local files by name, or open binary files. Used once."""

    def __init__(
        self, connection: Connection, receiver: Receiver, at_once: int = AT_ONCE, progress: Progress = None
    ) -> None:
        self._connection = connection
        self._receiver = receiver
        self._at_once = at_once
        self._progress = progress
        self._actor = connection.started()
        self._events: Events = queue.SimpleQueue()
        self._open: dict[int, tuple[int, str, Incoming | Outlet]] = {}
        self._sizes: dict[int, int] = {}  # item -> bytes, of the files of several chunks

    def run(self, items: Iterable[tuple[str, str | os.PathLike[str] | IO[bytes]]]) -> list[Outcome]:
        """One outcome each, in order."""
        return _in_order(self.each(items))

    def each(self, items: Iterable[tuple[str, str | os.PathLike[str] | IO[bytes]]]) -> Iterator[tuple[int, Outcome]]:
        """Number of the pair and outcome, as they end. Closed early, it gives up what is under way."""
        try:
            for item, given in enumerate(pairs("get_many", items)):
                while len(self._open) >= self._at_once or sum(self._sizes.values()) >= AT_ONCE_BYTES:
                    yield from self._hear()
                try:
                    self._start(item, *pair("get_many", given))
                except DSAError as error:
                    yield item, error
            while self._open:
                yield from self._hear()
        finally:
            for owner, _, incoming in self._open.values():
                self._connection.cancel(owner)
                incoming.discard()

    def _start(self, item: int, target: str | os.PathLike[str] | IO[bytes], path: str) -> None:
        incoming: Incoming | Outlet
        if isinstance(target, str | os.PathLike):
            incoming = Incoming(os.fspath(target))
        else:
            writable(target, path)
            incoming = Outlet(target, path)
        owner = self._connection.new_owner()
        self._connection.call(
            StartDownload(owner, file_wanted(path, incoming), Stream(item, self._events, self._progress))
        )
        self._open[item] = owner, path, incoming

    def _hear(self) -> Iterator[tuple[int, Outcome]]:
        """Wait for one event; an outcome if it was an end, also an early one."""
        item, event, value = next_event(self._events, self._actor)
        if item not in self._open:
            return  # given up after an error on this side
        owner, path, incoming = self._open[item]
        outcome: Outcome
        try:
            if event is not Event.END:
                if event is Event.DESCRIBED:
                    self._sizes[item] = value.size
                self._receiver.take(owner, incoming, event, value)
                return
            if isinstance(value, DSAError):
                raise value
            incoming.publish(value)
            outcome = path, value
        except DSAError as error:
            outcome = error
            incoming.discard()
            if event is not Event.END:
                self._connection.cancel(owner)
        del self._open[item]
        self._sizes.pop(item, None)
        yield item, outcome


def _in_order(ended: Iterator[tuple[int, Outcome]]) -> list[Outcome]:
    outcomes = dict(ended)
    return [outcomes[item] for item in range(len(outcomes))]
