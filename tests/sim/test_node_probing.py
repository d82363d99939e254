"""A node tries others' data ports for the master, and says what it found, each time, within a heartbeat or half a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from actors.core import Actor, ActorSpec, Address, Context, Message, Peer
from actors.sim.disk import SimDisk
from actors.sim.faults import SECOND
from actors.sim.runtime import SimRuntime
from dsa_zmq.node.service import NodeSettings, node_spec
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import Ping, Pong, Probe, Probed, Register, Registered
from dsa_zmq.protocol.values import NodeAddress

MASTER, DATA, OTHER = Address("tcp://master:7700"), Address("tcp://node:7710"), Address("tcp://other:7710")
TERM = 5


class Script(Actor):
    """Keeps what it is told, and answers as the test says."""

    def __init__(self, answer: Callable[[Message], Message | None]) -> None:
        self.heard: list[tuple[int, Address, Any]] = []
        self.answer = answer

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Any) -> None:
        self.heard.append((ctx.now_ns(), sender.address, message))
        if (reply := self.answer(message)) is not None:
            ctx.send(sender.address, reply)

    def on_call(self, ctx: Context, call: Any) -> None:
        call(ctx)

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, _, message in self.heard if isinstance(message, kind)]


class World:
    """A scripted master, a scripted other node, and a node that probes it."""

    def __init__(self, *early: NodeAddress) -> None:
        self.sim = SimRuntime(1, keep_events=200)
        self.master = Script(self.register)
        spec = ActorSpec(
            "master", 1, self.master, CODEC, {}, MASTER, Address("tcp://master:1"), Address("tcp://master:2")
        )
        self.master_handle = self.sim.spawn(spec)
        self.other = Script(lambda message: Pong(message.number, 9, 77) if isinstance(message, Ping) else None)
        self.start_other()
        settings = NodeSettings(master=MASTER, listen=DATA, name="n3", capacity=4 << 20, segment_bytes=64 << 10)
        spec = node_spec(settings, SimDisk(random.Random(1)), random.Random(2))
        self.actor: Any = spec.actor
        self.sim.spawn(spec)
        self.sim.run_until(lambda: self.master.of(Register))
        if early:
            self.probe(100, *early)
        self.sim.run_for(SECOND)

    def start_other(self, incarnation: int = 1) -> None:
        self.sim.spawn(ActorSpec("other", incarnation, self.other, CODEC, {}, OTHER))

    def register(self, message: Message) -> Message | None:
        if isinstance(message, Register):
            return Registered(message.number, b"c" * 16, 3, TERM, b"m" * 16, b"k" * 32, "tcp://*:2", "tcp://*:1", 100)
        return None

    def probe(self, number: int, *nodes: NodeAddress, term: int = TERM) -> None:
        peer = next(address for _, address, message in self.master.heard if isinstance(message, Register))
        self.master_handle.call(lambda ctx: ctx.send(peer, Probe(number, term, list(nodes))))

    def outcome(self, number: int, *nodes: NodeAddress) -> dict[int, int]:
        """Ask, and wait: the incarnation that answered, by node."""
        self.probe(number, *nodes)
        self.sim.run_until(lambda: any(probed.number == number for probed in self.master.of(Probed)))
        (probed,) = [probed for probed in self.master.of(Probed) if probed.number == number]
        return {outcome.node: outcome.incarnation for outcome in probed.outcomes}


@pytest.fixture
def world() -> World:
    return World()


def test_the_process_that_answers_is_told(world: World) -> None:
    began = world.sim.now_ns
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 77}
    assert world.sim.now_ns - began < SECOND // 20
    assert world.outcome(2, NodeAddress(9, OTHER, 78)) == {9: 77}, "whoever was expected"


def test_who_does_not_answer_is_told_as_well_and_does_not_hide_others(world: World) -> None:
    began = world.sim.now_ns
    nowhere = NodeAddress(8, "tcp://nowhere:1", 5)
    assert world.outcome(1, nowhere, NodeAddress(9, OTHER, 77)) == {8: 0, 9: 77}
    assert SECOND // 2 <= world.sim.now_ns - began < SECOND
    assert world.actor.statistics()["probes"] == 0


def test_a_hung_process_does_not_answer(world: World) -> None:
    world.other.answer = lambda message: None
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 0}


def test_a_lost_ping_is_repeated(world: World) -> None:
    pings = 0

    def answer(message: Message) -> Message | None:
        nonlocal pings
        pings += isinstance(message, Ping)
        return Pong(message.number, 9, 77) if isinstance(message, Ping) and pings == 3 else None

    world.other.answer = answer
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 77}


def test_a_process_that_was_restarted_is_reached_at_once(world: World) -> None:
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 77}
    world.sim.crash("other")
    world.other.answer = lambda message: Pong(message.number, 9, 78) if isinstance(message, Ping) else None
    world.start_other(2)
    began = world.sim.now_ns
    assert world.outcome(2, NodeAddress(9, OTHER, 78)) == {9: 78}
    assert world.sim.now_ns - began < SECOND // 20


def test_nobody_answers_in_anothers_place(world: World) -> None:
    world.other.answer = lambda message: None
    stranger = Script(lambda message: None)
    handle = world.sim.spawn(ActorSpec("stranger", 1, stranger, CODEC))
    world.probe(1, NodeAddress(9, OTHER, 77))
    for number in range(10):
        handle.call(lambda ctx, number=number: ctx.send(DATA, Pong(number, 9, 77)))
    world.sim.run_until(lambda: world.master.of(Probed))
    assert world.master.of(Probed)[0].outcomes[0].incarnation == 0


def test_a_former_master_is_not_obeyed(world: World) -> None:
    world.probe(1, NodeAddress(9, OTHER, 77), term=TERM - 1)
    world.sim.run_for(2 * SECOND)
    assert world.master.of(Probed) == []
    assert world.other.of(Ping) == []


def test_what_is_asked_in_the_same_breath_as_the_registration_is_answered() -> None:
    world = World(NodeAddress(9, OTHER, 77))
    assert [probed.number for probed in world.master.of(Probed)] == [100]
