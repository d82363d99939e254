"""Completion of paths in the store, asked of the cluster while somebody types: quickly, or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from dsa_zmq.cli.remote_paths import PREFIX, is_remote
from dsa_zmq.cli.session import Session

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store

PATIENCE_S = 1.0  #: somebody waits with a finger on the key
MOST = 1000  #: proposals; nobody reads more

Proposals = list[CompletionItem]


class RemotePath(StringParamType):
    """A path in the store; the prefix ``dsa:`` may be left out."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Proposals:
        return in_store(ctx, incomplete)


class LocalThenRemote(StringParamType):
    """Of ``put``: files here, and from the second on the target in the store."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Proposals:
        if is_remote(incomplete):
            return in_store(ctx, incomplete)
        if not _typed(ctx, param):
            return [CompletionItem(incomplete, type="file")]
        return in_store(ctx, incomplete) + _here(incomplete)


class RemoteThenLocal(StringParamType):
    """Of ``get``: paths in the store, and from the second on the target here."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Proposals:
        if is_remote(incomplete) or not _typed(ctx, param):
            return in_store(ctx, incomplete)
        return in_store(ctx, incomplete) + _here(incomplete)


class EitherPath(StringParamType):
    """Of ``cp``: in the store with the prefix, else here."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Proposals:
        if is_remote(incomplete):
            return in_store(ctx, incomplete)
        return [CompletionItem(incomplete, type="file")]


def in_store(ctx: click.Context, incomplete: str) -> Proposals:
    """Entries of the store that begin with what is typed; nothing if the cluster does not answer at once."""
    session = ctx.find_object(Session) or Session()
    prefix = PREFIX if is_remote(incomplete) else ""
    typed = incomplete.removeprefix(PREFIX)
    found = _within(PATIENCE_S, lambda: _entries(session, typed))
    return [CompletionItem(prefix + text) for text in found]


def _entries(session: Session, typed: str) -> list[str]:
    from dsa_zmq.app import connect

    with connect(session.url, timeout=PATIENCE_S) as store:
        found = list(islice(_matches(store, typed), MOST))
        if len(found) == 1 and found[0].endswith("/"):
            # Alone, the directory would get a space behind it; beside its own entries it does not.
            found += islice(_matches(store, found[0]), MOST)
        return found


def _matches(store: Store, typed: str) -> Iterator[str]:
    folder, slash, begin = typed.rpartition("/")
    for entry in store.iter_ls(folder or "/"):
        if entry.name.startswith(begin):
            yield f"{folder}{slash}{entry.name}{'/' if entry.is_dir else ''}"


def _within(seconds: float, work: Callable[[], list[str]]) -> list[str]:
    """The result, or nothing: an error or a late answer must not disturb the line that is typed."""
    results: list[list[str]] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception:  # noqa: BLE001 - whatever it is, the user is typing, and will meet it when the command runs
            results.append([])

    thread = threading.Thread(target=run, name="completion", daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else []


def _typed(ctx: click.Context, param: click.Parameter) -> bool:
    """Something has been typed for this argument already."""
    values: Any = ctx.params.get(param.name or "")
    return bool(values)


def _here(incomplete: str) -> Proposals:
    folder, begin = os.path.split(incomplete)
    try:
        with os.scandir(folder or ".") as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries if entry.name.startswith(begin)]
    except OSError:
        return []
    return [CompletionItem(os.path.join(folder, name) + (os.sep if is_dir else "")) for name, is_dir in sorted(found)]
