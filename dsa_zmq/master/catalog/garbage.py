"""Letting go in the background, a slice at a time.

Names hold inodes, inodes hold contents, contents hold chunks, chunks hold places. Who loses the last hold is entered in the
queue ``dead``, and the slices take it apart from there. Nothing else lets go of a content::

    DEAD_VERSION     the closed version of a file lets its content go
    DEAD_TREE        children are unlinked (directories become DEAD_TREE), then the directory goes
    DEAD_FILE        the closed name and the inode, which lets the content of its newest version go
    DEAD_NAME        the closed name of something that was moved
    DEAD_CONTENT     page by page: chunks lose a reference; without any, their places become drops
    DEAD_CONTENT_ID  the content's remaining row, once the horizon has passed its id

A removed node keeps its drops, since its disk may return: they are told when it does. There are never more of them than it
had places.

All but the last wait out a grace, for listings and readers that still go by what was. An entry that stems from another
inherits its time, so a deep tree waits once. Chunk ids are never used again: a drop can only hit the dead.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.jobs import CollectGarbage, DropsDone, GarbageProgress, LoadDrops
from dsa_zmq.master.catalog.namespace_rules import bury, uncount
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.session_rules import REPLIES_OF, end_session
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    CONTENTS,
    DEAD,
    DEAD_CONTENT,
    DEAD_CONTENT_ID,
    DEAD_FILE,
    DEAD_NAME,
    DEAD_TREE,
    DEAD_VERSION,
    DIRECTORY,
    DROPS,
    FILE,
    HORIZON,
    INODES,
    LIVE,
    MOVES,
    NAMES,
    PAGES,
    PLACES,
    PURGED_SEQ,
    SENT_OFF,
    SESSIONS,
    VERSIONS,
    DeadRow,
    DropRow,
    NameRow,
    PageRow,
    SessionRow,
)
from dsa_zmq.model.manifest import unpack_page
from dsa_zmq.protocol.values import ShardRef

MAX_SLICE = 250  #: rows: some 10 ms, whatever was asked for
TREES_PER_SLICE = 8  #: directories taken apart at a time; each gets its share of the slice
SESSIONS_PER_SLICE = 4  #: each with up to MAX_OPEN_CALLS replies
GRACED = (DEAD_VERSION, DEAD_TREE, DEAD_FILE, DEAD_NAME, DEAD_CONTENT)
"""The kinds whose ``due`` is the time of their death."""

DUE: Scan[DeadRow] = Scan(
    f"SELECT {DEAD.columns} FROM dead WHERE kind = ? AND due <= ? ORDER BY due, item LIMIT ?", DeadRow, (DEAD,), DEAD
)
FROM_THE_FUTURE: Scan[DeadRow] = Scan(
    f"SELECT {DEAD.columns} FROM dead WHERE kind = ? AND due > ? ORDER BY due, item LIMIT ?", DeadRow, (DEAD,), DEAD
)
CHILDREN: Scan[NameRow] = Scan(
    f"SELECT {NAMES.columns} FROM names WHERE parent = ? ORDER BY name, to_seq LIMIT ?", NameRow, (NAMES,), NAMES
)
NEXT_PAGES: Scan[PageRow] = Scan(
    f"SELECT {PAGES.columns} FROM pages WHERE content = ? ORDER BY page LIMIT 2", PageRow, (PAGES,), PAGES
)
NEXT_SESSIONS: Scan[SessionRow] = Scan(
    f"SELECT {SESSIONS.columns} FROM sessions WHERE used_ns < ? OR used_ns > ? ORDER BY session LIMIT ?",
    SessionRow,
    (SESSIONS,),
    SESSIONS,
)
DROPS_OF: Scan[DropRow] = Scan(
    f"SELECT {DROPS.columns} FROM drops WHERE node = ? AND state = {SENT_OFF} ORDER BY chunk, shard LIMIT ?",
    DropRow,
    (DROPS,),
    DROPS,
)


class _Slice(NamedTuple):
    """What one slice has done."""

    rows: int  #: of the budget
    more: bool


_NOTHING = _Slice(0, False)


def collect(rows: Rows, facts: Facts, job: CollectGarbage) -> GarbageProgress:
    """One slice: kind after kind until the budget is used up."""
    limit = max(1, min(job.limit, MAX_SLICE))
    _ask(rows, job, limit)
    if job.horizon > rows.number(HORIZON):
        rows.set_number(HORIZON, job.horizon)
    left, more = limit, False
    for work in (_rewind, _versions, _trees, _names, _contents, _content_ids, _sessions):
        if left <= 0:
            more = True
            break
        done = work(rows, job, limit, left)
        left -= done.rows
        more = more or done.more
    return GarbageProgress(more, _nodes_with_drops(rows))


def _ask(rows: Rows, job: CollectGarbage, limit: int) -> None:
    """Ask for all queries at once: what is asked for after the first write makes a decision start over."""
    before = job.wall_ns - job.grace_ns
    rows.ask(
        [(ALL_NODES, ())]
        + [(DUE, (kind, before, limit)) for kind in GRACED]
        + [(FROM_THE_FUTURE, (kind, job.wall_ns, limit)) for kind in GRACED]
        + [(DUE, (DEAD_CONTENT_ID, max(job.horizon, rows.number(HORIZON)) - 1, limit))]
        + [(NEXT_SESSIONS, (job.wall_ns - job.reply_keep_ns, job.wall_ns, limit))]
    )
    rows.ask([(DROPS_OF, (row.node, 1)) for row in rows.scan(ALL_NODES) if not row.removed])


def load_drops(rows: Rows, facts: Facts, job: LoadDrops) -> list[ShardRef]:
    """What a node is told to drop: nothing else decides this, so a rule of what must not leave yet has its place here."""
    return [ShardRef(row.chunk, row.shard) for row in rows.scan(DROPS_OF, job.node, max(1, job.limit))]


def drops_done(rows: Rows, facts: Facts, job: DropsDone) -> None:
    keys = [(job.node, shard.chunk, shard.index) for shard in job.shards]
    for key, row in zip(keys, rows.get_all(DROPS, keys), strict=True):
        if row is not None and rows.get(DROPS, key) is not None:  # the node may name one twice
            rows.delete(DROPS, key)


def _rewind(rows: Rows, job: CollectGarbage, limit: int, left: int) -> _Slice:
    """The wall clock was turned back: what died "later than now" died now, or it would lie for as long as the jump."""
    found = [row for kind in GRACED for row in rows.scan(FROM_THE_FUTURE, kind, job.wall_ns, limit)]
    for row in found[:left]:
        rows.delete(DEAD, row[:3])
        rows.put(DEAD, row._replace(due=job.wall_ns))
    return _Slice(min(len(found), left), len(found) > left)


def _due(rows: Rows, job: CollectGarbage, kind: int, limit: int) -> list[DeadRow]:
    return rows.scan(DUE, kind, job.wall_ns - job.grace_ns, limit)


def _versions(rows: Rows, job: CollectGarbage, limit: int, left: int) -> _Slice:
    items = _due(rows, job, DEAD_VERSION, limit)[:left]
    found = rows.get_all(VERSIONS, [(item.inode, item.object) for item in items])
    versions = [version for version in found if version is not None]
    assert len(versions) == len(items), "a closed version goes by its own entry only"
    rows.get_all(CONTENTS, {version.content for version in versions if version.content})
    for item, version in zip(items, versions, strict=True):
        _listings_end(rows, item)
        _release(rows, version.content, item.due)
        rows.delete(VERSIONS, version[:2])
        rows.delete(DEAD, item[:3])
    return _Slice(len(items), bool(items))


def _trees(rows: Rows, job: CollectGarbage, limit: int, left: int) -> _Slice:
    items = _due(rows, job, DEAD_TREE, limit)[:TREES_PER_SLICE]
    if not items:
        return _NOTHING
    share = max(1, left // len(items))
    children = rows.scan_all(CHILDREN, [(item.inode, share + 1) for item in items])
    taken = [each[:share] for each in children]
    files = [row for each in taken for row in each if row.to_seq == LIVE and row.kind == FILE]
    inodes = {inode.inode: inode for inode in rows.get_all(INODES, [row.inode for row in files]) if inode is not None}
    rows.get_all(CONTENTS, {inode.content for inode in inodes.values() if inode.content})
    for item, found, each in zip(items, children, taken, strict=True):
        _listings_end(rows, item)
        for row in each:
            if row.to_seq != LIVE:
                _purge_name(rows, row[:3])  # its own entry does the rest, or has just done it
                continue
            rows.delete(NAMES, row[:3])
            if row.kind == DIRECTORY:
                bury(rows, DEAD_TREE, item.due, 0, seq=item.seq, inode=row.inode)
            else:
                uncount(rows, inodes[row.inode])
                _release(rows, inodes[row.inode].content, item.due)
                rows.delete(INODES, row.inode)
        if len(found) <= share:
            _purge_name(rows, (item.object, item.name, item.seq))
            rows.delete(INODES, item.inode)
            rows.delete(DEAD, item[:3])
    return _Slice(len(items) + sum(map(len, taken)), True)


def _names(rows: Rows, job: CollectGarbage, limit: int, left: int) -> _Slice:
    due = _due(rows, job, DEAD_FILE, limit) + _due(rows, job, DEAD_NAME, limit)
    items = due[:left]
    rows.get_all(NAMES, [(item.object, item.name, item.seq) for item in items])
    inodes = rows.get_all(INODES, [item.inode for item in items if item.kind == DEAD_FILE])
    contents = {inode.inode: inode.content for inode in inodes if inode is not None}
    rows.get_all(CONTENTS, {content for content in contents.values() if content})
    for item in items:
        _listings_end(rows, item)
        _purge_name(rows, (item.object, item.name, item.seq))
        if item.kind == DEAD_FILE:
            _release(rows, contents[item.inode], item.due)
            rows.delete(INODES, item.inode)
        rows.delete(DEAD, item[:3])
    return _Slice(len(items), bool(items))


def _listings_end(rows: Rows, item: DeadRow) -> None:
    """Listings as of before this closing cannot go on."""
    if item.seq > rows.number(PURGED_SEQ):
        rows.set_number(PURGED_SEQ, item.seq)


def _purge_name(rows: Rows, key: tuple[int, str, int]) -> None:
    """Remove a closed name, if it has not gone with its directory. An entry that has none says ""."""
    if key[1] and rows.get(NAMES, key) is not None:
        rows.delete(NAMES, key)


def _release(rows: Rows, content: int, died_ns: int) -> None:
    """An inode or a closed version holds this content no more. The last one's end is the content's: the grace is over."""
    if not content:
        return
    row = rows.get(CONTENTS, content)
    assert row is not None, f"no content {content}"
    assert row.refs > 0, f"content {content} is released twice"
    rows.put(CONTENTS, row._replace(refs=row.refs - 1))
    if row.refs == 1:
        bury(rows, DEAD_CONTENT, died_ns, content)


def _contents(rows: Rows, job: CollectGarbage, limit: int, left: int) -> _Slice:
    items = _due(rows, job, DEAD_CONTENT, limit)[:left]
    pages = rows.scan_all(NEXT_PAGES, [(item.object,) for item in items])
    used = 0
    taken: list[tuple[DeadRow, list[PageRow]]] = []
    ids: list[int] = []
    for item, found in zip(items, pages, strict=True):
        if used >= left:
            break
        named = unpack_page(found[0].body) if found else []
        ids += named
        taken.append((item, found))
        used += 1 + len(named)
    _release_chunks(rows, ids)
    horizon = rows.number(HORIZON)
    rows.get_all(CONTENTS, [item.object for item, _ in taken])
    for item, found in taken:
        if found:
            rows.delete(PAGES, found[0][:2])
        if len(found) <= 1:
            rows.delete(DEAD, item[:3])
            if item.object < horizon:
                rows.delete(CONTENTS, item.object)
            else:
                bury(rows, DEAD_CONTENT_ID, item.object, item.object)
    return _Slice(used, bool(items))


def _release_chunks(rows: Rows, ids: list[int]) -> None:
    """These manifest entries are gone. A chunk that no other names leaves its places to be dropped."""
    rows.get_all(CHUNKS, ids)
    groups = dict(zip(ids, rows.group_all(PLACES, ids), strict=True))
    moves = dict(zip(ids, rows.group_all(MOVES, ids), strict=True))
    gone = []
    for chunk_id, entries in Counter(ids).items():  # a content may name a chunk twice
        chunk = rows.get(CHUNKS, chunk_id)
        assert chunk is not None, f"a page names chunk {chunk_id}, which is not there"
        assert chunk.refs >= entries, f"chunk {chunk_id} is released too often"
        if chunk.refs > entries:
            rows.put(CHUNKS, chunk._replace(refs=chunk.refs - entries))
        else:
            gone.append(PlaceChange(chunk, groups[chunk_id], None))
    change_places(rows, gone)
    for chunk, places, _ in gone:
        rows.delete(CHUNKS, chunk.chunk)
        for place in places or ():
            rows.put(DROPS, DropRow(place.node, place.chunk, place.shard))
        for move in moves[chunk.chunk]:  # its bytes may have arrived
            rows.delete(MOVES, move[:2])
            rows.put(DROPS, DropRow(move.node, move.chunk, move.shard))


def _content_ids(rows: Rows, job: CollectGarbage, limit: int, left: int) -> _Slice:
    items = rows.scan(DUE, DEAD_CONTENT_ID, rows.number(HORIZON) - 1, limit)
    rows.get_all(CONTENTS, [item.object for item in items[:left]])
    for item in items[:left]:
        rows.delete(CONTENTS, item.object)
        rows.delete(DEAD, item[:3])
    return _Slice(len(items[:left]), len(items) >= left)


def _sessions(rows: Rows, job: CollectGarbage, limit: int, left: int) -> _Slice:
    """Sessions idle for longer than replies are kept end. One "used later than now" was used now (the clock went back)."""
    idle = job.wall_ns - job.reply_keep_ns
    found = rows.scan(NEXT_SESSIONS, idle, job.wall_ns, limit)
    taken = found[:SESSIONS_PER_SLICE]
    rows.ask([(REPLIES_OF, (session.session,)) for session in taken if session.used_ns < idle])
    used = 0
    for session in taken:
        if session.used_ns < idle:
            used += 1 + session.kept
            end_session(rows, session.session)
        else:
            used += 1
            rows.put(SESSIONS, session._replace(used_ns=job.wall_ns))
    return _Slice(used, len(found) > len(taken))


def _nodes_with_drops(rows: Rows) -> list[int]:
    nodes = [row.node for row in rows.scan(ALL_NODES) if not row.removed]
    drops = rows.scan_all(DROPS_OF, [(node, 1) for node in nodes])
    return [node for node, found in zip(nodes, drops, strict=True) if found]
