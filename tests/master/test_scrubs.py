"""Rounds of scrubbing that somebody has ordered."""

from __future__ import annotations

from typing import Any

from dsa_zmq.protocol.messages import Noted, Scrub
from dsa_zmq.protocol.operations import BeginTask, ListNodes, ListTasks, Tasks


def shown(client: Any) -> list[int]:
    """How far each node's scrub is, in thousandths, by name."""
    return [node.scrub_permille for node in client.ask(ListNodes()).nodes]


def test_a_round_is_shown_as_begun_before_its_node_can_have_told_of_it(world: Any) -> None:
    client, nodes = world.client(), world.nodes(2)
    world.eventually(lambda: set(client.states().values()) == {"up"})
    first = nodes[0]
    first.beats = False
    first.publish(first.heartbeat(scrub_permille=700, scrubbed_s=50_000))
    world.eventually(lambda: shown(client) == [700, 0])
    assert isinstance(client.ask(BeginTask("scrub", "n1")), Tasks)
    assert shown(client) == [1, 0]
    (order,) = first.received(Scrub)
    first.send(Noted(order.number))
    for permille, seen in ((700, 1), (0, 1), (250, 250), (600, 600)):
        first.publish(first.heartbeat(scrub_permille=permille))
        world.run_for(1.1)
        assert shown(client)[0] == seen
    for _ in range(3):
        first.publish(first.heartbeat(scrubbed_s=1))
        world.run_for(1.1)
    assert shown(client) == [0, 0]
    world.eventually(lambda: client.ask(ListTasks()).tasks[0].state == "done")


def test_a_node_that_is_away_has_not_begun(world: Any) -> None:
    client, nodes = world.client(), world.nodes(2)
    world.eventually(lambda: set(client.states().values()) == {"up"})
    nodes[0].beats = False
    world.eventually(lambda: client.states()["n1"] == "down")
    client.ask(BeginTask("scrub"))
    assert shown(client) == [0, 1]
