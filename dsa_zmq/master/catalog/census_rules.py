"""The census: file by file, how safe the worst chunk is. Chunks do not know their files, so it walks the directories.

A slice looks at files of one directory, in the order of their names, until it has seen enough chunks; it may end within a
file. What a slice is told and tells is all there is: nothing is kept here between two.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from actors.core import Job
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import CHUNKS, DIRECTORY, INODES, LIVE, LIVE_PLACE, NAMES, PAGES, PLACES
from dsa_zmq.model.holders import Safety, safety
from dsa_zmq.model.limits import chunks_per_page
from dsa_zmq.model.manifest import unpack_page
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy

NAMES_AT_ONCE = 250  #: in a slice: with chunks and places some 10 ms of the catalog worker
CHUNKS_AT_ONCE = 1_000  #: after which a slice ends, at the end of a page of a manifest


class ListedRow(NamedTuple):
    """A name with what it stands for."""

    name: str
    inode: int
    kind: int
    content: int
    size: int
    chunk_bytes: int
    chunk_count: int


LISTED: Scan[ListedRow] = Scan(
    "SELECT n.name, i.inode, i.kind, i.content, i.size, i.chunk_bytes, i.chunk_count"
    " FROM names n JOIN inodes i ON i.inode = n.inode"
    " WHERE n.parent = ? AND n.name > ? AND n.to_seq = ? ORDER BY n.name LIMIT ?",
    ListedRow,
    (NAMES, INODES),
)

NONE = (0, 0, 0, 0)  #: chunks healthy, degraded, endangered, lost


class Present(msgspec.Struct, frozen=True):
    """The nodes as the master's actor sees them, frozen for one job."""

    counting: frozenset[int]  #: whose places count
    readable: frozenset[int]  #: that may still be read


class Spot(msgspec.Struct, frozen=True):
    """Where in a directory the walk stands."""

    after: str = ""  #: the last name that was dealt with
    page: int = 0  #: of the next one's manifest, from which to go on
    chunks: tuple[int, ...] = NONE  #: of the pages before


class TakeCensus(Job, frozen=True):
    """One slice of one directory. Result: CensusTaken"""

    directory: int  #: inode
    spot: Spot
    present: Present


class CountedFile(msgspec.Struct, frozen=True):
    """A file with all its chunks counted."""

    name: str
    size: int
    chunks: tuple[int, ...]  #: healthy, degraded, endangered, lost

    @property
    def state(self) -> Safety:
        """As safe as its worst chunk."""
        return max((state for state in Safety if self.chunks[state]), default=Safety.HEALTHY)


class CensusTaken(msgspec.Struct, frozen=True):
    directories: list[tuple[str, int]]  #: name, inode: met on the way
    files: list[CountedFile]
    next: Spot | None  #: None: the directory has ended


def judged(counting: int, readable: int, redundancy: Redundancy) -> Safety:
    """Of so many shards that count and so many that can still be read: what a failed store alone has is not lost yet."""
    state = safety(counting, redundancy)
    return Safety.ENDANGERED if state is Safety.LOST and readable >= redundancy.needed else state


def take_census(rows: Rows, facts: Facts, job: TakeCensus) -> CensusTaken:
    listed = rows.scan(LISTED, job.directory, job.spot.after, LIVE, NAMES_AT_ONCE)
    looked: list[
        tuple[ListedRow, list[tuple[int, int]], bool]
    ] = []  # keys of its pages, and whether these are the last
    budget, first = CHUNKS_AT_ONCE, job.spot.page
    for row in listed:
        keys: list[tuple[int, int]] = []
        whole = True
        if row.kind != DIRECTORY and row.chunk_count:
            per_page = chunks_per_page(row.chunk_bytes)
            pages = -(-row.chunk_count // per_page)
            end = min(pages, first + max(1, budget // per_page))
            keys, whole = [(row.content, page) for page in range(first, end)], end == pages
            budget -= min(per_page, row.chunk_count) * len(keys)
        looked.append((row, keys, whole))
        first = 0
        if budget <= 0 or not whole:
            break
    counts = _count(rows, [key for _, keys, _ in looked for key in keys], job.present)
    directories: list[tuple[str, int]] = []
    files: list[CountedFile] = []
    spot = job.spot
    for row, keys, whole in looked:
        chunks = spot.chunks
        for key in keys:
            chunks = tuple(a + b for a, b in zip(chunks, counts[key], strict=True))
        if not whole:
            return CensusTaken(directories, files, Spot(spot.after, keys[-1][1] + 1, chunks))
        if row.kind == DIRECTORY:
            directories.append((row.name, row.inode))
        else:
            files.append(CountedFile(row.name, row.size, chunks))
        spot = Spot(row.name)
    ended = len(looked) == len(listed) < NAMES_AT_ONCE
    return CensusTaken(directories, files, None if ended else spot)


def _count(rows: Rows, wanted: list[tuple[int, int]], present: Present) -> dict[tuple[int, int], tuple[int, ...]]:
    """Chunks by state, for each page."""
    ids = {
        key: () if page is None else unpack_page(page.body)
        for key, page in zip(wanted, rows.get_all(PAGES, wanted), strict=True)
    }
    every = list(dict.fromkeys(chunk for chunks in ids.values() for chunk in chunks))
    states: dict[int, Safety] = {}
    found = rows.get_all(CHUNKS, every)
    for chunk, number, places in zip(found, every, rows.group_all(PLACES, every), strict=True):
        if chunk is None:
            states[number] = Safety.LOST
            continue
        redundancy = parse_redundancy(chunk.redundancy)
        live = [(place.node, place.shard) for place in places if place.state == LIVE_PLACE]
        counting = redundancy.covered(place for place in live if place[0] in present.counting)
        readable = redundancy.covered(place for place in live if place[0] in present.readable)
        states[number] = judged(counting, readable, redundancy)
    counted = {}
    for key, chunks in ids.items():
        sums = [0, 0, 0, 0]
        for number in chunks:
            sums[states[number]] += 1
        counted[key] = tuple(sums)
    return counted
