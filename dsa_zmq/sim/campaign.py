"""Run scenarios over many seeds; report the first failure so that it can be run again and understood."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from actors.sim.explore import swarm
from actors.sim.faults import NO_FAULTS, Faults
from dsa_zmq.model import limits
from dsa_zmq.model.limits import REPLY_KEEP_S
from dsa_zmq.sim.cluster import SimCluster

KEEP_EVENTS = 4_000  #: readable events of a run: some seconds of a busy cluster
TAIL_EVENTS = 40  #: of these in a report
RECHECK_EVERY = 20  #: each so many-th seed is run twice (5 %)
PAGE_CHUNKS = 4  #: per manifest page, instead of some hundred: files of a few chunks then have several pages


class ScenarioFailed(AssertionError):
    """A seed failed; the cause is what it raised."""

    def __init__(self, text: str, seed: int) -> None:
        super().__init__(text)
        self.seed = seed


class NotDeterministic(AssertionError):
    """The same seed gave two histories: something that is not of the seed got in."""


def varied(seed: int) -> Mapping[str, Any]:
    """Every third seed places by chains, every other one has SQLite turn around whatever order was not asked for; in every
    fourth, what nobody holds is let go at once, readers or not; in every seventh, idle sessions end after a moment."""
    return {
        "placement": "chained" if seed % 3 == 2 else "rendezvous",
        "scrambled": seed % 2 == 1,
        "gc_grace_s": 0.0 if seed % 4 == 3 else 1.0,
        "gc_interval_s": 0.05 if seed % 4 == 3 else 0.5,
        "reply_keep_s": 0.7 if seed % 7 == 6 else REPLY_KEEP_S,
    }


@dataclass(frozen=True)
class Scenario:
    """Something that is done to a cluster, and raises AssertionError if a promise is broken. Its name is the function's.

    ``options`` of a seed go to :class:`SimCluster`; with ``rough`` the network, lanes and clocks are as bad as the seed
    says.
    """

    run: Callable[[SimCluster], None]
    rough: bool = False
    options: Callable[[int], Mapping[str, Any]] = varied
    again: str = ""  #: how to see a seed again, instead of by pytest

    @property
    def name(self) -> str:
        return self.run.__name__

    def faults(self, seed: int) -> Faults:
        return swarm(seed) if self.rough else NO_FAULTS


@dataclass(frozen=True, slots=True)
class Report:
    """What a campaign did."""

    hashes: dict[int, str]  #: trace hash by seed
    events: int
    virtual_s: float
    operations: int


@contextlib.contextmanager
def small_pages() -> Iterator[None]:
    """Manifest pages of a few chunks."""
    before, limits.MAX_PAGE_CHUNKS = limits.MAX_PAGE_CHUNKS, PAGE_CHUNKS
    try:
        yield
    finally:
        limits.MAX_PAGE_CHUNKS = before


def run_once(scenario: Scenario, seed: int, *, keep_events: int = 0) -> SimCluster:
    """One run. Raises :class:`ScenarioFailed`."""
    with small_pages():
        cluster = SimCluster(seed, faults=scenario.faults(seed), keep_events=keep_events, **scenario.options(seed))
        try:
            scenario.run(cluster)
        except Exception as error:
            raise ScenarioFailed(_report(scenario, seed, cluster, error), seed) from error
        finally:
            cluster.close()
        return cluster


def is_red(scenario: Scenario, seed: int) -> bool:
    """Whether this seed finds something wrong."""
    try:
        run_once(scenario, seed)
    except ScenarioFailed:
        return True
    return False


def run_seeds(scenario: Scenario, seeds: Iterable[int], *, recheck_every: int = RECHECK_EVERY) -> Report:
    """Run a scenario for each seed, some of them twice.

    Raises ScenarioFailed at the first seed that fails, with its story, and NotDeterministic if a seed has two histories.
    """
    hashes: dict[int, str] = {}
    events, virtual_ns, operations = 0, 0, 0
    for index, seed in enumerate(seeds):
        try:
            cluster = run_once(scenario, seed)
        except ScenarioFailed:
            run_once(scenario, seed, keep_events=KEEP_EVENTS)  # fails again, and now tells more
            raise
        hashes[seed] = cluster.world.trace_hash()
        events += cluster.world.events
        virtual_ns += cluster.world.now_ns
        operations += len(cluster.ledger.operations)
        if index % recheck_every == recheck_every - 1:
            again = run_once(scenario, seed).world
            if again.trace_hash() != hashes[seed]:
                raise NotDeterministic(
                    f"seed {seed} has two histories: {cluster.world!r}, then {again!r}\n{replay(scenario, seed)}"
                )
    return Report(hashes, events, virtual_ns / 1e9, operations)


def replay(scenario: Scenario, seed: int) -> str:
    """How to see one seed again."""
    return scenario.again or f"replay: pytest tests/sim -k {scenario.name} --first-seed {seed} --seeds 1"


def _report(scenario: Scenario, seed: int, cluster: SimCluster, error: Exception) -> str:
    """The error, the objects that it names, and the end of the history."""
    text = str(error)
    lines = [f"{scenario.name}, seed {seed}: {type(error).__name__}: {text}", repr(cluster)]
    for path in cluster.ledger.paths():
        if f"'{path}'" in text:
            lines += ["", f"the story of {path}:", *cluster.ledger.story(path)]
    for word in text.replace(",", " ").replace(":", " ").split():
        if word.isdigit() and len(word) > 12:  # a chunk or a content
            lines += ["", f"what mentions {word}:", *(line[:300] for line in cluster.world.story(word)[-TAIL_EVENTS:])]
            break
    tail = [line[:300] for line in cluster.world.tail(TAIL_EVENTS)]
    if tail:
        lines += ["", "the last events:", *tail]
    return "\n".join([*lines, "", replay(scenario, seed)])
