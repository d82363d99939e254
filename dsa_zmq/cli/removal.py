"""``dsa rm``: the only way by which a user loses something, so it says first what that would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from dsa_zmq.cli import output, reporting
from dsa_zmq.cli.completion import RemotePath
from dsa_zmq.cli.plans import NOT_CONFIRMED, can_ask
from dsa_zmq.cli.remote_paths import remote
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.errors import Invalid, IsADirectory
from dsa_zmq.model.paths import ROOT
from dsa_zmq.model.sizes import format_size
from dsa_zmq.model.stat import Stat

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store


@dataclass(frozen=True, slots=True)
class _Loss:
    """What goes with one path."""

    entry: Stat
    files: int
    directories: int
    size: int

    def __str__(self) -> str:
        name = output.shown(self.entry.path)
        if self.entry.is_file:
            return f"{name}  {format_size(self.size)}"
        inside = f"{_count(self.files, 'file', 'files')} in {_count(self.directories, 'directory', 'directories')}"
        return f"{name}/  {inside}, {format_size(self.size)}"


@click.command(
    cls=Command,
    examples="""
    dsa rm /draft.txt
    dsa rm -r -n /data/old
    dsa rm -r -y /data/old /tmp
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=RemotePath())
@click.option("-r", "--recursive", is_flag=True, help="Directories too, with all that is in them.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def rm(session: Session, paths: tuple[str, ...], recursive: bool, dry_run: bool, yes: bool) -> int:
    """Remove files, and with -r directories with all that is in them.

    Before directories are removed it shows what would go, and asks; where nobody can answer it does nothing and ends
    with status 2, unless -y is given.
    """
    wanted = [remote(path) for path in paths]
    if ROOT in wanted:
        raise Invalid("the root cannot be removed", "name what is in it: 'dsa ls /' shows that")
    with session.connect() as store:
        entries = _without_nested([store.stat(path) for path in wanted])
        for entry in entries:
            if entry.is_dir and not recursive:
                raise IsADirectory(
                    f"'{entry.path}' is a directory", "say -r to remove it with all that is in it", entry.path
                )
        if dry_run:
            _show(session, store, entries)
            return 0
        if not yes and any(entry.is_dir for entry in entries) and not _is_confirmed(session, store, entries):
            return 1 if can_ask(session) else NOT_CONFIRMED
        for entry in entries:
            store.rm(entry.path, recursive=entry.is_dir)
    return 0


def _is_confirmed(session: Session, store: Store, entries: Sequence[Stat]) -> bool:
    _show(session, store, entries)
    if not can_ask(session):
        message = "nothing was removed, because nobody can be asked here"
        reporting.report_usage(message, "say -y to remove all of this", session.json)
        return False
    return click.confirm("Remove all of this?", err=True)


def _show(session: Session, store: Store, entries: Sequence[Stat]) -> None:
    """The plan: each path with all that goes with it."""
    for entry in entries:
        usage = store.du(entry.path)
        loss = _Loss(entry, usage.files, usage.directories, usage.size)
        if session.json:
            output.emit(
                remove=entry.path, kind=entry.kind, files=loss.files, directories=loss.directories, bytes=loss.size
            )
        else:
            output.line(f"would remove {loss}")


def _without_nested(entries: Sequence[Stat]) -> list[Stat]:
    """Each once, and none that goes with another anyway."""
    kept: dict[str, Stat] = {}
    for entry in sorted(entries, key=lambda entry: entry.path.count("/")):
        above = entry.path.split("/")
        if not any("/".join(above[:depth]) in kept for depth in range(2, len(above) + 1)):
            kept[entry.path] = entry
    return list(kept.values())


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
