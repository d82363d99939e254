"""A transfer as somebody watches it: a bar while it runs, one line for each failure, one line at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from dsa_zmq.cli import output, reporting
from dsa_zmq.cli.session import Session
from dsa_zmq.client.merging import TreeResult
from dsa_zmq.errors import DSAError
from dsa_zmq.model.sizes import counted, format_duration, format_rate, format_size

if TYPE_CHECKING:
    import rich.progress

REFRESH_S = 0.1

Measure = Callable[[threading.Event], int | None]
"""Finds out how many bytes there are in all, while the transfer runs; stops early when the event is set."""


class TransferBar:
    """Bar, failures and result of one transfer of any number of files. Use it in a ``with`` block.

    ``verb`` is the past: "stored". The bar is there only for a person at a terminal; it goes to stderr, as does the last
    line, so that stdout is free for content.
    """

    def __init__(self, session: Session, verb: str, quiet: bool) -> None:
        self.result = TreeResult()
        self._session = session
        self._verb = verb
        self._quiet = quiet
        self._moved = 0
        self._total: int | None = None
        self._begin = time.monotonic()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Self:
        if self._session.is_live and not self._quiet:
            self._open_bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def measure(self, work: Measure) -> None:
        """Find out the size of the whole, in a thread of its own; not at all without a bar."""
        if self._bar is not None:
            self._start(lambda: self._take_measure(work))

    def progress(self, size: int) -> None:
        """So many more bytes have moved. Called from another thread, one at a time."""
        self._moved += size

    def failed(self, error: DSAError) -> None:
        """One file could not be copied; the others go on."""
        reporting.report(error, self._session.json)

    def finish(self) -> int:
        """The last line; the exit status."""
        seconds = time.monotonic() - self._begin
        if self.result.missing_shards and not self._session.json:
            self._close_bar()
            click.echo(f"warning: {degraded(self.result)}", err=True)
        if self._session.json:
            output.emit(
                files=self.result.files,
                bytes=self.result.bytes,
                seconds=round(seconds, 3),
                unchanged=self.result.unchanged,
                directories=self.result.directories,
                symlinks=self.result.symlinks,
                special=self.result.special,
                failed=self.result.failed,
                missing_shards=self.result.missing_shards,
            )
        elif not self._quiet:
            self._close_bar()
            click.echo(f"{self._verb} {summary(self.result, seconds)}", err=True)
        return 1 if self.result.failed else 0

    # --- the bar -----------------------------------------------------------------------------------------------------

    def _open_bar(self) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.fields[files]}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # it may carry content
        )
        task = self._bar.add_task("", total=None, files="")
        self._bar.start()
        self._start(lambda: self._refresh(task))

    def _close_bar(self) -> None:
        """Idempotent."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * REFRESH_S)
        if self._bar is not None:
            self._bar.stop()

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="progress", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _refresh(self, task: rich.progress.TaskID) -> None:
        assert self._bar is not None
        while not self._over.wait(REFRESH_S):
            total = None if self._total is None else max(0, self._total - self.result.unchanged_bytes)
            self._bar.update(task, completed=self._moved, total=total, files=counted(self.result.files, "file"))

    def _take_measure(self, work: Measure) -> None:
        try:
            self._total = work(self._over)
        except (DSAError, OSError):
            return  # the transfer itself meets the same, and says so; the bar goes on without an end in sight


def summary(result: TreeResult, seconds: float) -> str:
    """``2,000 files, 31.2 MB in 1.2 s (25.9 MB/s); 3 unchanged; skipped: 2 symbolic links``."""
    rate = f" ({format_rate(result.bytes / seconds)})" if seconds and result.bytes else ""
    text = f"{_count(result.files, 'file')}, {format_size(result.bytes)} in {format_duration(seconds)}{rate}"
    if result.unchanged:
        text += f"; {result.unchanged:,} unchanged"
    skipped = [
        _count(number, what)
        for number, what in ((result.symlinks, "symbolic link"), (result.special, "special file"))
        if number
    ]
    if skipped:
        text += f"; skipped: {', '.join(skipped)}"
    if result.failed:
        text += f"; {result.failed:,} failed"
    return text


def degraded(result: TreeResult) -> str:
    """``12 shards of 3 files are missing: ...``"""
    shards, files = _count(result.missing_shards, "shard"), _count(result.degraded, "file")
    is_missing = "is missing: it is" if result.missing_shards == 1 else "are missing: they are"
    return f"{shards} of {files} {is_missing} made when there are nodes for that, as 'dsa health' shows"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
