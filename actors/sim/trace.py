"""The history of a simulated world: a rolling hash of every event, and the last events in readable form."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FLUSH_EVENTS = 512  #: events hashed at once; one hash update per event would cost more than the event

_SCALARS = (int, str, bytes, bool, float, type(None))


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``subject`` is kept as it was handed in and only formatted when it is printed."""

    time_ns: int
    kind: str
    who: str
    detail: str | int
    subject: Any

    def __str__(self) -> str:
        subject = "" if self.subject is None else f" {self.subject!r}"
        return f"{self.time_ns / 1e9:13.6f}s {self.who:<24} {self.kind:<10} {self.detail}{subject}"


class Trace:
    """Hashes every event; keeps the last ``keep`` of them.

    Only time, kind, who and detail go into the hash, never an object's ``repr`` (which may contain its address).
    """

    def __init__(self, keep: int = 0) -> None:
        self.count = 0  #: events so far
        self._hash = hashlib.blake2b(digest_size=16)
        self._pending: list[str] = []
        self._kept: deque[Event] | None = deque(maxlen=keep) if keep else None

    def add(self, time_ns: int, kind: str, who: str, detail: str | int = "", subject: Any = None) -> None:
        """Record an event. ``subject`` is for readers: a message, a token, an error."""
        self.count += 1
        pending = self._pending
        pending.append(f"{time_ns} {kind} {who} {detail}")
        if len(pending) >= FLUSH_EVENTS:
            self._flush()
        if self._kept is not None:
            self._kept.append(Event(time_ns, kind, who, detail, subject))

    def _flush(self) -> None:
        if self._pending:
            self._hash.update("\n".join(self._pending).encode() + b"\n")
            self._pending.clear()

    def hash(self) -> str:
        """The hash of everything so far, as 32 hexadecimal digits."""
        self._flush()
        return self._hash.hexdigest()

    def tail(self, count: int = 50) -> list[str]:
        """The last ``count`` of the kept events, as lines."""
        kept = list(self._kept or ())
        return [str(event) for event in kept[-count:]]

    def story(self, substring: str) -> Iterator[str]:
        """The kept events whose line contains ``substring``: the life of one peer, upload or shard."""
        for event in self._kept or ():
            line = str(event)
            if substring in line:
                yield line


def log_detail(event: str, fields: dict[str, object]) -> str:
    """What of a log line goes into the hash: scalars by value, everything else by its type."""
    shown = [f"{k}={v!r}" if isinstance(v, _SCALARS) else f"{k}:{type(v).__name__}" for k, v in fields.items()]
    return " ".join([event, *shown])
