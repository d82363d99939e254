"""What the catalog remembers between batches is true, however much of it is forgotten."""

from __future__ import annotations

import random

import pytest

from dsa_zmq.master.catalog import row_cache
from dsa_zmq.master.catalog.row_cache import UNKNOWN, RowCache
from dsa_zmq.master.catalog.tables import CHUNKS, NAMES, REPLIES, SESSIONS, NameRow, ReplyRow, SessionRow
from dsa_zmq.protocol.operations import CloseSession, MakeDirectory, Remove, Stat


def test_a_row_is_shown_as_it_was_committed_last_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "CACHE_ROWS", 8)
    rng, cache, committed = random.Random(3), RowCache(), {}
    hits = 0
    for moment in range(2_000):
        keys = [rng.randrange(20) for _ in range(rng.randrange(4))]
        for key in keys:
            committed[key] = rng.choice((None, SessionRow(key, b"c", 1, 0, 0, moment)))
        cache.follow(SESSIONS, keys, committed)
        shown = cache.get(SESSIONS, key := rng.randrange(20))
        assert shown is UNKNOWN or shown == committed[key]
        hits += shown is not UNKNOWN
    assert hits > 100


def test_rows_in_steady_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "CACHE_ROWS", 8)
    cache = RowCache()
    used = SessionRow(1, b"c", 1, 0, 0, 0)
    cache.follow(SESSIONS, [1], {1: used})
    for key in range(2, 100):
        cache.follow(SESSIONS, [key], {key: used._replace(session=key)})
        assert cache.get(SESSIONS, 1) == used


def test_names_of_files_are_not_kept() -> None:
    cache, row = RowCache(), NameRow(1, "f", 1, 1, 2, 1)
    cache.follow(NAMES, [row[:3]], {row[:3]: row})
    assert cache.get(NAMES, row[:3]) is UNKNOWN


def test_only_an_id_that_was_never_used_is_new_whatever_the_order_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "RECENT_IDS", 50)
    rng, cache, used = random.Random(4), RowCache(), set(range(1_000))
    assert not cache.is_new(CHUNKS, 1_001), "nothing is known yet"
    cache.begin_ids(CHUNKS, 1_000)
    found_new = 0
    for moment in range(1_000):
        ids = [1_000 + moment + rng.randrange(40) for _ in range(3)]
        for key in ids:
            if cache.is_new(CHUNKS, key):
                assert key not in used
                found_new += 1
        used.update(ids)
        cache.follow_ids(CHUNKS, ids)
        assert not any(cache.is_new(CHUNKS, key) for key in ids)
    assert found_new > 500


def test_a_group_that_was_changed_unseen_is_forgotten() -> None:
    cache, row = RowCache(), ReplyRow(1, 5, b"")
    cache.follow_groups(REPLIES, {1: {row[:2]: row}, 2: {}}, [])
    assert cache.group(REPLIES, 1) == {row[:2]: row}
    cache.follow_groups(REPLIES, {2: {}}, [(1, 5), (2, 6)])
    assert cache.group(REPLIES, 1) is None
    assert cache.group(REPLIES, 2) == {}


def test_groups_are_bounded_by_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "CACHE_ROWS", 100)
    cache = RowCache()
    for session in range(500):
        cache.follow_groups(
            REPLIES, {session: {(session, n): ReplyRow(session, n, b"") for n in range(session % 7)}}, []
        )
        known = [group for each in range(500) if (group := cache.group(REPLIES, each)) is not None]
        assert sum(max(1, len(group)) for group in known) <= 100


def test_ids_that_are_committed_in_any_order_are_used_once(kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "RECENT_IDS", 10)
    commits = [kit.commit(f"/f{n}") for n in range(60)]
    kit.random.shuffle(commits)
    found = [kit.good(commit) for commit in commits]
    before = kit.dump("sessions", "replies")
    assert [kit.good(commit) for commit in commits] == found
    assert kit.dump("sessions", "replies") == before


def test_answers_of_a_session_are_known_after_another_way_of_removing_some(kit) -> None:
    request = kit.request(MakeDirectory("/a"))
    kit.one(request)
    other = kit.open_session(b"another-client--")
    kit.one(kit.request(Remove("/a"), session=other))
    kit.one(kit.request(CloseSession(other), session=0))
    assert kit.bad(MakeDirectory("/b"), session=other) == "outcome-unknown"
    kit.one(request)
    assert kit.bad(Stat("/a")) == "not-found"
