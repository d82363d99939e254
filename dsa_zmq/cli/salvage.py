"""``dsa salvage``: the files, from the nodes' directories alone."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import IO

import click

from dsa_zmq.cli import output, reporting
from dsa_zmq.cli.restoring import moment_of
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.errors import Corrupt, LocalError
from dsa_zmq.model.sizes import counted, format_duration, format_rate, format_size
from dsa_zmq.process import stop_signals
from dsa_zmq.salvage.catalogs import Wish
from dsa_zmq.salvage.report import Fate, Item, Totals, Watcher
from dsa_zmq.salvage.run import Options, Salvaged, salvage

LINES = 50  #: files that are named on a terminal; a report names all
REFRESH_S = 0.1
_BAR = 24  #: cells


@click.command(
    "salvage",
    cls=Command,
    examples="""
    dsa salvage /srv/disk1/dsa /srv/disk2/dsa --to /mnt/rescue -n
    dsa salvage /srv/disk1/dsa /srv/disk2/dsa --to /mnt/rescue --report rescue.jsonl
    dsa salvage /mnt/images --to /mnt/rescue --partial --at 2026-11-01T12:00
    """,
)
@click.argument("directories", metavar="NODE_DIR...", nargs=-1, required=True, type=click.Path())
@click.option("--to", "target", metavar="OUT", required=True, type=click.Path(), help="Where the files are written.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what could be written, and what is missing.")
@click.option("--partial", is_flag=True, help="Damaged files too, as NAME.partial with zeros where bytes are missing.")
@click.option("--force", is_flag=True, help="Replace files in OUT that have another content.")
@click.option("--at", metavar="TIME", help="As of this moment: 2026-11-01T12:00, here or with Z or +01:00.")
@click.option("--catalog", metavar="FILE", type=click.Path(), help="Use this catalog: a backup, or a stopped master's.")
@click.option("--pieces", is_flag=True, help="Use also what lies behind damage in the nodes' copies of the catalog.")
@click.option("--report", metavar="FILE", type=click.Path(), help="Write all that is worth a line here, as JSON lines.")
@pass_session
def salvage_command(
    session: Session,
    directories: tuple[str, ...],
    target: str,
    dry_run: bool,
    partial: bool,
    force: bool,
    at: str | None,
    catalog: str | None,
    pieces: bool,
    report: str | None,
) -> int:
    """Write all files from the directories of nodes: without a master, without a network, and without changing anything in
    them.

    NODE_DIR is the directory of a node, one above several, or the mount of a disk that has some. Every byte is verified. A
    second run goes on where the first one ended.
    """
    session.start_log()
    wish = Wish(None if catalog is None else Path(catalog), None if at is None else moment_of(at), pieces)
    options = Options(directories, Path(target), wish, partial=partial, force=force, dry_run=dry_run)
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        file = None if report is None else stack.enter_context(_report_file(report))
        stack.enter_context(stop_signals())
        watcher = stack.enter_context(_Terminal(session, file))
        result = salvage(options, watcher)
        watcher.clear()
        summary = _fields(result, dry_run=dry_run)
        if file is not None:
            file.write(json.dumps(summary) + "\n")
    if session.json:
        output.emit(**summary)
    else:
        _show(result, time.monotonic() - begin, watcher.untold, dry_run=dry_run)
    return _status(result.totals)


def _report_file(path: str) -> IO[str]:
    try:
        return open(path, "w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}", "give another place for the report", path) from error


def _status(totals: Totals) -> int:
    if totals.lost:
        return Corrupt.exit_status
    return LocalError.exit_status if totals.files[Fate.REFUSED] or totals.failed_directories else 0


class _Terminal(Watcher):
    """Shows what goes on, and says what is worth a line."""

    def __init__(self, session: Session, file: IO[str] | None) -> None:
        self.untold = 0  #: items for which there was no line left
        self._session = session
        self._file = file
        self._told = 0
        self._width = 0
        self._next_s = 0.0
        self._begin_s = time.monotonic()
        self._total = (0, 0)
        self._files = 0
        self._bytes = 0

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def stage(self, text: str) -> None:
        if self._is_due():
            self._line(text)

    def expect(self, files: int, size: int) -> None:
        self._total = (files, size)
        self._begin_s = time.monotonic()

    def moved(self, files: int, size: int) -> None:
        self._files += files
        self._bytes += size
        if self._is_due():
            self._line(self._progress())

    def met(self, item: Item) -> None:
        fields = _item_fields(item)
        if self._file is not None:
            self._file.write(json.dumps(fields) + "\n")
        if self._session.json:
            output.emit(**fields)
        elif self._told < LINES:
            self._told += 1
            self.clear()
            click.echo(_item_line(item), err=True)
        else:
            self.untold += 1

    def clear(self) -> None:
        """Nothing of the line that changes is left."""
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width = 0

    def _is_due(self) -> bool:
        now_s = time.monotonic()
        if not self._session.is_live or now_s < self._next_s:
            return False
        self._next_s = now_s + REFRESH_S
        return True

    def _line(self, text: str) -> None:
        click.echo("\r" + text.ljust(self._width), nl=False, err=True)
        self._width = len(text)

    def _progress(self) -> str:
        files, size = self._total
        done = self._bytes / size if size else self._files / max(1, files)
        seconds = time.monotonic() - self._begin_s
        cells = min(_BAR, int(done * _BAR))
        left = format_duration(seconds / done * (1 - done)) if 0 < done <= 1 else "unknown"
        return (
            f"[{'#' * cells}{' ' * (_BAR - cells)}] {self._files:,}/{files:,} files, {format_size(self._bytes)}, "
            f"{format_rate(self._bytes / max(seconds, REFRESH_S))}, {left} left"
        )


def _item_line(item: Item) -> str:
    text = f"{item.fate:<10} {output.shown(item.path)}: {output.shown(item.why)}"
    if item.missing:
        text += f" ({item.missing:,} of {counted(item.chunks, 'chunk')} missing)"
    return f"{text}; see {output.shown(item.local)}" if item.local else text


def _item_fields(item: Item) -> dict[str, object]:
    return {**item._asdict(), "fate": str(item.fate)}


def _fields(result: Salvaged, *, dry_run: bool) -> dict[str, object]:
    totals = result.totals
    fields: dict[str, object] = {"dry_run": dry_run}
    for fate in Fate:
        fields[str(fate)] = totals.files[fate]
        fields[f"{fate}_bytes"] = totals.bytes[fate]
    return fields | {
        "directories": totals.directories,
        "failed_directories": totals.failed_directories,
        "renamed": totals.renamed,
        "partial": totals.partial,
        "needing_codes": totals.library,
        "nodes": result.nodes,
        "catalog": result.catalog,
        "moment": output.iso_time(result.moment_ns) if result.moment_ns else None,
        "notes": result.notes,
    }


_WORDS = {
    Fate.SKIPPED: "there already",
    Fate.DAMAGED: "some of their chunks cannot be had",
    Fate.UNREADABLE: "nothing of them can be had",
    Fate.REFUSED: "they could not be written here",
}


def _show(result: Salvaged, seconds: float, untold: int, *, dry_run: bool) -> None:
    totals = result.totals
    if untold:
        click.echo(f"... and {untold:,} more lines; --report FILE has all", err=True)
    for note in result.notes:
        click.echo(f"note: {output.shown(note)}", err=True)
    output.line(f"catalog    {result.catalog}")
    output.line(f"nodes      {output.shown(', '.join(result.nodes))}")
    written, size = totals.files[Fate.WRITTEN], totals.bytes[Fate.WRITTEN]
    if dry_run:
        output.line(f"to write   {counted(written, 'file')}, {format_size(size)}, as far as headers tell")
    else:
        rate = f" ({format_rate(size / seconds)})" if size and seconds else ""
        output.line(f"written    {counted(written, 'file')}, {format_size(size)} in {format_duration(seconds)}{rate}")
    for fate, words in _WORDS.items():
        if totals.files[fate]:
            output.line(f"{fate:<10} {counted(totals.files[fate], 'file')}, {format_size(totals.bytes[fate])}: {words}")
    if totals.partial:
        output.line(f"partial    {counted(totals.partial, 'file')} of the damaged ones, with zeros for what is missing")
    if totals.renamed:
        output.line(f"renamed    {counted(totals.renamed, 'name')}: not possible here as they are")
    if totals.library:
        reporting.report_usage(
            f"{counted(totals.library, 'file')} can be had with the library for erasure codes only",
            "pip install 'dsa-zmq[ec]', then run it again",
            as_json=False,
        )
