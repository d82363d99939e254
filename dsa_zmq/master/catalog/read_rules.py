"""The operations that only read: Stat, ListDirectory, Locate, Statfs, and the early checks of Allocate."""

from __future__ import annotations

from typing import Any

from dsa_zmq.errors import Conflict, Corrupt, IsADirectory, NotADirectory, NotFound
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.jobs import AllocateChecked, LocatedRows, Request, Totals
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    CONTENT_BYTES,
    CONTENTS,
    DIRECTORY,
    FILES,
    INODES,
    LIVE_PLACE,
    NAMES,
    NODES,
    PAGES,
    PLACES,
    PURGED_SEQ,
    SEQ,
    VERSIONS,
    InodeRow,
    VersionRow,
)
from dsa_zmq.master.catalog.walk import (
    absent,
    attributes,
    find,
    given_by,
    inode_of,
    redundancy_at,
    shown,
    split,
    target_of,
    trail_to,
    walk,
    walk_at,
)
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.model.limits import LIST_PAGE, chunks_per_page
from dsa_zmq.model.manifest import unpack_page
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.operations import Allocate, Found, ListDirectory, Listing, Locate, Stat, Statfs
from dsa_zmq.protocol.values import Attributes, Entry

ListedRow = tuple[Any, ...]
"""A name, then the columns of its InodeRow. No named tuples: for a whole page of them these would be half of the cost."""

LISTED: Scan[ListedRow] = Scan(
    f"SELECT n.name, {', '.join(f'i.{column}' for column in InodeRow._fields)}"
    " FROM names n JOIN inodes i ON i.inode = n.inode"
    " WHERE n.parent = ? AND n.name > ? AND n.to_seq > ? AND n.from_seq <= ? ORDER BY n.name LIMIT ?",
    tuple,
    (NAMES, INODES),
)

_SHOWN_AT = ", ".join(
    f"COALESCE(v.{column}, i.{column})" if column in VersionRow._fields[1:] else f"i.{column}"
    for column in InodeRow._fields
)
LISTED_AT: Scan[ListedRow] = Scan(
    f"SELECT n.name, {_SHOWN_AT} FROM names n JOIN inodes i ON i.inode = n.inode"
    # Most files have not changed since: only for the others is a closed version looked up.
    " LEFT JOIN versions v ON i.since_seq > ? AND v.inode = i.inode AND v.from_seq <= ? AND v.to_seq > ?"
    " WHERE n.parent = ? AND n.name > ? AND n.to_seq > ? AND n.from_seq <= ? ORDER BY n.name LIMIT ?",
    tuple,
    (NAMES, INODES, VERSIONS),
)
"""As LISTED, with what each file showed at an earlier sequence. Of a version's columns none is ever null."""


def stat(rows: Rows, facts: Facts, job: Request, op: Stat) -> Found:
    return Found(shown(rows, trail_to(rows, op.path)), rows.number(SEQ))


def list_directory(rows: Rows, facts: Facts, job: Request, op: ListDirectory) -> Listing:
    now = rows.number(SEQ)
    seq = op.seq or now
    if not rows.number(PURGED_SEQ) <= seq <= now:
        raise Conflict(f"the listing of '{op.path}' cannot go on from so long ago", "begin it again", op.path)
    names = split(op.path)
    trail = walk(rows, names) if seq == now else walk_at(rows, names, seq)
    if len(trail) <= len(names):
        raise absent(op.path, trail)
    if trail[-1].kind != DIRECTORY:
        raise NotADirectory(f"'{op.path}' is a file", "use stat for a file", op.path)
    limit = max(1, min(op.limit, LIST_PAGE))
    inherited = given_by(rows, trail)
    where = (trail[-1].inode, op.after, seq, seq, limit + 1)
    found = rows.scan(LISTED, *where) if seq == now else rows.scan(LISTED_AT, seq, seq, seq, *where)
    entries = [Entry(row[0], attributes(row[1:], inherited)) for row in found[:limit]]
    return Listing(entries, len(found) > limit, seq)


def locate(rows: Rows, facts: Facts, job: Request, op: Locate) -> LocatedRows:
    found = _content_of_path(rows, op) if not op.content else _known_content(rows, op)
    page_count = -(-found.chunk_count // chunks_per_page(found.chunk_bytes)) if found.chunk_count else 0
    if op.page == 0 and not page_count:
        return LocatedRows(found, 0, 0, [])
    page = rows.get(PAGES, (found.content, op.page))
    if page is None:
        raise NotFound(f"page {op.page} of '{op.path}' does not exist any more", "open the file again", op.path)
    ids = unpack_page(page.body)
    chunks = [chunk for chunk in rows.get_all(CHUNKS, ids) if chunk is not None]
    if len(chunks) < len(ids):  # the others would be taken for those in front of them
        raise Corrupt(f"page {op.page} of '{op.path}' names chunks that are not there", "restore the catalog", op.path)
    places = rows.group_all(PLACES, ids)
    nodes = {node: rows.get(NODES, node) for node in {place.node for group in places for place in group}}
    removed = {node for node, row in nodes.items() if row is None or row.removed}
    located = []
    for chunk, group in zip(chunks, places, strict=True):
        there = [(p.node, p.shard) for p in group if p.state == LIVE_PLACE and p.node not in removed]
        located.append((chunk.chunk, chunk.length, chunk.hash, there))
    return LocatedRows(found, op.page, page_count, located)


def _content_of_path(rows: Rows, op: Locate) -> Attributes:
    inode = inode_of(rows, find(rows, op.path))
    if inode.kind == DIRECTORY:
        raise IsADirectory(
            f"'{op.path}' is a directory", "name a file in it; 'dsa get' takes whole directories", op.path
        )
    return attributes(inode)


def _known_content(rows: Rows, op: Locate) -> Attributes:
    """A content that the client already reads: its name may show another by now, or be gone. That of an upload which ended
    unpublished, and so has no chunk size, nobody has ever read."""
    content = rows.get(CONTENTS, op.content)
    if content is None or not content.chunk_bytes:
        raise NotFound(f"what '{op.path}' showed does not exist any more", "open the file again", op.path)
    return Attributes(
        "file",
        0,
        content.length,
        0,
        0,
        0,
        content.content,
        content.chunk_bytes,
        content.chunk_count,
        content.redundancy,
    )


def statfs(rows: Rows, facts: Facts, job: Request, op: Statfs) -> Totals:
    if op.redundancy:
        redundancy = parse_redundancy(op.redundancy).name
    else:
        root = rows.get(INODES, ROOT_INODE)
        assert root is not None, "a catalog has a root"
        redundancy = root.redundancy
    return Totals(redundancy, rows.number(FILES), rows.number(CONTENT_BYTES))


def check_allocation(rows: Rows, facts: Facts, job: Request, op: Allocate) -> AllocateChecked:
    """Whether a commit to this path could succeed now, so that a hopeless upload ends before its bytes travel."""
    trail, inode = target_of(rows, op.path, if_absent=op.if_absent, if_version=op.if_version)
    return AllocateChecked(redundancy_at(rows, trail, inode, op.redundancy))
