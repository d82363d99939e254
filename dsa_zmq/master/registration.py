"""Introductions: who may talk to this master, and how a node becomes one of its nodes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from actors.core import Address
from dsa_zmq.errors import Incompatible, Invalid, Overloaded, Unavailable
from dsa_zmq.master.catalog.jobs import RegisterNode
from dsa_zmq.master.members import Members
from dsa_zmq.model.addresses import WILDCARDS, split_endpoint
from dsa_zmq.model.ids import TERM_BITS
from dsa_zmq.model.limits import NAME_BYTES
from dsa_zmq.protocol.messages import Register
from dsa_zmq.protocol.versions import check_versions

MAX_REGISTERING = 1_000  #: registrations in flight: ten times a large cluster
_MAX_TEXT = 4_096  #: characters of a node's address, zone, host, path and disk
_MAX_NUMBER = (1 << 63) - 1


class StaleMaster(Exception):
    """A node has obeyed another master. One of a higher term: this process is of the past and must stop for good. One of
    this very term: two run on copies of one catalog, and neither can know which is to go."""

    def __init__(self, seen_term: int, node: str) -> None:
        super().__init__(f"node '{node}' has obeyed another master, of term {seen_term}")
        self.seen_term = seen_term
        self.node = node


def two_masters(stale: StaleMaster) -> Unavailable:
    """What a node is told that has obeyed another master of our term. Not for good: it waits until the operator chose."""
    return Unavailable(
        f"node '{stale.node}' has met another master of term {stale.seen_term}: two copies of one catalog run",
        "stop the master that should not run, and restart the other with 'dsa master --take-over'",
    )


@dataclass(slots=True)
class _Registering:
    message: Register  #: the latest repeat: its number is the one to answer
    serial: int


class Registrar:
    """Registrations in flight, one for each connection, and what they must satisfy before the catalog is asked."""

    def __init__(self, cluster: bytes, term: int, master: bytes, members: Members) -> None:
        self._cluster = cluster
        self._term = term
        self._master = master
        self._members = members
        self._inflight: dict[Address, _Registering] = {}
        self._last = 0

    def begin(self, peer: Address, message: Register, served_ns: int, wall_ns: int) -> tuple[int, RegisterNode] | None:
        """A node asks. Returns the job for the catalog and its serial, or None for a repeat while that is at work.

        Raises :class:`StaleMaster`, or the DSAError to refuse it with.
        """
        who = f"the node {message.name[:NAME_BYTES]!r}"
        check_versions(who=who, version=message.version, oldest=message.oldest, ours="the master")
        _check_fields(message)
        if message.cluster not in (b"", self._cluster):
            raise Incompatible(
                f"the store of node '{message.name}' belongs to another cluster",
                "give the node an empty directory, or the address of its own cluster",
            )
        if message.cluster and message.seen_term > self._term:
            raise StaleMaster(message.seen_term, message.name)
        if message.cluster and message.seen_term == self._term and message.seen_master not in (b"", self._master):
            raise StaleMaster(message.seen_term, message.name)
        if self._members.may_have_rival(message, served_ns):
            raise Unavailable("the master has just started and is still listening for its nodes", "try again")
        if self._members.lingers(message, served_ns):
            raise Unavailable(
                f"node '{message.name}' was heard just now from '{message.path}' with another store",
                "wait until it counts as silent; if it still runs, stop it",
            )
        known = self._inflight.get(peer)
        if known is not None and known.message.store_id == message.store_id:
            known.message = message
            return None
        if len(self._inflight) >= MAX_REGISTERING:
            raise Overloaded("the master has too many registrations in flight", "try again in a moment")
        self._last += 1
        self._inflight[peer] = _Registering(message, self._last)
        alive = self._members.rival(message, served_ns) is not None
        return self._last, RegisterNode(message, alive, wall_ns)

    def finish(self, peer: Address, serial: int) -> Register | None:
        """The catalog has answered. Returns the message to reply to; None if another one took its place meanwhile."""
        known = self._inflight.get(peer)
        if known is None or known.serial != serial:
            return None
        del self._inflight[peer]
        return known.message

    def __len__(self) -> int:
        return len(self._inflight)


def _check_fields(message: Register) -> None:
    """Raises :class:`Invalid` for what no node of ours would send."""
    if not 1 <= len(message.name.encode("utf-8", "replace")) <= NAME_BYTES or not message.name.isprintable():
        raise Invalid("a node's name must be 1 to 255 bytes of printable text", "start the node with another --name")
    if len(message.store_id) != 16 or len(message.seen_master) not in (0, 16):
        raise Invalid(f"node '{message.name}' names a store or a master by something that is no id")
    numbers = (message.incarnation, message.capacity, message.used, message.free, message.seen_term, message.node)
    if not all(0 <= number <= _MAX_NUMBER for number in numbers) or message.seen_term >= 1 << TERM_BITS:
        raise Invalid(f"node '{message.name}' gives numbers out of range")
    texts = (message.address, message.zone, message.host, message.path, message.disk, message.software)
    if any(len(text) > _MAX_TEXT for text in texts):
        raise Invalid(f"node '{message.name}' describes itself in more than {_MAX_TEXT} characters")
    host, port = split_endpoint(message.address)
    if host in WILDCARDS or port == 0:
        raise Invalid(
            f"node '{message.name}' gives {message.address} as its address, where nobody can reach it",
            "start the node with --advertise HOST:PORT",
        )
