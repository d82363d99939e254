"""Progress of a transfer: a live bar for a person at a terminal, one plain line at the end for everybody else."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from dsa_zmq.cli.session import Session
from dsa_zmq.model.sizes import counted, format_duration, format_rate, format_size

if TYPE_CHECKING:
    import rich.progress


class Progress:
    """Counts files and bytes from any thread. Use it in a ``with`` block."""

    def __init__(self, session: Session, title: str, files: int, size: int) -> None:
        self._session = session
        self._title = title
        self._total = (files, size)
        self._files = 0
        self._bytes = 0
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Self:
        if self._session.is_live:
            self._open_bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None and not self._session.json:
            seconds = time.monotonic() - self._begin
            rate = format_rate(self._bytes / seconds) if seconds else "at once"
            done = f"{counted(self._files, 'file')}, {format_size(self._bytes)}"
            click.echo(f"{self._title:<13} {done} in {format_duration(seconds)} ({rate})")

    def advance(self, files: int, size: int) -> None:
        """So many more files, so many more bytes."""
        with self._lock:
            self._files += files
            self._bytes += size
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._bytes, done=f"{self._files:,}/{self._total[0]:,} files")

    def expect(self, size: int) -> None:
        """It will be so many bytes in all."""
        self._total = (self._total[0], size)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=size)

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description:<13}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._title, total=self._total[1], done="")
        self._bar.start()
