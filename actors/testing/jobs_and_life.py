"""Conformance: lanes of jobs; how an actor starts, is called, stops, is killed and fails."""

# Scripts are lambdas for brevity, also where what they call returns nothing.
# mypy: disable-error-code=func-returns-value

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from actors.core import Address, Context, Job, Lane
from actors.errors import Closed
from actors.testing.probe import Harness, Note, Probe, Running, Work, pair, start_probe

MS = 1_000_000  #: nanoseconds
WORKER_PATIENCE_S = 5.0  #: a worker that waits longer for the test fails its job


class Workshop:
    """A lane handler that keeps the numbers of every batch, and waits (in real time) while its gate is shut."""

    def __init__(self, harness: Harness, *, gate_open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.closed_after: list[int] = []  #: how many batches had run at each call of ``on_close``
        self._virtual = harness.virtual_time
        self.gate = threading.Event()
        if gate_open:
            self.gate.set()

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        numbers = [job.number for job in jobs if isinstance(job, Work)]
        self.batches.append(numbers)
        if not self._virtual and not self.gate.wait(WORKER_PATIENCE_S):
            raise TimeoutError("the gate stayed shut")
        return [number * 10 for number in numbers]

    def on_close(self) -> None:
        self.closed_after.append(len(self.batches))


def run_jobs(running: Running, *numbers: int, lane: str = "work") -> None:
    """Hand these jobs to the lane, in one turn, each under its number as token."""
    running.do(lambda ctx: [ctx.run(number, lane, Work(number)) for number in numbers])


class JobConformance:
    """Work on lanes."""

    def test_every_job_gets_its_result(self, harness: Harness) -> None:
        shop = Workshop(harness)
        probe = start_probe(harness, "probe", lanes={"work": Lane(shop.run)})
        run_jobs(probe, 3, 1, 2)
        run_jobs(probe, 5)
        harness.wait_for(lambda: len(probe.probe.results) == 4)
        assert probe.probe.results == [(3, 30), (1, 10), (2, 20), (5, 50)]

    def test_jobs_that_wait_for_a_busy_worker_become_one_batch(self, harness: Harness) -> None:
        shop = Workshop(harness, gate_open=False)
        probe = start_probe(harness, "probe", lanes={"work": Lane(shop.run)})

        def first(ctx: Context) -> None:
            ctx.run(1, "work", Work(1))
            for number in (2, 3, 4):
                probe.handle.call(lambda ctx, number=number: ctx.run(number, "work", Work(number)))

        probe.do(first)
        harness.wait_for(lambda: probe.probe.turns.count("call") == 4)
        shop.gate.set()
        harness.wait_for(lambda: len(probe.probe.results) == 4)
        assert shop.batches == [[1], [2, 3, 4]]

    def test_a_batch_is_no_larger_than_the_lane_allows(self, harness: Harness) -> None:
        shop = Workshop(harness)
        probe = start_probe(harness, "probe", lanes={"work": Lane(shop.run, max_batch=4)})
        run_jobs(probe, *range(10))
        harness.wait_for(lambda: len(probe.probe.results) == 10)
        assert [number for batch in shop.batches for number in batch] == list(range(10))
        assert max(len(batch) for batch in shop.batches) == 4

    def test_an_exception_may_be_the_result_of_one_job(self, harness: Harness) -> None:
        odd = ValueError("odd")
        probe = start_probe(harness, "probe", lanes={"work": Lane(lambda jobs: [None, odd, "fine"])})
        run_jobs(probe, 1, 2, 3)
        harness.wait_for(lambda: len(probe.probe.results) == 3)
        assert [str(result) for _, result in probe.probe.results] == ["None", "odd", "fine"]
        assert isinstance(probe.probe.results[1][1], ValueError)

    def test_a_handler_that_raises_fails_every_job_of_its_batch_and_no_other(self, harness: Harness) -> None:
        def handler(jobs: Sequence[Job]) -> list[Any]:
            if Work(13) in jobs:
                raise OSError(5, "disk on fire")
            return ["fine"] * len(jobs)

        probe = start_probe(harness, "probe", lanes={"work": Lane(handler)})
        run_jobs(probe, 12, 13, 14)
        harness.wait_for(lambda: len(probe.probe.results) == 3)
        run_jobs(probe, 15)
        harness.wait_for(lambda: len(probe.probe.results) == 4)
        assert all(isinstance(result, OSError) and result.errno == 5 for _, result in probe.probe.results[:3])
        assert probe.probe.results[3] == (15, "fine")

    def test_workers_of_a_lane_run_at_the_same_time(self, harness: Harness) -> None:
        together = threading.Barrier(3)

        def handler(jobs: Sequence[Job]) -> list[Any]:
            if not harness.virtual_time:
                together.wait(WORKER_PATIENCE_S)
            return [len(jobs)] * len(jobs)

        probe = start_probe(harness, "probe", lanes={"work": Lane(handler, workers=3)})
        probe.handle.call(lambda ctx: ctx.run(1, "work", Work(1)))
        probe.handle.call(lambda ctx: ctx.run(2, "work", Work(2)))
        probe.handle.call(lambda ctx: ctx.run(3, "work", Work(3)))
        harness.wait_for(lambda: len(probe.probe.results) == 3)
        assert sorted(probe.probe.results) == [(1, 1), (2, 1), (3, 1)]

    def test_a_busy_lane_does_not_hold_up_another(self, harness: Harness) -> None:
        slow, fast = Workshop(harness, gate_open=False), Workshop(harness)
        probe = start_probe(harness, "probe", lanes={"slow": Lane(slow.run), "fast": Lane(fast.run)})
        run_jobs(probe, 1, lane="slow")
        run_jobs(probe, 2, lane="fast")
        harness.wait_for(lambda: (2, 20) in probe.probe.results)
        slow.gate.set()
        harness.wait_for(lambda: (1, 10) in probe.probe.results)

    def test_a_lane_is_closed_once_after_its_last_batch(self, harness: Harness) -> None:
        shop, idle = Workshop(harness), Workshop(harness)
        lanes = {
            "work": Lane(shop.run, workers=2, on_close=shop.on_close),
            "idle": Lane(idle.run, on_close=idle.on_close),
        }
        probe = start_probe(harness, "probe", lanes=lanes)
        run_jobs(probe, 1)
        harness.wait_for(lambda: probe.probe.results)
        run_jobs(probe, 2)
        probe.handle.stop()
        assert probe.handle.join(5.0) == 0
        assert shop.closed_after == [len(shop.batches)]
        assert idle.closed_after == [0]


class LifeConformance:
    """The life of an actor, and the outside's grip on it."""

    def test_start_is_the_first_turn_and_stop_the_last(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe", Probe(at_start=lambda ctx: ctx.set_timer("t", 0)))
        harness.wait_for(lambda: probe.probe.timers)
        probe.do(lambda ctx: ctx.set_timer("never", 1))
        probe.handle.stop()
        assert probe.handle.join(5.0) == 0
        assert (probe.probe.turns[0], probe.probe.turns[-1]) == ("start", "stop")
        assert probe.probe.turns.count("start") == probe.probe.turns.count("stop") == 1
        probe.handle.stop()  # once more does nothing

    def test_what_is_sent_in_the_last_turn_is_flushed(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness, Probe())
        leaving = Probe(at_stop=lambda ctx: [ctx.send(endpoint, Note(number)) for number in range(1, 51)])
        other = start_probe(harness, "leaving", leaving)
        other.send(endpoint, 100)
        harness.wait_for(lambda: 100 in server.probe.numbers)
        other.handle.stop()
        harness.wait_for(lambda: len(server.probe.messages) == 52)
        assert server.probe.numbers == [0, 100, *range(1, 51)]
        assert client.handle.join(0) is None

    def test_an_actor_may_stop_itself_with_a_status(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe")
        probe.handle.call(lambda ctx: ctx.stop(3))
        assert probe.handle.join(5.0) == 3
        assert probe.probe.turns[-1] == "stop"

    def test_a_killed_actor_has_no_last_turn(self, harness: Harness) -> None:
        server, client, endpoint = pair(harness)
        harness.wait_for(lambda: client.probe.messages)
        server.handle.kill()
        assert server.handle.join(5.0) not in (None, 0)
        client.send(endpoint, 1)
        server.handle.kill()  # once more does nothing
        assert "stop" not in server.probe.turns
        assert server.probe.numbers == [0]

    def test_a_turn_that_raises_has_no_effects_and_ends_the_process(self, harness: Harness) -> None:
        ran: list[object] = []
        server, client, endpoint = pair(harness, Probe())
        lanes = {"work": Lane(lambda jobs: [ran.append(job) for job in jobs])}
        failing = start_probe(harness, "failing", lanes=lanes)
        failing.send(endpoint, 1)
        harness.wait_for(lambda: server.probe.numbers == [0, 1])

        def script(ctx: Context) -> None:
            ctx.send(endpoint, Note(66))
            ctx.run("token", "work", Work(66))
            ctx.set_timer("token", 0)
            raise RuntimeError("a bug of ours")

        failing.handle.call(script)
        assert failing.handle.join(5.0) == 70
        client.send(endpoint, 2)
        harness.wait_for(lambda: 2 in server.probe.numbers)
        assert server.probe.numbers == [0, 1, 2]
        assert ran == failing.probe.timers == []
        assert "stop" not in failing.probe.turns

    def test_calls_are_delivered_in_order(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe")
        for number in range(50):
            probe.handle.call(lambda ctx, number=number: probe.probe.noted.append(number))
        harness.wait_for(lambda: len(probe.probe.noted) == 50)
        assert probe.probe.noted == list(range(50))

    def test_a_call_made_within_a_turn_gets_a_turn_of_its_own(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe")

        def outer(ctx: Context) -> None:
            probe.handle.call(lambda ctx: probe.probe.noted.append("inner"))
            probe.probe.noted.append("outer")

        probe.handle.call(outer)
        harness.wait_for(lambda: len(probe.probe.noted) == 2)
        assert probe.probe.noted == ["outer", "inner"]
        assert probe.probe.turns.count("call") == 2

    def test_a_call_to_an_ended_actor_is_refused(self, harness: Harness) -> None:
        stopped, killed = start_probe(harness, "stopped"), start_probe(harness, "killed")
        stopped.handle.stop()
        killed.handle.kill()
        for running in (stopped, killed):
            running.handle.join(5.0)
            try:
                running.handle.call(lambda ctx: None)
            except Closed:
                continue
            raise AssertionError(f"{running.spec.name} took a call after its end")

    def test_bound_endpoints_are_known_with_their_ports(self, harness: Harness) -> None:
        seen: list[Address | None] = []
        kinds = ("listen", "publish", "subscribe")
        probe = start_probe(
            harness,
            "probe",
            Probe(at_start=lambda ctx: seen.extend(ctx.endpoint(kind) for kind in kinds)),
            listen=harness.listen_at(),
            publish=harness.listen_at(),
        )
        listen, publish = probe.endpoint("listen"), probe.endpoint("publish")
        harness.wait_for(lambda: len(seen) == 3)
        assert seen == [listen, publish, None]
        assert probe.handle.endpoint("subscribe") is None
        assert listen != publish
        assert not listen.endswith(":0")

    def test_an_actor_knows_its_own_address(self, harness: Harness) -> None:
        probe = start_probe(harness, "probe", incarnation=9)
        probe.do(lambda ctx: probe.probe.noted.extend((ctx.self_address, ctx.random.random(), ctx.wall_ns())))
        address, draw, wall_ns = probe.probe.noted
        assert address == "probe/9"
        assert 0 <= draw < 1
        assert wall_ns > 0
