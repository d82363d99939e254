"""A bad day: lost, doubled and late messages, broken connections, power losses of the master. Effects happen once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.sim.faults import ROUGH
from dsa_zmq.model.inspection import Inspect
from dsa_zmq.protocol.operations import Found, ListDirectory, MakeDirectory

OPERATIONS = 12


@pytest.mark.parametrize("seed", range(12))
def test_every_repeated_request_has_its_effect_once_over_losses_and_crashes(
    make_world: Callable[..., Any], seed: int
) -> None:
    world = make_world(seed, ROUGH)
    world.start()
    world.nodes(2)
    clients = [world.client(f"client-{index}") for index in range(3)]
    open_calls: dict[tuple[int, int], MakeDirectory] = {}
    for round_ in range(OPERATIONS):
        for index, client in enumerate(clients):
            operation = MakeDirectory(f"/{index}-{round_}")
            (number,) = client.calls(operation)
            open_calls[index, number] = operation
        if world.random.random() < 0.3:
            world.run_for(world.random.random() * 0.003)
            world.crash()
            world.start()
        world.run_for(0.3)
        for (index, number), operation in open_calls.items():
            if not clients[index].results(number):
                clients[index].repeat(number, operation)

    def all_answered() -> bool:
        waiting = [key for key in open_calls if not clients[key[0]].results(key[1])]
        for index, number in waiting:
            clients[index].repeat(number, open_calls[index, number])
        return not waiting

    world.eventually(all_answered, 60)
    for (index, number), operation in open_calls.items():
        answers = clients[index].results(number)
        assert isinstance(answers[0], Found), (operation, answers)
        assert all(answer == answers[0] for answer in answers), (operation, answers)
    listing = clients[0].ask(ListDirectory("/"))
    assert len(listing.entries) == len(open_calls)
    world.eventually(lambda: set(clients[0].states().values()) == {"up"}, 60)


def test_the_same_seed_gives_the_same_day(make_world: Callable[..., Any]) -> None:
    hashes = []
    for _ in range(2):
        world = make_world(11, ROUGH)
        world.start()
        nodes = world.nodes(2)
        client = world.client()
        client.upload("/f", nodes)
        world.run_for(5)
        hashes.append(world.runtime.trace_hash())
    assert hashes[0] == hashes[1]


def test_the_outside_is_told_the_statistics(make_world: Callable[..., Any]) -> None:
    world = make_world(12)
    world.start()
    world.nodes(2)
    told: list[dict[str, int]] = []
    world.master.call(Inspect(told.append))
    world.wait(lambda: told)
    assert told[0]["nodes"] == 2
    assert set(told[0]) >= {"calls", "registering", "shards_dropped", "uploads"}, "its own and those of its departments"
