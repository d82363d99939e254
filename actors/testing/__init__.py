"""One conformance suite for every runtime of the bus.

A test module subclasses the ``...Conformance`` classes and gives them a pytest fixture ``harness`` that yields a new
:class:`~actors.testing.probe.Harness` for each test::

    class TestMessages(MessageConformance): ...

What the contract leaves open (how soon a loss is noticed, whether a message to an absent listener is queued) no test
asks for: such tests resend until the answer comes.
"""

from actors.testing.cuts import CutConformance
from actors.testing.feeds_and_timers import FeedConformance, TimerConformance
from actors.testing.jobs_and_life import JobConformance, LifeConformance
from actors.testing.messages import MessageConformance
from actors.testing.probe import (
    Garbage,
    Harness,
    Note,
    Probe,
    ProbeCodec,
    Received,
    Running,
    Work,
    again_until,
    echo,
    pair,
    start_probe,
)

__all__ = [
    "CutConformance",
    "FeedConformance",
    "Garbage",
    "Harness",
    "JobConformance",
    "LifeConformance",
    "MessageConformance",
    "Note",
    "Probe",
    "ProbeCodec",
    "Received",
    "Running",
    "TimerConformance",
    "Work",
    "again_until",
    "echo",
    "pair",
    "start_probe",
]
