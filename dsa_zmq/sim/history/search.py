"""Looks for orders that explain one episode (Wing and Gong 1993; Lowe, "Testing for linearizability", 2017).

Depth first, with these rules. None of them loses an explanation, unless it leaves one that leads to the same tree:

* What agrees with the tree and changes nothing is placed at once.
* Of what is left, one operation has to come first of all to its place: the one with the earliest end. What it does not meet,
  nor those that it meets, and so on, can wait until after it: only those that it does meet are tried before it.
* A content that somebody is still to see does not vanish.
* An order that :class:`~dsa_zmq.sim.history.clues.Clues` have found is kept.
* Where a set of operations has led to a tree before, nobody goes on from there once more, nor with more operations of
  unknown outcome behind.
* One of unknown outcome comes just before what it has a part in, for it can wait until then; and never, if there is nothing.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from dsa_zmq.sim.history.clues import Clues
from dsa_zmq.sim.history.episodes import Episode, bits_of
from dsa_zmq.sim.history.operation import NEVER, Operation, after
from dsa_zmq.sim.tree import Action, Put, Tree

Order: TypeAlias = "tuple[Operation, Order] | None"
"""The last operation, and the order before it."""

NOBODY = -2  #: stands for each content that nobody is going to see: they are all alike


class _Node(NamedTuple):
    """Where the search is. Certain operations are counted by their begin."""

    low: int  #: the first that is not placed
    done: int  #: as bits: those from there on that are
    used: int  #: as bits: the unknown ones that are placed
    idle: int  #: of them those since the last certain one that have had no part in anything yet
    tree: Tree
    order: Order
    placed: int  #: certain ones


class Search:
    """Of one episode. ``is_seen_later`` says whether anybody sees a content in a later episode; ``spend`` is called for each
    step, and may end the search by raising."""

    def __init__(
        self, episode: Episode, clues: Clues, is_seen_later: Callable[[int], bool], spend: Callable[[], None]
    ) -> None:
        self.reached_ns = 0  #: the latest instant by which something else had to come
        self._spend = spend
        pairs = list(zip(episode.operations, episode.footprints, strict=True))
        certain = [pair for pair in pairs if pair[0].is_certain]
        self._certain = [operation for operation, _ in certain]
        self._prints = [footprint for _, footprint in certain]
        self._begun = [operation.begun_ns for operation in self._certain]
        self._deadline = [clues.deadline_ns(operation) for operation in self._certain]
        self._changes = [operation.changes for operation in self._certain]
        unknown = [pair for pair in pairs if not pair[0].is_certain]
        self._unknown = [operation for operation, _ in unknown]
        self._unknown_begun = [operation.begun_ns for operation in self._unknown]
        self._unknown_prints = [footprint for _, footprint in unknown]
        self._twin = _earlier_twins(self._unknown, clues)
        index = {operation.number: at for at, operation in enumerate(self._certain)}
        self._earlier = [
            [index[other.number] for other in clues.earlier(operation) if other.number in index]
            for operation in self._certain
        ]
        self._later: list[list[int]] = [[] for _ in self._certain]
        for at, earlier in enumerate(self._earlier):
            for other in earlier:
                self._later[other].append(at)
        self._clues = clues
        self._is_seen_later = is_seen_later
        self._index = index
        self._seers: dict[int, list[int]] = {}
        self._seen_later: dict[int, bool] = {}
        self._met_unknown: dict[int, int] = {}
        self._met: dict[tuple[int, int], bool] = {}

    def solutions(self, tree: Tree) -> Iterator[tuple[Tree, Order]]:
        """Each tree that the episode can have left, with an order that leads to it. Trees that differ only in what nobody is
        going to see count as one."""
        count = len(self._certain)
        visited: dict[tuple[int, int, frozenset[tuple[str, int]]], list[tuple[int, int]]] = {}
        left: set[frozenset[tuple[str, int]]] = set()
        tick = itertools.count(0, -1)
        # In front are those with the fewest unknown ones in a row, of them the longest, of them the newest. With a node
        # comes what is to be placed after it, if that is known already.
        heap: list[tuple[int, int, int, _Node, list[int] | None]] = [(0, 0, 0, _Node(0, 0, 0, 0, tree, None, 0), None)]
        while heap:
            *_, node, choices = heapq.heappop(heap)
            if choices is None:
                self._spend()
                node, window, deadline = self._watch(node)
                if node.placed == count:
                    end = self._reduced(node)
                    if not node.idle and end not in left:
                        left.add(end)
                        yield node.tree, node.order
                    continue
                self.reached_ns = max(self.reached_ns, deadline)
                if not self._is_new(node, visited):
                    continue
                choices, unknown = self._choices(node, window, deadline)
                if unknown:
                    heapq.heappush(heap, (node.idle.bit_count() + 1, -node.placed, next(tick), node, unknown))
            for at in choices:
                then = self._then(node, at)
                if then is not None:
                    heapq.heappush(heap, (then.idle.bit_count(), -then.placed, next(tick), then, None))

    def _is_new(
        self, node: _Node, visited: dict[tuple[int, int, frozenset[tuple[str, int]]], list[tuple[int, int]]]
    ) -> bool:
        """Whether nobody was there with no more unknown ones used, nor idle."""
        before = visited.setdefault((node.low, node.done, self._reduced(node)), [])
        used, idle = node.used, node.idle
        if any(burden & used == burden and owed & idle == owed for burden, owed in before):
            return False
        before[:] = [pair for pair in before if pair[0] & used != used or pair[1] & idle != idle]
        before.append((used, idle))
        return True

    def _then(self, node: _Node, at: int) -> _Node | None:
        """After this one too; None if it cannot come now, or leads nowhere."""
        operation = self._certain[at] if at >= 0 else self._unknown[~at]
        tree = after(node.tree, operation)
        if tree is None or (tree is not node.tree and self._loses(node, tree)):
            return None
        order = (operation, node.order)
        if at < 0:
            bit = 1 << ~at
            return node._replace(used=node.used | bit, idle=node.idle | bit, tree=tree, order=order)
        if self._idle_beside(node.idle, at):
            return None
        low, done = _mark(node.low, node.done, at)
        return _Node(low, done, node.used, 0, tree, order, node.placed + 1)

    def _idle_beside(self, idle: int, at: int) -> int:
        """Which of these unknown ones had no part in what comes next: not even by one that comes after them."""
        reached = self._unknown_beside(at) & idle if idle else 0
        while reached:
            idle &= ~reached
            reached = self._unknown_beside_any(reached) & idle
        return idle

    # --- what may come next -----------------------------------------------------------------------------------------

    def _window(self, low: int, done: int) -> tuple[list[int], int]:
        """Certain ones that may come next as far as times tell, and the earliest deadline among them."""
        begun, deadline = self._begun, self._deadline
        earliest, found, at = NEVER, [], low
        while at < len(begun) and begun[at] <= earliest:
            if not done & 1:
                found.append(at)
                earliest = min(earliest, deadline[at])
            done >>= 1
            at += 1
        return [at for at in found if begun[at] <= earliest], earliest

    def _watch(self, node: _Node) -> tuple[_Node, list[int], int]:
        """Place everything that may come next, agrees with the tree, and leaves it as it is: to have that out of the way
        never hurts. Also what may come next then, and the earliest deadline among it."""
        low, done, _, idle, tree, order, placed = node
        refused: set[int] = set()
        while True:
            window, deadline = self._window(low, done)
            found = False
            for at in window:
                if at in refused or (self._changes[at] and not self._may_stay(at)):
                    continue
                if self._is_free(at, low, done) and after(tree, self._certain[at]) is tree:
                    order, placed, found = (self._certain[at], order), placed + 1, True
                    low, done = _mark(low, done, at)
                    idle = self._idle_beside(idle, at)
                else:
                    refused.add(at)
            if not found:
                return _Node(low, done, node.used, idle, tree, order, placed), window, deadline

    def _may_stay(self, at: int) -> bool:
        """Whether what changes names may leave them as they are: from one name to the same."""
        action = self._certain[at].action
        return getattr(action, "source", None) is not None and action.source == action.target  # type: ignore[union-attr]

    def _is_free(self, at: int, low: int, done: int) -> bool:
        """Whether all that has to come before it has come."""
        return all(_is_done(other, low, done) for other in self._earlier[at])

    def _choices(self, node: _Node, candidates: list[int], deadline: int) -> tuple[list[int], list[int]]:
        """What may come next, best last: certain ones, and unknown ones as ~index."""
        if not candidates:
            return [], []
        low, done = node.low, node.done
        first = min(
            candidates, key=lambda at: (self._deadline[at], not self._is_free(at, low, done), self._begun[at], at)
        )
        barred = self._followers(first, low, done)
        rest = [at for at in candidates if at != first and at not in barred]
        chosen, reached, unknown = [first], [first], 0
        open_unknown = self._open_unknown(node.used, deadline)
        while reached:
            beside = 0
            for one in reached:
                beside |= self._unknown_beside(one)
            reached = []
            while beside := beside & open_unknown & ~unknown:
                unknown |= beside
                beside = self._unknown_beside_any(beside)
            near = [
                at for at in rest if self._unknown_beside(at) & unknown or any(self._meet(at, one) for one in chosen)
            ]
            if near:
                rest = [at for at in rest if at not in near]
                chosen += near
                reached = near
        found = [at for at in chosen if self._changes[at] and self._is_free(at, low, done)]
        if len(found) > 1:
            found.sort(key=lambda at: self._rank(at, low, done), reverse=True)
        return found, [~number for number in reversed(_numbers(unknown)) if self._is_next_twin(number, node.used)]

    def _open_unknown(self, used: int, deadline: int) -> int:
        """Those that may come before this instant."""
        return ((1 << bisect_right(self._unknown_begun, deadline)) - 1) & ~used

    def _is_next_twin(self, number: int, used: int) -> bool:
        twin = self._twin[number]
        return twin is None or bool(used >> twin & 1)

    def _rank(self, at: int, low: int, done: int) -> tuple[bool, int, int]:
        """Contents that nobody is still to see before those that somebody is, for others have to follow them; those that
        ended first before others."""
        action = self._certain[at].action
        waited_for = isinstance(action, Put) and self._is_wanted(action.size, low, done)
        return waited_for, self._deadline[at], at

    def _followers(self, first: int, low: int, done: int) -> set[int]:
        """What has to come after it."""
        found: set[int] = set()
        stack = list(self._later[first])
        while stack:
            at = stack.pop()
            if at not in found and not _is_done(at, low, done):
                found.add(at)
                stack += self._later[at]
        return found

    def _meet(self, one: int, other: int) -> bool:
        """Whether the order of these two certain ones may matter."""
        key = (one, other) if one < other else (other, one)
        known = self._met.get(key)
        if known is None:
            known = self._met[key] = self._prints[one].meets(self._prints[other])
        return known

    def _unknown_beside(self, at: int) -> int:
        """Those of unknown outcome that it meets, as bits; ``at``: a certain one, or ~number of an unknown one."""
        known = self._met_unknown.get(at)
        if known is None:
            mine = self._prints[at] if at >= 0 else self._unknown_prints[~at]
            known = sum(1 << number for number, other in enumerate(self._unknown_prints) if mine.meets(other))
            self._met_unknown[at] = known
        return known

    def _unknown_beside_any(self, numbers: int) -> int:
        """Those that any of these unknown ones meets."""
        found = 0
        for number in _numbers(numbers):
            found |= self._unknown_beside(~number)
        return found

    # --- contents ---------------------------------------------------------------------------------------------------

    def _is_wanted(self, size: int, low: int, done: int) -> bool:
        """Whether somebody is still to see this content, here or in a later episode."""
        known = self._seen_later.get(size)
        if known is None:
            known = self._seen_later[size] = self._is_seen_later(size)
        return known or self._is_waited_for(size, low, done)

    def _is_waited_for(self, size: int, low: int, done: int) -> bool:
        """Whether somebody is still to see it here."""
        known = self._seers.get(size)
        if known is None:
            seers = [self._index[seer.number] for seer in self._clues.seers(size) if seer.number in self._index]
            known = self._seers[size] = seers
        return any(not _is_done(at, low, done) for at in known)

    def _is_missed(self, size: int, low: int, done: int) -> bool:
        """Whether somebody is still to see it, and it cannot come back. Who is to see it here needs it here; for a later
        episode it may have been copied to where this one does not come."""
        if not self._clues.is_brought_once(size):
            return False
        return self._is_waited_for(size, low, done) or (
            self._clues.is_single(size) and self._is_wanted(size, low, done)
        )

    def _loses(self, node: _Node, tree: Tree) -> bool:
        """Whether a content that somebody is still to see is nowhere any more."""
        lost = set(node.tree.values()) - set(tree.values())
        return any(size >= 0 and self._is_missed(size, node.low, node.done) for size in lost)

    def _reduced(self, node: _Node) -> frozenset[tuple[str, int]]:
        low, done = node.low, node.done
        return frozenset(
            (path, size if size < 0 or self._is_wanted(size, low, done) else NOBODY) for path, size in node.tree.items()
        )


def _earlier_twins(operations: Sequence[Operation], clues: Clues) -> list[int | None]:
    """Of each the one before it that does the very same: it may as well be that one."""
    last: dict[Action, int] = {}
    found: list[int | None] = []
    for at, operation in enumerate(operations):
        action = operation.action
        if isinstance(action, Put) and not clues.seers(action.size):
            action = replace(action, size=NOBODY)
        found.append(last.get(action))
        last[action] = at
    return found


def _numbers(mask: int) -> list[int]:
    return [bit.bit_length() - 1 for bit in bits_of(mask)]


def _is_done(at: int, low: int, done: int) -> bool:
    return at < low or bool(done >> (at - low) & 1)


def _mark(low: int, done: int, at: int) -> tuple[int, int]:
    """With this one placed too."""
    done |= 1 << (at - low)
    while done & 1:
        done >>= 1
        low += 1
    return low, done
