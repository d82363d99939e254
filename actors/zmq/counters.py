"""What a runtime counts, and how it says so: statistics, structured log lines, complaints at most once a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

COMPLAINT_INTERVAL_NS = 1_000_000_000  #: a flood of bad input must not become a flood of log lines


class Counters:
    """Written by the reactor's thread only; reading from another is safe, if a moment stale."""

    __slots__ = (
        "busy",
        "bytes_in",
        "bytes_out",
        "cut",
        "disconnects",
        "gone",
        "handshake_failures",
        "messages_in",
        "messages_out",
        "protocol_errors",
        "turns",
    )

    def __init__(self) -> None:
        self.messages_in = 0  #: delivered to the actor, feeds included
        self.messages_out = 0  #: accepted by a socket, feeds included
        self.bytes_in = 0  #: messages and payloads, without transport overhead
        self.bytes_out = 0  #: the same, with the lengths of joined payload frames
        self.busy = 0  #: messages dropped because a queue was full
        self.gone = 0  #: messages dropped because nobody was there
        self.cut = 0  #: messages thrown away, either way, because of a cut
        self.turns = 0
        self.protocol_errors: dict[str, int] = {}  #: by reason word
        self.handshake_failures = 0  #: needs the monitor
        self.disconnects = 0  #: needs the monitor

    def snapshot(self) -> dict[str, Any]:
        """All counters by name, copied."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["protocol_errors"] = dict(self.protocol_errors)
        return values


class _Fields:
    """Formats only when a handler really writes the line."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        return "".join(f" {key}={value!r}" for key, value in self._fields.items())


class Journal:
    """Structured lines on a stdlib logger. A record carries ``event``, ``actor`` and ``fields`` for formatters."""

    def __init__(self, logger: logging.Logger, actor: str, counters: Counters) -> None:
        self._logger = logger
        self._actor = actor
        self._counters = counters
        self._complained_ns = -COMPLAINT_INTERVAL_NS
        self._unsaid = 0

    def write(self, level: int, event: str, fields: Mapping[str, object], failure: BaseException | None = None) -> None:
        """One line: the event, then its fields. ``failure`` adds a traceback."""
        if self._logger.isEnabledFor(level):
            extra = {"event": event, "actor": self._actor, "fields": fields}
            self._logger.log(level, "%s%s", event, _Fields(fields), extra=extra, exc_info=failure)

    def refuse(self, reason: str, sender: object, cause: BaseException, *, traceback: bool = False) -> None:
        """Count a message that cannot be read, and complain about it unless that was done within the last second."""
        errors = self._counters.protocol_errors
        errors[reason] = errors.get(reason, 0) + 1
        now = time.monotonic_ns()
        if now - self._complained_ns < COMPLAINT_INTERVAL_NS:
            self._unsaid += 1
            return
        fields = {"reason": reason, "sender": sender, "cause": str(cause), "unsaid": self._unsaid}
        self._complained_ns = now
        self._unsaid = 0
        self.write(logging.WARNING, "protocol error", fields, cause if traceback else None)
