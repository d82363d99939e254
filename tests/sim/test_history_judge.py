"""The judge of histories against brute force: every order of small histories is tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa_zmq.sim import history
from dsa_zmq.sim.history import NEVER, NotLinearizable, Operation, Outcome
from dsa_zmq.sim.tree import (
    DIRECTORY,
    EMPTY,
    READS,
    Action,
    Copy,
    Failed,
    List,
    Look,
    MakeDirectory,
    Move,
    Put,
    Read,
    Remove,
    Tree,
    apply,
)

DONE, REFUSED, FAILED, UNKNOWN = Outcome.DONE, Outcome.REFUSED, Outcome.FAILED, Outcome.UNKNOWN
CODES = ("not-found", "already-exists", "is-a-directory", "not-a-directory", "not-empty")
START: Tree = {"/a": DIRECTORY, "/a/x": 901, "/b": 902}


def steps(operation: Operation, tree: Tree) -> list[Tree]:
    """The trees that this operation may leave, if it comes now."""
    try:
        answer, after = apply(tree, operation.action)
    except Failed as failed:
        return [tree] if operation.outcome is REFUSED and failed.code == operation.answer else []
    if operation.outcome is DONE:
        return [after] if answer == operation.answer else []
    return [after] if operation.outcome is UNKNOWN else []


def is_possible(left: Sequence[Operation], tree: Tree) -> bool:
    """Whether any order at all explains these, one way or the other."""
    needed = [each for each in left if each.outcome in (DONE, REFUSED)]
    if not needed:
        return True
    first_end = min(each.ended_ns for each in needed)
    for one in left:
        if one.outcome is not FAILED and one.begun_ns <= first_end:
            rest = [each for each in left if each is not one]
            if any(is_possible(rest, after) for after in steps(one, tree)):
                return True
    return False


def check_order(order: Sequence[Operation], operations: Sequence[Operation], tree: Tree) -> None:
    """The order keeps to times and to what was seen, and lacks nothing that is certain."""
    latest = 0
    for operation in order:
        latest = max(latest, operation.begun_ns)
        assert latest <= operation.ended_ns or operation.outcome is UNKNOWN
        (tree,) = steps(operation, tree)
    numbers = [operation.number for operation in order]
    assert len(set(numbers)) == len(numbers)
    assert {each.number for each in operations if each.outcome in (DONE, REFUSED)} <= set(numbers)


def judge(operations: Sequence[Operation], tree: Tree) -> bool:
    try:
        order = history.check(operations, tree)
    except NotLinearizable:
        return False
    check_order(order, operations, tree)
    return True


PATHS = st.sampled_from(("/a", "/b", "/a/x", "/a/y", "/b/x", "/a/y/z"))
FEW = st.sampled_from(("/a", "/b"))


def actions(paths: st.SearchStrategy[str]) -> st.SearchStrategy[Action]:
    return st.one_of(
        st.builds(Put, paths, st.sampled_from((0, 0, 0, 1, 901)), st.booleans()),
        st.builds(Remove, paths, st.booleans()),
        st.builds(Move, paths, paths, st.booleans()),
        st.builds(Copy, paths, paths, st.booleans()),
        st.builds(MakeDirectory, paths),
        st.builds(Look, paths),
        st.builds(Read, paths),
        st.builds(List, st.one_of(paths, st.just("/"))),
    )


TIMES = st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 6))
"""(begin, from there to its instant, from there to its end)"""

MANY = settings(max_examples=1500)


@st.composite
def happened(draw: st.DrawFn, paths: st.SearchStrategy[str], most: int) -> tuple[list[Operation], Tree]:
    """What did happen to one tree: its operations, and how it was before."""
    wanted = draw(st.lists(st.tuples(actions(paths), TIMES, st.integers(0, 9)), min_size=1, max_size=most))
    tree = start = draw(st.sampled_from((EMPTY, START)))
    found = []
    for number, (action, (begun, until, rest), luck) in enumerate(
        sorted(wanted, key=lambda each: each[1][0] + each[1][1])
    ):
        if isinstance(action, Put):
            action = Put(action.path, action.size or number + 1, action.if_absent)  # now and then not the only one
        outcome, answer, ended, before = DONE, None, begun + until + rest, tree
        try:
            answer, tree = apply(tree, action)
        except Failed as failed:
            outcome, answer = REFUSED, failed.code
            if failed.code == "conflict":
                continue
        if luck < 3 and not isinstance(action, READS):  # nobody heard of its end; of some it was never begun, either
            outcome, answer, ended, tree = UNKNOWN, None, NEVER, before if luck == 0 else tree
        found.append(Operation(number, "user", action, begun, ended, outcome, answer))
    return found, start


@st.composite
def altered(draw: st.DrawFn, paths: st.SearchStrategy[str], most: int) -> tuple[list[Operation], Tree]:
    """The same, with one of its answers or times made another."""
    operations, start = draw(happened(paths, most))
    certain = [each for each in operations if each.outcome is not UNKNOWN]
    if not certain:
        return operations, start
    one = draw(st.sampled_from(certain))
    one.outcome, one.answer, one.begun_ns, one.ended_ns = draw(
        st.one_of(
            st.tuples(
                st.just(DONE), answers(one.action, len(operations)), st.just(one.begun_ns), st.just(one.ended_ns)
            ),
            st.tuples(st.just(REFUSED), st.sampled_from(CODES), st.just(one.begun_ns), st.just(one.ended_ns)),
            st.integers(0, 20).map(lambda at: (one.outcome, one.answer, at, at + 1)),
        )
    )
    return operations, start


def answers(action: Action, most: int) -> st.SearchStrategy[Any]:
    sizes = st.one_of(st.integers(0, most), st.sampled_from((901, 902, DIRECTORY)))
    match action:
        case Look() | Read():
            return sizes
        case List():
            return st.dictionaries(st.sampled_from("abxyz"), sizes, max_size=2).map(lambda d: tuple(sorted(d.items())))
        case _:
            return st.none()


@pytest.mark.slow
@MANY
@given(st.one_of(happened(PATHS, 9), happened(FEW, 9)))
def test_what_happened_is_explained(told: tuple[list[Operation], Tree]) -> None:
    assert judge(*told)


@pytest.mark.slow
@MANY
@given(st.one_of(altered(PATHS, 6), altered(FEW, 6)))
def test_the_verdict_on_what_was_altered_is_that_of_brute_force(told: tuple[list[Operation], Tree]) -> None:
    assert judge(*told) == is_possible(*told)
