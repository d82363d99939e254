"""One seed, one history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.core import ActorSpec, Address, Context, Lane
from actors.sim.explore import NotDeterministic, ScenarioFailed, run_seeds, swarm
from actors.sim.faults import ROUGH
from actors.sim.runtime import ActorBug, SimRuntime
from actors.testing import Note, Probe, ProbeCodec, Work

SERVER = Address("tcp://server:1")
MS = 1_000_000


class Chatter(Probe):
    """Asks the server at random intervals, works a little on each answer, and publishes what it has counted."""

    def on_start(self, ctx: Context) -> None:
        ctx.set_timer("ask", ctx.random.randrange(10 * MS))
        ctx.join_feed(publish_to=Address("tcp://server:2"))

    def on_timer(self, ctx: Context, token: object) -> None:
        super().on_timer(ctx, token)
        ctx.send(SERVER, Note(len(self.timers)), [ctx.random.randbytes(100)])
        ctx.run(len(self.timers), "work", Work(len(self.timers)))
        ctx.publish("count", Note(len(self.timers)))
        ctx.log("asked", number=len(self.timers))
        ctx.set_timer("ask", ctx.random.randrange(10 * MS))


def chat(world: SimRuntime) -> None:
    """Five clients, one server, a crash, a pause, a partition."""
    reply = lambda ctx, got: got.sender.channel.value == "direct" and ctx.send(got.sender.address, got.message)  # noqa: E731
    spawn = world.spawn
    spawn(ActorSpec("server", 1, Probe(reply=reply), ProbeCodec(), listen=SERVER, subscribe=Address("tcp://server:2")))
    lane = Lane(lambda jobs: [None] * len(jobs), workers=2)
    for number in range(5):
        spawn(ActorSpec(f"client{number}", 1, Chatter(), ProbeCodec(), {"work": lane}))
    world.run_for(100 * MS)
    world.crash("client0")
    world.pause("client1")
    world.partition({"client2"}, {"server"}, one_way=True)
    spawn(ActorSpec("client0", 2, Chatter(), ProbeCodec(), {"work": lane}))
    world.run_for(100 * MS)
    world.resume("client1")
    world.heal()
    world.run_for(100 * MS)


def trace_of(seed: int) -> str:
    world = SimRuntime(seed, faults=ROUGH)
    chat(world)
    return world.trace_hash()


def test_equal_seeds_give_equal_histories_and_others_do_not() -> None:
    assert trace_of(1) == trace_of(1)
    assert len({trace_of(seed) for seed in range(5)}) == 5


def test_keeping_events_readable_does_not_change_the_history() -> None:
    world = SimRuntime(1, faults=ROUGH, keep_events=50)
    chat(world)
    assert world.trace_hash() == trace_of(1)
    assert len(world.tail(100)) == 50
    assert all("client3" in line for line in world.story("client3"))


@pytest.mark.slow
def test_the_hash_seed_of_the_interpreter_is_not_an_input() -> None:
    root = Path(__file__).parents[2]
    program = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('m', sys.argv[1]); "
        "m = u.module_from_spec(s); sys.modules['m'] = m; s.loader.exec_module(m); sys.stdout.write(m.trace_of(7))"
    )
    hashes = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", program, __file__]
        hashes.add(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert hashes == {trace_of(7)}


def test_a_campaign_reports_every_seed_and_runs_some_twice() -> None:
    report = run_seeds(chat, range(4), faults=swarm, recheck_every=2)
    assert sorted(report.hashes) == [0, 1, 2, 3]
    assert report.rechecked == 2
    assert report.events > 1000


def test_a_campaign_names_the_first_seed_that_fails_and_shows_its_end() -> None:
    def scenario(world: SimRuntime) -> None:
        chat(world)
        assert world.seed != 2, "the moon is full"

    with pytest.raises(ScenarioFailed, match=r"(?s)seed 2: the moon is full.*client3.*replay: .*\[2\]") as failure:
        run_seeds(scenario, range(5))
    assert failure.value.seed == 2


def test_a_campaign_notices_a_hidden_input() -> None:
    runs: list[int] = []

    def scenario(world: SimRuntime) -> None:
        runs.append(0)
        world.spawn(ActorSpec("probe", len(runs), Probe(), ProbeCodec()))
        world.run_for(MS)

    with pytest.raises(NotDeterministic, match="seed 9"):
        run_seeds(scenario, [9])


def test_an_impossible_state_ends_the_run() -> None:
    class Broken(Probe):
        def check_invariants(self) -> None:
            assert not self.noted, "noted something"

    world = SimRuntime(1)
    handle = world.spawn(ActorSpec("broken", 1, broken := Broken(), ProbeCodec()))
    handle.call(lambda ctx: broken.noted.append(1))
    with pytest.raises(ActorBug, match="noted something"):
        world.run_for(MS)
    assert handle.status == 70

    world = SimRuntime(1, invariants=False)
    handle = world.spawn(ActorSpec("broken", 1, broken, ProbeCodec()))
    world.run_for(MS)
    assert handle.alive


def test_a_frame_that_is_written_to_after_it_was_sent_is_found() -> None:
    world = SimRuntime(1)
    buffer = bytearray(b"mine no more")
    world.spawn(ActorSpec("server", 1, Probe(), ProbeCodec(), listen=SERVER))
    client = world.spawn(ActorSpec("client", 1, Probe(), ProbeCodec()))
    client.call(lambda ctx: ctx.send(SERVER, Note(1), [memoryview(buffer).toreadonly()]))
    client.call(lambda ctx: buffer.__setitem__(0, 0))
    with pytest.raises(AssertionError, match="client/1 wrote to a frame"):
        world.run_for(10 * MS)


def test_a_context_is_dead_after_its_turn() -> None:
    kept: list[Context] = []
    world = SimRuntime(1)
    world.spawn(ActorSpec("probe", 1, Probe(at_start=kept.append), ProbeCodec()))
    world.run_for(MS)
    with pytest.raises(RuntimeError, match="until its handler returns"):
        kept[0].send(SERVER, Note(1))


@pytest.mark.slow
def test_a_world_runs_at_least_a_hundred_thousand_events_in_a_few_seconds() -> None:
    """A generous bound: what matters is that nothing makes an event ten times as expensive unnoticed."""
    import time

    class Echo(Probe):
        def on_message(self, ctx: Context, sender: object, message: object, payload: object) -> None:
            ctx.send(sender.address, message)  # type: ignore[attr-defined,arg-type]

    world = SimRuntime(1)
    world.spawn(ActorSpec("server", 1, Echo(), ProbeCodec(), listen=SERVER))
    client = world.spawn(ActorSpec("client", 1, Echo(), ProbeCodec()))
    client.call(lambda ctx: [ctx.send(SERVER, Note(number)) for number in range(100)])
    began = time.perf_counter()
    world.run_until(lambda: world.events > 100_000)
    assert time.perf_counter() - began < 4.0
