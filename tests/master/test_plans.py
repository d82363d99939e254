"""Plans: what a task would do, asked of the master."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dsa_zmq.master.garbage import NOTHING
from dsa_zmq.protocol.operations import BeginTask, ListTasks, MakePlan, Planned, Remove
from dsa_zmq.protocol.values import Failure

if TYPE_CHECKING:
    from tests.master.conftest import MasterWorld


def test_the_plan_of_a_collection_says_what_waits(world: Any) -> None:
    client, nodes = world.client(), world.nodes(2)
    first = client.ask(MakePlan("gc"))
    assert isinstance(first, Planned)
    assert (first.plan.moves, first.plan.bytes) == (0, 0)
    assert first.plan.lines == [NOTHING]
    client.upload("/f", nodes)
    client.ask(Remove("/f"))
    world.eventually(lambda: "1 removed" in client.ask(MakePlan("gc")).plan.lines[0], 1.0)
    world.eventually(lambda: client.ask(MakePlan("gc")).plan.lines == [NOTHING])


def test_an_unknown_kind_of_task_is_refused_with_those_there_are(world: Any) -> None:
    refused = world.client().ask(MakePlan("tidy"))
    assert isinstance(refused, Failure)
    assert refused.code == "invalid"
    assert "gc" in refused.remedy


def test_plans_that_nobody_waits_for_any_more_do_no_harm(world: Any) -> None:
    client = world.client()
    client.calls(*[MakePlan("gc")] * 5)
    world.crash()
    world.start()
    assert isinstance(world.client("client-b").ask(MakePlan("gc")), Planned)


def test_a_node_is_empty_as_soon_as_it_has_dropped_what_others_have_now(
    make_world: Callable[..., MasterWorld],
) -> None:
    world = make_world(7)
    world.start(gc_interval_s=3600.0)  # nobody waits for the next round of the collection
    client, nodes = world.client(), world.nodes(3)
    world.eventually(lambda: set(client.states().values()) == {"up"})
    for number in range(6):
        client.upload(f"/f{number}", nodes)
    for node in nodes:
        node.fetches = True
    drained = next(node for node in nodes if node.shards)
    client.ask(BeginTask("drain", drained.form.name))
    world.eventually(lambda: client.ask(ListTasks()).tasks[0].state == "done", 10.0)
    assert client.ask(ListTasks()).tasks[0].note == "may be switched off"
    assert not drained.shards
    assert sum(len(node.shards) for node in nodes) == 12
