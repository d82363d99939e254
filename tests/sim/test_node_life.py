"""The life of a node's process: it registers, beats, obeys one master only, and ends with a status that says why."""

from __future__ import annotations

import random

import pytest

from actors.core import Address
from actors.sim.disk import SimDisk
from dsa_zmq.errors import ConfigError, Corrupt
from dsa_zmq.model.ids import start_of
from dsa_zmq.model.inspection import Inspect
from dsa_zmq.model.macs import WRITE
from dsa_zmq.node.service import NodeSettings, node_spec
from dsa_zmq.protocol.messages import (
    PROTOCOL_VERSION,
    ConfirmShards,
    Fence,
    Heartbeat,
    Hello,
    Hint,
    Ping,
    Pong,
    PutOutcome,
    Refused,
    Register,
    Registered,
    Welcome,
)
from dsa_zmq.protocol.values import Failure
from tests.sim.conftest import CLUSTER, DATA, KEY, MASTER, NODE, SECOND, NodeWorld


def test_a_restart_gives_receipts_of_a_new_incarnation(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.sim.crash(world.spec.name)
    world.up()
    answer, _ = world.ask(ConfirmShards(7, [world.grant(10, 5000, WRITE), world.grant(11, 5000, WRITE)]))
    assert answer.outcomes[0] == PutOutcome(10, 0, receipt=world.receipt(10, data))
    assert answer.outcomes[1].failure.code == "not-found"
    registers = world.master.of(Register)
    assert [(start_of(r.incarnation), r.cluster, r.seen_term) for r in (registers[0], registers[-1])] == [
        (1, b"", 0),
        (2, CLUSTER, 5),
    ]
    assert registers[0].store_id == registers[-1].store_id


def test_before_it_is_registered_a_node_answers_unavailable(data: bytes) -> None:
    world = NodeWorld().start()
    world.master.answers.clear()
    world.sim.run_for(SECOND)
    world.store_id = world.master.of(Register)[0].store_id
    failure = world.put((10, data))[0].failure
    assert failure is not None
    assert failure.code == "unavailable"
    assert world.get(world.grant(10, 5000))[0].shards[0].failure.code == "unavailable"  # type: ignore[union-attr]
    assert world.ask(Ping(4))[0] == Pong(4, 0, world.spec.incarnation)


def test_a_node_asks_until_the_master_answers(data: bytes) -> None:
    world = NodeWorld().start()
    world.master.answers.clear()
    world.sim.run_for(30 * SECOND)
    asked = world.master.of(Register)
    assert 5 <= len(asked) <= 60
    assert len({register.number for register in asked}) == len(asked)
    world.master.answers[Register] = lambda m: Refused(m.number, Failure("overloaded", "busy"))
    world.sim.run_for(20 * SECOND)
    assert world.node.alive
    world.master.answers[Register] = world.registered
    world.until_registered()
    assert world.put((10, data))[0].receipt is not None


@pytest.mark.parametrize(("code", "status"), [("incompatible", 2), ("config", 2), ("conflict", 4), ("denied", 5)])
def test_a_definite_refusal_ends_the_node_with_its_status(code: str, status: int) -> None:
    world = NodeWorld().start()
    world.master.answers[Register] = lambda m: Refused(m.number, Failure(code, "no", "another way"))
    world.sim.run_until(lambda: not world.node.alive)
    assert world.node.status == status


def test_a_master_of_another_cluster_ends_the_node(world: NodeWorld) -> None:
    world.sim.crash(world.spec.name)
    world.master.answers[Register] = lambda m: Registered(m.number, b"d" * 16, NODE, 6, b"x" * 16, KEY, "", "", 100)
    world.start()
    world.sim.run_until(lambda: not world.node.alive)
    assert world.node.status == 2


@pytest.mark.parametrize(("term", "master"), [(4, b"m" * 16), (5, b"x" * 16)], ids=["older", "twin"])
def test_an_older_or_a_twin_master_is_not_obeyed(world: NodeWorld, term: int, master: bytes) -> None:
    world.sim.crash(world.spec.name, power_loss=True)
    right, (world.term, world.master_id) = (world.term, world.master_id), (term, master)
    world.start()
    world.sim.run_for(5 * SECOND)
    assert world.actor._data.authority is None
    world.term, world.master_id = right
    world.until_registered()


def test_a_hint_of_a_new_master_makes_the_node_register_again(world: NodeWorld, data: bytes) -> None:
    world.term, world.master_id = 6, b"n" * 16
    world.sim.run_for(SECOND)
    world.master_handle.call(lambda ctx: ctx.publish("hint", Hint(CLUSTER, 6, b"n" * 16)))
    world.sim.run_until(lambda: world.actor._office.identity.seen_term == 6)
    assert world.put((10, data))[0].receipt is not None
    asked = len(world.master.of(Register))
    for hint in (Hint(CLUSTER, 5, b"m" * 16), Hint(b"d" * 16, 9, b"z" * 16), Hint(CLUSTER, 6, b"n" * 16)):
        world.master_handle.call(lambda ctx, hint=hint: ctx.publish("hint", hint))
    world.sim.run_for(SECOND)
    assert len(world.master.of(Register)) == asked


def test_a_silent_master_is_asked_and_data_is_served_meanwhile(world: NodeWorld, data: bytes) -> None:
    asked = len(world.master.of(Register))
    world.master.answers.clear()
    world.sim.run_until(lambda: len(world.master.of(Register)) > asked + 2)
    assert world.put((10, data))[0].receipt is not None


def test_heartbeats_tell_what_the_store_has(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.sim.run_until(lambda: world.master.of(Heartbeat) and world.master.of(Heartbeat)[-1].shards == 1)
    first, last = world.master.of(Heartbeat)[0], world.master.of(Heartbeat)[-1]
    assert (last.node, last.incarnation, last.term, last.failure) == (NODE, world.spec.incarnation, 5, "")
    assert last.free <= first.free - 5000
    assert last.used >= first.used + 5000


def test_the_outside_is_told_the_statistics(world: NodeWorld) -> None:
    told: list[dict[str, int]] = []
    world.node.call(Inspect(told.append))
    world.sim.run_until(lambda: bool(told))
    assert set(told[0]) >= {"requests", "drops"}, "its own and those of its departments"


def test_a_fenced_node_stops(world: NodeWorld) -> None:
    world.tell(Fence("another process has taken your place"))
    world.sim.run_until(lambda: not world.node.alive)
    assert world.node.status == 4


def test_an_orderly_stop_closes_the_store(world: NodeWorld, data: bytes) -> None:
    world.put((10, data))
    world.node.stop()
    assert world.node.status == 0
    assert not world.disk.exists("index.sqlite-wal")
    world.up()
    assert world.get(world.grant(10, 5000))[1] == [data]


def test_a_node_says_who_it_is(world: NodeWorld) -> None:
    assert world.ask(Ping(4))[0] == Pong(4, NODE, world.spec.incarnation)
    assert world.ask(Hello(5, 1, 1, "test"))[0] == Welcome(5, PROTOCOL_VERSION, CLUSTER, 5, "node", "n3")
    refused, _ = world.ask(Hello(6, 0, 0, "old"))
    assert refused.failure.code == "incompatible"
    register = world.master.of(Register)[0]
    assert (register.address, register.name) == (DATA, "n3")


def test_an_advertised_port_0_means_the_bound_one() -> None:
    world = NodeWorld(advertise=Address("tcp://outside.example:0")).up()
    assert world.master.of(Register)[0].address == "tcp://outside.example:7710"


def test_settings_that_nobody_could_reach_are_refused() -> None:
    disk = SimDisk(random.Random(1))
    settings = NodeSettings(MASTER, "n", Address("tcp://0.0.0.0:7710"), 1 << 30)
    with pytest.raises(ConfigError, match="advertise"):
        node_spec(settings, disk, random.Random(1))
    assert disk.listdir("") == []


def test_a_damaged_identity_stops_the_start() -> None:
    world = NodeWorld().up()
    world.sim.crash(world.spec.name)
    world.disk.flip_bit("node.json", 80)
    with pytest.raises(Corrupt):
        world.start()


def test_equal_seeds_give_equal_histories(data: bytes) -> None:
    def history() -> str:
        world = NodeWorld(seed=4).up()
        world.put((10, data))
        world.sim.crash(world.spec.name, power_loss=True)
        world.up()
        world.get(world.grant(10, 5000))
        return world.sim.trace_hash()

    assert history() == history()
