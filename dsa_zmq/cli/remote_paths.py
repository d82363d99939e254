"""Paths as they are typed: which side they are on, and where a copy goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from dsa_zmq.cli.output import shown
from dsa_zmq.errors import Invalid, IsADirectory, NotADirectory, NotFound
from dsa_zmq.model import paths

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store
    from dsa_zmq.model.stat import Stat

PREFIX = "dsa:"  #: what marks a path as one in the store
STREAM = "-"  #: standard input or output


def is_remote(text: str) -> bool:
    """It carries the prefix, and so is a path in the store for every command."""
    return text.startswith(PREFIX)


def remote(text: str) -> str:
    """A typed path in the store as an absolute one; the prefix may be left out. Raises Invalid, so too for nothing at all:
    a shell's variable that is not set must not mean the root."""
    if not text:
        raise Invalid("an empty path names nothing", "give a path in the store; 'dsa:/' is its root")
    if text.startswith("dsa://"):
        raise Invalid(
            f"'{shown(text[:80])}' is the address of a cluster where a path is needed",
            "give the address with --url, and the path as /dir/name or dsa:/dir/name",
        )
    return paths.normalize(_as_unicode(text.removeprefix(PREFIX)))


def _as_unicode(text: str) -> str:
    """Paths in the store are UTF-8, whatever the locale: what it could not decode is looked at once more."""
    if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


def local(text: str) -> str:
    """A typed path of this machine. Raises Invalid."""
    if is_remote(text):
        raise Invalid(
            f"'{shown(text)}' is in the store, where a path of this machine is needed",
            "use 'dsa cp' within the store; write ./dsa:... for a file of that name here",
        )
    if "\0" in text:
        raise Invalid(f"path '{shown(text[:80])}' contains a NUL character", "remove it")
    if not text:
        raise Invalid("an empty path names nothing", "give the path of a file or folder; '.' is the current folder")
    return text


def misused(message: str) -> click.UsageError:
    """A mistake on the line of the command that runs."""
    return click.UsageError(message, click.get_current_context())


@dataclass(frozen=True, slots=True)
class Target:
    """Where copies go: ``path`` is the exact name, or with ``inside`` the directory that gets them."""

    path: str
    inside: bool

    def of(self, name: str, join: Callable[[str, str], str]) -> str:
        """The path that the source called ``name`` gets."""
        return join(self.path, name) if self.inside else self.path


def remote_target(text: str, sources: int) -> Target:
    """A typed target in the store: it ends in ``/``, or there are several sources: they go inside."""
    path = remote(text)
    return Target(path, text.endswith("/") or sources > 1 or path == paths.ROOT)


def local_target(text: str, sources: int) -> Target:
    """A typed target on this machine. ``.`` and ``..`` are folders by their names, so things go inside."""
    path = local(text)
    slashes = tuple(filter(None, (os.sep, os.altsep)))
    inside = path.endswith(slashes) or os.path.basename(path) in (".", "..") or sources > 1
    return Target(path.rstrip("".join(slashes)) or path, inside)  # "file/" would not be seen to exist


def local_name(path: str) -> str:
    """The name that a source of this machine brings along: of ``.`` that of the folder it is. Raises Invalid."""
    name = os.path.basename(path.rstrip(os.sep + (os.altsep or "")))
    if name in ("", ".", ".."):
        name = os.path.basename(os.path.realpath(path))
    if not name:
        raise Invalid(f"'{shown(path)}' has no name to be kept inside the target", "leave the target's last slash off")
    return name


def remote_name(path: str) -> str:
    """The name that a source in the store brings along. Raises Invalid for the root."""
    name = paths.name(path)
    if not name:
        raise Invalid("the root has no name to be kept inside the target", "name the target without a last slash")
    return name


def found_at(store: Store, path: str) -> Stat | None:
    """What is there in the store, if anything."""
    try:
        return store.stat(path)
    except NotFound:
        return None


def refuse_twins(names: Sequence[str]) -> None:
    """Several sources with one name would overwrite each other inside the target."""
    for at, name in enumerate(names):
        if name in names[:at]:
            raise Invalid(f"two of the sources are called '{shown(name)}'", "copy them one after the other")


def refuse_directory(path: str) -> None:
    """A file was to get the exact name of a directory, here or there."""
    text = shown(path)
    raise IsADirectory(f"'{text}' is a directory", f"add / to put the file inside: '{text.rstrip('/')}/'", path)


def refuse_file(path: str) -> None:
    """Things were to go into what is a file."""
    raise NotADirectory(f"'{shown(path)}' is a file, and nothing can be put inside", "choose another target", path)
