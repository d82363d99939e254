"""``dsa cat``, ``dsa mkdir``, ``dsa mv``: contents to standard output, and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsa_zmq.cli.completion import RemotePath
from dsa_zmq.cli.remote_paths import (
    found_at,
    misused,
    refuse_directory,
    refuse_file,
    refuse_twins,
    remote,
    remote_name,
    remote_target,
)
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.errors import AlreadyExists
from dsa_zmq.model import paths as store_paths

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store
    from dsa_zmq.model.stat import Stat


@click.command(
    cls=Command,
    examples="""
    dsa cat /notes/today.txt
    dsa cat /logs/1 /logs/2 | grep error
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=RemotePath())
@pass_session
def cat(session: Session, paths: tuple[str, ...]) -> int:
    """Write the contents of files to standard output, one after the other."""
    from dsa_zmq.cli.transfer import write_content

    wanted = [remote(path) for path in paths]
    with session.connect() as store:
        for path in wanted:
            write_content(store, path)
    return 0


@click.command(
    cls=Command,
    examples="""
    dsa mkdir /reports
    dsa mkdir -p /data/2027/05
    dsa mkdir --redundancy copies=3 /precious
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=RemotePath())
@click.option("-p", "--parents", is_flag=True, help="Make missing parents; a directory that exists is fine.")
@click.option(
    "--redundancy", default="", metavar="NAME", help="What new files in it get: copies=3, ec=4+2. Else inherited."
)
@pass_session
def mkdir(session: Session, paths: tuple[str, ...], parents: bool, redundancy: str) -> int:
    """Make directories."""
    wanted = [remote(path) for path in paths]
    with session.connect() as store:
        for path in wanted:
            store.mkdir(path, parents=parents, exist_ok=parents, redundancy=redundancy)
    return 0


@click.command(
    cls=Command,
    examples="""
    dsa mv /draft.txt /reports/final.txt
    dsa mv /a.csv /b.csv /old/
    dsa mv -f /new.db /current.db
    """,
)
@click.argument("paths", metavar="SOURCE... TARGET", nargs=-1, required=True, type=RemotePath())
@click.option("-f", "--force", is_flag=True, help="Replace a file that has the name already.")
@pass_session
def mv(session: Session, paths: tuple[str, ...], force: bool) -> int:
    """Rename files and directories, at once, whatever their size.

    A TARGET that ends in '/', or several SOURCEs, move things inside; otherwise TARGET is the exact name.
    """
    if len(paths) < 2:
        raise misused("say what to move, and where: SOURCE... TARGET")
    *sources, goal = paths
    wanted = [remote(source) for source in sources]
    target = remote_target(goal, len(wanted))
    names = [remote_name(source) for source in wanted] if target.inside else [""]
    refuse_twins(names)
    goals = [target.of(name, store_paths.join) for name in names]
    with session.connect() as store:
        found = [store.stat(source) for source in wanted]
        there = found_at(store, target.path)
        if target.inside and there is not None and there.is_file:
            refuse_file(target.path)
        for entry, to in zip(found, goals, strict=True):
            _move(store, entry, to, force)
    return 0


def _move(store: Store, entry: Stat, goal: str, force: bool) -> None:
    there = None if entry.path == goal else found_at(store, goal)
    if there is not None and there.is_dir:
        if entry.is_file:
            refuse_directory(goal)
        raise AlreadyExists(f"'{goal}' is a directory already", f"add / to move it inside: '{goal}/'", goal)
    if there is not None and not force:
        raise AlreadyExists(f"'{goal}' exists already", "say -f to replace it", goal)
    store.mv(entry.path, goal, replace=force)
