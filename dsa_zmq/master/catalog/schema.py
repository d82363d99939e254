"""The catalog's tables, as numbered migrations from the first version on. See docs/ON_DISK_CATALOG.md.

Portable SQL: ``{bytes}``, ``{text}`` and ``{clustered}`` are the words that differ between engines. Text is compared byte by
byte. Keys are 8-byte numbers that mostly grow, so that inserts go to the end of each tree; tables whose key has several
columns are stored in the order of that key, because they are read by its prefix.
"""

from __future__ import annotations

from collections.abc import Mapping

from dsa_zmq.master.catalog.tables import RESTORED_NS, VOLUME

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (name {text} PRIMARY KEY, number BIGINT NOT NULL, body {bytes} NOT NULL){clustered}",
        """CREATE TABLE names (
            parent BIGINT NOT NULL, name {text} NOT NULL, to_seq BIGINT NOT NULL, from_seq BIGINT NOT NULL,
            inode BIGINT NOT NULL, kind BIGINT NOT NULL,
            PRIMARY KEY (parent, name, to_seq)){clustered}""",
        """CREATE TABLE inodes (
            inode {id} PRIMARY KEY, kind BIGINT NOT NULL, mode BIGINT NOT NULL, created_ns BIGINT NOT NULL,
            redundancy {text} NOT NULL, version BIGINT NOT NULL, content BIGINT NOT NULL, size BIGINT NOT NULL,
            mtime_ns BIGINT NOT NULL, chunk_bytes BIGINT NOT NULL, chunk_count BIGINT NOT NULL,
            since_seq BIGINT NOT NULL)""",
        """CREATE TABLE versions (
            inode BIGINT NOT NULL, version BIGINT NOT NULL, content BIGINT NOT NULL, size BIGINT NOT NULL,
            mtime_ns BIGINT NOT NULL, mode BIGINT NOT NULL, chunk_bytes BIGINT NOT NULL, chunk_count BIGINT NOT NULL,
            redundancy {text} NOT NULL, from_seq BIGINT NOT NULL, to_seq BIGINT NOT NULL,
            PRIMARY KEY (inode, version)){clustered}""",
        """CREATE TABLE contents (
            content {id} PRIMARY KEY, length BIGINT NOT NULL, chunk_bytes BIGINT NOT NULL, chunk_count BIGINT NOT NULL,
            redundancy {text} NOT NULL, refs BIGINT NOT NULL)""",
        """CREATE TABLE uploads (
            upload {id} PRIMARY KEY, chunk_bytes BIGINT NOT NULL, redundancy {text} NOT NULL, pages BIGINT NOT NULL,
            page_end BIGINT NOT NULL, chunks BIGINT NOT NULL, length BIGINT NOT NULL)""",
        """CREATE TABLE pages (
            content BIGINT NOT NULL, page BIGINT NOT NULL, body {bytes} NOT NULL,
            PRIMARY KEY (content, page)){clustered}""",
        """CREATE TABLE chunks (
            chunk {id} PRIMARY KEY, length BIGINT NOT NULL, hash {bytes} NOT NULL, redundancy {text} NOT NULL,
            refs BIGINT NOT NULL)""",
        """CREATE TABLE places (
            chunk BIGINT NOT NULL, node BIGINT NOT NULL, shard BIGINT NOT NULL,
            PRIMARY KEY (chunk, node)){clustered}""",
        """CREATE TABLE drops (
            node BIGINT NOT NULL, chunk BIGINT NOT NULL, shard BIGINT NOT NULL,
            PRIMARY KEY (node, chunk, shard)){clustered}""",
        """CREATE TABLE nodes (
            node {id} PRIMARY KEY, name {text} NOT NULL, store_id {bytes} NOT NULL UNIQUE, incarnation BIGINT NOT NULL,
            generation BIGINT NOT NULL, zone {text} NOT NULL, host {text} NOT NULL, path {text} NOT NULL,
            disk {text} NOT NULL, address {text} NOT NULL, capacity BIGINT NOT NULL, removed BIGINT NOT NULL)""",
        """CREATE TABLE sessions (
            session {id} PRIMARY KEY, client {bytes} NOT NULL, incarnation BIGINT NOT NULL, floor BIGINT NOT NULL,
            kept BIGINT NOT NULL, used_ns BIGINT NOT NULL, UNIQUE (client, incarnation))""",
        """CREATE TABLE replies (
            session BIGINT NOT NULL, number BIGINT NOT NULL, body {bytes} NOT NULL,
            PRIMARY KEY (session, number)){clustered}""",
        """CREATE TABLE dead (
            kind BIGINT NOT NULL, due BIGINT NOT NULL, item BIGINT NOT NULL, object BIGINT NOT NULL, name {text} NOT NULL,
            seq BIGINT NOT NULL, inode BIGINT NOT NULL,
            PRIMARY KEY (kind, due, item)){clustered}""",
    ),
    (
        "ALTER TABLE places ADD COLUMN state BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE drops ADD COLUMN state BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE nodes ADD COLUMN draining BIGINT NOT NULL DEFAULT 0",
        """CREATE TABLE moves (
            chunk BIGINT NOT NULL, node BIGINT NOT NULL, shard BIGINT NOT NULL, move BIGINT NOT NULL, why BIGINT NOT NULL,
            source BIGINT NOT NULL, task BIGINT NOT NULL,
            PRIMARY KEY (chunk, node)){clustered}""",
        """CREATE TABLE tasks (
            task {id} PRIMARY KEY, kind {text} NOT NULL, subject {text} NOT NULL, argument {text} NOT NULL,
            state BIGINT NOT NULL, cursor BIGINT NOT NULL, moves_done BIGINT NOT NULL, bytes_done BIGINT NOT NULL,
            began_ns BIGINT NOT NULL, ended_ns BIGINT NOT NULL, note {text} NOT NULL, plan {bytes} NOT NULL)""",
        """CREATE TABLE holders (
            redundancy {text} NOT NULL, holders {text} NOT NULL, chunks BIGINT NOT NULL, bytes BIGINT NOT NULL,
            PRIMARY KEY (redundancy, holders)){clustered}""",
        """CREATE TABLE inventories (
            node BIGINT NOT NULL, bucket BIGINT NOT NULL, shards BIGINT NOT NULL, bytes BIGINT NOT NULL,
            digest BIGINT NOT NULL,
            PRIMARY KEY (node, bucket)){clustered}""",
        "CREATE INDEX bad_places ON places (chunk) WHERE state <> 0",  # nearly always empty: it costs puts nothing
    ),
    (
        # The body comes last: the others are read without its pages.
        """CREATE TABLE log (
            position {id} PRIMARY KEY, hash {bytes} NOT NULL, wall_ns BIGINT NOT NULL, ends BIGINT NOT NULL,
            body {bytes} NOT NULL)""",
    ),
)
"""What each format added. Never edit one that was released: append."""

NEWEST_FORMAT = len(MIGRATIONS)
TALLIED_SINCE = 2  #: the format from which on holders and inventories are kept; before, they have to be counted
META_SINCE: Mapping[str, int] = {VOLUME: 3, RESTORED_NS: 3}
"""Values of ``meta`` that are newer than the first format, and the one that added them: 0 in a catalog of an older one."""

SQLITE: Mapping[str, str] = {
    "text": "TEXT COLLATE BINARY",
    "bytes": "BLOB",
    "id": "INTEGER",  # exactly this word makes the column the row's own number
    "clustered": " WITHOUT ROWID",
}


def statements(after: int, words: Mapping[str, str] = SQLITE) -> list[str]:
    """The statements that bring a catalog of format ``after`` to the newest."""
    return [statement.format_map(words) for migration in MIGRATIONS[after:] for statement in migration]
