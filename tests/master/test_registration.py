"""A node registers: it learns who it is, once however often it asks, and nonsense is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dsa_zmq.master.catalog.jobs import RegisterNode
from dsa_zmq.protocol.messages import Fence, Refused, Registered
from dsa_zmq.protocol.operations import ListNodes


def test_a_node_that_registers_learns_its_number_key_and_ports_and_is_up(world: Any) -> None:
    node = world.node(1)
    registered = node.register()
    assert isinstance(registered, Registered)
    assert (registered.term, registered.heartbeat_ms) == (1, 1000)
    assert (registered.heartbeats, registered.hints) == (world.settings.subscribe, world.settings.publish)
    assert len(registered.key) == 32
    assert world.client().states() == {"n1": "up"}


def test_a_registration_repeated_is_answered_the_same(world: Any) -> None:
    node = world.node(1)
    first, second = node.register(), node.register(number=2)
    assert (first.node, first.key) == (second.node, second.key)
    assert second.number == 2
    assert len(world.client().ask(ListNodes()).nodes) == 1


def test_a_registration_repeated_while_it_is_at_work_is_run_once_and_the_last_one_answered(world: Any) -> None:
    node = world.node(1)
    for number in (1, 2, 3):
        node.send(msgspec.structs.replace(node.form, number=number))
    world.run_for(0.5)
    assert [registered.number for registered in node.received(Registered)] == [3]
    assert world.ran(RegisterNode) == 1


def test_a_restarted_node_keeps_its_number_and_its_earlier_process_is_fenced(world: Any) -> None:
    old = world.node(1)
    first = old.register()
    old.beats = False
    new = world.node(1, 2)
    second = new.register()
    assert first.node == second.node
    world.wait(lambda: old.received(Fence))
    old.resume_beating()
    world.wait(lambda: len(old.received(Fence)) > 1)
    assert new.received(Fence) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a\0b"},
        {"name": "x" * 300},
        {"store_id": b"short"},
        {"seen_master": b"short"},
        {"capacity": -1},
        {"free": 2**64 - 1},
        {"incarnation": 2**63},
        {"address": "nonsense"},
        {"address": "tcp://0.0.0.0:7710"},
        {"address": "tcp://*:7710"},
        {"address": "tcp://10.0.0.1:0"},
        {"zone": "z" * 5000},
        {"version": 0},
        {"oldest": 99, "version": 99},
    ],
)
def test_a_registration_that_makes_no_sense_is_refused_and_the_master_lives_on(
    world: Any, changes: dict[str, Any]
) -> None:
    node = world.node(1)
    refused = node.register(**changes)
    assert isinstance(refused, Refused)
    assert refused.failure.code in ("invalid", "incompatible")
    assert refused.failure.remedy or refused.failure.code == "invalid"
    assert isinstance(world.node(2).register(), Registered)
