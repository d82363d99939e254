"""The operations of a client that the master has not answered yet, and the lines in which they wait to be asked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dsa_zmq.client.pace import Pace
from dsa_zmq.protocol.operations import Operation

Token = Any
"""Of the caller: what an answer is for."""


@dataclass(slots=True)
class AskedIn:
    """One Calls message under way: it occupies its line until something of it was answered or is repeated."""

    sent_ns: int
    under_way: bool = True


@dataclass(slots=True)
class OpenCall:
    """One operation of a caller."""

    operation: Operation
    token: Token
    deadline_ns: int
    stored: bool
    timeout_ns: int
    number: int = 0
    session: int = 0
    sessions: int = 0  #: how many it was sent in
    refusals: int = 0  #: how often the master was too busy
    message: AskedIn | None = None


@dataclass(slots=True)
class CallLine:
    """Operations of one kind, which share messages."""

    waiting: deque[OpenCall] = field(default_factory=deque)
    under_way: int = 0
    pace: Pace = field(default_factory=Pace)
