"""Campaigns over many seeds, which go on after a failure, and make each as small as they can."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dsa_zmq.sim.campaign import KEEP_EVENTS, RECHECK_EVERY, NotDeterministic, Scenario, ScenarioFailed, run_once
from dsa_zmq.sim.plan import Plan, draw_plan, lesser
from dsa_zmq.sim.scenarios.planned import planned


@dataclass(slots=True)
class Failure:
    """A seed that failed. ``smallest`` is the plan that was told in the end, None for a scenario of its own."""

    seed: int
    error: str  #: the name of what was raised
    text: str  #: the story
    smallest: Plan | None = None


@dataclass(slots=True)
class Tally:
    """What a campaign has come to. ``seconds`` are real ones."""

    runs: int = 0
    operations: int = 0
    events: int = 0
    virtual_s: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.operations} operations, {self.events} events, {self.virtual_s / 3600:.1f} virtual "
            f"hours in {self.seconds:.0f} s: {len(self.failures)} failed"
        )

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        failures = [
            {"seed": each.seed, "error": each.error, "text": each.text, "plan": msgspec.to_builtins(each.smallest)}
            for each in self.failures
        ]
        return {
            "runs": self.runs,
            "operations": self.operations,
            "events": self.events,
            "virtual_seconds": round(self.virtual_s, 3),
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "failures": failures,
        }


@dataclass(slots=True)
class Front:
    """Runs random clusters, or a ``scenario``. ``tell`` hears of each run, ``report`` of each failure."""

    scenario: Scenario | None = None
    tries: int = 0  #: runs to make a failure smaller
    most_failures: int = 5  #: after which a campaign ends
    until_s: float = float("inf")  #: of the monotonic clock: no run begins later
    tell: Callable[[int, Tally], object] = lambda seed, tally: None
    report: Callable[[Failure], object] = lambda failure: None
    tally: Tally = field(default_factory=Tally)

    def run(self, seeds: Iterable[int], plan: Plan | None = None) -> Tally:
        """Until they are through, or time or patience is over, or Ctrl-C. With a ``plan``, that instead of each seed's."""
        began_s = time.monotonic()
        try:
            for index, seed in enumerate(seeds):
                if time.monotonic() >= self.until_s or len(self.tally.failures) >= self.most_failures:
                    break
                self._one(seed, plan, twice=index % RECHECK_EVERY == RECHECK_EVERY - 1)
                self.tally.seconds = time.monotonic() - began_s
                self.tell(seed, self.tally)
        except KeyboardInterrupt:
            self.tally.interrupted = True
        self.tally.seconds = time.monotonic() - began_s
        return self.tally

    def _one(self, seed: int, plan: Plan | None, *, twice: bool = False) -> None:
        """One run, of this plan or of the seed's own, and what follows if it fails."""
        if plan is None and self.scenario is None:
            plan = draw_plan(seed)
        scenario = self.scenario if plan is None else planned(plan)
        assert scenario is not None
        self.tally.runs += 1
        try:
            cluster = run_once(scenario, seed)
            self.tally.operations += len(cluster.ledger.operations)
            self.tally.events += cluster.world.events
            self.tally.virtual_s += cluster.world.now_ns / 1e9
            if twice and run_once(scenario, seed).world.trace_hash() != cluster.world.trace_hash():
                raise NotDeterministic(f"seed {seed} has two histories")
        except NotDeterministic as error:
            self._found(Failure(seed, type(error).__name__, str(error), plan))
        except ScenarioFailed as error:
            self._failed(Failure(seed, type(error.__cause__).__name__, str(error), plan))

    def _failed(self, failure: Failure) -> None:
        """Make it smaller, and tell it with the events. If that is interrupted, it is told as far as it has come."""
        plan = failure.smallest
        try:
            if plan is not None:
                for less in smaller(plan, lambda less: _error_of(less) == failure.error, self.tries):
                    failure.smallest = less
            scenario = self.scenario if failure.smallest is None else planned(failure.smallest)
            assert scenario is not None
            try:
                run_once(scenario, failure.seed, keep_events=KEEP_EVENTS)
            except ScenarioFailed as error:
                failure.text = str(error)
        finally:
            if failure.smallest is not None and failure.smallest != plan:
                failure.text += (
                    "\nless than all of that fails, too; replay: python -m dsa_zmq.sim --plan FILE, of this:"
                )
                failure.text += f"\n{written(failure.smallest)}"
            self._found(failure)

    def _found(self, failure: Failure) -> None:
        self.tally.failures.append(failure)
        self.report(failure)


def _error_of(plan: Plan) -> str:
    """What this plan fails with; "" if it does not."""
    try:
        run_once(planned(plan), plan.seed)
    except ScenarioFailed as error:
        return type(error.__cause__).__name__
    return ""


def smaller(plan: Plan, fails: Callable[[Plan], bool], tries: int) -> Iterator[Plan]:
    """Smaller and smaller plans that still fail, as far as so many tries go."""
    tried: set[str] = set()
    found = True
    while found:
        found = False
        for less in lesser(plan):
            if written(less) in tried:
                continue
            if not tries:
                return
            tries -= 1
            tried.add(written(less))
            if fails(less):
                plan, found = less, True
                yield less
                break


def written(plan: Plan) -> str:
    """As JSON."""
    return msgspec.json.encode(plan).decode()
