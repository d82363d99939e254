"""``dsa put``, ``dsa get``, ``dsa cp``: files and folders, to the store, from it, and within it."""

from __future__ import annotations

import os
import stat as bits
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from dsa_zmq.cli.completion import EitherPath, LocalThenRemote, RemoteThenLocal
from dsa_zmq.cli.remote_paths import (
    STREAM,
    Target,
    found_at,
    is_remote,
    local,
    local_name,
    local_target,
    misused,
    refuse_directory,
    refuse_file,
    refuse_twins,
    remote,
    remote_name,
    remote_target,
)
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.errors import Invalid
from dsa_zmq.model import paths

if TYPE_CHECKING:
    from dsa_zmq.cli.transfer_bar import TransferBar
    from dsa_zmq.client.store import Store
    from dsa_zmq.model.stat import Stat

_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bar, no last line; warnings and errors only.")
_again = click.option("--all", "again", is_flag=True, help="Copy also what is there with the same size and time.")
_degraded = click.option(
    "--degraded",
    is_flag=True,
    help="With too few nodes, store with fewer shards; at least one may still be lost. The others are made later.",
)
_follow = click.option("-L", "--follow", is_flag=True, help="Follow symbolic links instead of skipping them.")


@click.command(
    cls=Command,
    examples="""
    dsa put report.pdf /reports/may.pdf
    dsa put data models /backup/
    tar c . | dsa put - /backup/today.tar
    """,
)
@click.argument("paths_", metavar="LOCAL... REMOTE", nargs=-1, required=True, type=LocalThenRemote())
@_follow
@_again
@_degraded
@_quiet
@pass_session
def put(session: Session, paths_: tuple[str, ...], follow: bool, again: bool, degraded: bool, quiet: bool) -> int:
    """Store files and folders; '-' is standard input.

    A REMOTE that ends in '/', or several LOCALs, put things inside; otherwise REMOTE is the exact name. Folders are
    stored with all they hold, and merge with what is there. Symbolic links inside them are skipped.
    """
    if len(paths_) < 2:
        raise misused("say what to store, and where: LOCAL... REMOTE")
    *sources, goal = paths_
    target = remote_target(goal, len(sources))
    if STREAM in sources:
        return _put_stream(session, sources, target, degraded, quiet)
    return _put(session, [local(text) for text in sources], target, _How(follow, again, degraded, quiet))


class _How(NamedTuple):
    """What was said about storing."""

    follow: bool
    again: bool
    degraded: bool
    quiet: bool


def _put_stream(session: Session, sources: Sequence[str], target: Target, degraded: bool, quiet: bool) -> int:
    if len(sources) > 1:
        raise misused("'-' stands for all of standard input, and goes alone")
    if target.inside:
        raise Invalid(
            "standard input has no name to be kept inside a directory", "name the file: 'dsa put - /dir/name'"
        )
    if sys.stdin is None:
        raise Invalid("standard input is closed", "pipe something into the command, or name a file")
    from dsa_zmq.cli.standard_input import interruptible

    with _transfer(session, "stored", quiet) as (store, bar), interruptible(sys.stdin.buffer) as source:
        done = store.put(source, target.path, degraded=degraded, progress=bar.progress)
        bar.result.copied(done.size, done.missing_shards)
        return bar.finish()


def _put(session: Session, sources: Sequence[str], target: Target, how: _How) -> int:
    found = [_look_here(source) for source in sources]
    names = [local_name(source) for source in sources] if target.inside else [""]
    refuse_twins(names)
    goals = [target.of(name, paths.join) for name in names]  # malformed ones are refused before anything moves
    with _transfer(session, "stored", how.quiet) as (store, bar):
        from dsa_zmq.client.merging import has_mode, is_unchanged
        from dsa_zmq.client.put_tree import put_tree

        bar.measure(lambda over: _measure_here(sources, how.follow, over))
        _check_inside(target, found_at(store, target.path))
        for source, status, goal in zip(sources, found, goals, strict=True):
            there = found_at(store, goal)
            if bits.S_ISDIR(status.st_mode):
                if there is not None and there.is_file:
                    refuse_file(goal)
                put_tree(
                    store,
                    source,
                    goal,
                    follow_links=how.follow,
                    again=how.again,
                    degraded=how.degraded,
                    progress=bar.progress,
                    on_failure=bar.failed,
                    result=bar.result,
                )
                continue
            if there is not None and there.is_dir:
                refuse_directory(goal)
            is_regular = bits.S_ISREG(status.st_mode)  # else a pipe or device that was named: its bytes are meant
            if (
                there is not None
                and not how.again
                and is_regular
                and is_unchanged(status, there)
                and has_mode(status, there)
            ):
                bar.result.left(there.size)
            else:
                done = store.put(source, goal, degraded=how.degraded, progress=bar.progress)
                bar.result.copied(done.size, done.missing_shards)
        return bar.finish()


@click.command(
    cls=Command,
    examples="""
    dsa get /reports/may.pdf
    dsa get /backup/data ~/restored/
    dsa get /backup/today.tar - | tar x
    """,
)
@click.argument("paths_", metavar="REMOTE... [LOCAL]", nargs=-1, required=True, type=RemoteThenLocal())
@_again
@_quiet
@pass_session
def get(session: Session, paths_: tuple[str, ...], again: bool, quiet: bool) -> int:
    """Fetch files and folders; '-' is standard output. LOCAL is '.' unless given.

    A LOCAL that ends in '/', is '.' or '..', or several REMOTEs put things inside; otherwise LOCAL is the exact name.
    Folders come with all they hold, and merge with what is there. A file appears whole or not at all.
    """
    *sources, goal = paths_ if len(paths_) > 1 and not is_remote(paths_[-1]) else (*paths_, ".")
    wanted = [remote(text) for text in sources]
    if goal == STREAM:
        if len(wanted) > 1:
            raise misused("only one file goes to standard output; 'dsa cat' takes several")
        with _transfer(session, "fetched", quiet=True) as (store, _):
            write_content(store, wanted[0])
        return 0
    return _get(session, wanted, local_target(goal, len(wanted)), again, quiet)


def _get(session: Session, sources: Sequence[str], target: Target, again: bool, quiet: bool) -> int:
    names = [remote_name(source) for source in sources] if target.inside else [""]
    refuse_twins(names)
    if target.inside and os.path.exists(target.path) and not os.path.isdir(target.path):
        refuse_file(target.path)
    with _transfer(session, "fetched", quiet) as (store, bar):
        from dsa_zmq.client.get_tree import get_tree, is_here

        found = [store.stat(source) for source in sources]
        bar.measure(lambda _: sum(store.du(source).size for source in sources))
        for entry, name in zip(found, names, strict=True):
            goal = target.of(name, os.path.join)
            if entry.is_dir:
                if os.path.exists(goal) and not os.path.isdir(goal):
                    refuse_file(goal)
                get_tree(
                    store,
                    entry.path,
                    goal,
                    again=again,
                    progress=bar.progress,
                    on_failure=bar.failed,
                    result=bar.result,
                )
                continue
            if os.path.isdir(goal):
                refuse_directory(goal)
            if not again and is_here(entry, goal):
                bar.result.left(entry.size)
            else:
                bar.result.copied(store.get(entry.path, goal, progress=bar.progress).size)
        return bar.finish()


@click.command(
    cls=Command,
    examples="""
    dsa cp dsa:/data/set dsa:/data/set-before
    dsa cp results.csv dsa:/runs/42/
    dsa cp dsa:/runs/42 runs/
    """,
)
@click.argument("paths_", metavar="SOURCE... TARGET", nargs=-1, required=True, type=EitherPath())
@_follow
@_again
@_degraded
@_quiet
@pass_session
def cp(session: Session, paths_: tuple[str, ...], follow: bool, again: bool, degraded: bool, quiet: bool) -> int:
    """Copy within the store, or between it and this machine; paths in the store begin with 'dsa:'.

    A TARGET that ends in '/', or several SOURCEs, put things inside; otherwise TARGET is the exact name. Folders are
    copied with all they hold. Within the store no bytes move, whatever the size.
    """
    if len(paths_) < 2:
        raise misused("say what to copy, and where: SOURCE... TARGET")
    *sources, goal = paths_
    there = [is_remote(text) for text in sources]
    if any(there) != all(there):
        raise Invalid("some sources are in the store and others are not", "copy them one side after the other")
    if not there[0] and not is_remote(goal):
        raise Invalid(
            "neither source nor target is in the store", "put 'dsa:' before the paths in the store: dsa:/dir/name"
        )
    if STREAM in (*sources, goal):
        raise Invalid("'-' is no path", "use 'dsa put -' and 'dsa get ... -' for streams; write ./- for a file")
    if not there[0]:
        how = _How(follow, again, degraded, quiet)
        return _put(session, [local(text) for text in sources], remote_target(goal, len(sources)), how)
    if follow:
        raise misused("-L is for folders of this machine: the store has no symbolic links")
    if degraded:
        raise misused("--degraded is for what is stored: what comes from the store has its shards, or has not")
    wanted = [remote(text) for text in sources]
    if not is_remote(goal):
        return _get(session, wanted, local_target(goal, len(wanted)), again, quiet)
    return _copy(session, wanted, remote_target(goal, len(wanted)), again, quiet)


def _copy(session: Session, sources: Sequence[str], target: Target, again: bool, quiet: bool) -> int:
    names = [remote_name(source) for source in sources] if target.inside else [""]
    refuse_twins(names)
    goals = [target.of(name, paths.join) for name in names]
    with _transfer(session, "copied", quiet) as (store, bar):
        from dsa_zmq.client.copy_tree import copy_tree, is_same

        found = [store.stat(source) for source in sources]
        _check_inside(target, found_at(store, target.path))
        for entry, goal in zip(found, goals, strict=True):
            there = found_at(store, goal)
            if entry.is_dir:
                if there is not None and there.is_file:
                    refuse_file(goal)
                copy_tree(store, entry.path, goal, again=again, on_failure=bar.failed, result=bar.result)
                continue
            if there is not None and there.is_dir:
                refuse_directory(goal)
            if entry.path == goal:
                raise Invalid(f"'{goal}' cannot be copied onto itself", "choose another target")
            if there is not None and not again and is_same(entry, there):
                bar.result.left(entry.size)
            else:
                bar.result.copied(store.cp(entry.path, goal, replace=True).size)
        return bar.finish()


# --- shared ------------------------------------------------------------------------------------------------------------


@contextmanager
def _transfer(session: Session, verb: str, quiet: bool) -> Iterator[tuple[Store, TransferBar]]:
    """A connection and a bar. SIGTERM ends it like Ctrl-C: nothing half-done stays, here or there."""
    from dsa_zmq.cli.transfer_bar import TransferBar
    from dsa_zmq.process import stop_signals

    with stop_signals(), session.connect() as store, TransferBar(session, verb, quiet) as bar:
        yield store, bar


def write_content(store: Store, path: str) -> None:
    """A file's content to standard output."""
    out = sys.stdout.buffer
    for piece in store.iter_bytes(path):
        out.write(piece)
    out.flush()


def _check_inside(target: Target, found: Stat | None) -> None:
    if target.inside and found is not None and found.is_file:
        refuse_file(target.path)


def _look_here(path: str) -> os.stat_result:
    """A source that was named is meant, also if it is a symbolic link."""
    try:
        return os.stat(path)
    except OSError as error:
        from dsa_zmq.client.local_file import local_error

        raise local_error(error, path) from error


def _measure_here(sources: Sequence[str], follow: bool, over: threading.Event) -> int | None:
    """Bytes of all files, for the bar."""
    total = 0
    for source in sources:
        if not os.path.isdir(source):
            total += os.stat(source).st_size
            continue
        for folder, _, names in os.walk(source, followlinks=False):
            if over.is_set():
                return None
            for name in names:
                path = os.path.join(folder, name)
                status = os.stat(path) if follow else os.lstat(path)
                total += status.st_size if bits.S_ISREG(status.st_mode) else 0
    return total
