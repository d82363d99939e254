"""The plan of a random run: a cluster, what its users do, and what goes wrong, as data.

A plan can be written down and read again, and its parts be left out one by one: each blow and each operation draws its own
choices from a seed of its own, so that those that stay are what they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace as changed

from dsa_zmq.model.limits import REPLY_KEEP_S
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.sim.scenarios.everything import CAPACITY
from dsa_zmq.sim.scenarios.rot import HURRIED
from dsa_zmq.sim.scenarios.trouble import KINDS, SMALL_SEGMENT

MIN_NODES, MAX_NODES = 3, 12
MAX_WORKERS = 5
MAX_STEPS = 24  #: operations of a worker
MAX_ROUNDS = 4
MAX_BLOWS = 6  #: in a round
GAP_MS = 400  #: between two blows, at most
REDUNDANCIES = ("copies=2", "copies=2", "copies=3", "ec=2+1", "ec=2+2", "ec=4+2")
CAPACITIES = (CAPACITY, CAPACITY * 3 // 2, CAPACITY * 3)  #: bytes
ZONES = ("", "", "ab", "abc", "aab")  #: repeated over all nodes


class Blow(msgspec.Struct, frozen=True):
    """One thing that goes wrong, or that an operator wants: a kind of :data:`~dsa_zmq.sim.scenarios.trouble.KINDS`."""

    kind: str
    seed: int
    after_ms: int


class Round(msgspec.Struct, frozen=True):
    """Blows one after the other; then what they have left behind is over. ``weather``: the seed of bad weather; 0: none."""

    weather: int
    blows: tuple[Blow, ...]


class Node(msgspec.Struct, frozen=True):
    capacity: int  #: bytes
    zone: str = ""


class Plan(msgspec.Struct, frozen=True):
    """``seed`` is that of the world. ``redundancies``: of all files in the beginning, of those in the first directory of the
    workers, and what is converted to later."""

    seed: int
    nodes: tuple[Node, ...]
    redundancies: tuple[str, ...]
    workers: tuple[tuple[int, ...], ...]  #: of each the numbers of its operations
    rounds: tuple[Round, ...]
    placement: str = "rendezvous"
    scrambled: bool = False  #: SQLite turns around whatever order was not asked for
    hasty: bool = False  #: what nobody holds is let go at once
    forgetful: bool = False  #: idle sessions end after a moment

    @property
    def losses(self) -> int:
        """The budget: of so many nodes the bytes may be gone at a time."""
        return min(parse_redundancy(text).tolerates for text in self.redundancies)

    @property
    def size(self) -> int:
        """How much there is to understand in it."""
        return len(self.nodes) + sum(map(len, self.workers)) + sum(1 + len(each.blows) for each in self.rounds)

    def __str__(self) -> str:
        blows = sum(len(each.blows) for each in self.rounds)
        steps = sum(map(len, self.workers))
        return (
            f"{len(self.nodes)} nodes, {'/'.join(dict.fromkeys(self.redundancies))}, {steps} operations of "
            f"{len(self.workers)} workers, {blows} blows in {len(self.rounds)} rounds"
        )

    def options(self, seed: int) -> Mapping[str, Any]:
        """For :class:`~dsa_zmq.sim.cluster.SimCluster`."""
        return {
            "nodes": len(self.nodes),
            "zones": [node.zone for node in self.nodes],
            "capacities": [node.capacity for node in self.nodes],
            "redundancy": self.redundancies[0],
            "placement": self.placement,
            "scrambled": self.scrambled,
            "gc_grace_s": 0.0 if self.hasty else 1.0,
            "gc_interval_s": 0.05 if self.hasty else 0.5,
            "reply_keep_s": 0.7 if self.forgetful else REPLY_KEEP_S,
            "care": HURRIED,
            "segment_bytes": SMALL_SEGMENT,
        }


def draw_plan(seed: int) -> Plan:
    """The plan of a seed. Each has a few kinds of trouble only: what all together hide, some of them show (Groce et al.,
    Swarm Testing, ISSTA 2012)."""
    draw = random.Random(f"{seed}:plan")
    nodes = draw.randint(MIN_NODES, MAX_NODES)
    fitting = [text for text in REDUNDANCIES if parse_redundancy(text).shards < nodes]
    zones = draw.choice(ZONES)
    kinds = draw.sample(sorted(KINDS), draw.randint(4, len(KINDS)))
    weather = draw.randrange(1, 1 << 30)
    return Plan(
        seed=seed,
        nodes=tuple(
            Node(draw.choice(CAPACITIES), zones[number % len(zones)] if zones else "") for number in range(nodes)
        ),
        redundancies=tuple(draw.choice(fitting) for _ in range(4)),
        workers=tuple(
            tuple(range(draw.randint(MAX_STEPS // 4, MAX_STEPS))) for _ in range(draw.randint(1, MAX_WORKERS))
        ),
        rounds=tuple(
            Round(
                draw.choice((0, weather)),
                tuple(
                    Blow(draw.choice(kinds), draw.randrange(1 << 30), draw.randrange(GAP_MS))
                    for _ in range(draw.randint(1, MAX_BLOWS))
                ),
            )
            for _ in range(draw.randint(1, MAX_ROUNDS))
        ),
        placement=draw.choice(("rendezvous", "rendezvous", "chained")),
        scrambled=draw.random() < 0.5,
        hasty=draw.random() < 0.25,
        forgetful=draw.random() < 0.15,
    )


def lesser(plan: Plan) -> Iterator[Plan]:
    """Plans with less in them, the boldest first."""
    for rounds in _shorter(plan.rounds):
        yield changed(plan, rounds=rounds)
    for workers in _shorter(plan.workers):
        yield changed(plan, workers=workers)
    for at, worker in enumerate(plan.workers):
        for steps in _shorter(worker):
            yield changed(plan, workers=(*plan.workers[:at], steps, *plan.workers[at + 1 :]))
    for at, one in enumerate(plan.rounds):
        others = plan.rounds[:at], plan.rounds[at + 1 :]
        for blows in _shorter(one.blows):
            yield changed(plan, rounds=(*others[0], changed(one, blows=blows), *others[1]))
        if one.weather:
            yield changed(plan, rounds=(*others[0], changed(one, weather=0), *others[1]))
    needed = max(MIN_NODES, *(parse_redundancy(text).shards + 1 for text in plan.redundancies))
    for nodes in sorted({needed, len(plan.nodes) - 1}):
        if needed <= nodes < len(plan.nodes):
            yield changed(plan, nodes=plan.nodes[:nodes])
    if any(node.zone for node in plan.nodes):
        yield changed(plan, nodes=tuple(changed(node, zone="") for node in plan.nodes))
    if len(set(plan.redundancies)) > 1:
        yield changed(plan, redundancies=plan.redundancies[:1] * len(plan.redundancies))
    for name in ("scrambled", "hasty", "forgetful"):
        if getattr(plan, name):
            yield changed(plan, **{name: False})


def _shorter(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Without one of its pieces: all of it, halves, quarters, down to single items."""
    size = len(items)
    while size:
        for start in range(0, len(items), size):
            yield items[:start] + items[start + size :]
        size //= 2
