"""Planted bugs: shipped code is replaced for one run, and a scenario has to notice.

Whatever patches by name is undone by a rename, or by code that goes another way: then the run is as green, or as red, as
without. So a plant counts only if it is *sound* in the very run that is judged:

* everything that it replaces exists, and the replacement has run, and has done something else than the shipped code would;
* the replacement itself has not failed: a scenario that is red because of a TypeError in the plant has noticed nothing;
* the same seed is green without it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from traceback import walk_tb
from types import TracebackType
from typing import Any

from dsa_zmq.sim.campaign import Scenario, is_red

Replacement = Callable[..., Any]
"""Gets what it replaces as its first argument, then whatever that gets."""

_NOTHING = object()


class Unsound(AssertionError):
    """A plant shows nothing."""


class Unnoticed(AssertionError):
    """A plant has run, and no seed turned red."""


class Planting:
    """What is planted now. Leaving it restores all.

    A replacement that always does something else than the shipped code counts by being called; one that mostly does the
    same is planted with ``always=False``, and says itself by :meth:`differs` when it does not.
    """

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._ran: Counter[str] = Counter()
        self._running: list[str] = []
        self._fault: BaseException | None = None

    def __enter__(self) -> Planting:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def instead_of(self, owner: Any, name: Any, *, always: bool = True) -> Callable[[Replacement], Replacement]:
        """A decorator: this takes the place of an attribute of a class or module, or of an entry of a table."""
        is_table = isinstance(owner, dict)
        shipped = owner.get(name, _NOTHING) if is_table else vars(owner).get(name, _NOTHING)
        label = _label(owner, name)
        if shipped is _NOTHING:
            raise Unsound(f"there is no {label} that could be replaced")

        def plant(replacement: Replacement) -> Replacement:
            if inspect.isgeneratorfunction(replacement):
                raise Unsound(f"{label} would run when nobody looks: return what it yields")

            @functools.wraps(replacement)
            def planted(*arguments: Any, **options: Any) -> Any:
                self._running.append(label)
                self._ran[label] += always
                try:
                    return replacement(shipped, *arguments, **options)
                except Exception as error:
                    if _raised_in(error.__traceback__, replacement):
                        self._fault = self._fault or error
                    raise
                finally:
                    self._running.pop()

            self._ran[label] += 0
            if is_table:
                owner[name] = planted
                self._undo.callback(owner.__setitem__, name, shipped)
            else:
                setattr(owner, name, planted)
                self._undo.callback(setattr, owner, name, shipped)
            return planted

        return plant

    def differs(self) -> None:
        """The replacement that runs does now what the shipped code would not."""
        self._ran[self._running[-1]] += 1

    def check_itself(self) -> None:
        """Raise Unsound if a replacement has failed by itself."""
        if self._fault is not None:
            raise Unsound(f"the planted code itself has failed: {self._fault!r}") from self._fault

    @property
    def has_run(self) -> bool:
        """Whether all that was replaced has done something else than the shipped code."""
        return bool(self._ran) and all(self._ran.values())

    def check_ran(self) -> None:
        """Raise Unsound unless all that was replaced has run."""
        if not self._ran:
            raise Unsound("nothing is planted")
        if idle := [label for label, count in self._ran.items() if not count]:
            raise Unsound(f"planted code never ran: {', '.join(idle)}")


Plant = Callable[[Planting], None]
"""A defect. Its docstring says what is wrong then."""


def first_to_notice(plant: Plant, scenario: Scenario, seeds: Iterable[int]) -> int:
    """The first seed that is red with the plant. Raises Unnoticed, or Unsound if that would show nothing."""
    ran = False
    for seed in seeds:
        with planted(plant) as planting:
            red = is_red(scenario, seed)
        planting.check_itself()
        ran = ran or planting.has_run
        if red:
            planting.check_ran()
            if is_red(scenario, seed):
                raise Unsound(f"{scenario.name} is red without it, too, with seed {seed}")
            return seed
    if not ran:
        planting.check_ran()
    raise Unnoticed(f"{scenario.name} stays green")


def stays_green(plant: Plant, scenario: Scenario, seeds: Iterable[int]) -> None:
    """The plant alone does no harm, for another rule protects. Raises AssertionError if it does, or Unsound."""
    for seed in seeds:
        with planted(plant) as planting:
            red = is_red(scenario, seed)
        planting.check_itself()
        planting.check_ran()
        assert not red, f"{scenario.name} is red, with seed {seed}"


@contextlib.contextmanager
def planted(*plants: Plant) -> Iterator[Planting]:
    """These are in shipped code meanwhile."""
    with Planting() as planting:
        for plant in plants:
            plant(planting)
        yield planting


def both(*plants: Plant) -> Plant:
    """Several defects at once, each of which the others make up for."""

    def plant(planting: Planting) -> None:
        for each in plants:
            each(planting)

    return plant


def _label(owner: Any, name: Any) -> str:
    if isinstance(owner, dict):
        return f"entry {getattr(name, '__name__', name)}"
    return (
        f"{getattr(owner, '__module__', '') or ''}{'.' if hasattr(owner, '__module__') else ''}{owner.__name__}.{name}"
    )


def _raised_in(traceback: TracebackType | None, replacement: Replacement) -> bool:
    """Whether an error began in the replacement itself, or in the call of it, and not in shipped code that it calls."""
    frames = [frame for frame, _ in walk_tb(traceback)]
    if len(frames) == 1:
        return True  # it does not take these arguments
    return frames[-1].f_code.co_filename == replacement.__code__.co_filename
