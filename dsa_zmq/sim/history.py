"""Whether a history of operations could have happened to one tree, one operation after the other (linearizability).

Each operation that was answered took effect at one instant between its call and its answer. One whose outcome nobody
knows took effect at any instant after its call, or never. The search tries orders depth first, remembers what it has seen
(Wing and Gong 1993; Lowe, "Testing for linearizability", 2017), and takes unknown ones last: only where nothing else
explains what was seen.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsa_zmq.sim.tree import EMPTY, READS, Action, Failed, Look, Put, Read, Tree, apply

MAX_STEPS = 200_000  #: of the search: a legal history of a scenario takes some hundreds

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
    """One operation of one user. Times are virtual nanoseconds of the world."""

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


class NotLinearizable(AssertionError):
    """No order of the operations explains what was seen."""


def check(operations: Sequence[Operation], tree: Tree = EMPTY) -> list[Operation]:
    """An order that explains the history that began with ``tree``, or :class:`NotLinearizable`."""
    entries = [entry for entry in operations if _counts(entry)]
    entries.sort(key=lambda entry: (entry.begun_ns, entry.number))
    ends = [entry.ended_ns if _is_certain(entry) else NEVER for entry in entries]
    wanted = sum(1 << index for index, entry in enumerate(entries) if _is_certain(entry))
    return _Search(entries, ends, wanted).run(tree)


def _readers_of(entry: Operation, entries: Sequence[Operation]) -> int:
    """As bits: who saw the content that this put brought."""
    if not isinstance(entry.action, Put):
        return 0
    return sum(1 << index for index, other in enumerate(entries) if _saw(other, entry.action.size))


def _saw(entry: Operation, size: int) -> bool:
    return entry.outcome is Outcome.DONE and isinstance(entry.action, Look | Read) and entry.answer == size


def _is_certain(entry: Operation) -> bool:
    return entry.outcome in (Outcome.DONE, Outcome.REFUSED)


def _counts(entry: Operation) -> bool:
    return _is_certain(entry) or (entry.outcome is not Outcome.FAILED and not isinstance(entry.action, READS))


class _Search:
    def __init__(self, entries: list[Operation], ends: list[int], wanted: int) -> None:
        self._entries = entries
        self._ends = ends
        self._wanted = wanted
        self._readers = [_readers_of(entry, entries) for entry in entries]
        self._steps = 0
        self._best: tuple[int, list[int], Tree] = (-1, [], EMPTY)

    def run(self, tree: Tree) -> list[Operation]:
        seen: set[tuple[int, frozenset[tuple[str, int]]]] = set()
        stack: list[tuple[int, Tree, list[int]]] = [(0, tree, [])]
        while stack:
            done, tree, order = stack.pop()
            done, order, candidates = self._watch(done, tree, order)
            if done & self._wanted == self._wanted:
                return [self._entries[index] for index in order]
            state = (done, frozenset(tree.items()))
            if state in seen:
                continue
            seen.add(state)
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise NotLinearizable(f"no order was found within {MAX_STEPS} steps\n{self._stuck()}")
            placed = (done & self._wanted).bit_count()
            if placed > self._best[0]:
                self._best = (placed, order, tree)
            # The last one pushed is tried first: certain ones before unknown ones; of writes those that nobody is still to
            # see, for others have to follow them; those that ended first before others.
            ranks = [(self._ends[i] == NEVER, bool(self._readers[i] & ~done), self._ends[i], i) for i in candidates]
            for *_, index in sorted(ranks, reverse=True):
                after = self._place(index, tree)
                if after is not None:
                    stack.append((done | 1 << index, after, [*order, index]))
        raise NotLinearizable(self._stuck())

    def _watch(self, done: int, tree: Tree, order: list[int]) -> tuple[int, list[int], list[int]]:
        """Place everything that may come next, agrees with the tree, and changes nothing: to have that out of the way
        never hurts. The rest of what may come next is returned too."""
        while True:
            minimal = self._minimal(done)
            agreeing = [index for index in minimal if self._is_watching(index) and self._place(index, tree) is tree]
            if not agreeing:
                return done, order, [index for index in minimal if not self._is_watching(index)]
            order = order + agreeing
            for index in agreeing:
                done |= 1 << index

    def _is_watching(self, index: int) -> bool:
        entry = self._entries[index]
        return entry.outcome is Outcome.REFUSED or isinstance(entry.action, READS)

    def _minimal(self, done: int) -> list[int]:
        """Those that may come next: begun before the first of the others ended."""
        earliest = NEVER
        found: list[int] = []
        for index, entry in enumerate(self._entries):
            if entry.begun_ns > earliest:
                break
            if not done >> index & 1:
                found.append(index)
                earliest = min(earliest, self._ends[index])
        return [index for index in found if self._entries[index].begun_ns <= earliest]

    def _place(self, index: int, tree: Tree) -> Tree | None:
        """The tree after this operation, or None if it cannot have happened now (or would change nothing)."""
        entry = self._entries[index]
        try:
            answer, after = apply(tree, entry.action)
        except Failed as failed:
            refused = entry.outcome is Outcome.REFUSED and failed.code == entry.answer
            return tree if refused else None
        if entry.outcome is Outcome.DONE:
            return after if answer == entry.answer else None
        return after if entry.outcome is not Outcome.REFUSED and after != tree else None

    def _stuck(self) -> str:
        _, order, tree = self._best
        explained = [self._entries[index] for index in order]
        left = [entry for index, entry in enumerate(self._entries) if index not in order]
        certain = [entry for entry in left if _is_certain(entry)][:3]
        unknown = [entry for entry in left if not _is_certain(entry)]
        lines = ["these operations explain each other:", *map(str, explained[-12:]), f"and lead to {dict(tree)};"]
        lines += [
            "but this cannot follow:",
            *map(str, certain),
            "even with these of unknown outcome:",
            *map(str, unknown),
        ]
        return "\n".join(lines)
