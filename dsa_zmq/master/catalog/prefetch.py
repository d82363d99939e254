"""Loading by set what a batch is going to read, so that its decisions seldom have to stop and ask.

Nothing here matters for what is decided: a row that is not fetched is asked for, and loaded, then. It matters for speed: a
batch takes a handful of statements instead of some for each request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dsa_zmq.errors import Corrupt, Invalid
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.catalog.rows import UNKNOWN, Rows, group_sql
from dsa_zmq.master.catalog.session_rules import OLD_REPLIES
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
    Stage,
    Stat,
)

PATHS: dict[type, Callable[[Any], tuple[str, ...]]] = {
    **dict.fromkeys((Stat, ListDirectory, Locate, Allocate, MakeDirectory, Remove, Commit), lambda op: (op.path,)),
    **dict.fromkeys((Move, Copy), lambda op: (op.source, op.target)),
}
"""The paths that an operation walks."""


def prefetch(rows: Rows, requests: Sequence[Request]) -> None:
    """Load what these requests read, level by level of their paths."""
    rows.load(META, META_NAMES)
    _load_sessions(rows, [request for request in requests if isinstance(request.operation, STORED)])
    paths: dict[tuple[str, ...], bool] = {}  # names -> whether the content gets a reference more
    for request in requests:
        op = request.operation
        find = PATHS.get(type(op))
        if find is not None:
            for path in find(op):
                try:
                    names = split(path)
                except Invalid:
                    continue  # the decision will say so
                paths[names] = paths.get(names, False) or (isinstance(op, Copy) and path == op.source)
    inodes = _load_paths(rows, paths)
    _load_uploads(rows, [r.operation for r in requests if isinstance(r.operation, Commit | Stage)])
    locates = [request.operation for request in requests if isinstance(request.operation, Locate)]
    if locates:
        _load_pages(rows, locates, inodes)


def _load_sessions(rows: Rows, requests: Sequence[Request]) -> None:
    rows.load(SESSIONS, {request.session for request in requests})
    rows.load(REPLIES, [(request.session, request.number) for request in requests])
    floors: dict[int, int] = {}
    for request in requests:
        floors[request.session] = max(request.done_below, floors.get(request.session, 0))
    raised = []
    for number, floor in floors.items():
        session = rows.peek(SESSIONS, number)
        if session is not None and floor > session.floor:
            raised.append((number, floor))
    rows.load_group(REPLIES, OLD_REPLIES, raised)


def _load_paths(rows: Rows, paths: dict[tuple[str, ...], bool]) -> dict[tuple[str, ...], InodeRow]:
    """Load the rows along all paths, and what their ends stand for. Returns that, where a path exists."""
    ends = dict.fromkeys(paths, (0, int(ROOT_INODE)))
    active = [names for names in paths if names]
    while active:
        wanted = []
        for names in active:
            depth, inode = ends[names]
            wanted.append((inode, names[depth], LIVE))
        rows.load(NAMES, wanted)
        going_on = []
        for names, key in zip(active, wanted, strict=True):
            row = rows.peek(NAMES, key)
            if row is not None:
                depth = ends[names][0] + 1
                ends[names] = (depth, row.inode)
                if row.kind == DIRECTORY and depth < len(names):
                    going_on.append(names)
        active = going_on
    rows.load(INODES, {inode for _, inode in ends.values()})
    found = {}
    contents = set()
    for names, (depth, number) in ends.items():
        shown = rows.peek(INODES, number)
        if shown is not None and depth == len(names):
            found[names] = shown
            if paths[names] and shown.content:
                contents.add(shown.content)
    rows.load(CONTENTS, contents)
    return found


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
    rows.load(CONTENTS, [op.content for op in operations if op.content])
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
    rows.load_group(PLACES, group_sql(PLACES), [(chunk,) for chunk in dict.fromkeys(chunks)])
