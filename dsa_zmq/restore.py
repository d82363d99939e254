"""Restoring a lost master's catalog in this process: the actor at the master's address, driven from the outside."""

from __future__ import annotations

import contextlib
import queue
import random
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.core import Address
from actors.disk import OsDisk
from dsa_zmq import app
from dsa_zmq.config import MasterOptions
from dsa_zmq.directory import LOCK, MARKER, DataDirectory
from dsa_zmq.errors import InternalError, LocalError
from dsa_zmq.master.restore_events import Event, Failed, Go, Planned, Restored, Wanted
from dsa_zmq.master.restore_service import restore_spec
from dsa_zmq.model.addresses import endpoint, listen_host

if TYPE_CHECKING:
    from actors.core import ActorSpec

Progress = Callable[[Event], None]
_POLL_S = 0.5  #: how often it is seen that the actor has ended by itself


class Restore:
    """One restore into the directory that ``options`` name, at the address where that master will listen. ``file``: a backup
    to make it of; else the nodes' copies are used. Use it in a ``with`` block. All methods raise DSAError."""

    def __init__(self, options: MasterOptions, wanted: Wanted, file: Path | None = None) -> None:
        self._directory = Path(options.dir).absolute()
        self._was_there = self._directory.exists()
        self._restored = False
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.failed: Failed | None = None  #: how it failed
        listen = Address(endpoint(listen_host(options.bind), options.port))

        def spec(directory: DataDirectory, disk: OsDisk) -> ActorSpec:
            return restore_spec(listen, disk, random.SystemRandom(), wanted, self._events.put, source)

        with contextlib.ExitStack() as open_files:
            source = None
            if file is not None:
                try:
                    source = OsDisk(file.absolute().parent).open(file.name, readonly=True)
                except OSError as error:
                    raise LocalError(
                        f"'{file}' cannot be read: {error.strerror or error}", "name a file of 'dsa catalog backup'"
                    ) from error
                open_files.callback(source.close)
            try:
                self._server = app.serve("master", options.dir, spec, None)
            except BaseException:
                self._forget_directory()
                raise
            self._files = open_files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """Where nodes are waited for."""
        return str(self._server.endpoint("listen"))

    def plan(self, progress: Progress) -> Planned:
        """Wait for the nodes, and read their copies; nobody has promised anything yet. ``progress`` is given each event."""
        while True:
            event = self._next(progress)
            if isinstance(event, Planned):
                return event

    def carry_out(self, progress: Progress) -> Restored:
        """Claim the nodes, and publish what was planned: it is durable when this returns."""
        self._server.call(Go())
        while True:
            event = self._next(progress)
            if isinstance(event, Restored):
                self._restored = True
                return event

    def _next(self, progress: Progress) -> Event:
        while True:
            try:
                event = self._events.get(timeout=_POLL_S)
            except queue.Empty:
                if self._server.join(0) is not None and self._events.empty():
                    raise InternalError("the restore has ended without a word", "see the log") from None
                continue
            progress(event)
            if isinstance(event, Failed):
                self.failed = event
                raise event.error
            return event

    def close(self) -> None:
        """End it; what was not carried out leaves nothing behind. Idempotent."""
        self._server.stop()
        self._files.close()
        if not self._restored:
            self._forget_directory()

    def _forget_directory(self) -> None:
        """It was made for this, and holds nothing."""
        if not self._was_there:
            with contextlib.suppress(OSError):
                if set(self._directory.iterdir()) <= {self._directory / name for name in (MARKER, LOCK)}:
                    for name in (MARKER, LOCK):
                        (self._directory / name).unlink(missing_ok=True)
                    self._directory.rmdir()
