"""Another redundancy for what is stored: a hidden content of new chunks is made, then it takes the old one's place.

A chunk has one redundancy for life, so each gets a new row, whose shards are moves with the old chunk as their source; most
are copies within a node. The hidden content is a row of ``uploads`` like that of a client: what is not finished when its
lease ends (a master has started meanwhile) is condemned like any other. The exchange is O(1), and only for the version that
the new content was made from.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.core import Job
from dsa_zmq.errors import NoSpace
from dsa_zmq.master.catalog.facts import Facts, next_seq
from dsa_zmq.master.catalog.move_rules import PlannedMove, planned
from dsa_zmq.master.catalog.namespace_rules import bury
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.places import PlaceChange, change_places, view_of
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.survey_rules import Conditions, Room
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    CONTENTS,
    DEAD_CONTENT,
    DIRECTORY,
    FILE,
    INODES,
    LIVE,
    LIVE_PLACE,
    MOVES,
    NAMES,
    PAGES,
    PLACES,
    UPLOADS,
    ChunkRow,
    ContentRow,
    MoveRow,
    PageRow,
    PlaceRow,
    UploadRow,
)
from dsa_zmq.master.catalog.walk import given_by, inode_of, trail_to
from dsa_zmq.model.hashes import UNKNOWN_HASH, chunk_hash, join_hashes
from dsa_zmq.model.manifest import pack_page, unpack_page
from dsa_zmq.model.placement import Member, place
from dsa_zmq.model.redundancy import Redundancy, kept_as, parse_redundancy
from dsa_zmq.model.upkeep import Standing, Why

WALKED_AT_ONCE = 8  #: directories of a slice
NAMES_AT_ONCE = 125  #: of each: a slice is some 10 ms

_Child = tuple[str, int, int, str, int, int, int, int, int]
CHILDREN: Scan[_Child] = Scan(
    "SELECT n.name, i.inode, i.kind, i.redundancy, i.version, i.content, i.size, i.chunk_count, i.chunk_bytes"
    " FROM names n JOIN inodes i ON i.inode = n.inode"
    f" WHERE n.parent = ? AND n.name > ? AND n.to_seq = {LIVE} ORDER BY n.name LIMIT ?",
    tuple,
    (NAMES, INODES),
)


class Branch(msgspec.Struct, frozen=True):
    """A directory that is still to be walked, from this name on."""

    inode: int
    given: str  #: what new files in it get
    after: str = ""


class FoundFile(msgspec.Struct, frozen=True):
    """A file that is not stored as it should be."""

    inode: int
    version: int
    content: int
    size: int
    chunks: int
    chunk_bytes: int
    has: str
    wants: str


class WalkFiles(Job, frozen=True):
    """The next files below a path that are not stored as their directories say, or as ``redundancy`` does. Result:
    FilesFound"""

    path: str  #: where to begin; "": go on with ``branches``
    redundancy: str
    branches: tuple[Branch, ...] = ()


class FilesFound(msgspec.Struct, frozen=True):
    files: list[FoundFile]
    branches: tuple[Branch, ...]  #: still to be walked


class ConvertPage(Job, frozen=True):
    """Make the next page of the hidden content ``content`` from that of ``file``. Result: PageConverted, or None if the file
    does not show that content any more"""

    task: int
    file: FoundFile
    content: int
    page: int
    ids: tuple[int, ...]  #: for its chunks: at least as many as it has
    conditions: Conditions


class PageConverted(msgspec.Struct, frozen=True):
    moves: list[PlannedMove]


class CheckPage(Job, frozen=True):
    """Whether all shards of a page are there. Result: bool; None if there is no such page"""

    content: int
    page: int


class Exchange(Job, frozen=True):
    """Let the version show the new content. Result: whether it does; if not, the new one is condemned"""

    file: FoundFile
    content: int
    wall_ns: int


# --- looking for them -------------------------------------------------------------------------------------------------


def walk_files(rows: Rows, facts: Facts, job: WalkFiles) -> FilesFound:
    branches, files = list(job.branches), []
    if job.path:
        trail = trail_to(rows, job.path)
        inode = inode_of(rows, trail[-1])
        if inode.kind == FILE:
            given = given_by(rows, trail[:-1])
            child = (
                trail[-1].name, inode.inode, FILE, inode.redundancy, inode.version, inode.content, inode.size,
                inode.chunk_count, inode.chunk_bytes,
            )  # fmt: skip
            return FilesFound(_unlike([child], job.redundancy or given), ())
        branches = [Branch(inode.inode, given_by(rows, trail))]
    taken = branches[-WALKED_AT_ONCE:]
    del branches[-WALKED_AT_ONCE:]
    children = rows.scan_all(CHILDREN, [(branch.inode, branch.after, NAMES_AT_ONCE) for branch in taken])
    for branch, found in zip(taken, children, strict=True):
        if len(found) == NAMES_AT_ONCE:
            branches.append(Branch(branch.inode, branch.given, found[-1][0]))
        branches += [Branch(child[1], child[3] or branch.given) for child in found if child[2] == DIRECTORY]
        files += _unlike(found, job.redundancy or branch.given)
    return FilesFound(files, tuple(branches))


def _unlike(children: Sequence[_Child], wanted: str) -> list[FoundFile]:
    return [
        FoundFile(inode, version, content, size, chunks, chunk_bytes, has, wants)
        for _, inode, kind, has, version, content, size, chunks, chunk_bytes in children
        if kind == FILE and content and has != (wants := kept_as(wanted, size, chunk_bytes))
    ]


# --- making the new content -------------------------------------------------------------------------------------------


def convert_page(rows: Rows, facts: Facts, job: ConvertPage) -> PageConverted | None:
    file = job.file
    inode, page = rows.get(INODES, file.inode), rows.get(PAGES, (file.content, job.page))
    if inode is None or inode.content != file.content or page is None:
        return None
    upload = rows.get(UPLOADS, job.content)
    if (upload is None) != (job.page == 0):
        return None  # it was condemned meanwhile
    old_ids = unpack_page(page.body)
    old_chunks = [chunk for chunk in rows.get_all(CHUNKS, old_ids) if chunk is not None]
    groups = rows.group_all(PLACES, old_ids)
    rows.scan(ALL_NODES)
    view = view_of(rows, job.conditions.standings)
    new_ids = job.ids[: len(old_ids)]
    rows.get_all(CHUNKS, new_ids)
    members = _members(rows, job.conditions)
    redundancy = parse_redundancy(file.wants)
    targets = []
    for old, new, group in zip(old_chunks, new_ids, groups, strict=True):
        nodes = _targets(members, job.conditions.policy, old, new, group, redundancy)
        for node in nodes:
            members[node].free -= redundancy.shard_bytes(old.length)
        targets.append(nodes)
    next_seq(rows)
    moves = []
    for old, new, group, nodes in zip(old_chunks, new_ids, groups, targets, strict=True):
        chunk = ChunkRow(new, old.length, _hashes(old, redundancy), redundancy.name, 1)
        rows.put(CHUNKS, chunk)
        change_places(rows, [PlaceChange(chunk, None, [])])
        for shard, node in enumerate(nodes):
            row = MoveRow(new, node, shard, rows.new_id(), Why.CONVERT, old.chunk, job.task)
            rows.put(MOVES, row)
            moves.append(planned(row, chunk, old, group, view))
    rows.put(PAGES, PageRow(job.content, job.page, pack_page(new_ids)))
    before = upload or UploadRow(job.content, file.chunk_bytes, redundancy.name, 0, 0, 0, 0)
    rows.put(
        UPLOADS,
        before._replace(
            pages=before.pages + 1,
            page_end=job.page + 1,
            chunks=before.chunks + len(new_ids),
            length=before.length + sum(chunk.length for chunk in old_chunks),
        ),
    )
    return PageConverted(moves)


def _hashes(old: ChunkRow, redundancy: Redundancy) -> bytes:
    """What is known of the new chunk: of a code's shards nothing, before they are made."""
    whole = chunk_hash(old.hash)
    return whole if redundancy.alike else join_hashes(whole, [UNKNOWN_HASH] * redundancy.shards)


def _members(rows: Rows, conditions: Conditions) -> dict[int, Member]:
    """Nodes that may take something new, with the room that conversion may use."""
    return {
        row.node: Member(row.node, row.name, row.capacity, room.other, row.zone, row.host)
        for row in rows.scan(ALL_NODES)
        if not row.removed
        and not row.draining
        and conditions.standings.get(row.node) is Standing.KEEPS
        and (room := conditions.rooms.get(row.node, _NO_ROOM))
    }


_NO_ROOM = Room(0, 0)


def _targets(
    members: dict[int, Member],
    policy: str,
    old: ChunkRow,
    new: int,
    places: Sequence[PlaceRow],
    redundancy: Redundancy,
) -> list[int]:
    """Where the shards of the new chunk go: as far as possible to nodes that have one of the old. Raises NoSpace."""
    size, count = redundancy.shard_bytes(old.length), redundancy.shards
    having = [
        members[row.node]
        for row in places
        if row.state == LIVE_PLACE and row.node in members and members[row.node].free >= size
    ]
    everybody = list(members.values())
    if len(having) >= count:
        return place(
            policy,
            chunk=new,
            position=0,
            anchor=new,
            members=having,
            count=count,
            shard_bytes=size,
            redundancy=redundancy,
        )
    held = [member.node for member in having]
    try:
        more = place(
            policy, chunk=new, position=0, anchor=new, members=everybody, count=count - len(held), shard_bytes=size,
            held=frozenset(held), redundancy=redundancy,
        )  # fmt: skip
    except NoSpace as error:
        raise NoSpace(f"no room for the new shards: {error.message}", error.remedy) from error
    return held + more


def check_page(rows: Rows, facts: Facts, job: CheckPage) -> bool | None:
    page = rows.get(PAGES, (job.content, job.page))
    if page is None:
        return None
    ids = unpack_page(page.body)
    chunks = rows.get_all(CHUNKS, ids)
    for chunk, group in zip(chunks, rows.group_all(PLACES, ids), strict=True):
        assert chunk is not None, "a page names its chunks"
        redundancy = parse_redundancy(chunk.redundancy)
        if redundancy.covered((row.node, row.shard) for row in group if row.state == LIVE_PLACE) < redundancy.shards:
            return False
    return True


def exchange(rows: Rows, facts: Facts, job: Exchange) -> bool:
    file = job.file
    inode, old = rows.get(INODES, file.inode), rows.get(CONTENTS, file.content)
    staged, made = rows.get(UPLOADS, job.content), rows.get(CONTENTS, job.content)
    if staged is None and (made is None or not made.refs):
        return False  # it was condemned
    is_same = inode is not None and (inode.version, inode.content) == (file.version, file.content)
    is_whole = staged is None or (staged.chunks, staged.length) == (file.chunks, file.size)
    if inode is None or old is None or not is_same or not is_whole:
        if staged is not None:
            next_seq(rows)
            rows.delete(UPLOADS, job.content)
            rows.put(CONTENTS, _content(staged, 0))
            bury(rows, DEAD_CONTENT, 0, job.content)
        return False
    next_seq(rows)
    if staged is not None:
        rows.delete(UPLOADS, job.content)
        rows.put(CONTENTS, _content(staged, 1))
    elif made is not None:  # another name of the same content was converted before
        rows.put(CONTENTS, made._replace(refs=made.refs + 1))
    rows.put(INODES, inode._replace(content=job.content, redundancy=file.wants))
    rows.put(CONTENTS, old._replace(refs=old.refs - 1))
    if old.refs == 1:
        bury(rows, DEAD_CONTENT, job.wall_ns, file.content)
    return True


def _content(staged: UploadRow, refs: int) -> ContentRow:
    return ContentRow(staged.upload, staged.length, staged.chunk_bytes, staged.chunks, staged.redundancy, refs)
