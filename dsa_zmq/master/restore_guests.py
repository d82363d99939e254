"""The nodes that come to where a lost master is restored: who they are, what they hold, and whom they have heard. Pure.

A node that hears of a living master after it came here proves that one is alive. One that heard of it shortly before proves
nothing yet: the master may just have died. So each has to have heard nothing for a while.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from actors.core import Address
from dsa_zmq.errors import Conflict, DSAError, Invalid, Unavailable
from dsa_zmq.master.restore_plan import TERM_MARGIN, Copy
from dsa_zmq.model.ids import TERM_BITS
from dsa_zmq.protocol.messages import Register
from dsa_zmq.protocol.volumes import Claimed, VolumeState

MS = 1_000_000
SINCE_VERSION = 2  #: of the protocol: before, nodes held no copies


@dataclass(slots=True)
class Guest:
    """One node, by its store."""

    register: Register  #: its newest
    address: Address
    asked_ns: int = 0  #: when it was asked last
    told_ns: int = 0  #: when it first answered; 0: it has not yet
    heard_ns: int | None = None  #: when it last heard of a master; None: it never did
    seen_term: int = 0  #: the newest that it has heard of, claims included
    obeyed_term: int = 0  #: of the newest master that had registered it
    number: int = 0
    volumes: list[VolumeState] = field(default_factory=list)
    claimed: bool = False  #: it has promised

    @property
    def name(self) -> str:
        return self.register.name

    @property
    def has_told(self) -> bool:
        return self.told_ns > 0


class Guests:
    """Those of one cluster. ``quiet_ns``: so long a node must have heard of no master. Times are monotonic."""

    def __init__(self, quiet_ns: int) -> None:
        self._quiet_ns = quiet_ns
        self.by_store: dict[bytes, Guest] = {}

    def __iter__(self) -> Iterator[Guest]:
        return iter(self.by_store.values())

    def came(self, address: Address, message: Register) -> Guest:
        """It asks to be registered: from now on it is spoken to at this address."""
        guest = self.by_store.get(message.store_id)
        if guest is None:
            guest = self.by_store[message.store_id] = Guest(message, address)
        elif guest.register.incarnation != message.incarnation:  # what it has promised and holds is durable
            guest.told_ns, guest.heard_ns = 0, None
        guest.register, guest.address = message, address
        guest.seen_term = max(guest.seen_term, message.seen_term)
        guest.number = guest.number or message.node
        return guest

    def told(self, message: Claimed, now_ns: int) -> Guest | None:
        """Its answer; None for somebody who did not come."""
        guest = self.by_store.get(message.store_id)
        if guest is not None:
            guest.told_ns = guest.told_ns or now_ns
            if message.heard_ms >= 0:
                guest.heard_ns = max(guest.heard_ns or 0, now_ns - message.heard_ms * MS)
            guest.seen_term = max(guest.seen_term, message.seen_term)
            guest.obeyed_term = message.seen_term
            guest.number = message.node
            guest.volumes = list(message.volumes)
        return guest

    def alive(self) -> Guest | None:
        """A node that has heard of a master since it first spoke to us, give or take what was on its way."""
        for guest in self.by_store.values():
            if guest.heard_ns is not None and guest.has_told and guest.heard_ns > guest.told_ns + self._quiet_ns // 5:
                return guest
        return None

    def check_no_master_lives(self, now_ns: int) -> None:
        """Conflict if one has been heard since we are here."""
        if (hearer := self.alive()) is not None:
            ago_s = max(0, now_ns - (hearer.heard_ns or now_ns)) / 1_000_000_000
            raise Conflict(
                f"a master of term {hearer.seen_term} is alive: {hearer.name} heard it {ago_s:.1f} s ago",
                "nothing has to be restored: point nodes and clients at it, or stop it first",
            )

    def forget_strangers(self, cluster: str) -> list[str]:
        """Forget those of other clusters; their names."""
        strangers = [guest for guest in self if not guest.register.cluster.hex().startswith(cluster)]
        for guest in strangers:
            del self.by_store[guest.register.store_id]
        return [guest.name for guest in strangers]

    def restless(self, now_ns: int) -> Guest | None:
        """A node that heard of one a short while ago, or has not told anything yet."""
        for guest in self.by_store.values():
            if not guest.has_told or (guest.heard_ns is not None and now_ns < guest.heard_ns + self._quiet_ns):
                return guest
        return None

    def copies(self) -> list[Copy]:
        """All that they hold, by name."""
        return [
            Copy(guest.name, state, guest.register.store_id)
            for guest in sorted(self.by_store.values(), key=lambda guest: guest.name)
            for state in guest.volumes
        ]

    def where(self, copy: Copy) -> Address | None:
        """The holder's address now."""
        guest = self.by_store.get(copy.store)
        return None if guest is None else guest.address

    def check_one_cluster(self) -> None:
        """Invalid unless all are of one cluster."""
        clusters = {guest.register.cluster.hex(): guest.name for guest in self.by_store.values()}
        if len(clusters) > 1:
            some = ", ".join(f"{cluster[:8]} ({name})" for cluster, name in sorted(clusters.items()))
            raise Invalid(f"nodes of {len(clusters)} clusters come here: {some}", "say which one with --cluster")

    @property
    def highest_term(self) -> int:
        terms = [guest.seen_term for guest in self.by_store.values()]
        terms += [state.term for guest in self.by_store.values() for state in guest.volumes]
        return max(terms, default=0)

    def term_of_none(self, term: int) -> int:
        """The term of the newest master that was obeyed here, if no copy here, nor what is of this term, has anything of it;
        else 0."""
        known = max([term, *(copy.state.term for copy in self.copies())])
        obeyed = max((guest.obeyed_term for guest in self.by_store.values()), default=0)
        return obeyed if obeyed > known else 0


def why_strange(message: Register, cluster: str) -> DSAError | None:
    """Why a node is none of those that are waited for; ``cluster`` is the beginning of the id. It may be taken in
    later, when the master is there."""
    if not message.cluster:
        return Unavailable("this node was never in a cluster", "it is taken in when the master has been started")
    if message.version < SINCE_VERSION:
        return Unavailable(
            "this node's software knows no copies of the catalog", "upgrade it before the master is restored"
        )
    if message.seen_term + 2 * TERM_MARGIN >= 1 << TERM_BITS:
        return Unavailable(
            f"this node says that it has obeyed a master of term {message.seen_term}: none could come after that",
            "give it an empty directory",
        )
    if not message.cluster.hex().startswith(cluster):
        return Unavailable(
            f"this node belongs to another cluster ({message.cluster.hex()[:8]}) than the one that is restored here",
            "point it at its own master",
        )
    return None
