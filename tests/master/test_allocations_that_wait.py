"""Uploads that wait for nodes, while what was known of their directories is forgotten."""

from __future__ import annotations

from typing import Any

from dsa_zmq.protocol.operations import Allocate, Allocated, Found, MakeDirectory, SetRedundancy


def started_anew(world: Any, nodes: list[Any]) -> list[Any]:
    """Another process of each node, which no other one has reached yet."""
    for node in nodes:
        node.handle.kill()
    again = [world.node(number, 2, cluster=node.form.cluster) for number, node in enumerate(nodes, 1)]
    for node in again:
        node.hears = False
        node.register()
    return again


def test_an_allocation_that_waits_for_nodes_is_answered_although_its_directory_is_forgotten_meanwhile(
    world: Any,
) -> None:
    nodes = world.nodes(2)
    client, other = world.client(), world.client("client-b")
    assert isinstance(client.upload("/a", nodes), Found)
    again = started_anew(world, nodes)
    (number,) = client.calls(Allocate(0, "/b", 1 << 20, 0, [5]))
    world.run_for(0.1)
    assert client.results(number) == []
    assert isinstance(other.ask(MakeDirectory("/c")), Found)
    world.wait(lambda: client.results(number))
    assert [result.code for result in client.results(number)] == ["too-few-nodes"]
    for node in again:
        node.hears = True
    world.eventually(lambda: set(client.states().values()) == {"up"})
    assert isinstance(client.ask(Allocate(0, "/b", 1 << 20, 0, [5])), Allocated)


def test_what_the_catalog_said_before_an_allocation_waited_is_not_believed_after_it(world: Any) -> None:
    nodes = world.nodes(2)
    client, other = world.client(), world.client("client-b")
    assert isinstance(client.ask(MakeDirectory("/d")), Found)
    again = started_anew(world, nodes)
    (number,) = client.calls(Allocate(0, "/d/a", 1 << 20, 0, [5]))
    world.run_for(0.1)
    assert client.results(number) == []
    assert isinstance(other.ask(SetRedundancy("/d", "copies=1")), Found)
    for node in again:
        node.hears = True
    world.wait(lambda: client.results(number))
    said = [result.redundancy for result in client.results(number) if isinstance(result, Allocated)]
    assert said in (["copies=1"], []), "as the directory says now, or too few nodes"
    world.eventually(lambda: set(client.states().values()) == {"up"})
    later = client.ask(Allocate(0, "/d/b", 1 << 20, 0, [5]))
    assert isinstance(later, Allocated)
    assert later.redundancy == "copies=1"


def test_one_that_may_be_degraded_waits_as_long_and_is_answered_with_fewer_places_then(world: Any) -> None:
    nodes = world.nodes(3)
    client = world.client()
    assert isinstance(client.ask(Allocate(0, "/a", 1 << 20, 0, [5], redundancy="copies=3")), Allocated)
    nodes[2].handle.kill()
    asked = Allocate(0, "/b", 1 << 20, 0, [5], redundancy="copies=3", degraded=True)
    (number,) = client.calls(asked)
    world.wait(lambda: client.results(number))
    assert len(client.results(number)[0].chunks[0].places) == 3, "nobody knows yet"
    world.eventually(lambda: "down" in client.states().values())
    assert len(client.ask(asked).chunks[0].places) == 2
    again = started_anew(world, nodes[:2])
    (number,) = client.calls(asked)
    world.run_for(0.1)
    assert client.results(number) == [], "those that are being tried may be there in a moment"
    for node in again:
        node.hears = True
    world.eventually(lambda: list(client.states().values()).count("up") == 2)
    assert len(client.ask(asked).chunks[0].places) == 2
