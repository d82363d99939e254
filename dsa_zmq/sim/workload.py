"""What users do all day: a random mixture of operations on a few paths that they share."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.sim.faults import MS
from dsa_zmq.sim.users import Reply, User

if TYPE_CHECKING:
    from dsa_zmq.sim.cluster import SimCluster

DIRECTORIES = ("/a", "/b")
FILES = ("f0", "f1", "f2")
THINK_NS = 60 * MS  #: between two operations of one user, at most


MIXTURE = (8, 8, 2, 3, 2, 2, 1, 1)
"""How often each: put, get, look, remove, move, list, copy, and something with directories."""


class Worker:
    """A user at work: one operation after the other, ``left`` of them. A client that dies is started anew."""

    mixture: tuple[int, ...] = MIXTURE

    def __init__(self, cluster: SimCluster, operations: int, *, max_bytes: int, if_absent: float = 0.2) -> None:
        self._cluster = cluster
        self._max_bytes = max_bytes
        self._if_absent = if_absent  # the share of puts that want a new name
        self.user: User = cluster.user()
        self._draw = random.Random(f"{cluster.seed}:{self.user.name}:work")
        self.left = operations
        self._starts = 0
        self._go_on()

    def __repr__(self) -> str:
        return f"<Worker {self.user.name}, {self.left} operations left>"

    def crash(self) -> None:
        """The client process dies; another one goes on with what is left."""
        self.user.restart()
        self._go_on()

    def _go_on(self) -> None:
        self._starts = self.user.starts
        self._cluster.soon(lambda starts=self._starts: self._next(starts), self._draw.randrange(THINK_NS))  # type: ignore[misc]

    def _next(self, starts: int) -> None:
        if starts != self.user.starts or not self.left:
            return  # of a client that has died meanwhile
        self.left -= 1
        self._something().then(self._go_on)

    def _path(self) -> str:
        return f"{self._draw.choice(DIRECTORIES)}/{self._draw.choice(FILES)}"

    def _something(self) -> Reply:
        draw, user = self._draw, self.user
        match draw.choices(range(len(self.mixture)), self.mixture)[0]:
            case 0:
                content = self._cluster.ledger.new_content(self._max_bytes)
                return user.put(self._path(), content, if_absent=draw.random() < self._if_absent)
            case 1:
                return user.get(self._path())
            case 2:
                return user.stat(self._path())
            case 3:
                return user.rm(self._path())
            case 4:
                return user.mv(self._path(), self._path(), replace=draw.random() < 0.5)
            case 5:
                return user.ls(draw.choice(DIRECTORIES))
            case 6:
                return user.cp(self._path(), self._path(), replace=True)
            case 7:
                return self._on_directories()
            case _:
                start = draw.randrange(self._max_bytes)
                return user.get(self._path(), start, draw.choice((None, start + draw.randrange(self._max_bytes))))

    def _on_directories(self) -> Reply:
        draw, user = self._draw, self.user
        match draw.randrange(3):
            case 0:
                return user.mkdir(draw.choice(DIRECTORIES))
            case 1:
                return user.rm(draw.choice(DIRECTORIES), recursive=draw.random() < 0.5)
            case _:
                return user.mv(*draw.sample(DIRECTORIES, 2))


class Steps(Worker):
    """A worker that does these of its operations: each is the same whichever of the others are done. Some read a part of a
    file only."""

    mixture = (*MIXTURE, 4)

    def __init__(self, cluster: SimCluster, steps: Sequence[int], *, max_bytes: int) -> None:
        self._steps = list(steps)
        super().__init__(cluster, len(steps), max_bytes=max_bytes)

    def _something(self) -> Reply:
        step = self._steps[-1 - self.left]  # those before have been done
        self._draw = random.Random(f"{self._cluster.seed}:{self.user.name}:step:{step}")
        return super()._something()
