"""The zmq runtime keeps the contract of the bus, over real sockets and threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors.testing import (
    CutConformance,
    FeedConformance,
    JobConformance,
    LifeConformance,
    MessageConformance,
    TimerConformance,
)
from actors.zmq.testing import LoopbackHarness


@pytest.fixture
def harness() -> Iterator[LoopbackHarness]:
    """A new set of runtimes."""
    with LoopbackHarness() as harness:
        yield harness


class TestMessages(MessageConformance):
    pass


class TestFeeds(FeedConformance):
    pass


class TestTimers(TimerConformance):
    pass


class TestJobs(JobConformance):
    pass


class TestLife(LifeConformance):
    pass


class TestCuts(CutConformance):
    pass
