"""Finding a master that answers: hosts in turn, until one says welcome. Pure.

A lost connection does not change the host at once: the master may only have been restarted. A host that says nothing is
left for the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.core import Address
from actors.requests import Backoff
from dsa_zmq.errors import DSAError, Incompatible, Overloaded, Unavailable, from_code
from dsa_zmq.protocol.messages import OLDEST_VERSION, PROTOCOL_VERSION, Hello, Refused, Welcome
from dsa_zmq.protocol.versions import check_versions

HELLO_NS = 1_000_000_000  #: one host's time to answer before the next one is tried


class Greeting:
    """Which master this client talks to. ``done`` while one has welcomed us and is not known to be lost."""

    def __init__(self, hosts: Sequence[str], software: str, backoff: Backoff) -> None:
        self._hosts = [Address(host) for host in hosts]
        self._at = 0
        self._software = software
        self._backoff = backoff
        self._number = 0
        self._tries = 0
        self._due_ns = 0
        self.welcome: Welcome | None = None  #: the last one
        self.done = False

    def __repr__(self) -> str:
        return f"Greeting({self.host} {'done' if self.done else f'tried {self._tries} times'})"

    @property
    def host(self) -> Address:
        """The one that is talked to, or tried."""
        return self._hosts[self._at]

    @property
    def hosts(self) -> str:
        """All of them, for people."""
        return ", ".join(self._hosts)

    def begin(self, due_ns: int) -> None:
        """The master was lost: greet again, this host first."""
        self.done = False
        self._tries = 0
        self._due_ns = due_ns

    def due(self, now_ns: int) -> Hello | None:
        """The greeting that should leave now, to :attr:`host`."""
        if self.done or now_ns < self._due_ns:
            return None
        if self._tries and len(self._hosts) > 1:
            self._at = (self._at + 1) % len(self._hosts)
        self._tries += 1
        self._number += 1
        pause_ns = HELLO_NS if len(self._hosts) > 1 else self._backoff.delay_ns(self._tries)
        self._due_ns = now_ns + pause_ns
        return Hello(self._number, PROTOCOL_VERSION, OLDEST_VERSION, self._software)

    def welcomed(self, message: Welcome, least_term: int) -> DSAError | None:
        """Somebody has answered: ``done``, or an error that ends the talk. An answer to an earlier greeting, and one of a
        master whose term is over (it has not noticed), change nothing: the next greeting may find its successor."""
        if self.done or message.number != self._number:
            return None
        if message.role != "master":
            return Incompatible(f"{self.host} is a {message.role}, not a master", "check the address")
        if self.welcome is not None and message.cluster != self.welcome.cluster:
            return Incompatible(f"{self.host} now serves another cluster than before", "connect again if that is meant")
        try:
            check_versions(who=f"the master at {self.host}", version=message.version, oldest=0, ours="the client")
        except Incompatible as error:
            return error
        if message.term >= least_term:
            self.welcome, self.done = message, True
        return None

    def refused(self, message: Refused) -> DSAError | None:
        """The greeting was refused. Overload passes, and so does it that a master that we had is being restored: what it was
        asked may be done, and its successor knows. Anything else is final."""
        if self.done or message.number != self._number:
            return None
        failure = message.failure
        error = from_code(failure.code, failure.message, failure.remedy, failure.path)
        passes = isinstance(error, Overloaded) or (self.welcome is not None and isinstance(error, Unavailable))
        return None if passes else error
