"""Plans: what a task would do, asked of the master."""

from __future__ import annotations

from typing import Any

from dsa_zmq.protocol.operations import MakePlan, Planned, Remove
from dsa_zmq.protocol.values import Failure


def test_the_plan_of_a_collection_says_what_waits(world: Any) -> None:
    client, nodes = world.client(), world.nodes(2)
    first = client.ask(MakePlan("gc"))
    assert isinstance(first, Planned)
    assert (first.plan.moves, first.plan.bytes) == (0, 0)
    assert first.plan.lines == ["there is nothing to let go"]
    client.upload("/f", nodes)
    client.ask(Remove("/f"))
    world.eventually(lambda: "1 removed" in client.ask(MakePlan("gc")).plan.lines[0], 1.0)
    world.eventually(lambda: client.ask(MakePlan("gc")).plan.lines == ["there is nothing to let go"])


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
