"""Sentences of ``dsa explain``: where, what it survives, what it does not."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest

from dsa_zmq.model.explain import Layout, NodeSeen, explain, weakest


def nodes(*states: str, zones: str = "", hosts: str = "") -> dict[int, NodeSeen]:
    return {
        number: NodeSeen(
            f"node-{number}", state, zones[number - 1 : number], hosts[number - 1 : number] or f"h{number}"
        )
        for number, state in enumerate(states, 1)
    }


def layout(redundancy: str, *chunks: str, size: int = 2_500_000) -> Layout:
    return Layout("/f", size, redundancy, [tuple(frozenset(map(int, g.split(","))) for g in c.split()) for c in chunks])


UP4 = ("up",) * 4


@pytest.mark.parametrize(
    ("given", "seen", "said"),
    [
        (
            layout("copies=2", "1 2", "1 2", "3 2"),
            nodes(*UP4),
            [
                "/f: 3 chunks with 2.5 MB, stored with copies=2.",
                "Chunks 1 to 2 lie on node-1 and node-2.",
                "Chunk 3 lies on node-2 and node-3.",
                "It survives the loss of any one node; not of node-1 and node-2 together, "
                "nor of node-2 and node-3 together.",
            ],
        ),
        (
            layout("copies=1", "4"),
            nodes(*UP4),
            [
                "/f: 1 chunk with 2.5 MB, stored with copies=1.",
                "Chunk 1 lies on node-4.",
                "It does not survive the loss of node node-4.",
            ],
        ),
        (
            layout("copies=3", "1 2 3"),
            nodes("down", "up", "up"),
            [
                "/f: 1 chunk with 2.5 MB, stored with copies=3.",
                "Chunk 1 lies on node-1 (down), node-2 and node-3.",
                "1 chunk of 1 has fewer shards than copies=3 asks for.",
                "It survives the loss of any one node; not of node-2 and node-3 together.",
            ],
        ),
        (
            layout("copies=2", "1 2", "2 3"),
            nodes("up", "down", "up"),
            [
                "/f: 2 chunks with 2.5 MB, stored with copies=2.",
                "Chunk 1 lies on node-1 and node-2 (down).",
                "Chunk 2 lies on node-2 (down) and node-3.",
                "2 chunks of 2 have fewer shards than copies=2 asks for. At least one of them has no redundancy left.",
                "It does not survive the loss of node node-1, nor of node node-3.",
            ],
        ),
        (
            layout("copies=2", "1 2", "3 4"),
            nodes("down", "down", "up", "up"),
            [
                "/f: 2 chunks with 2.5 MB, stored with copies=2.",
                "Chunk 1 lies on node-1 (down) and node-2 (down).",
                "Chunk 2 lies on node-3 and node-4.",
                "It cannot be read: of 1 of 2 chunks too few shards are there.",
            ],
        ),
        (
            layout("copies=2", "1 2", "1 3"),
            nodes("up", "up", "up", zones="aab"),
            [
                "/f: 2 chunks with 2.5 MB, stored with copies=2.",
                "Chunk 1 lies on node-1 and node-2.",
                "Chunk 2 lies on node-1 and node-3.",
                "It survives the loss of any one node; not of node-1 and node-2 together, "
                "nor of node-1 and node-3 together.",
                "It does not survive the loss of zone a.",
            ],
        ),
        (
            layout("copies=2", "1,3 2"),
            nodes("up", "up", "up", hosts="xyx"),
            [
                "/f: 1 chunk with 2.5 MB, stored with copies=2.",
                "Chunk 1 lies on node-1, node-2 and node-3.",
                "It survives the loss of any two nodes; not of node-1, node-2 and node-3 together.",
                "It survives the loss of any one host; not of (node-1, node-3) and (node-2) together.",
            ],
        ),
        (
            Layout("/f", 0, "copies=2", []),
            nodes("up"),
            ["/f has no bytes: only the master knows it, and no node can lose it."],
        ),
        (
            layout("copies=2", "1 7"),
            nodes("suspect"),
            [
                "/f: 1 chunk with 2.5 MB, stored with copies=2.",
                "Chunk 1 lies on node number 7 (unknown) and node-1 (suspect).",
                "1 chunk of 1 has fewer shards than copies=2 asks for. At least one of them has no redundancy left.",
                "It does not survive the loss of node node-1.",
            ],
        ),
    ],
)  # fmt: skip
def test_sentences(given: Layout, seen: dict[int, NodeSeen], said: list[str]) -> None:
    assert explain(given, seen) == said


def test_a_copy_that_is_there_twice_is_two_copies() -> None:
    assert explain(layout("copies=2", "1,3 2"), nodes("up", "down", "up"))[2:] == [
        "It survives the loss of any one node; not of node-1 and node-3 together."
    ]


def test_what_could_be_spread_better_is_said() -> None:
    seen = nodes(*UP4, zones="aabb")
    seen[3] = dataclasses.replace(seen[3], takes=True)
    said = explain(layout("copies=2", "1 2", "1 3", "2 1"), seen)[-1]
    assert said.startswith("2 chunks of 3 could be spread better: shards of each share a zone or a host")
    assert not any("better" in line for line in explain(layout("copies=2", "1 2"), seen, lost=[4]))
    assert not any("better" in line for line in explain(layout("copies=2", "1 2"), nodes(*UP4, zones="aabb")))
    assert not any("better" in line for line in explain(layout("copies=2", "1"), seen))


def test_if_a_node_were_lost() -> None:
    said = explain(layout("copies=2", "1 2"), nodes(*UP4), lost=[1])
    assert "Chunk 1 lies on node-1 (lost) and node-2." in said
    assert said[-1] == "It does not survive the loss of node node-2."
    assert explain(layout("copies=2", "1 2"), nodes(*UP4), lost=[1, 2])[-1].startswith("It cannot be read")


def test_long_lists_are_cut_and_counted() -> None:
    chunks = ["1 2" if number % 2 else "3 4" for number in range(40)]
    said = explain(layout("copies=2", *chunks), nodes(*UP4))
    assert said[1].startswith("Chunks 1, 3, 5, 7, 9, ... (20 chunks in all) lie on ")
    many = [f"{a} {b}" for a, b in itertools.combinations(range(1, 9), 2)]
    assert explain(layout("copies=2", *many), nodes(*["up"] * 8))[-1].endswith(", and 23 more such sets.")


def test_the_weakest_sets_are_those_that_trying_all_of_them_finds() -> None:
    rng = random.Random(3)
    for _ in range(60):
        needed = rng.randint(1, 3)
        ways = []
        for _ in range(rng.randint(1, 4)):
            members = rng.sample(range(8), rng.randint(needed, 6))
            ways.append((*(frozenset({node}) for node in members[:-1]), frozenset([members[-1], 9])))
        for size in range(1, 10):
            fatal = {
                frozenset(chosen)
                for chosen in itertools.combinations([*range(8), 9], size)
                if any(sum(not group <= set(chosen) for group in groups) < needed for groups in ways)
            }
            if fatal:
                assert weakest(ways, needed) == (size, fatal)
                break


# --- codes ------------------------------------------------------------------------------------------------------------


def test_of_a_code_it_says_how_many_shards_are_enough_and_which_losses_are_final() -> None:
    said = explain(layout("ec=2+1", "1 2 3", "4 2 3"), nodes(*UP4))
    assert said[0] == "/f: 2 chunks with 2.5 MB, stored with ec=2+1: any 2 of 3 shards are enough to read a chunk."
    assert said[-1].startswith("It survives the loss of any one node; not of node-1 and node-2 together, nor of ")
    assert explain(layout("ec=2+1", "1 2 3"), nodes("down", "down", "up"))[-1] == (
        "It cannot be read: of 1 of 1 chunk too few shards are there."
    )


def test_zones_that_hold_more_of_a_code_than_may_be_lost_are_said() -> None:
    wide = layout("ec=4+2", "1 2 3 4 5 6")
    assert "It survives the loss of any one zone; not of a and b together, nor of a and c together" in "\n".join(
        explain(wide, nodes(*("up",) * 6, zones="aabbcc"))
    )
    assert "It does not survive the loss of zone a, nor of zone b." in explain(
        wide, nodes(*("up",) * 6, zones="aaabbb")
    )


def test_why_a_small_file_is_kept_as_copies_is_said_and_of_no_other() -> None:
    small = dataclasses.replace(layout("copies=3", "1 2 3", size=1000), chunk_bytes=1 << 20, wanted="ec=4+2")
    (why,) = [each for each in explain(small, nodes(*UP4)) if "ec=4+2" in each]
    assert why.startswith(
        "Its directory says ec=4+2, but what has at most 64 KiB and fills no chunk is kept as copies=3,"
    )
    others = [
        dataclasses.replace(small, redundancy="copies=2", chunks=small.chunks),
        dataclasses.replace(small, size=70_000),
        dataclasses.replace(small, wanted="copies=3"),
        dataclasses.replace(small, wanted=""),
    ]
    assert not any("kept as" in said for each in others for said in explain(each, nodes(*UP4)))
