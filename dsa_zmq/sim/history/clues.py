"""Orders that every explanation has to keep, because of who saw which content.

Most contents are brought by one put only. So who saw one came after its put, and before whatever took it away from where it
was seen. Where a content can have come to its place in one way only, that decides about others who changed that place
meanwhile: they came before it was there, or after it was seen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from dsa_zmq.sim.history.footprint import above, is_within
from dsa_zmq.sim.history.operation import NEVER, Operation, Outcome
from dsa_zmq.sim.tree import Copy, List, Look, Move, Put, Read, Tree

MAX_ROUTES = 12  #: moves and copies between a put and who saw its content; among more there is hardly only one way


class Clues:
    """Of operations that all count. ``operations``: the same, where what nobody heard the end of is certain if somebody saw
    what came of it."""

    def __init__(self, operations: Sequence[Operation], tree: Tree) -> None:
        puts = [each for each in operations if isinstance(each.action, Put) and each.changes]
        times = Counter([*tree.values(), *(each.action.size for each in puts)])  # type: ignore[union-attr]
        self._put = {each.action.size: each for each in puts if times[each.action.size] == 1}  # type: ignore[union-attr]
        self._copied = _copied(operations)
        self._seers: dict[int, list[tuple[Operation, str]]] = {}
        for operation in operations:
            for size, path in _seen(operation):
                self._seers.setdefault(size, []).append((operation, path))
        self._certain = {each.number: each for each in operations if each.is_certain}
        self._earlier: dict[int, dict[int, Operation]] = {}
        self._find(operations)
        self.operations = [self._certain.get(each.number, each) for each in operations]
        self._deadlines = self._propagated()

    def seen(self) -> list[int]:
        """The contents that somebody saw."""
        return list(self._seers)

    def seers(self, size: int) -> list[Operation]:
        """Who saw the content of this size."""
        return [operation for operation, _ in self._seers.get(size, ())]

    def is_brought_once(self, size: int) -> bool:
        """Whether this content cannot come back once it is nowhere."""
        return size in self._put

    def is_single(self, size: int) -> bool:
        """Whether nobody can have copied this content either: it is in one place at most."""
        return size in self._put and self._put[size].action.path not in self._copied  # type: ignore[union-attr]

    def deadline_ns(self, operation: Operation) -> int:
        """The latest instant at which a certain one can have taken effect."""
        return self._deadlines.get(operation.number, operation.ended_ns)

    def earlier(self, operation: Operation) -> Iterable[Operation]:
        """What has to come before it, apart from what had ended when it began."""
        return self._earlier.get(operation.number, {}).values()

    # --- what can be told from times and contents -----------------------------------------------------------------------

    def _find(self, operations: Sequence[Operation]) -> None:
        routes = _InTime(each for each in operations if _relocates(each))
        self._changing: dict[str, _InTime] = {}
        by_name: dict[str, list[Operation]] = {}
        for operation in operations:
            if operation.outcome is Outcome.DONE and operation.changes:
                for path in _changed(operation):
                    by_name.setdefault(path, []).append(operation)
        self._changing = {path: _InTime(found) for path, found in by_name.items()}
        for size, seers in self._seers.items():
            put = self._put.get(size)
            if put is not None:
                for seer, path in seers:
                    self._look_at(put, seer, path, routes)

    def _look_at(self, put: Operation, seer: Operation, path: str, routes: _InTime) -> None:
        """Somebody saw under ``path`` what this put has brought."""
        self._precedes(put, seer)
        home = put.action.path  # type: ignore[union-attr]
        ways = _ways(home, path, list(routes.between(put.begun_ns, seer.ended_ns, MAX_ROUTES + 1)))
        if ways is None or len(ways) > 1:
            return
        if not ways:
            if home == path:
                self._stays(put, path, seer)
            return
        (relocator,) = ways
        self._precedes(put, relocator)
        self._precedes(relocator, seer)
        self._stays(put, home, relocator)
        self._stays(relocator, path, seer)

    def _stays(self, first: Operation, path: str, last: Operation) -> None:
        """A content has been under this name from the one to the other: who else has changed it came before or after."""
        for name in [*above(path), path]:
            changing = self._changing.get(name)
            for other in changing.between(first.begun_ns, last.ended_ns) if changing else ():
                if other.number in (first.number, last.number):
                    continue
                if other.ended_ns < last.begun_ns:
                    self._precedes(other, first)
                elif first.ended_ns < other.begun_ns:
                    self._precedes(last, other)

    def _precedes(self, first: Operation, second: Operation) -> None:
        """If the second is certain, so is the first."""
        if second.number not in self._certain:
            return
        known = self._certain.get(first.number)
        latest = self._certain[second.number].ended_ns
        if known is None:
            if latest < first.begun_ns:
                return  # that is impossible anyway, and will show
            known = replace(first, outcome=Outcome.DONE, answer=None, ended_ns=latest)
        elif (
            known.answer is None
            and known.ended_ns > latest
            and known.outcome is Outcome.DONE
            and first.ended_ns == NEVER
        ):
            known = replace(known, ended_ns=latest)
        self._certain[first.number] = known
        self._earlier.setdefault(second.number, {})[first.number] = known

    def _propagated(self) -> dict[int, int]:
        """Deadlines: what comes before another one comes before its deadline."""
        deadlines = {number: operation.ended_ns for number, operation in self._certain.items()}
        stack = list(self._earlier)
        while stack:
            number = stack.pop()
            for first in self._earlier.get(number, ()):
                if deadlines[first] > deadlines[number]:
                    deadlines[first] = deadlines[number]
                    stack.append(first)
        return deadlines


class _InTime:
    """Operations that can be found by when they were under way."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = sorted(operations, key=lambda each: each.begun_ns)
        self._begun = [each.begun_ns for each in self._operations]
        self._latest = list(accumulate((_end(each) for each in self._operations), max))  # of all up to each

    def between(self, begun_ns: int, ended_ns: int, most: int = NEVER) -> Iterator[Operation]:
        """Those that were under way between these instants, the latest first."""
        at = bisect_right(self._begun, ended_ns) - 1
        while at >= 0 and self._latest[at] >= begun_ns and most:
            if _end(self._operations[at]) >= begun_ns:
                yield self._operations[at]
                most -= 1
            at -= 1


def _end(operation: Operation) -> int:
    return operation.ended_ns if operation.is_certain else NEVER


def _seen(operation: Operation) -> list[tuple[int, str]]:
    """The contents that it saw, and where."""
    if operation.outcome is not Outcome.DONE:
        return []
    match operation.action:
        case Look(path) | Read(path):
            return [(operation.answer, path)] if operation.answer >= 0 else []
        case List(path):
            return [(size, f"{path.rstrip('/')}/{name}") for name, size in operation.answer if size >= 0]
        case _:
            return []


def _relocates(operation: Operation) -> bool:
    action = operation.action
    return operation.changes and isinstance(action, Move | Copy) and action.source != action.target


def _changed(operation: Operation) -> list[str]:
    """The names of which nothing, neither there nor below, is a file with the same content before and after."""
    action = operation.action
    if isinstance(action, Move | Copy):
        if action.source == action.target:
            return []
        return [action.target] if isinstance(action, Copy) else [action.source, action.target]
    return [action.path]


def _ways(home: str, path: str, routes: Sequence[Operation]) -> list[Operation] | None:
    """The moves and copies that have a part in bringing a content from one name to the other: none, one that does it alone,
    or several (None)."""
    if len(routes) > MAX_ROUTES:
        return None
    steps: list[tuple[str, Operation, str]] = []
    reached, stack = {home}, [home]
    while stack:
        name = stack.pop()
        for route in routes:
            there = _taken(name, route)
            if there is None:
                continue
            steps.append((name, route, there))
            if there not in reached:
                if len(reached) > MAX_ROUTES:
                    return None
                reached.add(there)
                stack.append(there)
    leading, grows = {path}, True
    while grows:
        more = {before for before, _, there in steps if there in leading}
        grows = not more <= leading
        leading |= more
    used = [(before, route, there) for before, route, there in steps if there in leading]
    if not used:
        return []
    if len(used) == 1 and used[0][0] == home and used[0][2] == path and home != path:
        return [used[0][1]]
    return None


def _taken(name: str, route: Operation) -> str | None:
    """Where a move or copy takes what lies under this name."""
    action = route.action
    assert isinstance(action, Move | Copy)
    if name == action.source or (isinstance(action, Move) and is_within(name, action.source)):
        return action.target + name[len(action.source) :]
    return None


def _copied(operations: Sequence[Operation]) -> set[str]:
    """Names that a content may have been put under, and come from there to where it was copied; generous."""
    changing = [each.action for each in operations if each.changes]
    found = {action.source for action in changing if isinstance(action, Copy)}
    moves = {action for action in changing if isinstance(action, Move)}
    names = {action.path for action in changing if isinstance(action, Put)}
    grows = bool(found)
    while grows:
        reached = {name for name in names if any(_touch(name, source) for source in found)}
        sources = {move.source for move in moves if any(_touch(move.target, path) for path in found)}
        grows = not (sources | reached) <= found
        found |= sources | reached
    return found


def _touch(one: str, other: str) -> bool:
    return is_within(one, other) or is_within(other, one)
