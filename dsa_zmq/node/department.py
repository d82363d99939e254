"""A department of a node: one worry with its own state, driven by the actor in its turns. As in the master.

The actor looks into ``orders``, ``deliveries`` and ``requests`` for who takes what comes in, and gives job results and
timers to the department whose name their token begins with. A new worry is a new file and one line in ``departments.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from actors.core import Address, Context, Message, Payload, Peer
from dsa_zmq.errors import ConfigError
from dsa_zmq.model.pace import CarePace
from dsa_zmq.node.authority import Authority
from dsa_zmq.node.data_plane import DataPlane
from dsa_zmq.node.identity import Identity
from dsa_zmq.node.jobs import StoreStatus

OnOrder = Callable[[Context, Any], None]
OnDelivery = Callable[[Context, Any, Sequence[memoryview]], None]
OnRequest = Callable[[Context, Peer, Any, Sequence[memoryview]], None]


@dataclass(slots=True)
class NodeOffice:
    """What the departments of a node share. The actor makes it and keeps it up to date."""

    master: Address  #: its control endpoint
    identity: Identity
    data: DataPlane
    status: StoreStatus
    pace: CarePace
    no_codes: ConfigError | None = None  #: why shards of erasure codes cannot be made here
    heard_ns: int | None = None  #: when a master last gave a sign of life; who has claimed this node is none
    being_claimed: bool = False  #: nobody is obeyed meanwhile
    may_read: bool = False  #: who is at the master's address may read the catalog's copies
    when_scrubbed: list[Callable[[Context], None]] = field(default_factory=list)  #: called when a round begins

    @property
    def authority(self) -> Authority | None:
        """Our standing with the master that we obey; None before the first registration."""
        return self.data.authority

    def obeys(self, term: int) -> bool:
        """Whether a command of this term is to be followed."""
        return term >= self.identity.seen_term and self.is_current and not self.being_claimed

    @property
    def is_current(self) -> bool:
        """Whether the newest master that this node knows of has registered it: it may have been claimed since."""
        return self.authority is not None and self.authority.master == self.identity.seen_master

    def learn(self, identity: Identity) -> None:
        """This is on the disk now, or was before something newer."""
        if identity.seen_term >= self.identity.seen_term:
            self.identity = identity
            self.data.is_claimed = self.authority is not None and not self.is_current

    def tell_master(self, ctx: Context, message: Message, payload: Payload = ()) -> None:
        """Send to the master. At most once, like everything."""
        ctx.send(self.master, message, payload)


class NodeDepartment:
    """Base of all departments. Handlers that do nothing are left out.

    Tokens of its timers and jobs are tuples that begin with ``name``. A job's result is its value or a DSAError.
    """

    name: ClassVar[str]

    def __init__(self, office: NodeOffice) -> None:
        self.office = office

    def orders(self) -> Mapping[type[Message], OnOrder]:
        """What it takes from the master, by type. Whether the term is to be obeyed is for the handler to check."""
        return {}

    def deliveries(self) -> Mapping[type[Message], OnDelivery]:
        """What it takes from the master that comes with a payload, by type."""
        return {}

    def requests(self) -> Mapping[type[Message], OnRequest]:
        """What it takes from anybody at the data port or, as replies, from other nodes' data ports, by type."""
        return {}

    def on_registered(self, ctx: Context) -> None:
        """The master has registered this process, for the first time or anew: whatever it was told may be forgotten."""

    def on_beat(self, ctx: Context) -> None:
        """Once in a heartbeat interval, before the heartbeat leaves."""

    def beat(self) -> Mapping[str, int]:
        """Fields of the heartbeat that are its own."""
        return {}

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        """One of its timers came due."""

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        """One of its jobs has ended."""

    def statistics(self) -> Mapping[str, int]:
        """Sizes and counts, with names that no other department uses."""
        return {}

    def check_invariants(self) -> None:
        """Raise AssertionError if the state is impossible."""
