"""Of several masters the one of the highest term goes on, and of two of one term neither before an operator says so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dsa_zmq.errors import ConfigError
from dsa_zmq.protocol.messages import Answers, Call, Calls, Hint, Refused, Registered
from dsa_zmq.protocol.operations import ListNodes


def test_a_master_that_hears_of_a_higher_term_stops_for_good(world: Any) -> None:
    (node,) = world.nodes(1)
    node.send(msgspec.structs.replace(node.form, seen_term=5, seen_master=b"y" * 16))
    assert world.master.join(10) == 4
    assert world.runtime.story("stale-master")
    for _ in range(10):  # a supervisor that does not give up
        with pytest.raises(ConfigError, match="a master of term 5, this catalog is of term 1"):
            world.start()
    world.start(take_over=True)
    assert isinstance(node.register(), Registered)
    assert node.registered.term == 6


def test_a_master_that_knows_of_a_higher_term_answers_nobody_any_more(world: Any) -> None:
    (node,) = world.nodes(1)
    call = Calls(0, 0, [Call(1, ListNodes())])
    node.send(call)
    world.wait(lambda: node.received(Answers))
    node.send(msgspec.structs.replace(node.form, seen_term=5, seen_master=b"y" * 16))
    node.send(call)
    assert world.master.join(10) == 4
    world.run_for(1)
    assert len(node.received(Answers)) == 1


def test_a_node_that_met_another_master_of_the_same_term_is_refused_until_one_of_them_ends(world: Any) -> None:
    (node,) = world.nodes(1)
    refused = node.register(seen_term=1, seen_master=b"y" * 16)
    assert isinstance(refused, Refused)
    assert refused.failure.code == "unavailable"
    assert "two copies of one catalog" in refused.failure.message
    assert isinstance(world.node(2).register(), Registered)  # who has met only this one goes on with it
    world.crash()
    with pytest.raises(ConfigError, match="two masters have run on copies of one catalog"):
        world.start()
    world.start(take_over=True)
    assert isinstance(node.register(), Registered)


def test_hints_tell_the_term_and_a_node_registers_again_after_a_restart(world: Any) -> None:
    nodes = world.nodes(2)
    world.wait(lambda: nodes[0].received(Hint))
    hint = nodes[0].received(Hint)[0]
    assert (hint.term, hint.cluster) == (1, nodes[0].registered.cluster)
    world.crash()
    world.start()
    client = world.client()
    world.eventually(lambda: client.states() == {"n1": "up", "n2": "up"}, 30)
    assert [node.registered.term for node in nodes] == [2, 2]
    assert {node.registered.node for node in nodes} == {1, 2}
