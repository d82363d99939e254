"""A catalog, opened to be read: directories page by page, and what files are made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from dsa_zmq.errors import Corrupt, Incompatible, Invalid
from dsa_zmq.master.catalog.schema import NEWEST_FORMAT
from dsa_zmq.master.catalog.tables import CLUSTER, DIRECTORY, FILE, FORMAT, LIVE
from dsa_zmq.model.chunking import chunk_count, chunk_length
from dsa_zmq.model.hashes import hashes_bytes
from dsa_zmq.model.ids import ROOT_INODE
from dsa_zmq.model.limits import chunks_per_page
from dsa_zmq.model.manifest import unpack_page
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.salvage.assembly import Wanted

PAGE = 100  #: names at once: of each directory on the way down so many are in memory
CACHE_KIB = 32_768  #: of the catalog in memory
UNNAMED = "unnamed"  #: what has lost its own name is called so, with the number of its inode

_ENTRY = "i.mode, i.size, i.mtime_ns, i.created_ns, i.content, i.chunk_bytes, i.chunk_count"
_LIST = (
    f"SELECT n.name, n.inode, n.kind, {_ENTRY} FROM names n LEFT JOIN inodes i ON i.inode = n.inode"
    f" WHERE n.parent = ? AND n.name > ? AND n.kind = ? AND n.to_seq = {LIVE} ORDER BY n.name LIMIT {PAGE}"
)
_INODE = f"SELECT i.kind, {_ENTRY} FROM inodes i WHERE i.inode = ?"
_HAS = f"SELECT 1 FROM names WHERE parent = ? AND name = ? AND to_seq = {LIVE}"
_TOTALS = (
    "SELECT COUNT(*), COALESCE(SUM(i.size), 0) FROM names n LEFT JOIN inodes i ON i.inode = n.inode"
    f" WHERE n.kind = {FILE} AND n.to_seq = {LIVE}"
)
_PAGE = "SELECT body FROM pages WHERE content = ? AND page = ?"
_CHUNK = "SELECT length, hash, redundancy FROM chunks WHERE chunk = ?"
# Where pieces are missing: directories with something in them whose own names are lost, and files whose names are.
_UNNAMED = {
    DIRECTORY: f"SELECT DISTINCT n.parent FROM names n WHERE n.to_seq = {LIVE} AND n.parent <> {ROOT_INODE}"
    f" AND NOT EXISTS (SELECT 1 FROM named WHERE inode = n.parent) AND n.parent > ? ORDER BY n.parent LIMIT {PAGE}",
    FILE: f"SELECT i.inode FROM inodes i WHERE i.kind = {FILE} AND NOT EXISTS (SELECT 1 FROM named WHERE inode = i.inode)"
    f" AND i.inode > ? ORDER BY i.inode LIMIT {PAGE}",
}
_NAMED = (
    "CREATE TEMP TABLE named (inode INTEGER PRIMARY KEY)",
    "INSERT OR IGNORE INTO named SELECT inode FROM names",
)


class Entry(NamedTuple):
    """A name, and what it stands for. What has lost its inode has no ``mode``, and nothing behind it."""

    name: str
    inode: int
    kind: int
    mode: int | None = None
    size: int = 0
    mtime_ns: int = 0
    created_ns: int = 0
    content: int = 0
    chunk_bytes: int = 0
    chunk_count: int = 0


class Namespace:
    """An open catalog. Raises Corrupt where it cannot be read."""

    def __init__(self, connection: apsw.Connection, shown: str, *, gaps: bool) -> None:
        """``gaps``: rows may be missing in it."""
        self._connection = connection
        self._shown = shown
        self._gaps = gaps
        self._ask(f"PRAGMA cache_size = -{CACHE_KIB}")
        for statement in _NAMED if gaps else ():
            self._ask(statement)
        found = {name: (number, body) for name, number, body in self._ask("SELECT name, number, body FROM meta")}
        version = found.get(FORMAT, (0, b""))[0]
        if version > NEWEST_FORMAT:
            raise Incompatible(
                f"{shown} has format {version}, this software knows formats up to {NEWEST_FORMAT}",
                "use the newer software",
                shown,
            )
        self.cluster: bytes = found.get(CLUSTER, (0, b""))[1]  #: b"" if it does not say

    def close(self) -> None:
        self._connection.close()

    def totals(self) -> tuple[int, int]:
        """How many files there are, and their bytes."""
        [(files, size)] = self._ask(_TOTALS)
        return files, size

    def root(self) -> Entry:
        """The root, which has no name."""
        return self._entry("", ROOT_INODE, DIRECTORY)

    def entries(self, directory: int, kind: int) -> Iterator[Entry]:
        """Everything of one kind in a directory, by name."""
        last = ""
        while page := self._ask(_LIST, (directory, last, kind)):
            for name, inode, found, *rest in page:
                yield Entry(name, inode, found) if rest[0] is None else Entry(name, inode, found, *rest)
            last = page[-1][0]

    def unnamed(self, kind: int) -> Iterator[Entry]:
        """What cannot be reached from the root because names are missing, under names that are made up."""
        last = 0
        while self._gaps and (page := self._ask(_UNNAMED[kind], (last,))):
            for (inode,) in page:
                name = f"{UNNAMED}-{inode:x}"
                while self.has(ROOT_INODE, name):
                    name += "~"
                yield self._entry(name, inode, kind)
            last = page[-1][0]

    def has(self, directory: int, name: str) -> bool:
        """Whether this name is in the directory."""
        return bool(self._ask(_HAS, (directory, name)))

    def chunks(self, file: Entry) -> Iterator[tuple[int, Wanted | None]]:
        """All chunks of a file, in order, with their lengths; None where the catalog does not know, or contradicts
        itself."""
        if not file.size and not file.chunk_count:
            return
        if file.chunk_bytes < 1 or chunk_count(file.size, file.chunk_bytes) != file.chunk_count:
            yield file.size, None
            return
        per_page = chunks_per_page(file.chunk_bytes)
        for first in range(0, file.chunk_count, per_page):
            ids = self._page(file, first // per_page)
            for index in range(first, min(first + per_page, file.chunk_count)):
                length = chunk_length(file.size, file.chunk_bytes, index)
                at = index - first
                yield length, self._chunk(ids[at], length) if at < len(ids) else None

    def _page(self, file: Entry, page: int) -> list[int]:
        found = self._ask(_PAGE, (file.content, page))
        try:
            return unpack_page(found[0][0]) if found else []
        except Corrupt:
            return []

    def _chunk(self, chunk: int, length: int) -> Wanted | None:
        found = self._ask(_CHUNK, (chunk,)) if chunk <= LIVE else ()
        if not found:
            return None
        [(known, hashes, name)] = found
        redundancy = _parsed(name)
        if redundancy is None or len(hashes) != hashes_bytes(redundancy) or known != length:
            return None
        return Wanted(chunk, length, hashes, redundancy)

    def _entry(self, name: str, inode: int, kind: int) -> Entry:
        found = self._ask(_INODE, (inode,))
        return Entry(name, inode, kind, *found[0][1:]) if found and found[0][0] == kind else Entry(name, inode, kind)

    def _ask(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except apsw.Error as error:
            remedy = "name another copy of the catalog, or leave --catalog out"
            raise Corrupt(f"{self._shown} is no catalog, or damaged: {error}", remedy, self._shown) from error


def open_namespace(path: Path, shown: str = "the catalog", *, gaps: bool = False) -> Namespace:
    """Open a catalog of ours. ``shown`` is what errors call it."""
    connection = apsw.Connection(str(path))
    try:
        return Namespace(connection, shown, gaps=gaps)
    except BaseException:
        connection.close()
        raise


@lru_cache(maxsize=64)
def _parsed(name: str) -> Redundancy | None:
    try:
        return parse_redundancy(name)
    except Invalid:
        return None
