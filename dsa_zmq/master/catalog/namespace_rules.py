"""The tree of names: making, removing, moving and copying. All of it is O(1) in the size of what is named.

A name row is valid from ``from_seq`` until before ``to_seq``. Taking a name away closes its row and leaves it for listings
that go on as of an earlier sequence; an entry in ``dead`` has it removed when its grace is over. An inode has exactly one
live name, a directory's children hang on its inode: so moving a directory moves everything below it.

A file's open version is in its inode's row; the next one closes it into a row of its own. Closing, of a name or of a
version, releases nothing: what is closed holds its content until the garbage collection removes it.
"""

from __future__ import annotations

from typing import NamedTuple

from dsa_zmq.errors import AlreadyExists, Conflict, Invalid, IsADirectory, NotADirectory, NotEmpty, NotFound
from dsa_zmq.master.catalog.facts import Facts, add, next_seq
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.catalog.redundancy_rules import check_nodes
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import (
    CONTENT_BYTES,
    CONTENTS,
    DEAD,
    DEAD_FILE,
    DEAD_NAME,
    DEAD_TREE,
    DEAD_VERSION,
    DIRECTORY,
    FILE,
    FILES,
    INODES,
    LIVE,
    NAMES,
    SEQ,
    VERSIONS,
    DeadRow,
    InodeRow,
    NameRow,
    VersionRow,
)
from dsa_zmq.master.catalog.walk import (
    Trail,
    absent,
    attributes,
    find,
    given_by,
    inode_of,
    shown,
    split,
    target_of,
    walk,
)
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.operations import Copy, Done, Found, MakeDirectory, Move, Remove

PARENT_MODE = 0o755  #: of directories that are made on the way
MODE_BITS = 0o7777

A_CHILD: Scan[NameRow] = Scan(
    f"SELECT {NAMES.columns} FROM names WHERE parent = ? AND to_seq = {LIVE} ORDER BY name LIMIT 1", NameRow, (NAMES,)
)


class NewVersion(NamedTuple):
    """What a file is to show. ``content`` 0 is an empty file; the reference to the content is already counted."""

    content: int
    size: int
    mtime_ns: int
    mode: int
    chunk_bytes: int
    chunk_count: int
    redundancy: str


def make_directory(rows: Rows, facts: Facts, job: Request, op: MakeDirectory) -> Found:
    names = split(op.path)
    redundancy = parse_redundancy(op.redundancy).name if op.redundancy else ""
    if op.mode & ~MODE_BITS:
        raise Invalid(f"mode {op.mode:#o} has more than permission bits", "use a mode up to 0o7777", op.path)
    trail = walk(rows, names)
    if len(trail) == len(names) + 1:
        if op.exist_ok and trail[-1].kind == DIRECTORY:
            return Found(shown(rows, trail), rows.number(SEQ))
        raise AlreadyExists(f"'{op.path}' exists already", path=op.path)
    _parents_allowed(op.path, names, trail, op.parents)
    if redundancy:
        check_nodes(rows, redundancy)
    inherited = given_by(rows, trail)
    seq = next_seq(rows)
    above = _make_parents(rows, names, trail, seq, job.wall_ns)
    inode = _link_directory(rows, above, names[-1], seq, job.wall_ns, op.mode, redundancy)
    return Found(attributes(inode, inherited), seq)


def remove(rows: Rows, facts: Facts, job: Request, op: Remove) -> Done:
    row = find(rows, op.path)
    if not row.parent:
        raise Invalid("the root cannot be removed", "remove what is in it", op.path)
    inode = inode_of(rows, row)
    if op.if_version and inode.version != op.if_version:
        raise Conflict(
            f"'{op.path}' has version {inode.version} now, not {op.if_version}", "look at it again and retry", op.path
        )
    if row.kind == DIRECTORY and not op.recursive and rows.scan(A_CHILD, row.inode):
        raise NotEmpty(f"'{op.path}' is not empty", "remove it recursively", op.path)
    seq = next_seq(rows)
    if row.kind == DIRECTORY:
        _close(rows, row, seq)
        bury(rows, DEAD_TREE, job.wall_ns, row.parent, closed=row, seq=seq, inode=row.inode)
    else:
        _unlink_file(rows, row, inode, seq, job.wall_ns)
    return Done(1)


def move(rows: Rows, facts: Facts, job: Request, op: Move) -> Found:
    source = find(rows, op.source)
    if not source.parent:
        raise Invalid("the root cannot be moved", "move what is in it", op.source)
    inode = inode_of(rows, source)
    names = split(op.target)
    trail = walk(rows, names)
    there = trail[-1] if len(trail) == len(names) + 1 else None
    if there == source:
        return Found(shown(rows, trail), rows.number(SEQ))
    if source.kind == DIRECTORY and any(row.inode == source.inode for row in trail):
        raise Conflict(
            f"'{op.source}' cannot be moved into itself, to '{op.target}'", "choose another target", op.target
        )
    replaced, inherited = None, ""
    if there is not None:
        _may_give_way(op, source, there)
        replaced = inode_of(rows, there)
    else:
        _parents_allowed(op.target, names, trail, op.parents)
        inherited = given_by(rows, trail)
    seq = next_seq(rows)
    _close(rows, source, seq)
    bury(rows, DEAD_NAME, job.wall_ns, source.parent, closed=source, seq=seq)
    if there is not None and replaced is not None:
        _unlink_file(rows, there, replaced, seq, job.wall_ns)
        above = there.parent
    else:
        above = _make_parents(rows, names, trail, seq, job.wall_ns)
    rows.put(NAMES, NameRow(above, names[-1], LIVE, seq, source.inode, source.kind))
    return Found(attributes(inode, inherited), seq)


def copy(rows: Rows, facts: Facts, job: Request, op: Copy) -> Found:
    source = find(rows, op.source)
    if source.kind == DIRECTORY:
        raise IsADirectory(
            f"'{op.source}' is a directory; only files are copied here", "copy the files in it one by one", op.source
        )
    inode = inode_of(rows, source)
    trail, there = target_of(rows, op.target, if_absent=not op.replace, if_version=0)
    if there is not None and there.inode == inode.inode:
        return Found(attributes(inode), rows.number(SEQ))
    if there is None:
        _parents_allowed(op.target, split(op.target), trail, op.parents)
    if inode.content:
        content = rows.get(CONTENTS, inode.content)
        assert content is not None, f"file without content: {inode}"
        rows.put(CONTENTS, content._replace(refs=content.refs + 1))
    version = NewVersion(
        inode.content, inode.size, inode.mtime_ns, inode.mode, inode.chunk_bytes, inode.chunk_count, inode.redundancy
    )
    return publish(rows, job, op.target, trail, there, version)


# --- building blocks ----------------------------------------------------------------------------------------------


def publish(rows: Rows, job: Request, path: str, trail: Trail, there: InodeRow | None, version: NewVersion) -> Found:
    """Let the file at ``path`` show a version: a new name with its parents, or the next version of what is there."""
    names = split(path)
    seq = next_seq(rows)
    if there is not None:
        inode = InodeRow(
            there.inode, FILE, version.mode, there.created_ns, version.redundancy, there.version + 1, version.content,
            version.size, version.mtime_ns, version.chunk_bytes, version.chunk_count, seq,
        )  # fmt: skip
        _close_version(rows, there, seq, job.wall_ns)
        add(rows, CONTENT_BYTES, version.size - there.size)
    else:
        above = _make_parents(rows, names, trail, seq, job.wall_ns)
        inode = InodeRow(
            rows.new_id(), FILE, version.mode, job.wall_ns, version.redundancy, 1, version.content, version.size,
            version.mtime_ns, version.chunk_bytes, version.chunk_count, seq,
        )  # fmt: skip
        rows.put(NAMES, NameRow(above, names[-1], LIVE, seq, inode.inode, FILE))
        add(rows, FILES, 1)
        add(rows, CONTENT_BYTES, version.size)
    rows.put(INODES, inode)
    return Found(attributes(inode), seq)


def bury(
    rows: Rows, kind: int, due: int, object_: int, *, closed: NameRow | None = None, seq: int = 0, inode: int = 0
) -> None:
    """Leave something to the garbage collection."""
    rows.put(DEAD, DeadRow(kind, due, rows.new_id(), object_, closed.name if closed else "", seq, inode))


def uncount(rows: Rows, inode: InodeRow) -> None:
    """A file is not in the tree any more."""
    add(rows, FILES, -1)
    add(rows, CONTENT_BYTES, -inode.size)


def _unlink_file(rows: Rows, row: NameRow, inode: InodeRow, seq: int, wall_ns: int) -> None:
    """Take a file's name away. Its inode stays with the closed name, for listings as of an earlier sequence, and with its
    content, for readers."""
    uncount(rows, inode)
    _close(rows, row, seq)
    bury(rows, DEAD_FILE, wall_ns, row.parent, closed=row, seq=seq, inode=row.inode)


def _close(rows: Rows, row: NameRow, seq: int) -> None:
    """The name ends before ``seq``."""
    rows.delete(NAMES, (row.parent, row.name, LIVE))
    rows.put(NAMES, row._replace(to_seq=seq))


def _close_version(rows: Rows, inode: InodeRow, seq: int, wall_ns: int) -> None:
    """What the file shows ends before ``seq``. It takes the inode's reference to the content along."""
    rows.put(
        VERSIONS,
        VersionRow(
            inode.inode, inode.version, inode.content, inode.size, inode.mtime_ns, inode.mode, inode.chunk_bytes,
            inode.chunk_count, inode.redundancy, inode.since_seq, seq,
        ),
    )  # fmt: skip
    bury(rows, DEAD_VERSION, wall_ns, inode.version, seq=seq, inode=inode.inode)


def _parents_allowed(path: str, names: tuple[str, ...], trail: Trail, parents: bool) -> None:
    """``path`` does not exist: may it be made?"""
    if trail[-1].kind == FILE:
        raise absent(path, trail)
    if len(trail) < len(names) and not parents:
        missing = "/" + "/".join(names[: len(trail)])
        raise NotFound(f"directory '{missing}' does not exist", "make it first, or its parents too (mkdir -p)", path)


def _make_parents(rows: Rows, names: tuple[str, ...], trail: Trail, seq: int, wall_ns: int) -> int:
    """Make the directories that are missing above the last name; the inode of the last one. They inherit."""
    above = trail[-1].inode
    for name in names[len(trail) - 1 : -1]:
        above = _link_directory(rows, above, name, seq, wall_ns, PARENT_MODE, "").inode
    return above


def _link_directory(rows: Rows, parent: int, name: str, seq: int, wall_ns: int, mode: int, redundancy: str) -> InodeRow:
    inode = InodeRow(rows.new_id(), DIRECTORY, mode, wall_ns, redundancy, since_seq=seq)
    rows.put(INODES, inode)
    rows.put(NAMES, NameRow(parent, name, LIVE, seq, inode.inode, DIRECTORY))
    return inode


def _may_give_way(op: Move, source: NameRow, there: NameRow) -> None:
    """Whether the name at the target may be replaced."""
    if there.kind == DIRECTORY:
        if source.kind == FILE:
            raise IsADirectory(
                f"'{op.target}' is a directory", "add / to the target to move the file inside", op.target
            )
        raise AlreadyExists(f"'{op.target}' exists already", "remove it first, or move to another name", op.target)
    if not op.replace:
        raise AlreadyExists(f"'{op.target}' exists already", "ask to replace it", op.target)
    if source.kind == DIRECTORY:
        raise NotADirectory(f"'{op.target}' is a file; a directory cannot replace it", "remove it first", op.target)
