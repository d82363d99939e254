"""``python -m dsa_zmq.sim``: random clusters with random work and random trouble, until a promise is broken.

Each seed is a run: a cluster of 3 to 12 nodes, users, an operator, and what goes wrong within the budget. First it has to
be safe, then everything heals, and it has to come to rest. A run that fails is made smaller, and told; the exit status is 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from dsa_zmq.sim.campaign import KEEP_EVENTS, Scenario, ScenarioFailed, run_once
from dsa_zmq.sim.front import Failure, Front, Tally
from dsa_zmq.sim.plan import Plan, draw_plan
from dsa_zmq.sim.scenarios import SCENARIOS
from dsa_zmq.sim.scenarios.planned import planned

SEEDS = 20  #: if nothing else is said: a minute
TRIES = 60  #: to make a failure smaller: some minutes
INTERRUPTED = 130  #: exit status of Ctrl-C, if nothing had failed
EVERY_S = 10.0  #: between two lines of progress that do not overwrite each other


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dsa_zmq.sim", description=__doc__.partition("\n")[2])
    parser.add_argument(
        "--seeds", type=int, metavar="N", help=f"how many runs (default: {SEEDS}, or any number in --hours)"
    )
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="the first of them")
    parser.add_argument("--hours", type=float, metavar="H", help="begin no run later than this")
    parser.add_argument("--seed", type=int, metavar="S", help="this run only")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="the run of this plan only, as a failure has told it")
    parser.add_argument("--trace", action="store_true", help="with --seed or --plan: print operations and events too")
    parser.add_argument(
        "--scenario", metavar="NAME", choices=[each.name for each in SCENARIOS], help="this, not random clusters"
    )
    parser.add_argument(
        "--shrink", type=int, default=TRIES, metavar="N", help="runs to make a failure smaller (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print what came of it as one object; stories go to stderr")
    options = parser.parse_args(arguments)
    if options.trace and options.seed is None and options.plan is None:
        parser.error("--trace is for one run: give its --seed, or a --plan")
    return options


class Screen:
    """Progress on stderr: one line that is written over on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._next_s = 0.0
        self._overwrites = sys.stderr.isatty()

    def tell(self, seed: int, tally: Tally) -> None:
        of = "" if self._total is None else f" of {self._total}"
        line = f"seed {seed}, {tally.runs}{of} runs, {tally.runs / tally.seconds:.1f} a second, {len(tally.failures)} failed"
        if self._overwrites:
            sys.stderr.write(f"\r{line:<78}")
        elif time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._overwrites:
            sys.stderr.write("\n")


def trace(scenario: Scenario, seed: int) -> None:
    """Print all that is kept of a run, whether it fails or not."""
    try:
        cluster = run_once(scenario, seed, keep_events=KEEP_EVENTS)
    except ScenarioFailed as error:
        sys.stdout.write(f"{error}\n")
        return
    lines = [
        *map(str, cluster.ledger.operations),
        *cluster.world.tail(KEEP_EVENTS),
        repr(cluster),
        cluster.world.trace_hash(),
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit status."""
    options = parse(arguments)
    scenario = next((each for each in SCENARIOS if each.name == options.scenario), None)
    plan = None if options.plan is None else msgspec.json.decode(options.plan.read_bytes(), type=Plan)
    stories = sys.stderr if options.json else sys.stdout

    def report(failure: Failure) -> None:
        stories.write(f"\n{failure.text}\n")
        stories.flush()

    front = Front(scenario, tries=options.shrink, report=report)
    if plan is not None or options.seed is not None:
        seed = plan.seed if plan is not None else options.seed
        if options.trace:
            trace(planned(plan or draw_plan(seed)) if scenario is None or plan is not None else scenario, seed)
        seeds: Iterable[int] = [seed]
        total: int | None = 1
    else:
        total = options.seeds if options.seeds is not None or options.hours is not None else SEEDS
        first = options.first_seed
        seeds = itertools.count(first) if total is None else range(first, first + total)
    if options.hours is not None:
        front.until_s = time.monotonic() + options.hours * 3600
    screen = Screen(total)
    front.tell = screen.tell
    tally = front.run(seeds, plan)
    screen.end()
    sys.stdout.write((json.dumps(tally.as_data()) if options.json else str(tally)) + "\n")
    if tally.failures:
        return 1
    return INTERRUPTED if tally.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
