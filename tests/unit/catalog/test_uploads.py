"""Uploads: hidden pages, one small commit, and nothing that comes too late."""

from __future__ import annotations

import msgspec
import pytest

from dsa_zmq.master.catalog.jobs import ExpireUploads, LoadStaged
from dsa_zmq.protocol.operations import (
    Abort,
    Commit,
    Done,
    ListDirectory,
    Locate,
    MakeDirectory,
    Move,
    Remove,
    SetRedundancy,
    Staged,
    Stat,
)

BIG = 16 << 20  #: bytes of a chunk: four make a page


def staged_upload(kit, pages=2):
    """An upload with staged pages, and the commit that publishes it with one short chunk more."""
    upload = kit.new_id()
    for page in range(pages):
        assert kit.good(kit.stage(upload, page)) == Staged(upload, page)
    last = kit.chunk(upload, 100)
    commit = Commit(upload, "/big", pages * 4 * BIG + 100, BIG, pages * 4 + 1, "copies=2", [last], 5)
    return upload, commit


def change(value, **fields):
    return msgspec.structs.replace(value, **fields)


def test_staged_pages_are_hidden_until_the_commit_shows_the_whole_file(kit):
    upload, commit = staged_upload(kit)
    kit.audit()
    assert kit.good(ListDirectory("/")).entries == []
    found = kit.good(commit)
    assert (found.attributes.size, found.attributes.chunk_count) == (8 * BIG + 100, 9)
    pages = [kit.good(Locate("/big", upload, page)) for page in range(3)]
    assert [len(page.chunks) for page in pages] == [4, 4, 1]
    assert {page.page_count for page in pages} == {3}
    assert pages[2].chunks[0][:3] == (commit.chunks[0].chunk, 100, commit.chunks[0].hash)
    assert sorted(pages[2].chunks[0][3]) == sorted((r.node, r.index) for r in commit.chunks[0].receipts)
    assert kit.bad(Locate("/big", upload, 3)) == "not-found"


def test_a_commit_writes_the_same_few_rows_whatever_the_size(kit):
    sizes = []
    for pages in (1, 6):
        _, commit = staged_upload(kit, pages)
        before = len(kit.changes)
        kit.good(change(commit, path=f"/{pages}"))
        sizes.append(len(kit.changes) - before)
    assert sizes[0] == sizes[1]


def test_a_last_page_may_be_full_or_staged_already(kit):
    upload = kit.new_id()
    kit.good(kit.stage(upload, 0))
    kit.good(Commit(upload, "/exact", 4 * BIG, BIG, 4, "copies=2", [], 5))
    full = kit.new_id()
    chunks = [kit.chunk(full, BIG) for _ in range(4)]
    kit.good(Commit(full, "/inline", 4 * BIG, BIG, 4, "copies=2", chunks, 5))


def test_pages_may_be_staged_in_any_order(kit):
    upload = kit.new_id()
    kit.good(kit.stage(upload, 1))
    commit = Commit(upload, "/f", 8 * BIG, BIG, 8, "copies=2", [], 5)
    assert kit.bad(change(commit, length=4 * BIG, chunk_count=4)) == "conflict"
    kit.good(kit.stage(upload, 0))
    kit.good(commit)


def test_repeating_a_staged_page_answers_the_same_and_another_one_in_its_place_is_refused(kit):
    upload = kit.new_id()
    stage = kit.stage(upload, 0)
    first = kit.good(stage)
    before = kit.dump("sessions", "replies")
    assert kit.good(stage) == first
    assert kit.bad(kit.stage(upload, 0)) == "conflict"
    other_hash = [change(chunk, hash=kit.random.randbytes(32)) for chunk in stage.chunks]
    assert kit.bad(change(stage, chunks=other_hash)) == "conflict"
    assert kit.dump("sessions", "replies") == before


@pytest.mark.parametrize(
    "fields",
    [
        {"length": 8 * BIG + 101},
        {"chunk_count": 8},
        {"chunk_count": 10},
        {"chunks": []},
        {"chunk_bytes": 8 << 20},
        {"redundancy": "copies=1"},
    ],
)
def test_a_commit_that_does_not_fit_its_pages_is_refused(kit, fields):
    _upload, commit = staged_upload(kit)
    assert kit.bad(change(commit, **fields)) in ("conflict", "invalid")
    assert kit.bad(Stat("/big")) == "not-found"
    kit.good(commit)


def test_a_page_missing_in_the_middle_is_noticed(kit):
    upload = kit.new_id()
    for page in (0, 2):
        kit.good(kit.stage(upload, page))
    commit = Commit(upload, "/f", 8 * BIG, BIG, 8, "copies=2", [], 5)
    assert kit.bad(commit) == "conflict"
    kit.good(kit.stage(upload, 1))
    kit.good(change(commit, length=12 * BIG, chunk_count=12))


def test_all_pages_of_an_upload_have_one_redundancy_and_one_chunk_size(kit):
    upload = kit.new_id()
    kit.good(kit.stage(upload, 0))
    assert kit.bad(kit.stage(upload, 1, redundancy="copies=3")) == "conflict"
    assert kit.bad(kit.stage(upload, 1, chunk_bytes=8 << 20)) == "conflict"


def test_pages_and_chunks_of_impossible_size_are_refused(kit):
    upload = kit.new_id()
    stage = kit.stage(upload, 0)
    assert kit.bad(change(stage, chunks=stage.chunks[:3])) == "invalid"
    assert kit.bad(change(stage, chunks=[*stage.chunks[:3], kit.chunk(upload, BIG - 1)])) == "invalid"
    assert kit.bad(change(stage, chunk_bytes=1)) == "invalid"
    assert kit.bad(change(stage, upload=0)) == "invalid"
    commit = kit.commit("/f", 9000)
    assert kit.bad(change(commit, chunks=commit.chunks[::-1])) == "invalid"
    assert kit.bad(change(commit, chunks=[change(c, hash=b"short") for c in commit.chunks])) == "invalid"
    assert kit.bad(change(kit.commit("/f", 0), length=5)) == "invalid"
    too_many = [kit.chunk(upload, BIG) for _ in range(5)]
    assert kit.bad(Commit(upload, "/f", 5 * BIG, BIG, 5, "copies=2", too_many, 0)) == "invalid"
    assert kit.dump()["chunks"] == []


def test_an_upload_is_published_once(kit):
    commit = kit.commit("/f")
    kit.good(commit)
    assert kit.bad(change(commit, path="/g")) == "unavailable"
    assert kit.bad(Stat("/g")) == "not-found"
    assert kit.good(Abort(commit.upload)) == Done(0)
    kit.good(Locate("/f"))


@pytest.mark.parametrize("fields", [{}, {"if_absent": True}, {"if_version": 1}, {"inherits": True}])
def test_a_commit_that_comes_again_in_another_session_has_its_effect_once_and_is_answered_the_same(kit, fields):
    if "if_version" in fields:
        kit.good(kit.commit("/f"))
    commit = change(kit.commit("/f", 9000), **fields)
    found = kit.good(commit)
    kit.good(SetRedundancy("/", "copies=3"))
    before = kit.dump("sessions", "replies")
    assert kit.good(commit) == found
    assert kit.dump("sessions", "replies") == before
    kit.good(Move("/f", "/g"))
    assert kit.bad(commit) == "unavailable"  # it was published, whatever became of it
    assert kit.bad(Stat("/f")) == "not-found"
    kit.audit()


@pytest.mark.parametrize("collected", [False, True])
def test_a_commit_that_comes_again_never_brings_back_what_was_overwritten_or_removed(kit, collected):
    first, second = kit.commit("/f"), kit.commit("/g")
    kit.good(first)
    kit.good(second)
    newer = kit.good(kit.commit("/f"))
    kit.good(Remove("/g"))
    if collected:
        kit.collect()
    for commit in (first, second):
        assert kit.bad(commit) == "unavailable"
    assert kit.good(Stat("/f")).attributes == newer.attributes
    assert kit.bad(Stat("/g")) == "not-found"


def test_a_chunk_of_another_content_is_not_taken(kit):
    first = kit.commit("/f")
    kit.good(first)
    second = kit.commit("/g")
    assert kit.bad(change(second, chunks=first.chunks)) == "conflict"
    twice = kit.commit("/g", 8192)
    assert kit.bad(change(twice, chunks=[twice.chunks[0], twice.chunks[0]])) == "conflict"


@pytest.mark.parametrize("how", ["abort", "expire"])
@pytest.mark.parametrize("collected", [False, True])
def test_a_late_stage_or_commit_of_a_dead_upload_is_refused(kit, how, collected):
    upload, commit = staged_upload(kit)
    late_stage = kit.stage(upload, 2)
    if how == "abort":
        assert kit.good(Abort(upload)) == Done(1)
    else:
        assert kit.one(ExpireUploads([upload, upload])) is None
    kit.audit()
    if collected:
        kit.collect()
        assert sum(map(len, kit.drop_all().values())) == 16
    for late in (late_stage, commit):
        result = kit.do(late)
        assert (result.code, result.message) == ("conflict", "upload expired")
    assert kit.good(Abort(upload)) == Done(0)
    assert kit.bad(Stat("/big")) == "not-found"


@pytest.mark.parametrize("pages", [0, 2])
@pytest.mark.parametrize("how", ["abort", "expire"])
def test_the_content_of_a_dead_upload_cannot_be_read(kit, pages, how):
    upload = staged_upload(kit, pages)[0] if pages else kit.commit("/f").upload
    kit.one(kit.request(Abort(upload)) if how == "abort" else ExpireUploads([upload]))
    for page in range(3):
        assert kit.bad(Locate("/big", upload, page)) == "not-found"


@pytest.mark.parametrize("how", ["abort", "expire"])
def test_an_upload_that_staged_nothing_cannot_be_committed_after_its_end(kit, how):
    commit = kit.commit("/f")
    if how == "abort":
        kit.good(Abort(commit.upload))
    else:
        kit.one(ExpireUploads([commit.upload]))
    assert kit.bad(commit) == "outdated"
    kit.reopen()
    assert kit.bad(commit) == "outdated"


def test_what_remains_of_a_dead_upload_goes_when_the_horizon_passes_and_it_stays_refused(kit):
    upload, commit = staged_upload(kit)
    kit.good(Abort(upload))
    kit.good(Abort(kit.new_id()))
    kit.collect()
    assert len(kit.dump()["contents"]) == 2
    kit.collect(horizon=kit.new_id())
    assert kit.dump()["contents"] == []
    assert kit.dump()["dead"] == []
    assert kit.bad(commit) == "outdated"
    fresh = kit.do(Commit(upload, "/big", 100, BIG, 1, "copies=2", [kit.chunk(upload, 100)], 5))
    assert fresh.message == "upload expired"


def test_the_horizon_condemns_what_is_in_no_content_and_nothing_else(kit):
    upload, commit = staged_upload(kit)
    old = kit.commit("/old")
    kit.good(kit.commit("/safe"))
    kit.collect(horizon=kit.new_id())
    assert kit.bad(old) == "outdated"
    assert kit.bad(change(commit, chunks=[kit.chunk(upload, 100, chunk=commit.chunks[0].chunk)])) == "outdated"
    kit.good(change(commit, chunks=[kit.chunk(upload, 100)]))
    kit.good(Locate("/safe"))
    kit.good(kit.commit("/new"))


def test_the_horizon_is_durable_and_never_moves_back(kit):
    commit = kit.commit("/f")
    kit.collect(horizon=kit.new_id())
    kit.collect(horizon=1)
    kit.reopen()
    kit.collect()
    assert kit.bad(commit) == "outdated"


def test_staged_uploads_are_known_after_a_restart(kit):
    first, commit = staged_upload(kit, 1)
    second, _ = staged_upload(kit, 1)
    kit.reopen()
    assert kit.one(LoadStaged()) == [first, second]
    kit.good(commit)
    assert kit.one(LoadStaged()) == [second]
    kit.one(ExpireUploads([second]))
    assert kit.one(LoadStaged()) == []


def test_a_reader_goes_on_with_the_content_it_found_while_the_name_shows_another(kit):
    first = kit.commit("/f", 5000)
    kit.good(first)
    kit.good(kit.commit("/f", 100))
    located = kit.good(Locate("/f", first.upload, 0))
    assert [chunk[0] for chunk in located.chunks] == [chunk.chunk for chunk in first.chunks]
    assert located.attributes.size == 5000
    kit.collect(wall_ns=kit.now, grace_ns=1000)
    kit.good(Locate("/f", first.upload, 0))
    kit.collect(horizon=kit.new_id())
    assert kit.bad(Locate("/f", first.upload, 0)) == "not-found"


def test_a_manifest_without_one_of_its_chunks_is_damage_and_no_shorter_file(new_kit):
    kit = new_kit()
    commit = kit.commit("/f", 3 * 4096)
    kit.good(commit)
    kit.catalog._database.execute("DELETE FROM chunks WHERE chunk = ?", (commit.chunks[1].chunk,))
    assert kit.bad(Locate("/f")) == "corrupt"


def test_a_directory_has_no_chunks(kit):
    assert kit.bad(Locate("/")) == "is-a-directory"
    assert kit.bad(Locate("/none")) == "not-found"


# --- the redundancy that the directory gives --------------------------------------------------------------------------


def heir(kit, path, redundancy="copies=2"):
    return change(kit.commit(path, redundancy=redundancy), inherits=True)


def test_a_commit_that_inherits_needs_what_its_directory_gives_now(kit):
    kit.good(MakeDirectory("/safe", redundancy="copies=3"))
    kit.good(heir(kit, "/f"))
    kit.good(heir(kit, "/new/directories/f"))
    for path in ("/safe/f", "/safe/new/f"):
        refused = heir(kit, path)
        assert kit.bad(refused) == "outdated"
        assert kit.bad(Stat(path)) == "not-found"
        kit.good(change(refused, inherits=False))  # whoever says so by name may have it
    found = kit.good(heir(kit, "/safe/g", "copies=3"))
    assert found.attributes.redundancy == "copies=3"
    assert kit.bad(heir(kit, "/safe/g")) == "outdated"  # also of a file that is there
    kit.audit()


def test_an_outdated_commit_changes_nothing_and_its_answer_is_kept(kit):
    kit.good(MakeDirectory("/safe", redundancy="copies=3"))
    refused = heir(kit, "/safe/f")
    before = kit.dump("sessions", "replies")
    request = kit.request(refused)
    first = kit.one(request)
    assert first.code == "outdated"
    kit.good(Remove("/safe"))
    assert kit.one(request) == first
    kit.good(MakeDirectory("/safe", redundancy="copies=3"))
    kit.good(Remove("/safe"))
    assert kit.dump("sessions", "replies")["contents"] == before["contents"]
    kit.good(refused)


def test_requests_of_one_batch_see_the_directory_as_those_before_them_left_it(kit):
    made = MakeDirectory("/d", redundancy="copies=3")
    requests = [heir(kit, "/d/a"), Move("/d", "/e"), made, heir(kit, "/d/b"), heir(kit, "/d/c", "copies=3")]
    results = kit.run(*[kit.request(operation) for operation in requests])
    assert [getattr(result, "code", "") for result in results] == ["", "", "", "outdated", ""]


def test_a_content_that_was_published_is_never_called_outdated(kit):
    kit.good(MakeDirectory("/safe", redundancy="copies=3"))
    commit = kit.commit("/f")
    kit.good(commit)
    again = change(commit, path="/safe/f", inherits=True)
    assert kit.bad(again) == "unavailable"  # to begin anew would have its effect twice
    kit.good(Remove("/f"))
    assert kit.bad(again) == "unavailable"
    kit.collect()
    assert kit.bad(again) == "unavailable"
