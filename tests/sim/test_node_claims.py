"""Who restores a lost master claims the nodes: each rule, and what becomes of a former master that still lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as replaced

from actors.core import Message
from dsa_zmq.model.ids import TERM_BITS
from dsa_zmq.model.macs import WRITE
from dsa_zmq.protocol.messages import (
    PROTOCOL_VERSION,
    ConfirmShards,
    Drop,
    Dropped,
    Heartbeat,
    Hint,
    Refused,
    Register,
)
from dsa_zmq.protocol.values import ShardRef
from dsa_zmq.protocol.volumes import AskVolumes, Claim, Claimed, ReadVolume, Ship, Shipped, VolumeData, Volumes
from tests.sim.conftest import CLUSTER, NODE, SECOND, TERM, NodeWorld
from tests.unit.node_volumes.conftest import Shipper, joined

CLAIM_TERM, RESTORER = TERM + 3, b"r" * 16


class Restored(NodeWorld):
    """A node that was registered, has a volume, and whose master is gone; somebody who restores it is at its address."""

    def __init__(self, seed: int = 1, *, silent: bool = True, **settings: Any) -> None:
        super().__init__(seed, **settings)
        self.shipper = Shipper(term=TERM)
        self.up()
        self.tell(Ship(1, TERM, 5), [self.shipper.begin.data, self.shipper.change().data])
        self.sim.run_until(lambda: bool(self.master.of(Shipped)))
        if silent:
            self.master.answers.clear()

    def claim(self, number: int = 70, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "version": PROTOCOL_VERSION, "oldest": 1, "cluster": CLUSTER, "term": CLAIM_TERM, "master": RESTORER,
        }  # fmt: skip
        self.tell(Claim(number, **{**fields, **changes}))

    def claimed(self, number: int = 70, **changes: Any) -> Claimed:
        """Claim it, and wait until it says that it is."""
        self.claim(number, **changes)
        return self.first(Claimed, number)

    def refused(self, number: int = 70, **changes: Any) -> str:
        self.claim(number, **changes)
        return str(self.first(Refused, number).failure.code)

    def first(self, kind: type[Any], number: int) -> Any:
        self.sim.run_until(lambda: any(message.number == number for message in self.master.of(kind)))
        return next(message for message in self.master.of(kind) if message.number == number)

    def crash(self) -> None:
        self.sim.crash(self.spec.name, power_loss=True)

    def restart(self) -> None:
        """Until the new process has asked."""
        self.crash()
        asked = len(self.master.of(Register))
        self.start()
        self.sim.run_until(lambda: len(self.master.of(Register)) > asked)

    def heard(self, kind: type[Any], message: Message, *frames: bytes) -> list[Any]:
        """What the node says to this within a second."""
        before = len(self.master.of(kind))
        self.tell(message, frames)
        self.sim.run_for(SECOND)
        return self.master.of(kind)[before:]


@pytest.fixture
def world() -> Restored:
    return Restored()


def test_a_claim_is_answered_with_all_that_is_there(world: Restored) -> None:
    answer = world.claimed()
    assert (answer.node, answer.name, answer.store_id, answer.seen_term) == (NODE, "n3", world.store_id, TERM)
    (state,) = answer.volumes
    assert (state.volume, state.position, state.size) == (5, 11, len(joined(world.shipper.sent)))


def test_a_claim_is_durable_before_it_is_answered(world: Restored) -> None:
    world.claimed()
    world.restart()
    asked = world.master.of(Register)[-1]
    assert (asked.seen_term, asked.seen_master, asked.node) == (CLAIM_TERM, RESTORER, NODE)


def test_a_claim_that_cannot_be_remembered_is_refused(world: Restored) -> None:
    world.disk.readonly = True
    assert world.refused() == "unavailable"
    world.disk.readonly = False


@pytest.mark.parametrize("term", [TERM, TERM - 1, 1])
def test_a_claim_of_a_term_that_is_not_above_all_seen_is_refused(world: Restored, term: int) -> None:
    assert world.refused(term=term) == "conflict"
    assert world.claimed(71).seen_term == TERM


def test_the_same_claim_is_answered_again_also_after_a_restart(world: Restored) -> None:
    first = world.claimed()
    second = world.claimed(71)
    assert second.volumes == first.volumes
    world.restart()
    third = world.claimed(72)
    assert (third.volumes, third.seen_term, third.heard_ms) == (first.volumes, TERM, -1)


def test_another_claim_needs_a_higher_term(world: Restored) -> None:
    world.claimed()
    assert world.refused(71, master=b"s" * 16) == "conflict"
    answer = world.claimed(72, master=b"s" * 16, term=CLAIM_TERM + 1)
    assert answer.seen_term == TERM, "of the last master, not of who claimed since"


def test_a_claim_of_another_cluster_is_refused(world: Restored) -> None:
    assert world.refused(cluster=b"d" * 16) == "incompatible"


def test_a_node_that_was_never_in_a_cluster_refuses() -> None:
    world = NodeWorld()
    world.master.answers.clear()
    world.start()
    world.sim.run_until(lambda: bool(world.master.of(Register)))
    world.tell(Claim(70, PROTOCOL_VERSION, 1, CLUSTER, CLAIM_TERM, RESTORER))
    world.sim.run_until(lambda: bool(world.master.of(Refused)))
    assert world.master.of(Refused)[0].failure.code == "conflict"


@pytest.mark.parametrize("versions", [{"version": 1}, {"version": 99, "oldest": 99}])
def test_versions_that_are_too_far_apart_are_refused(world: Restored, versions: dict[str, int]) -> None:
    assert world.refused(**versions) == "incompatible"


@pytest.mark.parametrize(
    "changes",
    [
        {"term": 0},
        {"term": -5},
        {"term": (1 << TERM_BITS) - 1},
        {"term": 1 << 63},
        {"master": b""},
        {"master": b"r" * 17},
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(world: Restored, changes: dict[str, Any]) -> None:
    assert world.refused(**changes) == "invalid"


def test_nobody_but_who_is_at_the_masters_address_can_claim(world: Restored) -> None:
    world.send(Claim(70, PROTOCOL_VERSION, 1, CLUSTER, CLAIM_TERM, RESTORER))
    world.sim.run_for(2 * SECOND)
    assert world.client.messages == []
    assert world.actor._office.identity.seen_term == TERM


def test_a_claimed_node_obeys_nobody_of_a_lower_term(world: Restored) -> None:
    world.claimed()
    change = world.shipper.change().data
    for term in (TERM, CLAIM_TERM - 1, CLAIM_TERM):
        assert world.heard(Shipped, Ship(100 + term, term, 5), change) == []
        assert world.heard(Dropped, Drop(100 + term, term, [ShardRef(1, 0)])) == []
    assert world.claimed(99).volumes[0].position == 11


def test_what_is_shipped_behind_a_claim_is_not_appended(world: Restored) -> None:
    change = world.shipper.change().data
    world.claim()
    for number in range(2, 30):
        world.tell(Ship(number, TERM, 5), [change])
    world.sim.run_for(SECOND)
    told = [message for message in world.master.messages if isinstance(message.message, Claimed | Shipped)]
    last = told[-1].message
    assert isinstance(last, Claimed), "nothing of the former master counts after that"
    assert world.claimed(99).volumes == last.volumes


def test_who_claimed_may_read_before_anybody_registers_the_node(world: Restored) -> None:
    world.restart()
    assert world.heard(Volumes, AskVolumes(80)) == []
    assert world.heard(VolumeData, ReadVolume(81, 5, 0, 100)) == []
    answer = world.claimed()
    assert [told.volumes for told in world.heard(Volumes, AskVolumes(82))] == [answer.volumes]
    world.tell(ReadVolume(83, 5, 0, 1 << 20))
    world.first(VolumeData, 83)
    assert [bytes(frame) for frame in world.master.messages[-1].payload] == [joined(world.shipper.sent)]


def test_who_only_asks_is_told_the_same_and_nothing_changes(world: Restored) -> None:
    world.restart()
    told = world.claimed(only_asks=True)
    assert world.refused(71, only_asks=True, cluster=b"d" * 16) == "incompatible"
    assert world.heard(Volumes, AskVolumes(80))[0].volumes == told.volumes
    assert world.actor._office.identity.seen_term == TERM
    again = world.claimed(72)
    assert (again.volumes, again.seen_term) == (told.volumes, told.seen_term)


def test_a_claimed_node_goes_on_asking_and_obeys_a_real_master(world: Restored) -> None:
    world.claimed()
    asked = len(world.master.of(Register))
    world.sim.run_until(lambda: len(world.master.of(Register)) > asked + 3)
    world.term, world.master_id = CLAIM_TERM + 1, b"n" * 16
    world.master.answers[Register] = world.registered
    world.until_registered()
    record = Shipper(6, term=world.term).begin.data
    assert world.heard(Shipped, Ship(900, world.term, 6), record)[0].state.position == 10
    assert world.heard(Heartbeat, AskVolumes(1))[-1].term == world.term
    world.crash()
    world.up()
    assert world.master.of(Register)[-1].seen_term == world.term


@pytest.mark.parametrize("term", [TERM, CLAIM_TERM])
def test_a_former_master_and_a_twin_of_the_claim_cannot_register_it(world: Restored, term: int) -> None:
    world.claimed()
    world.term = term
    world.master.answers[Register] = world.registered
    world.sim.run_for(20 * SECOND)
    assert not world.actor._office.is_current
    assert world.heard(Shipped, Ship(900, term, 5), world.shipper.change().data) == []


def test_a_claimed_node_does_not_beat_for_its_former_master(world: Restored) -> None:
    world.sim.run_until(lambda: bool(world.master.of(Heartbeat)))
    world.claimed()
    world.sim.run_for(SECOND)
    beats = len(world.master.of(Heartbeat))
    world.keep_hinting()
    world.sim.run_for(5 * SECOND)
    assert len(world.master.of(Heartbeat)) == beats


def test_a_former_master_that_speaks_is_told_at_once(world: Restored) -> None:
    world.claimed()
    for message in (Ship(9, TERM, 5), Drop(10, TERM, [ShardRef(1, 0)])):
        world.sim.run_for(SECOND)
        asked = len(world.master.of(Register))
        world.tell(message)
        world.sim.run_for(SECOND // 20)
        (told, *_) = world.master.of(Register)[asked:]
        assert told.seen_term == CLAIM_TERM
    asked = len(world.master.of(Register))
    for number in range(200):
        world.tell(Ship(number, TERM, 5))
    world.sim.run_for(SECOND // 20)
    assert len(world.master.of(Register)) - asked <= 1, "and not once for each word"


def test_a_node_that_was_registered_when_it_was_claimed_asks_again() -> None:
    """Its master lives, and nobody has asked it to register."""
    world = Restored(silent=False)
    world.keep_hinting()
    asked = len(world.master.of(Register))
    answer = world.claimed()
    assert 0 <= answer.heard_ms < 500
    world.sim.run_until(lambda: len(world.master.of(Register)) > asked + 1)
    assert world.master.of(Register)[-1].seen_term == CLAIM_TERM


def test_signs_of_life_of_a_master_are_told_with_their_age(world: Restored) -> None:
    world.sim.run_for(3 * SECOND)
    assert 3000 <= world.claimed(only_asks=True).heard_ms < 4000
    world.sim.run_for(SECOND)
    assert 4000 <= world.claimed(71).heard_ms < 5000, "who asks and claims is none"
    world.sim.run_for(SECOND)
    world.tell(ReadVolume(72, 5, 0, 10))
    assert 5000 <= world.claimed(73).heard_ms < 6000
    world.master_handle.call(lambda ctx: ctx.publish("hint", Hint(b"d" * 16, 9, b"x" * 16)))
    world.sim.run_for(SECOND)
    assert world.claimed(74).heard_ms >= 6000, "of another cluster"
    world.master_handle.call(lambda ctx: ctx.publish("hint", Hint(CLUSTER, TERM, b"m" * 16)))
    world.sim.run_for(SECOND)
    assert world.claimed(75).heard_ms < 1500
    world.tell(Ship(76, TERM, 5))
    world.sim.run_for(SECOND // 10)
    assert world.claimed(77).heard_ms < 200


@pytest.mark.parametrize("term", [CLAIM_TERM - 1, CLAIM_TERM + 1])
def test_a_claim_and_a_registration_at_once_end_with_the_higher_term(term: int) -> None:
    """Whichever becomes durable first, and whichever of the two is heard of first."""
    orders = set()
    for seed in range(9):
        world = Restored(seed)
        world.sim.faults = replace(world.sim.faults, batch_min_ns=1000, batch_max_ns=20_000_000)
        world.term, world.master_id = term, b"n" * 16
        world.master.answers[Register] = world.registered
        asked = len(world.master.of(Register))
        world.master_handle.call(lambda ctx: ctx.publish("hint", Hint(CLUSTER, term, b"n" * 16)))
        world.sim.run_until(lambda world=world, asked=asked: len(world.master.of(Register)) > asked)
        world.claim()
        world.sim.run_for(SECOND // 2)
        log = [line for line in world.sim.tail(300) if " log " in line]
        order = [
            word for line in log for word in ("claimed term", "registered node", "claimed meanwhile") if word in line
        ]
        orders.add(tuple(order[1:]))  # behind its first registration
        assert world.actor._office.identity.seen_term == max(term, CLAIM_TERM)
        world.master.answers.clear()
        world.restart()
        assert world.master.of(Register)[-1].seen_term == max(term, CLAIM_TERM)
    if term < CLAIM_TERM:
        assert ("claimed term", "claimed meanwhile") in orders
        assert all(order[-1] != "registered node" for order in orders)
    else:
        assert {("registered node",), ("claimed term", "registered node")} == orders


def test_data_is_served_meanwhile(world: Restored, data: bytes) -> None:
    world.put((10, data))
    world.claimed()
    assert world.get(world.grant(10, 5000))[1] == [data]
    answer, _ = world.ask(ConfirmShards(7, [world.grant(10, 5000, WRITE)]))
    assert answer.outcomes[0].receipt == world.receipt(10, data)


def test_a_claimed_node_does_not_deny_what_its_next_master_may_allow(world: Restored, data: bytes) -> None:
    """That one will give it another key, and clients have grants of it before the node has."""
    world.put((10, data))
    strange = replaced(world.grant(10, 5000), mac=b"?" * 16)
    assert [shard.failure.code for shard in world.get(strange)[0].shards if shard.failure] == ["denied"]
    world.claimed()
    assert [shard.failure.code for shard in world.get(strange)[0].shards if shard.failure] == ["unavailable"]
    assert world.get(world.grant(10, 5000))[1] == [data]
