"""From a path to rows: one look-up in ``names`` for each part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from dsa_zmq.errors import AlreadyExists, Conflict, DSAError, IsADirectory, NotADirectory, NotFound
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import DIRECTORY, FILE, INODES, LIVE, NAMES, InodeRow, NameRow
from dsa_zmq.model import paths
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.values import Attributes

ROOT_NAME: Final = NameRow(0, "", LIVE, 0, ROOT_INODE, DIRECTORY)
"""The root has no name anywhere; this stands for it where a path is walked."""

NAME_AT: Scan[NameRow] = Scan(
    f"SELECT {NAMES.columns} FROM names WHERE parent = ? AND name = ? AND to_seq > ? AND from_seq <= ?"
    " ORDER BY to_seq LIMIT 1",
    NameRow,
    (NAMES,),
)

Trail = list[NameRow]
"""The rows along a path, from the root, as far as they exist."""


@lru_cache(maxsize=4096)  # a request's path is split when its rows are fetched and again when it is decided
def split(path: str) -> tuple[str, ...]:
    """The names along a path. Raises Invalid."""
    return paths.parts(path)


def walk(rows: Rows, names: Sequence[str]) -> Trail:
    """The rows along ``names``, ending early at a file or where a name is not there."""
    row = ROOT_NAME
    trail = [row]
    for name in names:
        if row.kind != DIRECTORY:
            break
        found = rows.get(NAMES, (row.inode, name, LIVE))
        if found is None:
            break
        row = found
        trail.append(row)
    return trail


def walk_at(rows: Rows, names: Sequence[str], seq: int) -> Trail:
    """As :func:`walk`, as of an earlier sequence."""
    trail = [ROOT_NAME]
    for name in names:
        if trail[-1].kind != DIRECTORY:
            break
        found = rows.scan(NAME_AT, trail[-1].inode, name, seq, seq)
        if not found:
            break
        trail.append(found[0])
    return trail


def absent(path: str, trail: Trail) -> DSAError:
    """Why a path whose trail ended early is not there."""
    if trail[-1].kind == FILE:
        blocking = "/" + "/".join(row.name for row in trail[1:])
        return NotADirectory(f"'{blocking}' is a file, so '{path}' cannot be below it", "use another path", path)
    return NotFound(f"'{path}' does not exist", "check the path; 'dsa ls' shows what is there", path)


def trail_to(rows: Rows, path: str) -> Trail:
    """The rows along a path that has to exist."""
    names = split(path)
    trail = walk(rows, names)
    if len(trail) <= len(names):
        raise absent(path, trail)
    return trail


def find(rows: Rows, path: str) -> NameRow:
    """The row of a path that has to exist."""
    return trail_to(rows, path)[-1]


def inode_of(rows: Rows, row: NameRow) -> InodeRow:
    """What a name stands for."""
    inode = rows.get(INODES, row.inode)
    assert inode is not None, f"name without inode: {row}"
    return inode


def attributes(row: InodeRow | tuple[Any, ...], inherited: str = "") -> Attributes:
    """What is shown of an inode, by its columns. A directory has no content, and its time is that of its making; without a
    redundancy of its own it shows what it inherits."""
    inode, kind, mode, created_ns, redundancy, version, content, size, mtime_ns, chunk_bytes, chunk_count, _ = row
    if kind == DIRECTORY:
        return Attributes("dir", inode, 0, created_ns, mode, 0, 0, 0, 0, redundancy or inherited, created_ns)
    return Attributes(
        "file", inode, size, mtime_ns, mode, version, content, chunk_bytes, chunk_count, redundancy, created_ns
    )


def given_by(rows: Rows, trail: Trail) -> str:
    """The redundancy that new files get in the directory at the end of ``trail``: its own, or else that of the nearest one
    above that has one. The root always does."""
    own = inode_of(rows, trail[-1]).redundancy
    if own:
        return own
    above = rows.get_all(INODES, [row.inode for row in trail[:-1]])
    return next(inode.redundancy for inode in reversed(above) if inode is not None and inode.redundancy)


def shown(rows: Rows, trail: Trail) -> Attributes:
    """What is shown of the end of a trail."""
    inode = inode_of(rows, trail[-1])
    return attributes(inode, given_by(rows, trail) if inode.kind == DIRECTORY else "")


def target_of(rows: Rows, path: str, *, if_absent: bool, if_version: int) -> tuple[Trail, InodeRow | None]:
    """Where a file is to be written: its trail, and the file that is there now. Missing parents are fine.

    Raises IsADirectory, NotADirectory, AlreadyExists (``if_absent``) or Conflict (``if_version`` is not the present one).
    """
    names = split(path)
    trail = walk(rows, names)
    if len(trail) == len(names) + 1:
        if trail[-1].kind == DIRECTORY:
            raise IsADirectory(f"'{path}' is a directory", "add / to the target to put the file inside", path)
        inode = inode_of(rows, trail[-1])
        if if_absent:
            raise AlreadyExists(f"'{path}' exists already", path=path)
        if if_version and inode.version != if_version:
            raise Conflict(
                f"'{path}' has version {inode.version} now, not {if_version}", "read it again and retry", path
            )
        return trail, inode
    if trail[-1].kind == FILE:
        raise absent(path, trail)
    if if_version:
        raise Conflict(f"'{path}' does not exist any more", "write it without if_version", path)
    return trail, None


def redundancy_at(rows: Rows, trail: Trail, there: InodeRow | None, asked: str) -> str:
    """What a new content at the end of ``trail`` gets: as asked, else that of the directory. Raises Invalid."""
    if asked:
        return parse_redundancy(asked).name
    return given_by(rows, trail[:-1] if there is not None else trail)
