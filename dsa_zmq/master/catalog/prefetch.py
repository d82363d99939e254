"""Loading by set what a batch is going to read, so that its decisions seldom have to stop and ask.

Nothing here matters for what is decided: a row that is not fetched is asked for, and loaded, then. It matters for speed: a
batch takes a handful of statements instead of some for each request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dsa_zmq.errors import Corrupt, Invalid
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.catalog.row_cache import UNKNOWN
from dsa_zmq.master.catalog.rows import Rows
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    CONTENTS,
    DIRECTORY,
    INODES,
    LIVE,
    META,
    META_NAMES,
    NAMES,
    PAGES,
    PLACES,
    REPLIES,
    SEQ,
    SESSIONS,
    UPLOADS,
    InodeRow,
)
from dsa_zmq.master.catalog.walk import split
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.model.manifest import unpack_page
from dsa_zmq.protocol.operations import (
    STORED,
    Allocate,
    Commit,
    Copy,
    ListDirectory,
    Locate,
    MakeDirectory,
    Move,
    Remove,
    SetRedundancy,
    Stage,
    Stat,
)

PATHS: dict[type, Callable[[Any], tuple[str, ...]]] = {
    **dict.fromkeys(
        (Stat, ListDirectory, Locate, Allocate, MakeDirectory, Remove, Commit, SetRedundancy), lambda op: (op.path,)
    ),
    **dict.fromkeys((Move, Copy), lambda op: (op.source, op.target)),
}
"""The paths that an operation walks."""

_STORED = frozenset(STORED)

_Names = tuple[str, ...]
_NameKey = tuple[int, str, int]


def prefetch(rows: Rows, requests: Sequence[Request]) -> None:
    """Load what these requests read, level by level of their paths."""
    if rows.peek(META, SEQ) is UNKNOWN:
        rows.load(META, META_NAMES)
    stored: list[Request] = []
    uploads: list[Commit | Stage] = []
    locates: list[Locate] = []
    paths: dict[_Names, bool] = {}  # names -> whether the content gets a reference more
    for request in requests:
        op = request.operation
        if type(op) in _STORED:
            stored.append(request)
        if isinstance(op, Commit):
            if op.upload:
                uploads.append(op)
        elif isinstance(op, Stage):
            uploads.append(op)
        elif isinstance(op, Locate):
            locates.append(op)
        find = PATHS.get(type(op))
        if find is not None:
            for path in find(op):
                try:
                    names = split(path)
                except Invalid:
                    continue  # the decision will say so
                paths[names] = paths.get(names, False) or (isinstance(op, Copy) and path == op.source)
    if stored:
        _load_sessions(rows, {request.session for request in stored})
    inodes = _load_paths(rows, paths)
    if uploads:
        _load_uploads(rows, uploads)
    if locates:
        _load_pages(rows, locates, inodes)


def _load_sessions(rows: Rows, sessions: Iterable[int]) -> None:
    rows.load(SESSIONS, sessions)
    rows.load_groups(REPLIES, [session for session in sessions if rows.peek(SESSIONS, session) is not None])


def _load_paths(rows: Rows, paths: dict[_Names, bool]) -> dict[_Names, InodeRow]:
    """Load the rows along all paths, and what their ends stand for. Returns that, where a path exists."""
    ends = dict.fromkeys(paths, (0, int(ROOT_INODE)))  # how far each path has been walked, and the inode there
    active = list(paths)
    while active:
        wanted: dict[_NameKey, None] = {}
        waiting = []
        for names in active:
            key, end = _walk_known(rows, names, *ends[names])
            ends[names] = end
            if key is not None:
                wanted[key] = None
                waiting.append(names)
        rows.load_unknown(NAMES, wanted)
        active = waiting
    rows.load(INODES, {inode for _, inode in ends.values()})
    found = {}
    contents = set()
    for names, (depth, number) in ends.items():
        shown = rows.peek(INODES, number)
        if shown is not None and depth == len(names):
            found[names] = shown
            if paths[names] and shown.content:
                contents.add(shown.content)
    if contents:
        rows.load(CONTENTS, contents)
    return found


def _walk_known(rows: Rows, names: _Names, depth: int, inode: int) -> tuple[_NameKey | None, tuple[int, int]]:
    """Go on along a path through rows that are known: the key of the row that has to be loaded, and the end so far."""
    while depth < len(names):
        key = (inode, names[depth], LIVE)
        row = rows.peek(NAMES, key)
        if row is UNKNOWN:
            return key, (depth, inode)
        if row is None:
            break
        depth, inode = depth + 1, row.inode
        if row.kind != DIRECTORY:
            break
    return None, (depth, inode)


def _load_uploads(rows: Rows, operations: Iterable[Commit | Stage]) -> None:
    uploads, chunks, pages = [], [], []
    for op in operations:
        uploads.append(op.upload)
        chunks += [chunk.chunk for chunk in op.chunks]
        if isinstance(op, Stage):
            pages.append((op.upload, op.page))
    rows.load(UPLOADS, uploads)
    rows.load(CONTENTS, uploads)
    rows.load(CHUNKS, chunks)
    if pages:
        rows.load(PAGES, pages)


def _load_pages(rows: Rows, operations: Sequence[Locate], inodes: dict[tuple[str, ...], InodeRow]) -> None:
    keys = []
    for op in operations:
        content = op.content
        if not content:
            try:
                inode = inodes.get(split(op.path))
            except Invalid:
                continue
            content = inode.content if inode is not None else 0
        if content:
            keys.append((content, op.page))
    if contents := [op.content for op in operations if op.content]:
        rows.load(CONTENTS, contents)
    rows.load(PAGES, keys)
    chunks = []
    for key in keys:
        page = rows.peek(PAGES, key)
        if page is not None and page is not UNKNOWN:
            try:
                chunks += unpack_page(page.body)
            except Corrupt:
                continue  # the decision will say so
    rows.load(CHUNKS, chunks)
    rows.load_groups(PLACES, chunks)
