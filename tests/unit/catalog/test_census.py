"""Health from the tallies and files by a walk: both are what a look at every place would find."""

from __future__ import annotations

import random

import pytest

from dsa_zmq.errors import Conflict, Invalid
from dsa_zmq.master.catalog.census_rules import Present
from dsa_zmq.master.catalog.health import TakeTally
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.tables import CHUNKS, PLACES
from dsa_zmq.master.census import MOST_STANDS, Census, Search, Searches, Walk
from dsa_zmq.master.health import count
from dsa_zmq.model.holders import Safety, safety
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.protocol.operations import Commit, Copy, FilesAtRisk, MakeDirectory

STATES = [state.name.lower() for state in Safety]


def filled(kit, seed=0):
    """Files in a tree, of all redundancies and sizes, one a copy of another; their chunks. Of some all copies are of one
    index: they stand in for each other."""
    rng = random.Random(seed)
    chunks = {}
    for name in ("a", "a/b", "c"):
        kit.good(MakeDirectory(f"/{name}"))
    for number in range(30):
        folder = rng.choice(("", "/a", "/a/b", "/c"))
        redundancy = f"copies={rng.randint(1, 4)}"
        commit = kit.commit(f"{folder}/f{number}", rng.randint(0, 20_000), redundancy=redundancy)
        kit.good(commit)
        chunks[commit.path] = [(each.chunk, redundancy) for each in commit.chunks]
    for held in chunks.values():
        for chunk, _ in held[::2]:
            kit.decide(lambda rows, chunk=chunk: all_alike(rows, chunk))
    kit.good(Copy("/" + next(path for path in chunks if chunks[path])[1:], "/copied"))
    chunks["/copied"] = next(each for each in chunks.values() if each)
    return chunks


def all_alike(rows, chunk):
    before = rows.group(PLACES, chunk)
    change_places(rows, [PlaceChange(rows.get(CHUNKS, chunk), before, [row._replace(shard=0) for row in before])])


def states_by_places(kit, chunks, there):
    """The slow way: for each file its chunks by state."""
    nodes = {}
    for chunk, node, *_ in kit.dump()["places"]:
        nodes.setdefault(chunk, set()).add(node)
    expected = {}
    for path, held in chunks.items():
        sums = [0] * 4
        for chunk, redundancy in held:
            sums[safety(len(nodes[chunk] & there), parse_redundancy(redundancy))] += 1
        expected[path] = tuple(sums)
    return expected


def walked(kit, there, monkeypatch=None):
    """All files as a census sees them."""
    walk, found = Walk(), {}
    while walk.waiting:
        taken = kit.one(walk.slice(Present(there, there)))
        for file in taken.files:
            assert walk.path_of(file.name) not in found
            found[walk.path_of(file.name)] = file.chunks
        walk = walk.after(taken)
    return found


@pytest.mark.parametrize("there", [{1, 2, 3, 4}, {1, 3}, {2}, set()], ids=str)
def test_health_from_the_tallies_is_health_by_places(kit, there):
    chunks = filled(kit)
    there = frozenset(there)
    del chunks["/copied"]  # no chunks of its own
    sums = [sum(column) for column in zip(*states_by_places(kit, chunks, there).values(), strict=True)]
    tally = kit.one(TakeTally())
    assert count(tally, Present(there, there)).chunks == sums
    assert tally.files == 31


@pytest.mark.parametrize(("names", "at_once"), [(250, 1000), (3, 1000), (250, 2), (1, 1)])
def test_the_census_sees_every_file_once_however_it_is_sliced(kit, monkeypatch, names, at_once):
    monkeypatch.setattr("dsa_zmq.master.catalog.census_rules.NAMES_AT_ONCE", names)
    monkeypatch.setattr("dsa_zmq.master.catalog.census_rules.CHUNKS_AT_ONCE", at_once)
    chunks = filled(kit, 1)
    there = frozenset({1, 4})
    assert walked(kit, there) == states_by_places(kit, chunks, there)


def test_a_slice_may_end_within_a_file(kit, monkeypatch):
    monkeypatch.setattr("dsa_zmq.master.catalog.census_rules.CHUNKS_AT_ONCE", 4)  # a page
    kit.good(kit.commit("/before", 4096, redundancy="copies=4"))
    upload, big = kit.new_id(), 16 << 20
    for page in range(3):
        kit.good(kit.stage(upload, page))
    kit.good(Commit(upload, "/large", 12 * big, big, 12, "copies=2", [], 5))
    kit.good(kit.commit("/small", 4096, redundancy="copies=4"))
    there = frozenset({1, 2, 3})
    slices, walk = [], Walk()
    while walk.waiting:
        taken = kit.one(walk.slice(Present(there, there)))
        slices.append([file.name for file in taken.files])
        walk = walk.after(taken)
    assert [] in slices
    found = walked(kit, there)
    assert sum(found["/large"]) == 12
    assert found["/before"] == found["/small"] == (0, 1, 0, 0)
    places = kit.dump()["places"]
    large = {chunk for chunk, _, shard, *_ in places} - {chunk for chunk, _, shard, *_ in places if shard > 1}
    counts = [sum(chunk == each and node in there for each, node, *_ in places) for chunk in large]
    assert found["/large"] == (counts.count(2), 0, counts.count(1), counts.count(0))


@pytest.mark.parametrize("limit", [1, 4, 1000])
@pytest.mark.parametrize("state", STATES[1:])
def test_files_at_risk_are_named_page_by_page_and_a_repeated_question_is_answered_again(kit, state, limit):
    chunks = filled(kit, 2)
    there = frozenset({2, 3})
    searches, found, after = Searches(), [], 0
    while True:
        pages = []
        for serial in (1, 2):  # the same question twice
            search = searches.begin(serial, FilesAtRisk(state, after, limit))
            while not search.take(kit.one(search.walk.slice(Present(there, there)))):
                pass
            pages.append(searches.end(serial))
        assert pages[0].files == pages[1].files
        assert len(pages[0].files) <= limit
        found += pages[0].files
        after = pages[0].next
        if not after:
            break
    least = STATES.index(state)
    expected = {}
    for path, sums in states_by_places(kit, chunks, there).items():
        worst = max((index for index in range(4) if sums[index]), default=0)
        if worst >= least:
            expected[path] = (STATES[worst], sums[worst])
    assert {file.path: (file.state, file.chunks) for file in found} == expected
    assert len(found) == len(expected)


def test_an_answer_ends_before_it_is_too_large_for_a_message_and_after_some_slices(kit, monkeypatch):
    filled(kit, 3)
    monkeypatch.setattr("dsa_zmq.master.census.MOST_BYTES", 5)
    search = Search(Walk(), Safety.LOST, 1000)
    nobody = Present(frozenset(), frozenset())
    assert search.take(kit.one(search.walk.slice(nobody)))
    assert 1 <= len(search.found) <= 3
    monkeypatch.setattr("dsa_zmq.master.census.MOST_SLICES", 1)
    everybody = Present(frozenset({1, 2, 3, 4}), frozenset())
    search = Search(Walk(), Safety.LOST, 1000)
    assert search.take(kit.one(search.walk.slice(everybody)))
    assert search.walk.waiting


def test_an_old_stand_is_refused_and_an_unknown_state_too():
    searches = Searches()
    with pytest.raises(Invalid):
        searches.begin(1, FilesAtRisk("healthy"))
    with pytest.raises(Conflict):
        searches.begin(1, FilesAtRisk("lost", 5))
    for _ in range(MOST_STANDS + 1):
        searches.begin(1, FilesAtRisk("lost"))
        last = searches.end(1).next
    searches.begin(1, FilesAtRisk("lost", last))
    with pytest.raises(Conflict):
        searches.begin(1, FilesAtRisk("lost", 1))
    assert searches.serials() == [1]


def test_a_census_rests_ten_times_as_long_as_it_took(kit):
    filled(kit, 4)
    second = 10**9
    census = Census()
    walk, now = census.begin(0), 0
    assert census.begin(0) is None
    while walk is not None:
        now += second
        walk = census.take(kit.one(walk.slice(Present(frozenset(), frozenset()))), now)
    assert census.last is not None
    assert sum(census.last.files) == 31
    assert census.begin(now + 10 * now - 1) is None
    assert census.begin(now + 10 * now) is not None
    census.give_up()
    assert census.begin(now + 10 * now) is not None
