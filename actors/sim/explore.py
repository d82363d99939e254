"""Run a scenario for many seeds, and report the first that fails so that it can be run again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from actors.sim.faults import NO_FAULTS, ROUGH, Faults
from actors.sim.runtime import SimRuntime

Scenario = Callable[[SimRuntime], None]
"""Builds a world, lets it run, and raises AssertionError if something is not as it must be."""

KEEP_EVENTS = 300  #: readable events of a run: enough to see the last few seconds
TAIL_EVENTS = 60  #: of these in the report
RECHECK_EVERY = 20  #: each so many-th seed is run twice (5 %): costs little, and finds a hidden input within a few runs


class ScenarioFailed(AssertionError):
    """A seed failed; the cause is what it raised."""

    def __init__(self, text: str, seed: int) -> None:
        super().__init__(text)
        self.seed = seed


class NotDeterministic(AssertionError):
    """The same seed gave two histories: something that is not of the seed got in."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a campaign did."""

    hashes: dict[int, str]  #: trace hash by seed
    events: int  #: in all first runs
    rechecked: int  #: seeds that were run twice


def swarm(seed: int) -> Faults:
    """Rough weather of which each seed leaves out some kinds: what all faults together hide, some of them show.

    Groce et al., Swarm Testing, ISSTA 2012.
    """
    draw = random.Random(f"swarm:{seed}")
    kinds = ("loss", "duplicate", "spike", "reset", "unnoticed", "slow_batch", "timer_late_ns", "drift_ppm", "skew_ns")
    return replace(ROUGH, **{kind: getattr(NO_FAULTS, kind) for kind in kinds if draw.random() < 0.5})


def run_seeds(
    scenario: Scenario,
    seeds: Iterable[int],
    *,
    faults: Faults | Callable[[int], Faults] = NO_FAULTS,
    recheck_every: int = RECHECK_EVERY,
) -> Report:
    """Run ``scenario`` in a new world for each seed.

    ``faults`` may depend on the seed (:func:`swarm`). Raises ScenarioFailed at the first seed that fails, with the end
    of its history, and NotDeterministic if a seed that is run twice gives two histories.
    """
    hashes: dict[int, str] = {}
    events = rechecked = 0
    for index, seed in enumerate(seeds):
        world = _run(scenario, seed, faults)
        hashes[seed] = world.trace_hash()
        events += world.events
        if index % recheck_every == 0:
            rechecked += 1
            again = _run(scenario, seed, faults)
            if again.trace_hash() != hashes[seed]:
                raise NotDeterministic(
                    f"seed {seed}: {world.events} events, then {again.events}{_replay(scenario, seed)}"
                )
    return Report(hashes, events, rechecked)


def _run(scenario: Scenario, seed: int, faults: Faults | Callable[[int], Faults]) -> SimRuntime:
    chosen = faults if isinstance(faults, Faults) else faults(seed)
    world = SimRuntime(seed, faults=chosen, keep_events=KEEP_EVENTS)
    try:
        scenario(world)
    except Exception as error:
        tail = "\n".join(world.tail(TAIL_EVENTS))
        raise ScenarioFailed(f"seed {seed}: {error}\n{tail}\n{chosen}{_replay(scenario, seed)}", seed) from error
    return world


def _replay(scenario: Scenario, seed: int) -> str:
    name = getattr(scenario, "__qualname__", repr(scenario))
    return f"\nreplay: run_seeds({name}, [{seed}], faults=...)  # {getattr(scenario, '__module__', '')}"
