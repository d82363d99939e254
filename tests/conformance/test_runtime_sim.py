"""The simulator keeps the contract of the bus, as the runtime over sockets does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from actors.core import ActorSpec, Address, Handle
from actors.sim.faults import NO_FAULTS, Faults
from actors.sim.runtime import SimRuntime
from actors.testing import (
    CutConformance,
    FeedConformance,
    Harness,
    JobConformance,
    LifeConformance,
    MessageConformance,
    Running,
    TimerConformance,
)


class SimHarness:
    """A simulated world as a harness."""

    virtual_time = True

    def __init__(self, seed: int, faults: Faults) -> None:
        self.world = SimRuntime(seed, faults=faults, keep_events=100, stop_on_bug=False)
        self._unused = 0

    def start(self, spec: ActorSpec) -> Handle:
        return self.world.spawn(spec)

    def wait_for(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        self.world.run_until(predicate, int(timeout_s * 1e9))

    def listen_at(self) -> Address:
        return Address("tcp://10.0.0.1:0")

    def unused_endpoint(self) -> Address:
        self._unused += 1
        return Address(f"tcp://10.0.0.2:{self._unused}")

    def partition(self, a: Running, b: Running, *, one_way: bool = False) -> None:
        self.world.partition([a.spec.name], [b.spec.name], one_way=one_way)

    def heal(self) -> None:
        self.world.heal()

    def close(self) -> None:
        """Nothing outlives a world."""


NOTICED = Faults(unnoticed=0.0, timer_late_ns=3_000_000, drift_ppm=300, skew_ns=10**9)


@pytest.fixture(params=[(1, NO_FAULTS), (2, NO_FAULTS), (3, NOTICED)], ids=["seed1", "seed2", "noticed"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    harness = SimHarness(*request.param)
    yield harness
    harness.close()


class TestMessages(MessageConformance): ...


class TestFeeds(FeedConformance): ...


class TestTimers(TimerConformance): ...


class TestJobs(JobConformance): ...


class TestLife(LifeConformance): ...


class TestCuts(CutConformance): ...
