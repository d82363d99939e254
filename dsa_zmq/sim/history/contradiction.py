"""Tells why a history cannot be explained, by as few of its operations as are enough for that.

An operation is left out by assuming less about it: what changed nothing is forgotten, and what changed something may have
done so at any later time, or never. So those that are left contradict each other, whatever became of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dsa_zmq.sim.history.explain import Explanation, TooLong
from dsa_zmq.sim.history.operation import NEVER, Operation, Outcome, after
from dsa_zmq.sim.tree import Failed, Put, Tree, apply

TRIES = 8  #: as much work as so many searches like the one that failed; then the story is told as it is by then
LEAST_STEPS = 40_000  #: of a search, to see whether something may be left out; too long: it may not
MAX_DEAD_ENDS = 6  #: that are told
MAX_TOLD = 40  #: operations that are told


def tell(explanation: Explanation, operations: Sequence[Operation], tree: Tree) -> str:
    """Of operations that all count, and cannot be explained, as ``explanation`` has found."""
    recorded = {operation.number: operation for operation in operations}
    group = _Group(tree, explanation.steps)
    left = group.fewer(explanation.together(), operations, explanation.reached_ns)
    told = [recorded[operation.number] for operation in _worth_telling(left)]
    others = len(operations) - len(told)
    lines = [
        f"no order explains these {len(told)} operations, whenever {others} others took effect, if they did at all:"
    ]
    if tree:
        lines.append(f"in the beginning there was {_shown(tree)}")
    if len(told) <= MAX_TOLD:
        lines += map(str, told)
        lines += ["these orders come as far as any, and end there:", *_dead_ends(told, tree)]
    else:
        last, near = _around_the_last(told, explanation)
        lines += [
            f"(the last {len(near)} that have to do with the one that ended last, #{last.number})",
            *map(str, near),
        ]
    return "\n".join(lines)


def _around_the_last(told: Sequence[Operation], explanation: Explanation) -> tuple[Operation, list[Operation]]:
    """Of too many to tell all: before the one that ended last nothing was wrong yet."""
    footprint = explanation.names.footprint
    last = max(told, key=lambda operation: (operation.is_certain, operation.ended_ns))
    near = [each for each in told if each is last or footprint(each).meets(footprint(last))]
    return last, near[-MAX_TOLD:]


class _Group:
    """Leaves out what is not needed for a contradiction. Work is counted in steps, and in operations to be sorted out."""

    def __init__(self, tree: Tree, steps: int) -> None:
        self._tree = tree
        self._one_try = LEAST_STEPS + steps
        self._work = TRIES * self._one_try

    def fewer(self, suspects: Sequence[Operation], everybody: Sequence[Operation], reached_ns: int) -> list[Operation]:
        """In the order of their calls. Nobody has got beyond ``reached_ns``."""
        left = sorted(suspects, key=_by_time)
        if len(left) == len(everybody) or not self._is_impossible(left):
            left = sorted(everybody, key=_by_time)
        known = _until(left, reached_ns)
        left = known if self._is_impossible(known) else self._earliest(left)
        for changing in (False, True):  # who has only looked is left out first: what was done tells more
            size = len(left)
            while size and self._work > 0:
                left = self._without(left, size, changing)
                size //= 2
        return left

    def _is_impossible(self, operations: Sequence[Operation]) -> bool:
        self._work -= len(operations)
        try:
            explanation = Explanation(operations, self._tree, self._one_try)
        except TooLong:
            self._work -= self._one_try
            return False
        self._work -= explanation.steps
        return not explanation.found

    def _earliest(self, operations: list[Operation]) -> list[Operation]:
        """Only what there was when it became impossible."""
        instants = sorted({operation.ended_ns for operation in operations if operation.is_certain})
        low, high = 0, len(instants) - 1
        while low < high:
            middle = (low + high) // 2
            if self._is_impossible(_until(operations, instants[middle])):
                high = middle
            else:
                low = middle + 1
        found = _until(operations, instants[high])
        return found if self._is_impossible(found) else operations

    def _without(self, operations: list[Operation], size: int, changing: bool) -> list[Operation]:
        """Less by pieces of this many, the oldest first."""
        certain = [operation for operation in operations if operation.is_certain and operation.changes is changing]
        for start in range(0, len(certain), size):
            if self._work <= 0:
                break
            piece = {operation.number for operation in certain[start : start + size]}
            fewer = [each for each in (_less(each, piece) for each in operations) if each is not None]
            if self._is_impossible(fewer):
                operations = fewer
        return operations


def _by_time(operation: Operation) -> tuple[int, int]:
    return operation.begun_ns, operation.number


def _until(operations: Sequence[Operation], now_ns: int) -> list[Operation]:
    """What was known then."""
    begun = [operation for operation in operations if operation.begun_ns <= now_ns]
    still_open = {operation.number for operation in begun if operation.ended_ns > now_ns}
    return [each for each in (_less(each, still_open) for each in begun) if each is not None]


def _less(operation: Operation, numbers: set[int]) -> Operation | None:
    """The operation; if it is one of these, as little as can be assumed about it."""
    if operation.number not in numbers:
        return operation
    if not operation.changes:
        return None
    return replace(operation, outcome=Outcome.UNKNOWN, ended_ns=NEVER, answer=None)


def _worth_telling(operations: Sequence[Operation]) -> list[Operation]:
    """Certain ones, and who brought what they saw."""
    seen = {size for operation in operations if operation.is_certain for size in _sizes(operation)}
    return [
        each for each in operations if each.is_certain or (isinstance(each.action, Put) and each.action.size in seen)
    ]


def _sizes(operation: Operation) -> list[int]:
    if isinstance(operation.answer, int):
        return [operation.answer]
    return [size for _, size in operation.answer] if isinstance(operation.answer, tuple) else []


def _dead_ends(operations: Sequence[Operation], tree: Tree) -> list[str]:
    """The orders that place the most operations, and why none of the others comes next."""
    best = -1
    ends: dict[frozenset[int], tuple[list[Operation], Tree, list[Operation]]] = {}
    stack: list[tuple[list[Operation], Tree]] = [([], tree)]
    visited: set[tuple[frozenset[int], frozenset[tuple[str, int]]]] = set()
    while stack and len(visited) < LEAST_STEPS:
        order, tree = stack.pop()
        placed = frozenset(operation.number for operation in order)
        if (placed, frozenset(tree.items())) in visited:
            continue
        visited.add((placed, frozenset(tree.items())))
        left = [operation for operation in operations if operation.number not in placed]
        deadline = min((operation.ended_ns for operation in left if operation.is_certain), default=NEVER)
        possible = [operation for operation in left if operation.begun_ns <= deadline]
        certain = sum(operation.is_certain for operation in order)
        if certain > best:
            best, ends = certain, {}
        if certain == best:
            ends[placed] = (order, tree, [operation for operation in possible if operation.is_certain])
        for operation in reversed(possible):
            then = after(tree, operation)
            if then is not None:
                stack.append(([*order, operation], then))
    lines = []
    for order, tree, possible in list(ends.values())[:MAX_DEAD_ENDS]:
        before = ", ".join(f"#{operation.number}" for operation in order[-12:]) or "first of all"
        dots = "..., " if len(order) > 12 else ""
        lines.append(f"  {dots}{before}: there is {_shown(tree)};")
        lines += [f"    next may come #{each.number}, but {_why_not(each, tree)}" for each in possible]
    return lines


def _why_not(operation: Operation, tree: Tree) -> str:
    """What would have been heard instead."""
    heard = f"was refused ({operation.answer})" if operation.outcome is Outcome.REFUSED else "was done"
    if operation.answer is not None and operation.outcome is Outcome.DONE:
        heard = f"saw {operation.answer!r}"
    try:
        answer, _ = apply(tree, operation.action)
    except Failed as failed:
        return f"it would be refused ({failed.code}), and {heard}"
    return f"it would {'be done' if answer is None else f'see {answer!r}'}, and {heard}"


def _shown(tree: Tree) -> str:
    return ", ".join(f"{path}={'directory' if size < 0 else size}" for path, size in sorted(tree.items())) or "nothing"
