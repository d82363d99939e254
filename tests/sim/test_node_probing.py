"""A node tries others' data ports for the master, and says what it found, each time, within a heartbeat or half a second."""

from __future__ import annotations

import pytest

from actors.core import ActorSpec, Address
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import Ping, Pong, Probe, Probed, Register
from dsa_zmq.protocol.values import NodeAddress
from tests.sim.conftest import SECOND, TERM, NodeWorld, Script

OTHER = Address("tcp://other:7710")


class Neighbourhood(NodeWorld):
    """With another node, a scripted one, that the master has probed; the one that probes has been up for a second."""

    def __init__(self, *early: NodeAddress) -> None:
        super().__init__()
        self.other = Script({Ping: lambda ping: Pong(ping.number, 9, 77)})
        self.start_other()
        self.start()
        self.sim.run_until(lambda: self.master.of(Register))
        if early:
            self.probe(100, *early)
        self.sim.run_for(SECOND)

    def start_other(self, incarnation: int = 1) -> None:
        self.sim.spawn(ActorSpec("other", incarnation, self.other, CODEC, {}, OTHER))

    def probe(self, number: int, *nodes: NodeAddress, term: int = TERM) -> None:
        self.tell(Probe(number, term, list(nodes)))

    def outcome(self, number: int, *nodes: NodeAddress) -> dict[int, int]:
        """Ask, and wait: the incarnation that answered, by node."""
        self.probe(number, *nodes)
        self.sim.run_until(lambda: any(probed.number == number for probed in self.master.of(Probed)))
        (probed,) = [probed for probed in self.master.of(Probed) if probed.number == number]
        return {outcome.node: outcome.incarnation for outcome in probed.outcomes}


@pytest.fixture
def world() -> Neighbourhood:
    return Neighbourhood()


def test_the_process_that_answers_is_told(world: Neighbourhood) -> None:
    began = world.sim.now_ns
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 77}
    assert world.sim.now_ns - began < SECOND // 20
    assert world.outcome(2, NodeAddress(9, OTHER, 78)) == {9: 77}, "whoever was expected"


def test_who_does_not_answer_is_told_as_well_and_does_not_hide_others(world: Neighbourhood) -> None:
    began = world.sim.now_ns
    nowhere = NodeAddress(8, "tcp://nowhere:1", 5)
    assert world.outcome(1, nowhere, NodeAddress(9, OTHER, 77)) == {8: 0, 9: 77}
    assert SECOND // 2 <= world.sim.now_ns - began < SECOND
    assert world.actor.statistics()["probes"] == 0


def test_a_hung_process_does_not_answer(world: Neighbourhood) -> None:
    world.other.answers.clear()
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 0}


def test_a_lost_ping_is_repeated(world: Neighbourhood) -> None:
    pings = 0

    def answer(ping: Ping) -> Pong | None:
        nonlocal pings
        pings += 1
        return Pong(ping.number, 9, 77) if pings == 3 else None

    world.other.answers[Ping] = answer
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 77}


def test_a_process_that_was_restarted_is_reached_at_once(world: Neighbourhood) -> None:
    assert world.outcome(1, NodeAddress(9, OTHER, 77)) == {9: 77}
    world.sim.crash("other")
    world.other.answers[Ping] = lambda ping: Pong(ping.number, 9, 78)
    world.start_other(2)
    began = world.sim.now_ns
    assert world.outcome(2, NodeAddress(9, OTHER, 78)) == {9: 78}
    assert world.sim.now_ns - began < SECOND // 20


def test_nobody_answers_in_anothers_place(world: Neighbourhood) -> None:
    world.other.answers.clear()
    world.probe(1, NodeAddress(9, OTHER, 77))
    for number in range(10):
        world.send(Pong(number, 9, 77))
    world.sim.run_until(lambda: world.master.of(Probed))
    assert world.master.of(Probed)[0].outcomes[0].incarnation == 0


def test_a_former_master_is_not_obeyed(world: Neighbourhood) -> None:
    world.probe(1, NodeAddress(9, OTHER, 77), term=TERM - 1)
    world.sim.run_for(2 * SECOND)
    assert world.master.of(Probed) == []
    assert world.other.of(Ping) == []


def test_what_is_asked_in_the_same_breath_as_the_registration_is_answered() -> None:
    world = Neighbourhood(NodeAddress(9, OTHER, 77))
    assert [probed.number for probed in world.master.of(Probed)] == [100]
