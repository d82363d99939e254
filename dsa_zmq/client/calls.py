"""What the program hands to the client's actor from other threads, and what it hears back.

Every call that has an answer brings a :class:`Ticket`. The actor calls the ticket's methods in its own thread, at the end
of a turn: they must be quick, never block, never raise.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from dsa_zmq.client.chain import Sleeper
from dsa_zmq.client.local_file import LocalFile
from dsa_zmq.client.target import Target
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


class Connect(msgspec.Struct, frozen=True):
    """Finishes with the master's Welcome."""

    ticket: Ticket
    timeout_ns: int


class AskMaster(msgspec.Struct, frozen=True):
    """One operation; finishes with its answer. ``timeout_ns`` 0: the usual one."""

    operation: Operation
    ticket: Ticket
    timeout_ns: int = 0


class Whole(msgspec.Struct, frozen=True):
    """A source that is there as a whole: at most one chunk, with the hash of its bytes."""

    hash: bytes
    data: bytes | memoryview


class Feed(msgspec.Struct, frozen=True):
    """A source that the caller reads itself and supplies chunk by chunk."""


class StartUpload(msgspec.Struct, frozen=True):
    """Finishes with the new file's Attributes. ``owner`` names the transfer, and is never used twice."""

    owner: int
    target: Target
    source: Whole | LocalFile | Feed
    ticket: Ticket


class Supply(msgspec.Struct, frozen=True):
    """The next chunk of a feed, within what was wanted."""

    owner: int
    index: int
    hash: bytes
    data: bytes | memoryview
    last: bool


class StartDownload(msgspec.Struct, frozen=True):
    """Finishes with the file's Attributes, after everything was delivered or written."""

    owner: int
    wanted: Wanted
    ticket: Ticket


class Attach(msgspec.Struct, frozen=True):
    """The target of a download to a file."""

    owner: int
    file: LocalFile


class Consumed(msgspec.Struct, frozen=True):
    owner: int
    size: int


class Cancel(msgspec.Struct, frozen=True):
    """Give a transfer up. Its ticket hears nothing any more. ``error``: for what happened at its source, as the result."""

    owner: int
    error: DSAError | None = None


AnyCall = Connect | AskMaster | StartUpload | Supply | StartDownload | Attach | Consumed | Cancel
