"""What is known of the shards of one chunk: whom to ask next, and when it is hopeless to go on."""

from __future__ import annotations

import pytest

from dsa_zmq.client.effects import Carry, Effect, Join, Release, Verify
from dsa_zmq.client.gathering import Gathering
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.tasks import Read
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.protocol.values import ChunkPlaces, Place

COPIES, CODE = parse_redundancy("copies=3"), parse_redundancy("ec=2+2")
LENGTH = 100
HASHES = b"".join(bytes([number]) * 32 for number in range(5))  # of the chunk, and of its four shards


def row(*nodes: int) -> ChunkPlaces:
    return ChunkPlaces(7, LENGTH, HASHES, [Place(node, index, b"") for index, node in enumerate(nodes)])


def gathering(redundancy: Redundancy, *nodes: int) -> Gathering:
    return Gathering(1, 0, row(*nodes), redundancy, 0)


def reads(effects: list[Effect]) -> list[Read]:
    return [effect.task for effect in effects if isinstance(effect, Carry) and isinstance(effect.task, Read)]


def go_on(chunk: Gathering, suspicion: Suspicion | None = None) -> list[int]:
    """The nodes that are asked now."""
    return [read.node for read in reads(chunk.go_on(suspicion or Suspicion(), 0))]


def fail_all(chunk: Gathering, code: str) -> None:
    while go_on(chunk):
        for node in list(chunk.asked):
            chunk.fail(node, code)
    chunk.rest(0)


def name(node: int) -> str:
    return f"n{node}"


@pytest.mark.parametrize("redundancy", [COPIES, CODE])
def test_damage_in_two_looks_at_the_catalog_is_enough(redundancy: Redundancy) -> None:
    chunk = gathering(redundancy, 1, 2, 3, 4)
    fail_all(chunk, "corrupt")
    assert not chunk.hopeless
    chunk.renew(row(1, 2), 0)
    fail_all(chunk, "corrupt")
    assert chunk.hopeless


@pytest.mark.parametrize("redundancy", [COPIES, CODE])
def test_damage_that_the_catalog_has_learned_of_meanwhile_is_damage_too(redundancy: Redundancy) -> None:
    """Its places are named no more."""
    chunk = gathering(redundancy, 1, 2)
    fail_all(chunk, "corrupt")
    chunk.renew(row(), 0)
    fail_all(chunk, "")
    assert chunk.hopeless


@pytest.mark.parametrize("redundancy", [COPIES, CODE])
def test_two_looks_at_a_catalog_that_knows_nobody_are_enough(redundancy: Redundancy) -> None:
    chunk = gathering(redundancy)
    chunk.rest(0)
    assert not chunk.hopeless
    chunk.renew(row(), 0)
    chunk.rest(0)
    assert chunk.hopeless


def test_a_node_that_does_not_answer_may_have_a_good_copy() -> None:
    copies = gathering(COPIES, 1, 2)
    for _ in range(5):
        go_on(copies)
        copies.fail(1, "corrupt")
        go_on(copies)
        copies.fail(2, "unavailable")
        copies.rest(0)
        copies.renew(row(2), 0)
    assert not copies.hopeless


@pytest.mark.parametrize(("unreachable", "hopeless"), [(1, False), (0, True)])
def test_a_code_is_hopeless_when_too_few_shards_are_good_or_may_be(unreachable: int, hopeless: bool) -> None:
    code = gathering(CODE, 1, 2, 3, 4)
    keep(code, go_on(code)[0])
    for _ in range(3):
        while code.asked or go_on(code):
            node = next(iter(code.asked))
            code.fail(node, "unavailable" if node == 4 and unreachable else "corrupt")
        code.rest(0)
        code.renew(row(0, 2, 3, 4), 0)
    assert code.hopeless is hopeless
    assert code.story(name).startswith("1 of 2 needed shards; ")
    assert f"n4: {'unavailable' if unreachable else 'corrupt'}" in code.story(name)


def keep(code: Gathering, node: int) -> list[Effect]:
    """The shard that was asked of this node comes, and is good."""
    read = Read(1, (0, code.asked[node]), node, code.shard_bytes, None)  # type: ignore[arg-type]
    (verify,) = code.came(read, bytes([node]))
    assert isinstance(verify, Verify)
    assert verify.hash == bytes([1 + read.slot[1]]) * 32
    code.checked(read)
    return code.keep(read, bytes([node]))


def test_as_many_shards_are_asked_for_as_are_needed_and_one_more_for_each_that_fails_or_is_late() -> None:
    code = gathering(CODE, 1, 2, 3, 4)
    assert go_on(code) == [1, 2]
    assert go_on(code) == []
    code.is_late(1)
    assert go_on(code) == [3]
    assert keep(code, 3) == []
    code.fail(2, "unavailable")
    assert go_on(code) == [4]
    (join,) = keep(code, 4)
    assert isinstance(join, Join)
    assert join.shards == {2: b"\3", 3: b"\4"}
    late = Read(1, (0, 0), 1, code.shard_bytes, None)  # type: ignore[arg-type]
    assert code.came(late, b"\1") == [Release(late)]


def test_of_copies_a_third_is_asked_when_the_first_is_late_and_the_second_fails() -> None:
    copies = gathering(COPIES, 1, 2, 3)
    assert go_on(copies) == [1]
    copies.is_late(1)
    assert go_on(copies) == [2]
    copies.fail(2, "unavailable")
    assert go_on(copies) == [3]


def test_what_came_beyond_what_is_needed_is_verified_only_if_it_is_needed_after_all() -> None:
    code = gathering(CODE, 1, 2, 3, 4)
    go_on(code)
    for node in (1, 2):
        code.is_late(node)
    assert go_on(code) == [3, 4]
    first, second, third = (Read(1, (0, at), at + 1, code.shard_bytes, None) for at in range(3))  # type: ignore[arg-type]
    assert [type(effect) for read in (first, second) for effect in code.came(read, b"x")] == [Verify, Verify]
    assert code.came(third, b"y") == []
    code.checked(first)
    code.fail(1, "corrupt")
    (verify,) = code.go_on(Suspicion(), 0)
    assert isinstance(verify, Verify)
    assert verify.task is third


def test_suspected_nodes_are_asked_last() -> None:
    suspicion = Suspicion()
    suspicion.accuse(1, 0)
    code = gathering(CODE, 1, 2, 3, 4)
    assert go_on(code, suspicion) == [2, 3]
    code.fail(2, "unavailable")
    code.fail(3, "unavailable")
    assert go_on(code, suspicion) == [4, 1]


def test_a_shard_that_is_there_is_not_asked_for_at_another_node() -> None:
    places = [Place(1, 0, b""), Place(2, 0, b""), Place(3, 1, b"")]
    code = Gathering(1, 0, ChunkPlaces(7, LENGTH, HASHES, places), CODE, 0)
    assert go_on(code) == [1, 3]
    keep(code, 1)
    code.fail(3, "unavailable")
    assert go_on(code) == []
    code = Gathering(1, 0, ChunkPlaces(7, LENGTH, HASHES, places), CODE, 0)
    go_on(code)
    code.fail(1, "unavailable")
    assert go_on(code) == [2]


def twice(*nodes_of: tuple[int, int], **options: tuple[int, int]) -> Gathering:
    """A chunk whose shards are on these nodes: (node, shard index)."""
    places = [Place(node, index, b"") for node, index in nodes_of]
    return Gathering(1, 0, ChunkPlaces(7, LENGTH, HASHES, places), CODE, 0, **options)


def read_of(code: Gathering, node: int, index: int) -> Read:
    return Read(1, (0, index), node, code.shard_bytes, None)  # type: ignore[arg-type]


def test_for_a_late_shard_another_holder_of_the_same_is_asked_before_parity() -> None:
    code = twice((1, 0), (2, 1), (5, 1), (3, 2), (4, 3))
    assert go_on(code) == [1, 2]
    code.is_late(2)
    assert go_on(code) == [5]
    code.is_late(5)
    assert go_on(code) == [3]
    keep(code, 1)
    (join,) = keep(code, 5)
    assert isinstance(join, Join)
    assert sorted(join.shards) == [0, 1]


def test_a_shard_that_comes_twice_counts_once() -> None:
    code = twice((1, 0), (2, 1), (5, 1), (3, 2))
    go_on(code)
    code.is_late(2)
    assert go_on(code) == [5]
    assert keep(code, 2) == []
    code.fail(1, "unavailable")
    assert go_on(code) == [3], "what the second holder has is here already"
    again = read_of(code, 5, 1)
    assert code.came(again, b"x") == [Release(again)]
    assert code.at_work
    code.fail(3, "unavailable")
    assert not code.at_work


WITHIN = {"within": (10, 20)}  #: bytes of the first of two shards


def test_for_some_bytes_only_the_shards_that_have_them_are_asked() -> None:
    code = twice((1, 0), (2, 1), (3, 2), (4, 3), **WITHIN)
    assert go_on(code) == [1]
    assert not code.has_own
    assert keep(code, 1) == []
    assert code.has_own
    assert code.own() == (0, [b"\1"])
    assert go_on(code) == []
    last = twice((1, 0), (2, 1), (3, 2), (4, 3), within=(64, LENGTH))
    assert go_on(last) == [2]
    assert twice((1, 0), (2, 1), (3, 2), within=(63, 65)).go_on(Suspicion(), 0) != []
    both = twice((1, 0), (2, 1), (3, 2), within=(63, 65))
    assert go_on(both) == [1, 2]


def test_if_such_a_shard_cannot_be_had_as_many_are_asked_as_make_the_chunk() -> None:
    gone = twice((2, 1), (3, 2), (4, 3), **WITHIN)
    assert go_on(gone) == [2, 3]
    failed = twice((1, 0), (2, 1), (3, 2), (4, 3), **WITHIN)
    go_on(failed)
    failed.fail(1, "corrupt")
    assert go_on(failed) == [2, 3]
    keep(failed, 2)
    (join,) = keep(failed, 3)
    assert isinstance(join, Join)
    suspicion = Suspicion()
    suspicion.accuse(1, 0)
    suspected = twice((1, 0), (2, 1), (3, 2), (4, 3), **WITHIN)
    assert go_on(suspected, suspicion) == [2, 3]
    behind = twice((2, 1), (3, 2), (4, 3), (1, 0), **WITHIN)
    assert go_on(behind) == [2, 3], "the master takes that node for dead"


def test_a_late_shard_with_the_bytes_may_still_be_the_first() -> None:
    code = twice((1, 0), (2, 1), (3, 2), (4, 3), **WITHIN)
    go_on(code)
    code.is_late(1)
    assert go_on(code) == [2, 3]
    keep(code, 2)
    assert keep(code, 1) == []
    assert code.has_own
    held = twice((1, 0), (5, 0), (2, 1), (3, 2), **WITHIN)
    go_on(held)
    held.is_late(1)
    assert go_on(held) == [5]


def test_shards_that_do_not_make_the_chunk_are_blamed_on_parity_and_others_asked() -> None:
    code = gathering(CODE, 1, 2, 3, 4)
    go_on(code)
    code.fail(1, "not-found")
    go_on(code)
    keep(code, 2)
    (join,) = keep(code, 3)
    assert isinstance(join, Join)
    code.misjoined()
    assert go_on(code) == [4]
    assert code.failed == {1: "not-found", 3: "corrupt"}
