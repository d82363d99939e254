"""One operation of one user, and what is known of its end."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from dsa_zmq.sim.tree import READS, Action, Failed, Tree, apply

NEVER = 1 << 62  #: later than every instant


class Outcome(enum.Enum):
    """What the caller heard."""

    OPEN = "open"  #: nothing yet
    DONE = "done"  #: it happened; ``answer`` is what was seen
    REFUSED = "refused"  #: it did not happen, because of how things were; ``answer`` is the error code
    FAILED = "failed"  #: it did not happen, for reasons that say nothing about the tree
    UNKNOWN = "unknown"  #: it may have happened, or may still


@dataclass(slots=True)
class Operation:
    """Times are virtual nanoseconds of the world."""

    number: int
    user: str
    action: Action
    begun_ns: int
    ended_ns: int = NEVER
    outcome: Outcome = Outcome.OPEN
    answer: Any = None

    def __str__(self) -> str:
        end = "           " if self.ended_ns == NEVER else f"{self.ended_ns / 1e9:11.6f}"
        told = "" if self.answer is None else f" {self.answer!r}"
        when = f"{self.begun_ns / 1e9:11.6f} -{end}"
        return f"#{self.number:<3} {when} {self.user:<9} {self.action} {self.outcome.value}{told}"

    @property
    def is_certain(self) -> bool:
        """Whether it has a place in every explanation."""
        return self.outcome in (Outcome.DONE, Outcome.REFUSED)

    @property
    def changes(self) -> bool:
        """Whether the tree may be another one after it."""
        return self.outcome is not Outcome.REFUSED and not isinstance(self.action, READS)

    @property
    def counts(self) -> bool:
        """Whether it says anything about the tree, or may have changed it."""
        return self.is_certain or (self.outcome is not Outcome.FAILED and not isinstance(self.action, READS))


def after(tree: Tree, operation: Operation) -> Tree | None:
    """The tree after this operation; the very same if it changed nothing. None: it cannot have happened to this tree, or, if
    its outcome is unknown, would have changed nothing."""
    try:
        answer, changed = apply(tree, operation.action)
    except Failed as failed:
        refused = operation.outcome is Outcome.REFUSED and failed.code == operation.answer
        return tree if refused else None
    if operation.outcome is Outcome.REFUSED:
        return None
    if changed is not tree and changed == tree:
        changed = tree
    if operation.outcome is Outcome.DONE:
        return changed if answer == operation.answer else None
    return None if changed is tree else changed
