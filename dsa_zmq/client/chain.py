"""Waking the threads whose calls ended in one turn: one after the other, each by the one before it.

Woken all at once they would only meet at the interpreter's lock, and sleep there once more, while the actor still holds it:
three context switches a call instead of two. So the actor wakes the first, and each one that is awake wakes the next,
before it goes on with its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol


class Sleeper(Protocol):
    """A thread that waits for the end of a call."""

    def join(self, chain: Chain) -> None:
        """From now on, whoever leaves this wait, for whatever reason, calls :meth:`Chain.wake_next`."""
        ...

    def wake(self) -> bool:
        """The thread goes on. False if it has left, perhaps before it joined: then nobody may wake the next one."""
        ...


class Chain:
    """Threads that wait to be woken. Used by several threads at once; each sleeper is woken once."""

    __slots__ = ("_sleepers",)

    def __init__(self, sleepers: Sequence[Sleeper]) -> None:
        self._sleepers = deque(sleepers)
        for sleeper in self._sleepers:
            sleeper.join(self)

    def wake_next(self) -> None:
        """Wake one that is still there, if there is one."""
        sleepers = self._sleepers
        while sleepers:
            try:
                sleeper = sleepers.popleft()
            except IndexError:  # another thread has taken the last one
                return
            if sleeper.wake():
                return


def wake_all(sleepers: Sequence[Sleeper]) -> None:
    """All of them go on, soon."""
    if len(sleepers) == 1:
        sleepers[0].wake()
    else:
        Chain(sleepers).wake_next()
