"""Uploads: hidden pages first, one O(1) commit at the end.

An upload's id is its content's id, and it goes one way::

    (nothing) --Stage--> staged --Commit--> live --last reference gone--> dead --horizon passes--> (nothing)
        |                   |                                              ^
        +--Commit-----------|----------------> live                        |
        +--Abort, lease over+----------------------------------------------+

Staged: a row in ``uploads``. Live and dead: a row in ``contents``, with references or without. A dead one's row stays until
the horizon has passed the id, so a late message of that upload is always told from a first one; it has no chunk size if the
upload was never published.

An upload is published once, whatever comes twice, and in whatever session. So a commit that comes again is answered by what
the first one did: the file, as long as its path shows it. A client may therefore repeat a commit in a new session.
"""

from __future__ import annotations

from dsa_zmq.errors import Conflict, DSAError, Invalid, Outdated, Unavailable
from dsa_zmq.master.catalog.facts import Facts, next_seq
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.master.catalog.namespace_rules import MODE_BITS, NewVersion, bury, publish
from dsa_zmq.master.catalog.receipts import add_chunks, check_chunks, check_form
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    CONTENTS,
    DEAD_CONTENT,
    DEAD_CONTENT_ID,
    FILE,
    HORIZON,
    PAGES,
    UPLOADS,
    ContentRow,
    PageRow,
    UploadRow,
)
from dsa_zmq.master.catalog.walk import attributes, inode_of, redundancy_at, split, target_of, walk
from dsa_zmq.model.limits import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, chunks_per_page
from dsa_zmq.model.manifest import pack_page, unpack_page
from dsa_zmq.model.redundancy import kept_as, parse_redundancy
from dsa_zmq.protocol.operations import Abort, Commit, Confirm, Done, Found, Stage, Staged
from dsa_zmq.protocol.values import StagedChunk

ALL_UPLOADS: Scan[UploadRow] = Scan(
    f"SELECT {UPLOADS.columns} FROM uploads ORDER BY upload", UploadRow, (UPLOADS,), UPLOADS
)


def stage(rows: Rows, facts: Facts, job: Request, op: Stage) -> Staged | Confirm:
    redundancy = parse_redundancy(op.redundancy)
    _check_chunk_bytes(op.chunk_bytes)
    if op.upload <= 0 or op.page < 0:
        raise Invalid("a page is staged for an upload, from page 0 on")
    if len(op.chunks) != chunks_per_page(op.chunk_bytes):
        raise Invalid(
            f"a staged page has {chunks_per_page(op.chunk_bytes)} chunks, not {len(op.chunks)}",
            "send the last page inside the commit",
        )
    length = check_form(op.chunks, op.chunk_bytes, redundancy, may_be_short=False)
    upload = _open_upload(rows, op.upload, op.chunk_bytes, redundancy.name)
    page = rows.get(PAGES, (op.upload, op.page))
    if page is not None:
        if not _is_same_page(rows, page, op.chunks):
            raise Conflict(f"page {op.page} of this upload is staged with other chunks", "upload the file again")
        return Staged(op.upload, op.page)
    confirm = check_chunks(rows, facts, op.upload, op.chunks, redundancy, degraded=op.degraded)
    if confirm:
        return Confirm(confirm, [], [], 0)
    next_seq(rows)
    add_chunks(rows, op.chunks, redundancy)
    rows.put(PAGES, PageRow(op.upload, op.page, pack_page([chunk.chunk for chunk in op.chunks])))
    before = upload or UploadRow(op.upload, op.chunk_bytes, redundancy.name, 0, 0, 0, 0)
    rows.put(
        UPLOADS,
        before._replace(
            pages=before.pages + 1,
            page_end=max(before.page_end, op.page + 1),
            chunks=before.chunks + len(op.chunks),
            length=before.length + length,
        ),
    )
    return Staged(op.upload, op.page)


def commit(rows: Rows, facts: Facts, job: Request, op: Commit) -> Found | Confirm:
    if op.mode & ~MODE_BITS:
        raise Invalid(f"mode {op.mode:#o} has more than permission bits", "use a mode up to 0o7777", op.path)
    if op.upload and _was_published(rows.get(CONTENTS, op.upload)):
        return _published_before(
            rows, op
        )  # before any condition on the path: it speaks of the time before the first one
    trail, there = target_of(rows, op.path, if_absent=op.if_absent, if_version=op.if_version)
    if not op.upload:
        if op.length or op.chunk_count or op.chunks:
            raise Invalid("a commit with content needs its upload", path=op.path)
        empty = NewVersion(
            0, 0, op.mtime_ns, op.mode, op.chunk_bytes, 0, redundancy_at(rows, trail, there, op.redundancy)
        )
        return publish(rows, job, op.path, trail, there, empty)
    redundancy = parse_redundancy(op.redundancy)
    name = redundancy.name
    _check_chunk_bytes(op.chunk_bytes)
    upload = _open_upload(rows, op.upload, op.chunk_bytes, name)
    if op.inherits and name != (wanted := kept_as(redundancy_at(rows, trail, there, ""), op.length, op.chunk_bytes)):
        raise Outdated(
            f"new files at '{op.path}' get {wanted} now, this one was stored with {name}",
            "upload the file again",
            op.path,
        )
    length = check_form(op.chunks, op.chunk_bytes, redundancy, may_be_short=True)
    staged = upload or UploadRow(op.upload, op.chunk_bytes, name, 0, 0, 0, 0)
    _check_complete(op, staged, length)
    confirm = check_chunks(rows, facts, op.upload, op.chunks, redundancy, degraded=op.degraded)
    if confirm:
        return Confirm(confirm, [], [], 0)
    add_chunks(rows, op.chunks, redundancy)
    if op.chunks:
        rows.put(PAGES, PageRow(op.upload, staged.pages, pack_page([chunk.chunk for chunk in op.chunks])))
    if upload is not None:
        rows.delete(UPLOADS, op.upload)
    rows.put(CONTENTS, ContentRow(op.upload, op.length, op.chunk_bytes, op.chunk_count, name, 1))
    version = NewVersion(op.upload, op.length, op.mtime_ns, op.mode, op.chunk_bytes, op.chunk_count, name)
    return publish(rows, job, op.path, trail, there, version)


def _was_published(content: ContentRow | None) -> bool:
    return content is not None and content.chunk_bytes > 0


def _published_before(rows: Rows, op: Commit) -> Found:
    """The answer to a commit whose upload is published: it was carried out, in a session that has ended or under another
    number. Unavailable, which leaves open what happened, if its path shows something else by now."""
    names = split(op.path)
    trail = walk(rows, names)
    if len(trail) == len(names) + 1 and trail[-1].kind == FILE:
        inode = inode_of(rows, trail[-1])
        if inode.content == op.upload:
            return Found(attributes(inode), inode.since_seq)
    raise Unavailable(
        f"this upload was published before, and '{op.path}' does not show it now", "look at the file", op.path
    )


def abort(rows: Rows, facts: Facts, job: Request, op: Abort) -> Done:
    if op.upload <= 0:
        raise Invalid("there is no upload 0", "give the upload's number")
    if not _condemn(rows, op.upload):
        return Done(0)
    next_seq(rows)
    return Done(1)


def expire(rows: Rows, uploads: list[int]) -> None:
    """The leases of these uploads are over."""
    rows.get_all(UPLOADS, uploads)
    rows.get_all(CONTENTS, uploads)
    for upload in uploads:
        if _condemn(rows, upload):
            next_seq(rows)


def load_staged(rows: Rows) -> list[int]:
    """The ids of all uploads with staged pages."""
    return [row.upload for row in rows.scan(ALL_UPLOADS)]


def _condemn(rows: Rows, upload: int) -> bool:
    """An upload that is not published never will be. Says whether anything changed.

    Of an upload that staged nothing nothing is known; its id is kept all the same, so that its late commit is refused.
    """
    staged = rows.get(UPLOADS, upload)
    if staged is None:
        if rows.get(CONTENTS, upload) is not None or upload < rows.number(HORIZON):
            return False
        rows.put(CONTENTS, ContentRow(upload, 0, 0, 0, "", 0))
        bury(rows, DEAD_CONTENT_ID, upload, upload)
    else:
        rows.delete(UPLOADS, upload)
        rows.put(CONTENTS, ContentRow(upload, staged.length, 0, staged.chunks, staged.redundancy, 0))
        bury(rows, DEAD_CONTENT, 0, upload)  # nobody ever read it: no grace
    return True


def _open_upload(rows: Rows, upload: int, chunk_bytes: int, redundancy: str) -> UploadRow | None:
    """The upload's row; None if nothing of it is staged. Conflict unless it may still be added to in this way."""
    content = rows.get(CONTENTS, upload)
    if content is not None:
        if _was_published(content):
            raise Conflict("this upload is published already", "look at the file")
        # What has no redundancy is the mark of one that never staged anything, and so certainly was not published either.
        raise Conflict("upload expired", "upload the file again") if content.redundancy else _expired()
    staged = rows.get(UPLOADS, upload)
    if staged is None:
        if upload < rows.number(HORIZON):
            raise _expired()
    elif (staged.chunk_bytes, staged.redundancy) != (chunk_bytes, redundancy):
        raise Conflict("the pages of an upload have one chunk size and one redundancy", "upload the file again")
    return staged


def _expired() -> DSAError:
    return Outdated("upload expired", "upload the file again")


def _check_chunk_bytes(chunk_bytes: int) -> None:
    if not MIN_CHUNK_BYTES <= chunk_bytes <= MAX_CHUNK_BYTES:
        raise Invalid(
            f"chunks of {chunk_bytes} bytes are not allowed",
            f"use a chunk size from {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES} bytes",
        )


def _check_complete(op: Commit, staged: UploadRow, length: int) -> None:
    """Staged pages and the last page together are the whole content: by counts alone, whatever its size.

    Staged pages are full and distinct, so that as many as the largest page number says means none is missing.
    """
    per_page = chunks_per_page(op.chunk_bytes)
    if len(op.chunks) > per_page:
        raise Invalid(f"a page has at most {per_page} chunks, not {len(op.chunks)}", "stage the earlier pages")
    if staged.page_end != staged.pages:
        raise Conflict(
            f"{staged.page_end - staged.pages} pages of this upload are not staged", "stage them first", op.path
        )
    if (staged.chunks + len(op.chunks), staged.length + length) != (op.chunk_count, op.length) or not op.chunk_count:
        raise Conflict(
            f"{staged.chunks + len(op.chunks)} chunks with {staged.length + length} bytes are there,"
            f" not {op.chunk_count} with {op.length}",
            "upload the file again",
            op.path,
        )


def _is_same_page(rows: Rows, page: PageRow, chunks: list[StagedChunk]) -> bool:
    ids = unpack_page(page.body)
    if ids != [chunk.chunk for chunk in chunks]:
        return False
    known = rows.get_all(CHUNKS, ids)
    return all(
        row is not None and (row.hash, row.length) == (chunk.hash, chunk.length)
        for row, chunk in zip(known, chunks, strict=True)
    )
