"""A recount: does everything that the catalog keeps in step really agree? Reads all of it, changes nothing.

For tests after each step, and for the operator who wants to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from dsa_zmq.errors import Corrupt
from dsa_zmq.master.catalog.log import COLUMNS, LogRow
from dsa_zmq.master.catalog.places import recount
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import (
    CONTENT_BYTES,
    DEAD_CONTENT,
    DEAD_CONTENT_ID,
    DEAD_FILE,
    DEAD_NAME,
    DEAD_TREE,
    DEAD_VERSION,
    DIRECTORY,
    FILE,
    FILES,
    HOLDERS,
    INVENTORIES,
    LIVE,
    PURGED_SEQ,
    SENT_OFF,
    Table,
)
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.model.manifest import unpack_page
from dsa_zmq.model.records import Record, read_record

CONTENT_HOLDERS = (
    "(SELECT inode, version, content, size, chunk_bytes, chunk_count, redundancy FROM inodes WHERE content <> 0"
    " UNION ALL SELECT inode, version, content, size, chunk_bytes, chunk_count, redundancy FROM versions"
    " WHERE content <> 0)"
)
"""All that holds contents: inodes, with or without a name, and closed versions."""

LOG_AFTER = f"SELECT {COLUMNS} FROM log WHERE position > ? ORDER BY position LIMIT 100"

QUERIES: tuple[tuple[str, str], ...] = (
    (
        "{1} names stand for inode {0}, which is not there",
        # What no listing can reach any more may be half gone.
        "SELECT n.inode, COUNT(*) FROM names n LEFT JOIN inodes i ON i.inode = n.inode WHERE i.inode IS NULL"
        f" AND n.to_seq > (SELECT number FROM meta WHERE name = '{PURGED_SEQ}') GROUP BY n.inode ORDER BY n.inode",
    ),
    (
        "name {1!r} in {0} and its inode are of different kinds",
        "SELECT n.parent, n.name FROM names n JOIN inodes i ON i.inode = n.inode WHERE i.kind <> n.kind"
        " ORDER BY n.parent, n.name",
    ),
    (
        "inode {0} has {1} live names",
        f"SELECT inode, COUNT(*) FROM names WHERE to_seq = {LIVE} GROUP BY inode HAVING COUNT(*) > 1 ORDER BY inode",
    ),
    (
        "name {1!r} is in {0}, which is no directory",
        "SELECT n.parent, n.name FROM names n LEFT JOIN inodes i ON i.inode = n.parent"
        f" WHERE i.inode IS NULL OR i.kind <> {DIRECTORY} ORDER BY n.parent, n.name",
    ),
    (
        "inode {0} has no name and is not being let go",
        # Sets, that are made once: there is no index by inode, and a search for each would take hours.
        f"SELECT i.inode FROM inodes i WHERE i.inode <> {ROOT_INODE}"
        f" AND i.inode NOT IN (SELECT n.inode FROM names n WHERE n.to_seq = {LIVE})"
        f" AND i.inode NOT IN (SELECT d.inode FROM dead d WHERE d.kind IN ({DEAD_FILE}, {DEAD_TREE}))"
        " ORDER BY i.inode",
    ),
    (
        "closed name {1!r} in {0} is not being let go",
        f"SELECT n.parent, n.name FROM names n WHERE n.to_seq <> {LIVE}"
        " AND (n.parent, n.name, n.to_seq) NOT IN (SELECT d.object, d.name, d.seq FROM dead d"
        f" WHERE d.kind IN ({DEAD_FILE}, {DEAD_NAME}, {DEAD_TREE})) ORDER BY n.parent, n.name",
    ),
    (
        "version {1} of inode {0} has {2} entries among the dead",
        "SELECT v.inode, v.version, COUNT(d.item) FROM versions v LEFT JOIN dead d ON d.inode = v.inode"
        f" AND d.object = v.version AND d.seq = v.to_seq AND d.kind = {DEAD_VERSION}"
        " GROUP BY v.inode, v.version HAVING COUNT(d.item) <> 1 ORDER BY v.inode, v.version",
    ),
    (
        "version {1} of inode {0} is to be let go, and not there",
        "SELECT d.inode, d.object FROM dead d LEFT JOIN versions v ON v.inode = d.inode AND v.version = d.object"
        f" WHERE d.kind = {DEAD_VERSION} AND v.inode IS NULL ORDER BY d.inode, d.object",
    ),
    (
        "version {1} of inode {0} does not end where the next one begins",
        "SELECT v.inode, v.version FROM versions v"
        " LEFT JOIN versions w ON w.inode = v.inode AND w.version = v.version + 1"
        " LEFT JOIN inodes i ON i.inode = v.inode"
        " WHERE v.from_seq >= v.to_seq OR w.from_seq <> v.to_seq OR i.version <= v.version"
        " OR (i.version = v.version + 1 AND i.since_seq <> v.to_seq) ORDER BY v.inode, v.version",
    ),
    (
        "content {0} says {1} references, {2} versions hold it",
        f"SELECT c.content, c.refs, COUNT(h.inode) FROM contents c LEFT JOIN {CONTENT_HOLDERS} h ON h.content = c.content"
        " GROUP BY c.content, c.refs HAVING c.refs <> COUNT(h.inode) ORDER BY c.content",
    ),
    (
        "version {1} of inode {0} holds content {2}, which is not there",
        f"SELECT h.inode, h.version, h.content FROM {CONTENT_HOLDERS} h LEFT JOIN contents c ON c.content = h.content"
        " WHERE c.content IS NULL ORDER BY h.inode, h.version",
    ),
    (
        "version {1} of inode {0} and its content {2} are of different sizes or redundancies",
        f"SELECT h.inode, h.version, h.content FROM {CONTENT_HOLDERS} h JOIN contents c ON c.content = h.content"
        " WHERE h.size <> c.length OR h.chunk_bytes <> c.chunk_bytes OR h.chunk_count <> c.chunk_count"
        " OR h.redundancy <> c.redundancy ORDER BY h.inode, h.version",
    ),
    (
        "content {0} has {1} references and {2} entries among the dead",
        "SELECT c.content, c.refs, COUNT(d.item) FROM contents c"
        f" LEFT JOIN dead d ON d.object = c.content AND d.kind IN ({DEAD_CONTENT}, {DEAD_CONTENT_ID})"
        " GROUP BY c.content, c.refs HAVING (c.refs = 0) <> (COUNT(d.item) = 1) OR COUNT(d.item) > 1 ORDER BY c.content",
    ),
    (
        "page {1} belongs to content {0}, which is neither published nor staged nor being let go",
        "SELECT p.content, p.page FROM pages p LEFT JOIN contents c ON c.content = p.content"
        " LEFT JOIN uploads u ON u.upload = p.content WHERE c.content IS NULL AND u.upload IS NULL"
        " ORDER BY p.content, p.page",
    ),
    (
        "upload {0} is staged and published",
        "SELECT u.upload FROM uploads u JOIN contents c ON c.content = u.upload ORDER BY u.upload",
    ),
    (
        "node {1} holds a shard of chunk {0}, which is not there",
        "SELECT p.chunk, p.node FROM places p LEFT JOIN chunks c ON c.chunk = p.chunk WHERE c.chunk IS NULL"
        " ORDER BY p.chunk, p.node",
    ),
    (
        "shard {2} of chunk {1} on node {0} is in place and to be dropped",
        "SELECT d.node, d.chunk, d.shard FROM drops d JOIN places p ON p.chunk = d.chunk AND p.node = d.node"
        f" WHERE p.shard = d.shard OR d.state <> {SENT_OFF}"  # a second shard of a chunk goes from under the first
        " ORDER BY d.node, d.chunk, d.shard",
    ),
    (
        "shard {2} of chunk {0} is to be made on node {1}, and in place there, to be dropped there, or of no chunk",
        "SELECT m.chunk, m.node, m.shard FROM moves m LEFT JOIN chunks c ON c.chunk = m.chunk"
        " LEFT JOIN places p ON p.chunk = m.chunk AND p.node = m.node AND p.state = 0"
        " LEFT JOIN drops d ON d.node = m.node AND d.chunk = m.chunk"
        " WHERE c.chunk IS NULL OR p.chunk IS NOT NULL OR d.chunk IS NOT NULL ORDER BY m.chunk, m.node",
    ),
    (
        "a shard of chunk {0} is on node {1}, which is not known",
        "SELECT p.chunk, p.node FROM places p LEFT JOIN nodes n ON n.node = p.node WHERE n.node IS NULL"
        " ORDER BY p.chunk, p.node",
    ),
    (
        "session {0} says {1} kept replies, there are {2}",
        "SELECT s.session, s.kept, COUNT(r.number) FROM sessions s LEFT JOIN replies r ON r.session = s.session"
        " GROUP BY s.session, s.kept HAVING s.kept <> COUNT(r.number) ORDER BY s.session",
    ),
    (
        "reply {1} is kept for session {0}, which is not there",
        "SELECT r.session, r.number FROM replies r LEFT JOIN sessions s ON s.session = r.session"
        " WHERE s.session IS NULL ORDER BY r.session, r.number",
    ),
    (
        "{1} nodes are called {0!r}",
        "SELECT name, COUNT(*) FROM nodes WHERE removed = 0 GROUP BY name HAVING COUNT(*) > 1 ORDER BY name",
    ),
)
"""What is wrong if the query has rows."""


def audit(database: Database) -> list[str]:
    """Findings, in words; empty if all agrees."""
    found = [text.format(*row) for text, query in QUERIES for row in database.execute(query)]
    found += _count_files(database)
    found += _count_chunks(database)
    found += _count_holders(database)
    found += _follow_log(database)
    return found


def _follow_log(database: Database) -> Iterator[str]:
    """The log's records: each as its row says, and each behind the one before."""
    before: Record | None = None
    after = -1
    while found := database.execute(LOG_AFTER, (after,)):
        for row in map(LogRow._make, found):
            after = row.position
            if not row.body:  # the catalog was made of a snapshot alone, which names the record's hash
                before = None
                continue
            try:
                record = read_record(row.body)
            except Corrupt as error:
                yield f"record {after} of the log: {error.message}"
                return
            if record is None or row != (record.position, record.hash, record.wall_ns, record.ends, record.data):
                yield f"record {after} of the log is not what its row says"
                return
            if before is not None and not (
                (record.position, record.previous) == (before.position + 1, before.hash)
                and record.term >= before.term
                and record.wall_ns >= before.wall_ns
            ):
                yield f"record {after} of the log does not follow record {before.position}"
            before = record
    if before is not None and not before.ends:
        yield f"record {before.position}, the last of the log, is not the end of a transaction"


def _count_files(database: Database) -> Iterator[str]:
    [(files, size)] = database.execute(
        "SELECT COUNT(*), COALESCE(SUM(i.size), 0) FROM names n JOIN inodes i ON i.inode = n.inode"
        f" WHERE n.to_seq = {LIVE} AND i.kind = {FILE}"
    )
    kept: dict[str, Any] = dict(database.execute("SELECT name, number FROM meta ORDER BY name"))
    if (kept[FILES], kept[CONTENT_BYTES]) != (files, size):
        yield f"{files} files with {size} bytes are there, not {kept[FILES]} with {kept[CONTENT_BYTES]}"


def _count_holders(database: Database) -> Iterator[str]:
    """Places against the tallies of who holds what."""
    counted = recount(database)
    yield from _differences(database, HOLDERS, counted.holders)
    yield from _differences(database, INVENTORIES, counted.inventories)


def _differences(database: Database, table: Table[Any, Any], right: Mapping[Any, Any]) -> Iterator[str]:
    said = {row[:2]: row[2:] for row in database.execute(f"SELECT {table.columns} FROM {table.name}")}
    for key in sorted(said.keys() | right.keys()):
        if said.get(key) != right.get(key):
            yield f"{table.name} says {said.get(key)} of {key}, there are {right.get(key)}"


def _count_chunks(database: Database) -> Iterator[str]:
    """Pages against chunks, and against the counters of their upload or content."""
    refs: Counter[int] = Counter()
    pages: dict[int, list[tuple[int, list[int]]]] = {}
    for content, page, body in database.execute("SELECT content, page, body FROM pages ORDER BY content, page"):
        try:
            ids = unpack_page(body)
        except Corrupt as error:
            yield f"page {page} of content {content}: {error.message}"
            continue
        refs.update(ids)
        pages.setdefault(content, []).append((page, ids))
    chunks = {row[0]: row for row in database.execute("SELECT chunk, refs, length FROM chunks ORDER BY chunk")}
    for chunk in sorted(refs.keys() | chunks.keys()):
        if chunk not in chunks or chunks[chunk][1] != refs[chunk]:
            yield f"pages name chunk {chunk} {refs[chunk]} times, its row says {chunks.get(chunk, (0, 'nothing'))[1]}"
    counted = database.execute("SELECT upload, pages, page_end, chunks, length FROM uploads ORDER BY upload")
    for upload, *said in counted:
        there = pages.get(upload, [])
        seen = [
            len(there),
            max((page + 1 for page, _ in there), default=0),
            sum(len(ids) for _, ids in there),
            sum(chunks[chunk][2] for _, ids in there for chunk in ids if chunk in chunks),
        ]
        if seen != said:
            yield f"upload {upload} says {said} (pages, end, chunks, bytes), there are {seen}"
    for content, chunk_count, length in database.execute(
        "SELECT content, chunk_count, length FROM contents WHERE refs > 0 ORDER BY content"
    ):
        ids = [chunk for _, page_ids in pages.get(content, []) for chunk in page_ids]
        size = sum(chunks[chunk][2] for chunk in ids if chunk in chunks)
        if (len(ids), size) != (chunk_count, length):
            yield f"content {content} says {chunk_count} chunks, {length} bytes; its pages have {len(ids)}, {size}"
