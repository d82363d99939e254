"""Requests over a transport that loses, repeats and reorders: deadlines and retries for the sender, a duplicate table
for the receiver. Pure: time comes in as monotonic nanoseconds.

The sender repeats a request, with its number, until it is answered or its deadline has passed. The receiver keeps the
reply of every number above the sender's floor, so that a repeat is answered the same and has its effect once.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from actors import limits

T = TypeVar("T")

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: ``first_ns`` after the first one, doubling up to ``max_ns``."""

    first_ns: int = 200_000_000  #: longer than a disk's worst usual sync, short enough not to be felt
    max_ns: int = 2_000_000_000  #: a server that comes back is found within this time

    def delay_ns(self, tries: int) -> int:
        """The pause after ``tries`` tries (1 or more)."""
        return min(self.first_ns << min(tries - 1, 32), self.max_ns)


@dataclass(slots=True)
class Request(Generic[T]):
    """One open request."""

    number: int
    item: T
    deadline_ns: int
    retry_ns: int
    tries: int = 1


class Requests(Generic[T]):
    """The open requests of one sender, by number."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff()
        self._first_ns = self._backoff.delay_ns(1)
        self._open: dict[int, Request[T]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Request[T]]:
        return iter(self._open.values())

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def open(self, number: int, item: T, now_ns: int, deadline_ns: int) -> Request[T]:
        """A request that is being sent for the first time."""
        assert number not in self._open, f"request {number} is open already"
        request = self._open[number] = Request(number, item, deadline_ns, now_ns + self._first_ns)
        return request

    def find(self, number: int) -> Request[T] | None:
        """The open request of that number, which stays open."""
        return self._open.get(number)

    def close(self, number: int) -> Request[T] | None:
        """It was answered, or nobody wants the answer any more. None if it is not open: a late or repeated reply."""
        return self._open.pop(number, None)

    def due(self, now_ns: int) -> tuple[list[Request[T]], list[Request[T]]]:
        """``(again, expired)``: what to send once more now, and what has been given up (closed by this call).

        Looks at all that are open, some ten times a second: less work than to keep thousands a second in order, of which
        nearly all are answered long before they would be due.
        """
        again: list[Request[T]] = []
        expired: list[Request[T]] = []
        for request in self._open.values():
            if request.deadline_ns <= now_ns:
                expired.append(request)
            elif request.retry_ns <= now_ns:
                request.tries += 1
                request.retry_ns = now_ns + self._backoff.delay_ns(request.tries)
                again.append(request)
        for request in expired:
            del self._open[request.number]
        return again, expired

    def hasten(self, now_ns: int) -> None:
        """Everything is to be sent again at once: the connection was lost, so what was under way is gone."""
        for request in self._open.values():
            request.retry_ns = now_ns


class Seen(enum.Enum):
    """What a receiver knows about a request number."""

    NEW = "new"  #: run it, then ``finish``
    RUNNING = "running"  #: it is being run; its reply will come
    DONE = "done"  #: answer the kept reply
    STALE = "stale"  #: below the floor or of an earlier incarnation: the sender has its answer; say nothing
    FULL = "full"  #: too many open requests of this sender: refuse it as overloaded


class Duplicates(Generic[T]):
    """The receiver's memory of what it was asked, per sender; bounded in senders and in numbers of each.

    A newer incarnation of a sender voids the older one. A sender that was pushed out by others starts afresh, so keep
    ``max_peers`` above the number of live senders.
    """

    def __init__(self, max_open: int = 1000, max_peers: int = limits.ROUTER_MAX_PEERS) -> None:
        self._max_open = max_open
        self._max_peers = max_peers
        self._peers: OrderedDict[Hashable, _PeerTable[T]] = OrderedDict()

    def look(self, peer: Hashable, incarnation: int, number: int, done_below: int = 0) -> tuple[Seen, T | None]:
        """Ask before running a request; ``NEW`` marks it as running. ``done_below`` raises the sender's floor."""
        table = self._peers.get(peer)
        if table is None or table.incarnation < incarnation:
            table = self._peers[peer] = _PeerTable(incarnation, {})
            if len(self._peers) > self._max_peers:
                self._peers.popitem(last=False)
        self._peers.move_to_end(peer)
        if incarnation < table.incarnation:
            return Seen.STALE, None
        if done_below > table.floor:
            table.floor = done_below
            table.replies = {n: reply for n, reply in table.replies.items() if n >= done_below}
        if number < table.floor:
            return Seen.STALE, None
        if number in table.replies:
            reply = table.replies[number]
            return (Seen.RUNNING, None) if reply is None else (Seen.DONE, reply)
        if len(table.replies) >= self._max_open:
            return Seen.FULL, None
        table.replies[number] = None
        return Seen.NEW, None

    def finish(self, peer: Hashable, incarnation: int, number: int, reply: T) -> None:
        """Keep the reply. Does nothing if the sender has moved on."""
        table = self._peers.get(peer)
        if table is not None and table.incarnation == incarnation and number in table.replies:
            table.replies[number] = reply


@dataclass(slots=True)
class _PeerTable(Generic[T]):
    incarnation: int
    replies: dict[int, T | None]  #: None while it runs
    floor: int = 0
