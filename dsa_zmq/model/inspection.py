"""How the outside looks into a running server: a call that every server's actor answers in a turn of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Inspect:
    """Hand it in with ``Handle.call``. ``tell`` gets the actor's statistics, in the actor's thread: it must neither block
    nor raise. An actor that hangs never calls it."""

    tell: Callable[[dict[str, int]], None]
