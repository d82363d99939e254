"""``dsa ls`` and ``dsa stat``: what is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from dsa_zmq.cli import output, reporting
from dsa_zmq.cli.completion import RemotePath
from dsa_zmq.cli.remote_paths import remote
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.errors import DSAError
from dsa_zmq.model.sizes import format_size
from dsa_zmq.model.stat import Stat

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

BLOCK = 1000  #: entries laid out together: a page of a listing; so a directory of any size is printed as it comes
SIZE_CELLS = 8  #: of the widest size, "999.9 GB"


@click.command(
    cls=Command,
    examples="""
    dsa ls
    dsa ls -l /reports
    dsa ls -R --json /data
    """,
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=RemotePath())
@click.option("-l", "long", is_flag=True, help="One entry a line with mode, size and time.")
@click.option("-R", "--recursive", is_flag=True, help="Directories with all that is below.")
@click.option("--bytes", "exact", is_flag=True, help="Sizes in bytes.")
@pass_session
def ls(session: Session, paths: tuple[str, ...], long: bool, recursive: bool, exact: bool) -> int:
    """List directories, by name; a file lists itself. PATH is '/' unless given."""
    wanted = [remote(path) for path in paths] or ["/"]
    lister = _Lister(session, long, exact, headed=recursive or len(wanted) > 1)
    status = 0
    with session.connect() as store:
        found: list[Stat] = []
        for path in wanted:
            try:
                found.append(store.stat(path))
            except DSAError as error:
                status = _pass_over(error, session, len(wanted)) or status
        files = [entry for entry in found if not entry.is_dir]
        lister.entries(files, [entry.path for entry in files])
        for entry in found:
            if entry.is_dir:
                lister.directory(store, entry.path, recursive)
    return status


class _Lister:
    """Prints entries in one of the four ways: JSON, long, columns, or one name a line."""

    def __init__(self, session: Session, long: bool, exact: bool, *, headed: bool) -> None:
        self._json = session.json
        self._long = long
        self._exact = exact
        self._headed = headed and not session.json
        self._width = SIZE_CELLS
        self._begun = False

    def directory(self, store: Store, top: str, recursive: bool) -> None:
        """A directory, and with ``recursive`` those below it, each under its own path."""
        pending = [top]
        while pending:
            path = pending.pop()
            if self._headed:
                output.line(("\n" if self._begun else "") + output.name_as_printed(path) + ":")
            self._begun = True
            below: list[str] = []
            self.entries(_noting(store.iter_ls(path), below))
            if recursive:
                pending.extend(reversed(below))

    def entries(self, entries: Iterable[Stat], titles: Sequence[str] | None = None) -> None:
        """Print them as they come. ``titles`` instead of their names."""
        waiting = iter(entries)
        while block := list(islice(waiting, BLOCK)):
            self._begun = True
            names = titles if titles is not None else [entry.name for entry in block]
            if self._json:
                for entry in block:
                    output.emit(**output.fields_of(entry))
            elif self._long:
                self._print_long(block, names)
            elif output.is_terminal():
                for text in output.columns([output.shown(name) for name in names], shutil.get_terminal_size().columns):
                    output.line(text)
            else:
                for name in names:
                    output.line(name)

    def _print_long(self, block: Sequence[Stat], names: Sequence[str]) -> None:
        sizes = ["-" if entry.is_dir else self._size(entry.size) for entry in block]
        self._width = max(self._width, *map(len, sizes))
        for entry, size, name in zip(block, sizes, names, strict=True):
            when = output.local_time(entry.mtime_ns)
            output.line(f"{output.mode_text(entry)}  {size:>{self._width}}  {when:16}  {output.name_as_printed(name)}")

    def _size(self, size: int) -> str:
        return str(size) if self._exact else format_size(size)


def _noting(entries: Iterator[Stat], directories: list[str]) -> Iterator[Stat]:
    for entry in entries:
        if entry.is_dir:
            directories.append(entry.path)
        yield entry


@click.command(
    cls=Command,
    examples="""
    dsa stat /reports/may.pdf
    dsa stat --json / /data
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=RemotePath())
@pass_session
def stat(session: Session, paths: tuple[str, ...]) -> int:
    """Show all that is known of files and directories."""
    wanted = [remote(path) for path in paths]
    status = 0
    with session.connect() as store:
        for number, path in enumerate(wanted):
            try:
                entry = store.stat(path)
            except DSAError as error:
                status = _pass_over(error, session, len(wanted)) or status
                continue
            if session.json:
                output.emit(**output.fields_of(entry))
            else:
                _print_stat(entry, "\n" if number else "")
    return status


def _print_stat(entry: Stat, before: str) -> None:
    rows = [("path", output.name_as_printed(entry.path)), ("kind", "directory" if entry.is_dir else "file")]
    if entry.is_file:
        rows.append(("size", f"{format_size(entry.size)} ({entry.size:,} bytes)"))
    rows += [
        ("mode", f"{output.mode_text(entry)} ({entry.mode:04o})"),
        ("time", output.local_time(entry.mtime_ns)),
        ("redundancy", entry.redundancy),
    ]
    if entry.is_file:
        rows.append(("version", str(entry.version)))
        rows.append(
            ("chunks", f"{entry.chunk_count:,} of {format_size(entry.chunk_bytes)}" if entry.chunk_count else "none")
        )
        rows.append(("content", str(entry.content) if entry.content else "empty"))
    rows.append(("inode", str(entry.inode)))
    output.line(before + "\n".join(f"{name:<11} {value}" for name, value in rows))


def _pass_over(error: DSAError, session: Session, paths: int) -> int:
    """Of several paths the others are still shown, unless nobody answers."""
    if paths == 1 or error.indefinite:
        raise error
    return reporting.report(error, session.json)
