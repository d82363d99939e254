"""Clients and the master: greeting, repeats, crashes, limits, grouping."""

from __future__ import annotations

from typing import Any

import pytest

from dsa_zmq.master.catalog.health import TakeTally
from dsa_zmq.master.catalog.jobs import Request
from dsa_zmq.model.limits import MAX_CALLS
from dsa_zmq.protocol.messages import OLDEST_VERSION, Answers, Call, Calls, Drop, Hello, Pong, Refused, Welcome
from dsa_zmq.protocol.operations import (
    Allocate,
    Commit,
    Done,
    Found,
    Health,
    HealthReport,
    ListDirectory,
    ListNodes,
    Locate,
    MakeDirectory,
    Reallocate,
    Remove,
    Renew,
    Stat,
    Statfs,
)
from dsa_zmq.protocol.values import Failure, PlacedShard


@pytest.mark.parametrize(
    ("version", "oldest", "remedy"),
    [
        (OLDEST_VERSION - 1, 0, f"upgrade the client to a build that speaks protocol {OLDEST_VERSION}, or a later one"),
        (99, 98, "upgrade the master to a build that speaks protocol 98, or a later one"),
        (99, OLDEST_VERSION, ""),
    ],
)
def test_a_client_too_old_or_too_new_is_told_which_side_to_upgrade(
    world: Any, version: int, oldest: int, remedy: str
) -> None:
    client = world.client(session=False)
    client.send(Hello(7, version, oldest, "dsa-zmq test"))
    world.wait(lambda: client.received(Refused) or client.received(Welcome))
    if not remedy:
        (welcome,) = client.received(Welcome)
        assert (welcome.number, welcome.role, welcome.term) == (7, "master", 1)
        assert welcome.publishes == world.settings.publish
        return
    (refused,) = client.received(Refused)
    assert (refused.number, refused.failure.code, refused.failure.remedy) == (7, "incompatible", remedy)


def test_a_call_repeated_while_its_job_runs_is_run_once_and_answered_once(world: Any) -> None:
    client = world.client()
    before = world.ran(Request)
    (number,) = client.calls(MakeDirectory("/d"))
    for _ in range(3):
        client.repeat(number, MakeDirectory("/d"))
    world.run_for(1)
    assert [type(result) for result in client.results(number)] == [Found]
    assert world.ran(Request) == before + 1
    assert world.actor.statistics()["calls_repeated"] == 3


def test_a_call_repeated_after_its_answer_gets_the_same_answer_and_has_no_second_effect(world: Any) -> None:
    client = world.client()
    (number,) = client.calls(MakeDirectory("/d"))
    world.wait(lambda: client.results(number))
    client.repeat(number, MakeDirectory("/d"))
    world.wait(lambda: len(client.results(number)) == 2)
    first, second = client.results(number)
    assert isinstance(first, Found)
    assert first == second


def test_a_refusal_repeated_is_the_same_refusal(world: Any) -> None:
    client = world.client()
    (number,) = client.calls(Remove("/not-there"))
    world.wait(lambda: client.results(number))
    assert isinstance(client.ask(MakeDirectory("/not-there")), Found)
    client.repeat(number, Remove("/not-there"))
    world.wait(lambda: len(client.results(number)) == 2)
    assert [result.code for result in client.results(number)] == ["not-found"] * 2


def test_power_loss_between_commit_and_answer_leaves_one_effect_and_the_same_answer(world: Any) -> None:
    client = world.client()
    batches = len(world.batches)
    (number,) = client.calls(MakeDirectory("/d"))
    world.wait(lambda: len(world.batches) > batches)  # committed; its result is not heard yet
    world.crash()
    assert client.results(number) == []
    world.start()
    answer = client.again(number, MakeDirectory("/d"))
    assert isinstance(answer, Found)
    assert client.received(Answers)[-1].term == 2
    assert answer.attributes == client.ask(Stat("/d")).attributes


def test_power_loss_before_the_commit_leaves_no_effect_and_the_repeat_has_it_once(world: Any) -> None:
    client = world.client()
    (number,) = client.calls(MakeDirectory("/d"))
    world.crash()
    world.start()
    assert client.ask(Stat("/d")).code == "not-found"
    assert isinstance(client.again(number, MakeDirectory("/d")), Found)


def test_the_answers_of_one_message_come_in_one_message(world: Any) -> None:
    world.nodes(2)
    client = world.client()
    before = len(client.received(Answers))
    numbers = client.calls(
        MakeDirectory("/a"), Stat("/"), ListNodes(), MakeDirectory("/b"), Allocate(0, "/f", 4096, 0, [5])
    )
    world.wait(lambda: len(client.received(Answers)) > before)
    world.run_for(0.2)
    (message,) = client.received(Answers)[before:]
    assert sorted(answer.number for answer in message.answers) == numbers
    assert not any(isinstance(answer.result, Failure) for answer in message.answers)


def test_a_health_count_does_not_hold_its_companions_up(world: Any) -> None:
    client = world.client()
    before = len(client.received(Answers))
    health, stat = client.calls(Health(), Stat("/"))
    world.wait(lambda: client.results(health) and client.results(stat))
    messages = [[answer.number for answer in message.answers] for message in client.received(Answers)[before:]]
    assert sorted(messages) == [[health], [stat]]


def test_answers_too_large_for_one_message_come_in_several(world: Any) -> None:
    client = world.client()
    names = [f"{index:03}{'x' * 250}" for index in range(250)]
    for start in range(0, 250, 125):
        numbers = client.calls(*(MakeDirectory(f"/{name}") for name in names[start : start + 125]))
        world.wait(lambda: client.results(numbers[-1]))  # noqa: B023 - waited for at once
    numbers = client.calls(*[ListDirectory("/")] * 20)
    world.wait(lambda: all(client.results(number) for number in numbers))
    for number in numbers:
        (listing,) = client.results(number)
        assert [entry.name for entry in listing.entries] == names


@pytest.mark.slow
def test_more_calls_than_allowed_in_flight_are_answered_overloaded_and_others_are_served(world: Any) -> None:
    greedy, modest = world.client(), world.client("client-b")
    world.runtime.slow_down("master", 1000)
    numbers = [number for _ in range(10) for number in greedy.calls(*[Stat("/")] * MAX_CALLS)]
    world.wait(lambda: greedy.received(Answers)[1:])
    assert isinstance(modest.ask(Stat("/")), Found)
    world.wait(lambda: len(greedy.answers) == len(numbers) + 1)
    codes = [result.code for number in numbers for result in greedy.results(number) if isinstance(result, Failure)]
    assert set(codes) == {"overloaded"}
    assert 0 < len(codes) < len(numbers)
    assert world.actor.statistics()["calls"] == 0


def test_hostile_calls_are_refused_and_the_master_lives_on(world: Any) -> None:
    client = world.client()
    huge = 2**64 - 1
    operations = [
        Allocate(huge, "/f", huge, huge, [huge] * 300, huge),
        Allocate(5, "/f", 4096, 0, [5]),
        Reallocate(huge, [PlacedShard(huge, huge, huge)], [huge], [[huge]]),
        Reallocate(1, [PlacedShard(1, 0, 1)], [], []),
        Renew([huge, 0]),
        Renew(list(range(20_000))),
        Locate("/", huge, huge),
        Stat("\0"),
        Stat("x" * 10_000),
        ListDirectory("/", "", -1, huge),
        Statfs("ec=1+1"),
        Remove("/", if_version=huge),
        Commit(huge, "/f", huge, huge, huge, "copies=2", [], huge, huge),
    ]
    numbers = client.calls(*operations)
    client.send(Calls(huge, huge, [Call(huge, Stat("/"))]))
    client.send(Calls(client.session, 0, []))
    client.send(Pong(1, 2, 3))
    client.send(Drop(1, 1, []))
    world.wait(lambda: all(client.results(number) for number in numbers) and client.results(huge))
    for number, operation in zip(numbers, operations, strict=True):
        (result,) = client.results(number)
        assert isinstance(result, Failure | Done), operation
        if isinstance(result, Failure):
            assert result.code != "internal", (operation, result)
    assert isinstance(client.ask(Stat("/")), Found)


def test_a_request_of_an_unknown_session_has_no_effect_and_says_that_the_outcome_is_unknown(world: Any) -> None:
    client = world.client(session=False)
    client.session = 4711
    assert client.ask(MakeDirectory("/d")).code == "outcome-unknown"
    assert client.ask(Stat("/d")).code == "not-found"


def test_many_who_ask_for_health_share_one_count_and_its_report(world: Any) -> None:
    nodes = world.nodes(2)
    clients = [world.client(f"client-{index}") for index in range(5)]
    clients[0].upload("/f", nodes)
    asked = [client.calls(Health())[0] for client in clients]
    world.wait(lambda: all(client.results(number) for client, number in zip(clients, asked, strict=True)))
    reports = [client.results(number)[0] for client, number in zip(clients, asked, strict=True)]
    assert world.ran(TakeTally) == 1
    assert isinstance(reports[0], HealthReport)
    assert (reports[0].healthy_chunks, reports[0].healthy_bytes, reports[0].lost_chunks) == (1, 5, 0)
    assert reports == [reports[0]] * 5


def test_a_catalog_that_breaks_ends_the_master_and_the_repeat_finds_the_truth(world: Any) -> None:
    client = world.client()
    world.disk.failing_syncs = 1
    (number,) = client.calls(MakeDirectory("/d"))
    assert world.master.join(10) == 70
    assert client.results(number) == []
    world.start()
    assert isinstance(client.again(number, MakeDirectory("/d")), Found)
    assert world.runtime.story("catalog-failed")


def test_what_comes_before_the_catalog_is_read_is_answered_afterwards(world: Any) -> None:
    world.nodes(2)
    world.crash()
    client = world.client(session=False)
    world.start()
    (number,) = client.calls(ListNodes())
    world.wait(lambda: client.results(number), 30)
    (nodes,) = client.results(number)
    assert [node.name for node in nodes.nodes] == ["n1", "n2"]
    assert nodes.term == 2


def test_a_full_disk_refuses_what_grows_and_the_master_lives_on(world: Any) -> None:
    client = world.client()
    room = world.disk.capacity_bytes
    world.disk.capacity_bytes = room - world.disk.free_bytes()[0]
    results = [client.ask(MakeDirectory(f"/{index:03}{'x' * 200}")) for index in range(60)]
    assert {result.code for result in results if isinstance(result, Failure)} == {"no-space"}
    world.run_for(3)  # garbage collection meets the full disk, too
    assert client.ask(Stat("/absent")).code == "not-found"
    world.disk.capacity_bytes = room
    world.run_for(3)
    assert isinstance(client.ask(MakeDirectory("/d")), Found)
