"""A department of the master: one worry with its own state, driven by the actor in its turns.

The actor looks into ``messages`` and ``operations`` for who takes what comes in, and gives job results and timers to the
department whose name their token begins with. So a new worry is a new file and one line in ``departments.py``; the actor
does not grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from actors.core import Context, Message, Peer
from dsa_zmq.master.calls import CallInFlight
from dsa_zmq.master.office import Office
from dsa_zmq.protocol.operations import Operation

CATALOG_LANE = "catalog"

OnMessage = Callable[[Context, Peer, Any], None]
OnPayload = Callable[[Context, Peer, Any, Sequence[memoryview]], None]
OnOperation = Callable[[Context, CallInFlight], None]


class Department:
    """Base of all departments. Handlers that do nothing are left out.

    Tokens of its timers and jobs are tuples that begin with ``name``. A job's result is its value, or a
    :class:`dsa_zmq.protocol.values.Failure`; anything worse has ended the master before.
    """

    name: ClassVar[str]

    def __init__(self, office: Office) -> None:
        self.office = office

    def messages(self) -> Mapping[type[Message], OnMessage]:
        """What it takes from the control plane, by type. A type has one taker. Who sent it is for the handler to check."""
        return {}

    def with_payload(self) -> Mapping[type[Message], OnPayload]:
        """The same for messages that carry a payload: frames of bytes, which are kept alive as long as they are kept."""
        return {}

    def operations(self) -> Mapping[type[Operation], OnOperation]:
        """Client operations that it answers itself, with ``office.answer``, now or later (then ``office.detach`` first)."""
        return {}

    def start(self, ctx: Context) -> None:
        """First turn of the master. The catalog's nodes are not loaded yet."""

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        """Once in a heartbeat interval."""

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        """One of its timers came due."""

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        """One of its jobs has ended."""

    def asking(self) -> Iterable[int]:
        """Serials of the calls that wait for it."""
        return ()

    def statistics(self) -> Mapping[str, int]:
        """Sizes and counts, with names that no other department uses."""
        return {}

    def check_invariants(self) -> None:
        """Raise AssertionError if the state is impossible."""
