"""Allocation: room that is reserved and comes back, ids that are never given twice, requests that make no sense."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.errors import DSAError, Invalid, NoSpace, Overloaded, TooFewNodes
from dsa_zmq.master import uploads as uploads_module
from dsa_zmq.model.ids import id_floor
from dsa_zmq.protocol.operations import Reallocate
from dsa_zmq.protocol.values import PlacedShard
from tests.unit.master.conftest import HUGE, LEASE_NS, MIB, TERM, Desk


def test_ids_are_of_this_term_and_never_given_twice_even_after_a_failure() -> None:
    desk = Desk()
    seen: set[int] = set()
    for _ in range(3):
        allocated = desk.allocate()
        ids = {allocated.upload, *(plan.chunk for plan in allocated.chunks)}
        assert len(ids) == 4
        assert allocated.upload == min(ids)  # so that the horizon, kept below live uploads, is below their chunks
        assert not ids & seen
        seen |= ids
        with pytest.raises(TooFewNodes):
            desk.allocate("copies=5")
    assert all(id_floor(TERM) < number < id_floor(TERM + 1) for number in seen)


def test_allocated_room_is_taken_until_it_is_staged() -> None:
    desk = Desk(nodes=2, free=3 * MIB)
    allocated = desk.allocate()
    assert desk.reserved() == {1: 2 * MIB + 5, 2: 2 * MIB + 5}
    with pytest.raises(NoSpace):
        desk.allocate()
    desk.uploads.staged(allocated.upload, [allocated.chunks[0].chunk, 12345], 1)
    assert desk.reserved() == {1: MIB + 5, 2: MIB + 5}
    desk.allocate(lengths=[MIB])


@pytest.mark.parametrize("ending", ["commit", "lease"])
def test_allocated_room_comes_back_when_the_upload_ends(ending: str) -> None:
    desk = Desk()
    allocated = desk.allocate()
    if ending == "commit":
        desk.uploads.end(allocated.upload)
    else:
        assert desk.uploads.expire(LEASE_NS - 1) == []
        assert desk.uploads.expire(LEASE_NS) == [allocated.upload]
    assert desk.reserved() == {}
    assert desk.uploads.statistics() == {"uploads": 0, "chunks": 0, "bytes": 0}


def test_a_request_that_does_not_fit_as_a_whole_changes_nothing() -> None:
    desk = Desk(nodes=2, free=3 * MIB)
    with pytest.raises(NoSpace):
        desk.allocate(lengths=[MIB] * 4)
    assert desk.reserved() == {}
    assert len(desk.uploads) == 0


def test_too_few_nodes_are_said_with_what_would_help() -> None:
    with pytest.raises(TooFewNodes, match="another node"):
        Desk(nodes=1).allocate()


@pytest.mark.parametrize(
    "changes",
    [
        *({"upload": number} for number in HUGE),
        *({"first": number} for number in HUGE),
        *({"anchor": number} for number in HUGE),
        *({"chunk_bytes": number} for number in (0, 5, *HUGE)),
        *({"lengths": lengths} for lengths in ([], [0], [-1], [MIB + 1], [1] * 257)),
        {"redundancy": "ec=1+2"},
        {"redundancy": "copies=0"},
        {"avoid": [1] * 1001},
    ],
)
def test_an_allocation_that_makes_no_sense_is_refused_and_changes_nothing(changes: dict[str, Any]) -> None:
    desk = Desk()
    with pytest.raises(Invalid):
        desk.allocate(**changes)
    assert desk.reserved() == {}


def test_what_one_upload_and_all_of_them_hold_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "MAX_UPLOAD_CHUNKS", 5)
    monkeypatch.setattr(uploads_module, "MAX_CHUNKS", 10)
    monkeypatch.setattr(uploads_module, "MAX_UPLOADS", 3)
    desk = Desk()
    upload = desk.allocate().upload
    with pytest.raises(Overloaded, match="one upload"):
        desk.allocate(upload=upload)
    desk.allocate()
    desk.allocate()
    with pytest.raises(Overloaded, match="chunks"):
        desk.allocate()
    with pytest.raises(Overloaded, match="uploads"):
        desk.allocate(lengths=[5])
    desk.uploads.end(upload)
    desk.allocate()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_to_uploads_the_reserved_room_adds_up(seed: int) -> None:
    draw = random.Random(seed)
    desk = Desk(nodes=5)
    live: dict[int, Any] = {}
    now = 0
    for _ in range(30):
        now += draw.randrange(100)
        for node in range(1, 6):
            desk.add(node, 100 * MIB)
        what = draw.choice(("allocate", "more", "stage", "end", "expire", "move"))
        chosen = draw.choice(sorted(live)) if live else 0
        with contextlib.suppress(DSAError):
            if what == "allocate" or not chosen:
                allocated = desk.allocate(now=0, lengths=[draw.randint(1, MIB) for _ in range(3)])
                live[allocated.upload] = allocated
            elif what == "more":
                live[chosen] = desk.allocate(upload=chosen)
            elif what == "stage":
                desk.uploads.staged(chosen, [plan.chunk for plan in live[chosen].chunks[:2]], now)
            elif what == "end":
                desk.uploads.end(chosen)
            elif what == "expire":
                desk.uploads.expire(now)
            else:
                plan = live[chosen].chunks[-1]
                state = desk.uploads.get(chosen)
                size = state.chunks[plan.chunk].shard_bytes if state and plan.chunk in state.chunks else 1
                desk.reallocate(Reallocate(chosen, [PlacedShard(plan.chunk, 1, plan.places[1].node)], [size], [[]]))
        desk.uploads.check_invariants()
    for upload in list(live):
        desk.uploads.end(upload)
    assert desk.reserved() == {}
