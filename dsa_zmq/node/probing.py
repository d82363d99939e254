"""Trying other nodes' data ports for the master: it hears them itself, but cannot know whether others reach them.

A Ping may be lost, so it is repeated a few times within the wait. The answer is that of the other's actor, so a process that
hangs does not answer, and it names its incarnation, so nobody answers in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Address, Context, Message, Peer
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder, OnRequest
from dsa_zmq.protocol.messages import Ping, Pong, Probe, Probed
from dsa_zmq.protocol.values import NodeAddress, ProbeOutcome

LEAST_WAIT_NS = 500_000_000  #: for a Pong, however short the heartbeat interval: a loaded host is no dead one
FIRST_WAIT_NS = 1_000_000_000  #: until the interval is known
TRIES = 4  #: Pings within the wait
MAX_PROBES = 1_000  #: under way
MAX_EARLY = 16  #: that come while the master's answer to the registration is being made durable


class Probing(NodeDepartment):
    """See the module."""

    name = "probing"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._waiting: dict[int, tuple[int, NodeAddress, int]] = {}
        """Pings without a Pong, by their number: the number of the Probe, the node, and when the Ping left."""
        self._outcomes: dict[int, list[ProbeOutcome]] = {}  #: so far, by the number of the Probe
        self._early: list[Probe] = []  #: of a master that is not obeyed yet
        self._tries: dict[int, int] = {}  #: so far, by the number of the Probe
        self._incarnations: dict[str, int] = {}  #: by address: the process that answered there last
        self._last = 0  #: Ping
        self._beat_ns: int | None = None  #: when the last heartbeat left
        self._wait_ns = FIRST_WAIT_NS

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {Probe: self._on_probe}

    def requests(self) -> Mapping[type[Message], OnRequest]:
        return {Pong: self._on_pong}

    def on_registered(self, ctx: Context) -> None:
        """What the master asked in the same breath as it registered us."""
        early, self._early = self._early, []
        for message in early:
            self._on_probe(ctx, message)

    def on_beat(self, ctx: Context) -> None:
        """The interval is the master's; a wait as long as one is what it expects."""
        now_ns = ctx.now_ns()
        if self._beat_ns is not None:
            self._wait_ns = min(FIRST_WAIT_NS, max(LEAST_WAIT_NS, now_ns - self._beat_ns))
        self._beat_ns = now_ns

    def _on_probe(self, ctx: Context, message: Probe) -> None:
        authority = self.office.authority
        if (authority is None or message.term > authority.term) and len(self._early) < MAX_EARLY:
            self._early.append(message)
            return
        if not self.office.obeys(message.term) or message.number in self._outcomes:
            return
        if not message.nodes or len(self._waiting) + len(message.nodes) > MAX_PROBES:
            return
        self._outcomes[message.number] = []
        self._tries[message.number] = 1
        for node in message.nodes:
            self._last += 1
            self._waiting[self._last] = (message.number, node, ctx.now_ns())
            if self._incarnations.pop(node.address, node.incarnation) != node.incarnation:
                ctx.disconnect(
                    Address(node.address)
                )  # that process has ended; connecting anew is quicker than noticing
            ctx.send(Address(node.address), Ping(self._last))
        ctx.set_timer((self.name, message.number), self._wait_ns // TRIES)

    def _on_pong(self, ctx: Context, sender: Peer, message: Pong, payload: Sequence[memoryview]) -> None:
        waiting = self._waiting.get(message.number)
        if waiting is None or sender.address != waiting[1].address:
            return  # late, or of somebody who was not asked
        del self._waiting[message.number]
        probe, node, sent_ns = waiting
        self._incarnations[node.address] = message.incarnation
        if len(self._incarnations) > MAX_PROBES:
            del self._incarnations[next(iter(self._incarnations))]
        took_us = (ctx.now_ns() - sent_ns) // 1000
        self._outcomes[probe].append(ProbeOutcome(node.node, message.incarnation, took_us))
        if not any(number == probe for number, _, _ in self._waiting.values()):
            ctx.cancel_timer((self.name, probe))
            self._answer(ctx, probe)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        """Once more; or enough: who has not answered by now has not answered."""
        probe = token[1]
        waiting = [(number, node) for number, (of, node, _) in self._waiting.items() if of == probe]
        self._tries[probe] += 1
        if self._tries[probe] <= TRIES:
            for number, node in waiting:
                ctx.send(Address(node.address), Ping(number))
            ctx.set_timer(token, self._wait_ns // TRIES)
            return
        for number, node in waiting:
            del self._waiting[number]
            self._outcomes[probe].append(ProbeOutcome(node.node))
        self._answer(ctx, probe)

    def _answer(self, ctx: Context, probe: int) -> None:
        del self._tries[probe]
        self.office.tell_master(ctx, Probed(probe, self._outcomes.pop(probe)))

    def statistics(self) -> Mapping[str, int]:
        return {"probes": len(self._waiting)}

    def check_invariants(self) -> None:
        assert {probe for probe, _, _ in self._waiting.values()} == set(self._outcomes), "each probe waits for somebody"
