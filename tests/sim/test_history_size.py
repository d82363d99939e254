"""The judge of histories does not give up: long ones, with many at work at the same time, are decided by few steps."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dsa_zmq.sim import history
from dsa_zmq.sim.history import NEVER, NotLinearizable, Operation, Outcome
from dsa_zmq.sim.history.explain import Explanation
from dsa_zmq.sim.tree import (
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

DONE, REFUSED, UNKNOWN = Outcome.DONE, Outcome.REFUSED, Outcome.UNKNOWN
CLIENTS = 20
ONLY_FILES = {"put": 8, "read": 8, "look": 2, "remove": 3}
ALL_KINDS = {**ONLY_FILES, "move": 2, "list": 2, "copy": 1, "directory": 1}


def happened(
    count: int, *, files: int, directories: int, kinds: dict[str, int], unknown: float = 0.0, seed: int = 1
) -> list[Operation]:
    """Clients at work, each with one operation after the other; and at the end somebody looks at everything."""
    draw = random.Random(seed)
    folders = [f"/d{number}" for number in range(directories)]
    names = [f"{folders[number % directories]}/f{number}" for number in range(files)]
    free_at = [draw.randrange(1000) for _ in range(CLIENTS)]
    begun: list[tuple[int, int, int, Action]] = []  # (instant, begin, end, action)
    for number in range(count):
        client = min(range(CLIENTS), key=free_at.__getitem__)
        at, lasts = free_at[client], 1 + int(1000 * draw.expovariate(1))
        action = _action(draw, number, draw.choices(list(kinds), list(kinds.values()))[0], names, folders)
        begun.append((at + draw.randrange(lasts), at, at + lasts, action))
        free_at[client] = at + lasts + int(1000 * draw.expovariate(1))
    end = max(free_at)
    begun += [(end, end, end + 9, kind(path)) for path in [*names, *folders, "/"] for kind in (Look, Read, List)]
    tree: Tree = EMPTY
    found = []
    for number, (_, at, ended, action) in enumerate(sorted(begun, key=lambda entry: entry[0])):
        outcome, answer, before = DONE, None, tree
        try:
            answer, tree = apply(tree, action)
        except Failed as failed:
            outcome, answer = REFUSED, failed.code
        if draw.random() < unknown and not isinstance(action, READS):
            outcome, answer, ended, tree = UNKNOWN, None, NEVER, draw.choice((tree, before))
        found.append(Operation(number, "user", action, at, ended, outcome, answer))
    return found


def _action(draw: random.Random, number: int, kind: str, names: list[str], folders: list[str]) -> Action:
    path, other = draw.choice(names), draw.choice(names)
    match kind:
        case "put":
            return Put(path, number + 1, draw.random() < 0.2)
        case "read":
            return Read(path)
        case "look":
            return Look(path)
        case "remove":
            return Remove(path)
        case "move":
            return Move(path, other, draw.random() < 0.5)
        case "copy":
            return Copy(path, other, True)
        case "list":
            return List(draw.choice(folders))
        case _:
            one, another = draw.sample(folders, 2)
            return draw.choice((MakeDirectory(one), Remove(one, draw.random() < 0.5), Move(one, another)))


def with_an_older_answer(operations: list[Operation]) -> list[Operation]:
    """Somebody saw what had been overwritten before: the last that had for certain."""
    draw = random.Random(2)
    puts: dict[str, list[Operation]] = {}
    for each in operations:
        if isinstance(each.action, Put) and each.outcome is DONE:
            puts.setdefault(each.action.path, []).append(each)
    while True:
        reader = draw.choice([each for each in operations if isinstance(each.action, Read) and each.outcome is DONE])
        before = [put for put in puts.get(reader.action.path, ()) if put.ended_ns < reader.begun_ns]
        latest = max((put.begun_ns for put in before), default=0)
        gone = [put.action.size for put in before if put.ended_ns < latest and put.action.size != reader.answer]
        if gone:
            return [replace(each, answer=gone[-1]) if each is reader else each for each in operations]


SHAPES = {
    "one file": {"files": 1, "directories": 1, "kinds": ONLY_FILES},
    "six files": {"files": 6, "directories": 2, "kinds": ONLY_FILES},
    "six files and all operations": {"files": 6, "directories": 2, "kinds": ALL_KINDS},
    "fifty files and all operations": {"files": 50, "directories": 5, "kinds": ALL_KINDS},
    "a thousand files and all operations": {"files": 1000, "directories": 10, "kinds": ALL_KINDS},
    "some unknown": {"files": 20, "directories": 4, "kinds": ALL_KINDS, "unknown": 0.002},
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_ten_thousand_operations_of_twenty_clients_are_explained_by_few_steps(shape: str) -> None:
    explanation = Explanation(happened(10_000, **SHAPES[shape]), EMPTY, 40_000)  # type: ignore[arg-type]
    assert explanation.found


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_one_wrong_answer_among_ten_thousand_is_found_by_some_more(shape: str) -> None:
    operations = with_an_older_answer(happened(10_000, **SHAPES[shape]))  # type: ignore[arg-type]
    assert not Explanation(operations, EMPTY, 400_000).found


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["one file", "six files", "six files and all operations", "some unknown"])
def test_the_story_of_a_wrong_answer_is_short(shape: str) -> None:
    operations = with_an_older_answer(happened(120, **SHAPES[shape]))  # type: ignore[arg-type]
    with pytest.raises(NotLinearizable) as caught:
        history.check(operations)
    first, *lines = str(caught.value).splitlines()
    told = [line for line in lines if line.startswith("#")]
    assert len(told) <= 12
    assert first.startswith(f"no order explains these {len(told)} operations")
    assert any("next may come" in line for line in lines)


def test_a_move_beside_many_puts_takes_each_of_them_or_not() -> None:
    """Where each ended shows only much later, and in no order; with all of them there are 2 ** 60 ways."""
    operations = [
        Operation(0, "user", MakeDirectory("/d"), 0, 1, DONE),
        Operation(1, "user", Move("/d", "/old"), 5, 900, DONE),
    ]
    draw = random.Random(1)
    for number in range(2, 62):
        begun = draw.randrange(10, 400)
        operations.append(Operation(number, "user", Put(f"/d/{number}", number), begun, begun + 400, DONE))
        place = draw.choice(("/d", "/old"))
        operations.append(Operation(100 + number, "user", Read(f"{place}/{number}"), 1000, 1001, DONE, number))
    order = history.check(operations)
    assert len(order) == len(operations)
    seen_twice = Operation(
        999, "user", Read("/d/2" if operations[3].action.path == "/old/2" else "/old/2"), 1000, 1001, DONE, 2
    )
    assert not Explanation([*operations, seen_twice], EMPTY, 1000).found


def test_puts_of_unknown_outcome_that_nobody_saw_do_not_slow_the_search() -> None:
    operations = [Operation(number, "user", Put("/f", number + 1), number, NEVER, UNKNOWN) for number in range(60)]
    operations += [
        Operation(100, "user", Put("/f", 101), 70, 71, DONE),
        Operation(101, "user", Read("/f"), 80, 81, DONE, 101),
    ]
    assert Explanation(operations, EMPTY, 10).found
    operations.append(Operation(102, "user", Read("/f"), 90, 91, DONE, 999))
    assert not Explanation(operations, EMPTY, 1000).found
