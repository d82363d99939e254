"""How many bytes of content all uploads of a client may hold at once. Pure.

An upload reserves before it reads, and gives back when a page is staged. Requests are served in order. A page can only be
staged when it is full, so streams that hold parts of pages and wait for each other (one thread that writes to several files
in turn) would wait for ever; therefore, when all have stood still for a while, one request is served beyond the budget.
"""

from __future__ import annotations

from collections import deque


class Budget:
    """``total_bytes`` to be shared. Owners are numbers."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._held: dict[int, int] = {}
        self._used = 0
        self._waiting: deque[tuple[int, int]] = deque()

    def __repr__(self) -> str:
        return f"Budget({self._used} of {self._total} bytes used, {len(self._waiting)} waiting)"

    @property
    def used(self) -> int:
        return self._used

    @property
    def waiting(self) -> int:
        """How many owners wait."""
        return len(self._waiting)

    def ask(self, owner: int, size: int) -> None:
        """Queue a request; :meth:`grant` serves it."""
        self._waiting.append((owner, size))

    def grant(self, stalled: bool) -> list[int]:
        """The owners whose requests are served now. ``stalled``: nothing has moved for so long that no holder seems to give
        back by itself."""
        served: list[int] = []
        while self._waiting:
            owner, size = self._waiting[0]
            if self._used and self._used + size > self._total and (served or not stalled):
                break
            self._waiting.popleft()
            self._held[owner] = self._held.get(owner, 0) + size
            self._used += size
            served.append(owner)
        return served

    def give(self, owner: int, size: int) -> None:
        """Part of what this owner holds is free again; more than it holds is not given."""
        size = min(size, self._held.get(owner, 0))
        if size:
            self._held[owner] -= size
            self._used -= size

    def leave(self, owner: int) -> None:
        """This owner has ended."""
        self._used -= self._held.pop(owner, 0)
        if self._waiting:
            self._waiting = deque(entry for entry in self._waiting if entry[0] != owner)
