"""Questions about many names, answered with listings: walk, glob, disk usage. They need only ``ls`` and ``stat``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dsa_zmq.client.target import missing_shards
from dsa_zmq.errors import NotADirectory, NotFound
from dsa_zmq.model import paths
from dsa_zmq.model.stat import Stat
from dsa_zmq.protocol.values import Attributes

List = Callable[[str], Iterator[Stat]]
Look = Callable[[str], Stat]

_MAGIC = re.compile(r"[*?\[]")


class Usage(NamedTuple):
    """What lies below a path, itself included."""

    size: int  #: bytes of content, each name counted once
    files: int
    directories: int


def stat_of(path: str, attributes: Attributes) -> Stat:
    """What the catalog told, with the name that was asked for."""
    return Stat(
        path=path,
        kind=attributes.kind,
        size=attributes.size,
        mtime_ns=attributes.mtime_ns,
        mode=attributes.mode,
        version=attributes.version,
        redundancy=attributes.redundancy,
        content=attributes.content,
        inode=attributes.inode,
        chunk_bytes=attributes.chunk_bytes,
        chunk_count=attributes.chunk_count,
        created_ns=attributes.created_ns,
        missing_shards=missing_shards(attributes),
    )


def walk(ls: List, top: str) -> Iterator[tuple[str, list[Stat], list[Stat]]]:
    """``(path, directories, files)`` from the top down; removing from ``directories`` prunes."""
    pending = [top]
    while pending:
        path = pending.pop()
        directories: list[Stat] = []
        files: list[Stat] = []
        for entry in ls(path):
            (directories if entry.is_dir else files).append(entry)
        yield path, directories, files
        pending.extend(entry.path for entry in reversed(directories))


def usage(ls: List, look: Look, path: str) -> Usage:
    """Totals below ``path``."""
    found = look(path)
    if not found.is_dir:
        return Usage(found.size, 1, 0)
    size = files = directories = 0
    for _, _, inside in walk(ls, path):
        directories += 1
        files += len(inside)
        size += sum(entry.size for entry in inside)
    return Usage(size, files, directories)


def glob(ls: List, look: Look, pattern: str) -> Iterator[Stat]:
    """What matches: ``*``, ``?`` and ``[...]`` within a name, ``**`` for any number of directories."""
    return _match(ls, look, paths.ROOT, list(paths.parts(pattern)))


def _match(ls: List, look: Look, base: str, names: list[str]) -> Iterator[Stat]:
    try:
        if not names:
            yield look(base)
        elif names[0] == "**":
            yield from _match_below(ls, look, base, names[1:])
        elif _MAGIC.search(names[0]):
            for entry in ls(base):
                if fnmatch.fnmatchcase(entry.name, names[0]):
                    if len(names) == 1:
                        yield entry
                    elif entry.is_dir:
                        yield from _match(ls, look, entry.path, names[1:])
        else:
            yield from _match(ls, look, paths.join(base, names[0]), names[1:])
    except (NotFound, NotADirectory):
        return  # a literal part that is not there, or was removed meanwhile: nothing matches


def _match_below(ls: List, look: Look, base: str, rest: list[str]) -> Iterator[Stat]:
    """``**``: the rest matches here or in any directory below; with nothing behind it, everything below."""
    for path, directories, files in walk(ls, base):
        if rest:
            yield from _match(ls, look, path, rest)
        else:
            yield from directories
            yield from files
