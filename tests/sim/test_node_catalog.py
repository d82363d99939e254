"""A node keeps copies of the catalog for the master that has registered it, and for nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsa_zmq.model.pace import CarePace
from dsa_zmq.model.records import Record
from dsa_zmq.node.catalog_copies import MAX_EARLY, MAX_PENDING_BYTES, MAX_QUESTIONS, MAX_READ_BYTES
from dsa_zmq.protocol.messages import Noted, Register, Scrub
from dsa_zmq.protocol.volumes import (
    AskVolumes,
    KeepVolumes,
    ReadVolume,
    Ship,
    Shipped,
    VolumeData,
    Volumes,
    VolumeState,
)
from tests.sim.conftest import CLUSTER, SECOND, TERM, NodeWorld
from tests.unit.node_volumes.conftest import CLUSTER as SHIPPED_CLUSTER
from tests.unit.node_volumes.conftest import Shipper, joined, path

assert CLUSTER == SHIPPED_CLUSTER


class Keeper(NodeWorld):
    """With a master that ships the records of one volume."""

    def __init__(self, seed: int = 1, **settings: Any) -> None:
        super().__init__(seed, **settings)
        self.shipper = Shipper(term=TERM)
        self.number = 0

    def ship(self, *records: Record, term: int = TERM, shipper: Shipper | None = None) -> int:
        self.number += 1
        volume = (shipper or self.shipper).volume
        self.tell(Ship(self.number, term, volume), [record.data for record in records])
        return self.number

    def shipped(self, *records: Record, shipper: Shipper | None = None) -> Shipped:
        """Ship, and wait for the answer."""
        number = self.ship(*records, shipper=shipper)
        answer: Shipped = self.answer(Shipped, number)
        return answer

    def answer(self, kind: type[Any], number: int) -> Any:
        def found() -> list[Any]:
            return [message for message in self.master.of(kind) if message.number == number]

        self.sim.run_until(lambda: bool(found()))
        return found()[-1]

    def keep(self, *volumes: int, term: int = TERM) -> int:
        self.number += 1
        self.tell(KeepVolumes(self.number, term, list(volumes)))
        return self.number

    def ask(self) -> list[VolumeState]:
        self.number += 1
        self.tell(AskVolumes(self.number))
        volumes: list[VolumeState] = self.answer(Volumes, self.number).volumes
        return volumes

    def read(self, offset: int, limit: int, volume: int = 5) -> tuple[VolumeData, list[bytes]]:
        self.number += 1
        self.tell(ReadVolume(self.number, volume, offset, limit))
        answer = self.answer(VolumeData, self.number)
        got = next(got for got in self.master.messages if got.message is answer)
        return answer, [bytes(frame) for frame in got.payload]

    def crash(self) -> None:
        self.sim.crash(self.spec.name, power_loss=True)


@pytest.fixture
def world() -> Keeper:
    keeper = Keeper()
    keeper.up()
    return keeper


def test_what_is_shipped_is_answered_and_survives_power_loss(world: Keeper) -> None:
    shipper = world.shipper
    first = world.shipped(shipper.begin, shipper.change(), shipper.part())
    assert first.failure is None
    assert (first.state.position, first.state.parts, first.state.size) == (11, 2, len(joined(shipper.sent)))
    second = world.shipped(shipper.part(last=True), shipper.change())
    assert (second.state.position, second.state.complete) == (12, True)
    world.crash()
    world.up()
    assert world.ask() == [second.state]
    assert world.shipped(*shipper.sent, shipper.change()).state.position == 13
    answer, frames = world.read(0, 1 << 30)
    assert (answer.failure, frames) == (None, [joined(shipper.sent)])
    assert world.read(10, 20)[1] == [joined(shipper.sent)[10:30]]
    assert world.read(1 << 20, 20)[1] == [b""]


def test_to_ship_nothing_asks(world: Keeper) -> None:
    assert world.shipped() == Shipped(1, VolumeState(5))
    begun = world.shipped(world.shipper.begin).state
    assert world.shipped().state == begun


def test_what_does_not_follow_is_told(world: Keeper) -> None:
    shipper = world.shipper
    shipper.change()
    answer = world.shipped(shipper.begin, shipper.change())
    assert answer.failure is not None
    assert (answer.failure.code, answer.state.position) == ("conflict", 10)


@pytest.mark.parametrize("term", [TERM - 1, TERM + 1, -1, 1 << 63])
def test_only_the_master_that_registered_the_node_is_obeyed(world: Keeper, term: int) -> None:
    shipper = world.shipper
    world.shipped(shipper.begin, shipper.change())
    world.ship(shipper.change(), term=term)
    world.keep(9, term=term)
    world.sim.run_for(SECOND)
    assert len(world.master.of(Shipped)) == 1
    assert world.master.of(Noted) == []
    assert world.ask()[0].position == 11


def test_nobody_else_is_obeyed_or_answered(world: Keeper) -> None:
    shipper = world.shipper
    world.send(Ship(1, TERM, 5), [shipper.begin.data])
    world.send(KeepVolumes(2, TERM, [9]))
    world.send(AskVolumes(3))
    world.send(ReadVolume(4, 5, 0, 100))
    world.sim.run_for(SECOND)
    assert world.client.messages == []
    assert world.ask() == []
    assert world.actor.statistics()["messages_ignored"] == 4


def test_a_node_that_is_not_registered_tells_nothing(world: Keeper) -> None:
    world.shipped(world.shipper.begin)
    world.crash()
    world.master.answers.clear()
    world.start()
    world.sim.run_until(lambda: len(world.master.of(Register)) > 1)
    world.tell(AskVolumes(70))
    world.tell(ReadVolume(71, 5, 0, 10))
    world.sim.run_for(SECOND)
    assert world.master.of(Volumes) == world.master.of(VolumeData) == []


def test_what_is_shipped_in_the_same_breath_as_the_registration_is_answered() -> None:
    world = Keeper()
    world.start()
    world.sim.run_until(lambda: bool(world.master.of(Register)))
    for _ in range(MAX_EARLY + 3):
        world.ship(world.shipper.begin)
    world.answer(Shipped, 1)
    world.sim.run_for(SECOND)
    assert len(world.master.of(Shipped)) >= MAX_EARLY
    assert world.ask()[0].position == 10


def test_volumes_that_are_not_wanted_are_removed(world: Keeper) -> None:
    for volume in (5, 6, 7):
        shipper = Shipper(volume, term=TERM)
        world.shipped(shipper.begin, shipper=shipper)
    world.answer(Noted, world.keep(6))
    assert [state.volume for state in world.ask()] == [6, 7], "7 may have been begun since"
    answer, frames = world.read(0, 10, volume=5)
    assert answer.failure is not None
    assert (answer.failure.code, frames) == ("not-found", [])
    world.crash()
    world.up()
    assert [state.volume for state in world.ask()] == [6, 7]


def test_ships_that_wait_share_a_sync(world: Keeper) -> None:
    shipper = world.shipper
    world.shipped(shipper.begin)
    syncs, began = world.disk.counts["datasync"], world.number
    for _ in range(40):
        world.ship(shipper.change())
    world.answer(Shipped, world.number)
    assert world.disk.counts["datasync"] - syncs < 20
    assert len(world.master.of(Shipped)) - 1 == world.number - began


@pytest.mark.slow
def test_memory_for_what_waits_is_bounded(world: Keeper) -> None:
    shipper = world.shipper
    world.shipped(shipper.begin)
    world.sim.faults = replace(world.sim.faults, batch_min_ns=SECOND, batch_max_ns=SECOND)
    for _ in range(30):
        world.ship(shipper.change(900_000))
    world.sim.run_for(SECOND // 2)
    figures = world.actor.statistics()
    assert MAX_PENDING_BYTES - 1_000_000 < figures["pending_ship_bytes"] <= MAX_PENDING_BYTES
    assert figures["ships_dropped"] == 30 - figures["pending_ship_bytes"] // 900_000
    world.sim.run_for(5 * SECOND)
    assert world.actor.statistics()["pending_ship_bytes"] == 0
    assert world.shipped().state.position == 10 + 30 - figures["ships_dropped"]


def test_questions_are_bounded(world: Keeper) -> None:
    world.shipped(world.shipper.begin)
    for number in range(1000, 1000 + 5 * MAX_QUESTIONS):
        world.tell(ReadVolume(number, 5, 0, 1 << 40))
    world.sim.run_for(SECOND)
    assert MAX_QUESTIONS <= len(world.master.of(VolumeData)) <= 5 * MAX_QUESTIONS
    assert world.read(0, MAX_READ_BYTES)[1] == [world.shipper.begin.data]


def test_a_failed_disk_is_told_with_every_answer(world: Keeper) -> None:
    shipper = world.shipper
    sure = world.shipped(shipper.begin, shipper.change()).state
    world.disk.failing_syncs = 1
    answer = world.shipped(shipper.change())
    assert answer.failure is not None
    assert (answer.failure.code, answer.state.position) == ("unavailable", sure.position)
    assert "failed" in world.ask()[0].damage
    world.sim.run_until(lambda: world.actor._office.status.failure)


def test_rot_is_found_by_a_scrub_and_told_unasked(world: Keeper) -> None:
    shipper = world.shipper
    world.shipped(shipper.begin, *(shipper.change(2000) for _ in range(3)))
    world.shipped(shipper.change(2000))
    world.disk.flip_bit(path(shipper), 3000)
    world.tell(Scrub(70, TERM))
    told = world.answer(Shipped, 0)
    assert told.state.position == 11
    assert told.state.damage
    assert world.ask() == [told.state]
    answer = world.shipped(shipper.change())
    assert answer.failure is not None
    assert answer.failure.code == "corrupt"


def test_rot_is_found_by_the_daily_round() -> None:
    world = Keeper(pace=CarePace(scrub_every_s=5.0))
    world.up()
    shipper = world.shipper
    world.shipped(shipper.begin, shipper.change(3000))
    world.shipped(shipper.change())
    world.disk.flip_bit(path(shipper), 1500)
    assert world.answer(Shipped, 0).state.position == 10


def test_volumes_do_not_count_as_shards(world: Keeper) -> None:
    shipper = world.shipper
    before = world.actor._office.status.usage
    world.shipped(shipper.begin, *(shipper.change(100_000) for _ in range(5)))
    world.sim.run_for(SECOND)
    assert world.actor._office.status.usage == before
    figures = world.actor.statistics()
    assert figures["volumes"] == 1
    assert figures["volume_bytes"] > 500_000
    assert figures["shipped_bytes"] == len(joined(shipper.sent))
