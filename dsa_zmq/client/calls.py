"""What the program hands to the client's actor from other threads, and what it hears back.

Every call that has an answer brings a :class:`Ticket`. The actor calls the ticket's methods in its own thread, at the end
of a turn: they must be quick, never block, never raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from dsa_zmq.client.chain import Sleeper
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.upload import Target
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import DSAError
from dsa_zmq.protocol.operations import Operation
from dsa_zmq.protocol.values import Attributes


class Ticket(Protocol):
    """The caller's end of a call."""

    def finish(self, result: Any) -> Sleeper | None:
        """The end, once: the result, or a :class:`DSAError` instance. Returns who is still to be woken for it, if anybody:
        the actor does so when its turn is over."""
        ...

    def want(self, until: int) -> None:
        """Uploads from a feed: the chunks below ``until`` may be supplied."""
        ...

    def deliver(self, data: memoryview | bytes) -> None:
        """Downloads to a reader: the next bytes. They count as consumed only when a :class:`Consumed` says so."""
        ...

    def described(self, attributes: Attributes) -> None:
        """Downloads to a file: it was found and has several chunks; :class:`Attach` the target."""
        ...

    def progress(self, size: int) -> None:
        """So many more bytes are safe, or there."""
        ...


@dataclass(frozen=True, slots=True)
class Connect:
    """Finishes with the master's Welcome."""

    ticket: Ticket
    timeout_ns: int


@dataclass(frozen=True, slots=True)
class AskMaster:
    """One operation; finishes with its answer. ``timeout_ns`` 0: the usual one."""

    operation: Operation
    ticket: Ticket
    timeout_ns: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    """A source that is there as a whole: at most one chunk, with the hash of its bytes."""

    hash: bytes
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Feed:
    """A source that the caller reads itself and supplies chunk by chunk."""


@dataclass(frozen=True, slots=True)
class StartUpload:
    """Finishes with the new file's Attributes. ``owner`` names the transfer, and is never used twice."""

    owner: int
    target: Target
    source: Whole | LocalFile | Feed
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Supply:
    """The next chunk of a feed, within what was wanted."""

    owner: int
    index: int
    hash: bytes
    data: bytes | memoryview
    last: bool


@dataclass(frozen=True, slots=True)
class StartDownload:
    """Finishes with the file's Attributes, after everything was delivered or written."""

    owner: int
    wanted: Wanted
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Attach:
    """The target of a download to a file."""

    owner: int
    file: LocalFile


@dataclass(frozen=True, slots=True)
class Consumed:
    owner: int
    size: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give a transfer up. Its ticket hears nothing any more. ``error``: for what happened at its source, as the result."""

    owner: int
    error: DSAError | None = None


AnyCall = Connect | AskMaster | StartUpload | Supply | StartDownload | Attach | Consumed | Cancel
