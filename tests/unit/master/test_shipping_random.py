"""Shipping under random losses, duplicates, departures, returns and restarts: what is said to be safe is held, and all of it
arrives in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.model.records import CHANGES
from dsa_zmq.protocol.volumes import Shipped
from tests.unit.master.harbour import Harbour, Log

NODES = 5
WINDOW = 3_000


@dataclass
class Dice:
    """Losses as the example says, then none."""

    losses: list[bool]

    def __call__(self) -> bool:
        return bool(self.losses) and self.losses.pop()


STEPS = st.one_of(
    st.tuples(st.just("change"), st.integers(1, 400), st.integers(1, 3)),
    st.tuples(st.just("deliver"), st.integers(1, NODES), st.integers(1, 8)),
    st.tuples(st.just("work"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 20), st.just(0)),
    st.tuples(st.just("leave"), st.integers(1, NODES), st.just(0)),
    st.tuples(st.just("come"), st.integers(1, NODES), st.just(0)),
    st.tuples(st.just("double"), st.integers(1, NODES), st.just(0)),
    st.tuples(st.just("damage"), st.integers(1, NODES), st.just(0)),
    st.tuples(st.just("wipe"), st.integers(1, NODES), st.just(0)),
    st.tuples(st.just("remove"), st.integers(1, NODES), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
)


def carry_out(harbour: Harbour, step: tuple[str, int, int], harmed: set[int]) -> None:
    """``harmed``: nodes that have lost what they had told of."""
    what, first, second = step
    match what:
        case "change":
            harbour.change(first, second)
        case "deliver":
            for _ in range(second):
                harbour.deliver(first)
        case "work":
            for _ in range(first):
                harbour.work()
        case "wait":
            harbour.wait(first / 4)
        case "leave" if first in harbour.seen:
            harbour.leave(first)
        case "come" if first in harbour.seen:
            harbour.come(first)
        case "double" if harbour.lines.get(first):
            harbour.lines[first].appendleft(harbour.lines[first][0])
        case "damage":
            harmed.add(first)
            for kept in harbour.keepers[first].volumes.values():
                kept.damage = "a record is damaged"
        case "wipe":
            harmed.add(first)
            harbour.keepers[first].volumes.clear()
        case "remove" if len(harbour.seen) > 3 and first in harbour.seen:
            del harbour.seen[first]
            harbour.lines.pop(first, None)
            harbour.see()
        case "restart":
            harbour.start()


def check(harbour: Harbour, safe: int, harmed: set[int]) -> None:
    """Of what became safe in this step, the nodes really hold it."""
    ship = harbour.ship
    ship.check_invariants()
    assert ship.window._held <= WINDOW or len(ship.window._records) == 1
    for volume in ship.volumes():
        for copy in volume.copies.values():
            assert copy.out_bytes <= (2 << 20) + (512 << 10)
    if ship.safe > safe:
        holding = harbour.holding(ship.safe)
        assert len(holding | harmed) >= ship.enough, f"{ship.safe} is on {holding} only"


@settings(max_examples=settings.default.max_examples, deadline=None)
@given(st.lists(STEPS, max_size=60), st.lists(st.booleans(), max_size=40), st.integers(1, NODES))
def test_what_is_safe_is_held_and_all_arrives(
    steps: list[tuple[str, int, int]], losses: list[bool], nodes: int
) -> None:
    harbour = Harbour(nodes, Log(rows=4), window=WINDOW)
    for node in range(nodes + 1, NODES + 1):  # they may be named before they have come
        harbour.keepers.setdefault(node, type(harbour.keepers[1])())
    harbour.lose = Dice(losses)
    harbour.start()
    harmed: set[int] = set()
    for step in steps:
        safe = harbour.ship.safe if step[0] != "restart" else -1
        carry_out(harbour, step, harmed)
        check(harbour, safe, harmed)
    harbour.lose = lambda: False
    harbour.come(*harbour.seen)
    position = harbour.change()
    harbour.wait(200, step_s=1.0)  # time enough for what makes volumes rare
    assert harbour.ship.safe == position, f"{harbour.ship!r}"
    assert len(harbour.holding(position) & harbour.seen.keys()) >= harbour.ship.enough
    for keeper in harbour.keepers.values():
        for volume, kept in keeper.volumes.items():
            log = [record.position for record in keeper.records(volume) if record.kind == CHANGES]
            assert kept.chain.head is not None
            begun = kept.chain.head.position
            assert log == list(range(begun + 1, begun + 1 + len(log))), "in order, without a gap"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50), st.integers(-1, 50), st.booleans()), max_size=30))
def test_no_answer_of_a_node_makes_safe_what_was_not_committed(words: list[tuple[int, int, int, bool]]) -> None:
    harbour = Harbour(3).start()
    harbour.wait(1)
    harbour.change()
    assert harbour.ship.current is not None
    copies: Any = harbour.ship.current.copies
    for node, number, position, complete in words:
        honest = harbour.keepers[node].state(harbour.ship.current.volume) if harbour.ship.current else None
        if honest is None or node not in copies:
            continue
        lie = msgspec.structs.replace(honest, position=position, complete=complete, hash=b"x" * 32)
        harbour.ship.shipped(node, Shipped(harbour.ship._number - number, lie), harbour.at)
        harbour.ship.check_invariants()
        assert harbour.ship.safe <= harbour.log.position
