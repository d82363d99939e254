"""Explains a whole history, episode by episode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dsa_zmq.sim.history.clues import Clues
from dsa_zmq.sim.history.episodes import Sources, bits_of, cut
from dsa_zmq.sim.history.footprint import Names, above
from dsa_zmq.sim.history.operation import Operation, Outcome
from dsa_zmq.sim.history.search import Order, Search
from dsa_zmq.sim.tree import DIRECTORY, List, Put, Tree

Solution = tuple[Tree, Order]


class _Dead(NamedTuple):
    """These episodes cannot be explained where under these names there is this."""

    names: int
    tree: Tree
    involved: set[int]


class TooLong(Exception):
    """The steps that were allowed are over."""


class Explanation:
    """Of operations that all count, beginning with ``tree``; ``found`` says whether there is one.

    Episodes are explained in their order. When one cannot be, the latest of those that may have left what it found has to
    leave something else: what lies between has no part in it, and is not tried in other ways (conflict-directed backjumping,
    Prosser 1993). Raises TooLong after ``max_steps`` of the search.
    """

    def __init__(self, operations: Sequence[Operation], tree: Tree, max_steps: int | None = None) -> None:
        self._recorded = {operation.number: operation for operation in operations}
        self.clues = Clues(operations, tree)
        self.names = Names(operations, tree)
        self.episodes = cut(self.clues.operations, self.names)
        self._sources = Sources(self.episodes)
        self._paths: dict[int, list[str]] = {}
        self._number_of = {each.number: at for at, episode in enumerate(self.episodes) for each in episode.operations}
        self._last_seen = {
            size: max(self._number_of[seer.number] for seer in self.clues.seers(size)) for size in self.clues.seen()
        }
        self._tree = dict(tree)
        self._unnamed = {path for path in tree if path not in self.names.bits}
        self._max_steps = max_steps
        self.steps = 0
        self._known: dict[
            tuple[int, frozenset[tuple[str, int]]], tuple[list[Solution], Iterator[Solution], Search]
        ] = {}
        self._chosen: list[tuple[Tree, Tree, Order]] = []  # of each explained episode: what it found, left, and how
        self._dead: dict[int, list[_Dead]] = {}
        self.failed: set[int] = set()  #: the episodes that cannot be explained together
        self.reached_ns = 0  #: nobody has got beyond this instant
        self.found = self._run()

    def order(self) -> list[Operation]:
        """All that took effect, in an order that explains everything."""
        placed: list[tuple[int, int, int, Operation]] = []
        for at, (_, _, order) in enumerate(self._chosen):
            instant = 0
            for position, operation in enumerate(_forward(order)):
                instant = max(instant, operation.begun_ns)
                placed.append((instant, at, position, self._recorded[operation.number]))
        placed.sort(key=lambda entry: entry[:3])
        return [operation for *_, operation in placed]

    def together(self) -> list[Operation]:
        """Those that cannot be explained together: with all that came before them under the same names, and with those who
        saw what they have brought."""
        found, stack = set(self.failed), list(self.failed)
        while stack:
            at = stack.pop()
            more = self._culprits_of({at}, at)
            for operation in self.episodes[at].operations:
                if isinstance(operation.action, Put):
                    more |= {self._number_of[seer.number] for seer in self.clues.seers(operation.action.size)}
            stack += more - found
            found |= more
        return [self._recorded[each.number] for at in sorted(found) for each in self.episodes[at].operations]

    def _run(self) -> bool:
        count = len(self.episodes)
        tried = [0] * count
        culprits: list[set[int]] = [set() for _ in range(count)]
        involved: list[set[int]] = [set() for _ in range(count)]
        at = 0
        while at < count:
            region = self._find(self.episodes[at].names)
            dead = self._known_dead(at) if not tried[at] else None
            solution = None if dead else self._solution(at, region, tried[at])
            if solution is not None:
                tried[at] += 1
                self._replace(region, solution[0])
                self._chosen.append((region, *solution))
                at += 1
                continue
            if dead:
                involved[at] = dead.involved
                culprits[at] = self._culprits_of(dead.involved, at)
            else:
                involved[at].add(at)
                culprits[at] |= self._culprits(at, region)
                self._bury(at, involved[at])
            if not culprits[at]:
                self.failed = involved[at]
                return False
            back = max(culprits[at])
            culprits[back] |= culprits[at] - {back}
            involved[back] |= involved[at]
            for between in range(back + 1, at + 1):
                tried[between], culprits[between], involved[between] = 0, set(), set()
            while len(self._chosen) > back:
                found, left, _ = self._chosen.pop()
                self._replace(left, found)
            at = back
        return True

    # --- the tree -----------------------------------------------------------------------------------------------------

    def _find(self, names: int) -> Tree:
        """What there is under these names."""
        found = {path: self._tree[path] for path in self._paths_of(names) if path in self._tree}
        found.update((path, self._tree[path]) for path in self._unnamed if self.names.bit(path) & names)
        return found

    def _paths_of(self, names: int) -> list[str]:
        known = self._paths.get(names)
        if known is None:
            known = self._paths[names] = self.names.of(names)
        return known

    def _replace(self, region: Tree, by: Tree) -> None:
        if region is by:
            return
        for path in region:
            del self._tree[path]
            self._unnamed.discard(path)
        self._tree.update(by)
        self._unnamed.update(path for path in by if path not in self.names.bits)

    # --- one episode --------------------------------------------------------------------------------------------------

    def _solution(self, at: int, region: Tree, number: int) -> Solution | None:
        """What the episode can leave, given what it finds: the first, the second..."""
        key = at, frozenset(region.items())
        if key not in self._known:
            search = Search(self.episodes[at], self.clues, lambda size: self._last_seen.get(size, -1) > at, self._spend)
            self._known[key] = [], search.solutions(region), search
        solutions, more, search = self._known[key]
        while len(solutions) <= number:
            solution = next(more, None)
            self.reached_ns = max(self.reached_ns, search.reached_ns)
            if solution is None:
                return None
            solutions.append(solution)
        return solutions[number]

    def _spend(self) -> None:
        self.steps += 1
        if self._max_steps is not None and self.steps > self._max_steps:
            raise TooLong

    def _culprits(self, at: int, region: Tree) -> set[int]:
        """Whoever may have left what it cannot be explained with."""
        episode = self.episodes[at]
        blamed = episode.names
        if len(episode.operations) == 1:
            blamed = self._differing(episode.operations[0], region) or blamed
        return {source for bit in bits_of(blamed) for source in self._sources_of(bit, at)}

    def _sources_of(self, bit: int, at: int) -> set[int]:
        """Those of whom this episode has this name as it is. Who has found a directory has not made it."""
        path = self.names.of(bit)[0]
        found = {maker for maker in self._sources.makers(bit, at) if path not in self._chosen[maker][0]}
        writer = self._sources.writer(bit, at)
        return found | {writer} if writer >= 0 else found

    # --- what is known to lead nowhere --------------------------------------------------------------------------------

    def _bury(self, at: int, involved: set[int]) -> None:
        """With what there is now under the names of these episodes they cannot be explained from here on, whatever there is
        under others: whoever has a part in it is among them, or came before."""
        names = 0
        for number in involved:
            names |= self.episodes[number].names
        self._dead.setdefault(at, []).append(_Dead(names, self._find(names), involved))

    def _known_dead(self, at: int) -> _Dead | None:
        return next((dead for dead in self._dead.get(at, ()) if self._find(dead.names) == dead.tree), None)

    def _culprits_of(self, involved: set[int], at: int) -> set[int]:
        """Those before ``at`` that have left what these episodes cannot be explained with."""
        found = set()
        for number in involved:
            for bit in bits_of(self.episodes[number].names):
                found.add(self._sources.writer(bit, number))
                found.update(self._sources.makers(bit, number))
        return {source for source in found if 0 <= source < at}

    def _differing(self, operation: Operation, region: Tree) -> int:
        """A name that alone shows that this listing cannot be of that tree; 0: none does."""
        action = operation.action
        if not isinstance(action, List) or operation.outcome is not Outcome.DONE:
            return 0
        if action.path != "/" and any(region.get(path) != DIRECTORY for path in [*above(action.path), action.path]):
            return 0
        prefix = action.path.rstrip("/") + "/"
        listed = {prefix + name: size for name, size in operation.answer}
        there = {path: size for path, size in region.items() if path.startswith(prefix) and path != "/"}
        there = {path: size for path, size in there.items() if "/" not in path[len(prefix) :]}
        for path in sorted(listed.keys() | there.keys()):
            if listed.get(path) != there.get(path) and path in self.names.bits:
                return self.names.bits[path]
        return 0


def _forward(order: Order) -> list[Operation]:
    found = []
    while order is not None:
        operation, order = order
        found.append(operation)
    return found[::-1]
