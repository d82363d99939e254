"""Lanes: every job once, batches to idle workers only, an orderly and an abrupt end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from actors.core import Context, Job, Lane
from actors.testing import Work, start_probe
from actors.zmq.testing import LoopbackHarness

PATIENCE_S = 5.0


class Bench:
    """A lane handler that keeps its batches and its threads, and can be held up."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self.closed_in: list[str] = []
        self.gate = threading.Event()
        if open_gate:
            self.gate.set()

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        self.batches.append([job.number for job in jobs if isinstance(job, Work)])
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(PATIENCE_S)
        return [job.number * 2 for job in jobs if isinstance(job, Work)]

    def close(self) -> None:
        self.closed_in.append(threading.current_thread().name)

    def lane(self, workers: int = 1, max_batch: int = 256) -> Lane:
        return Lane(self.run, workers=workers, max_batch=max_batch, on_close=self.close)


def submit(ctx: Context, numbers: Sequence[int]) -> None:
    for number in numbers:
        ctx.run(number, "work", Work(number))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_hundred_jobs_have_a_hundred_results(harness: LoopbackHarness, workers: int) -> None:
    bench = Bench()
    probe = start_probe(harness, "probe", lanes={"work": bench.lane(workers, max_batch=7)})
    for start in range(0, 100, 20):
        probe.do(lambda ctx, start=start: submit(ctx, range(start, start + 20)))
    harness.wait_for(lambda: len(probe.probe.results) == 100)
    assert sorted(probe.probe.results) == [(number, number * 2) for number in range(100)]
    assert max(map(len, bench.batches)) <= 7
    if workers == 1:
        assert [number for batch in bench.batches for number in batch] == list(range(100))


def test_jobs_of_one_turn_travel_in_one_batch(harness: LoopbackHarness) -> None:
    bench = Bench()
    probe = start_probe(harness, "probe", lanes={"work": bench.lane()})
    probe.do(lambda ctx: submit(ctx, range(256)))
    harness.wait_for(lambda: len(probe.probe.results) == 256)
    assert bench.batches == [list(range(256))]


def test_idle_workers_share_what_waits_in_equal_parts(harness: LoopbackHarness) -> None:
    bench = Bench(open_gate=False)
    probe = start_probe(harness, "probe", lanes={"work": bench.lane(workers=4)})
    probe.do(lambda ctx: submit(ctx, range(10)))
    harness.wait_for(lambda: len(bench.batches) == 4)
    assert sorted(bench.batches) == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
    bench.gate.set()
    harness.wait_for(lambda: len(probe.probe.results) == 10)


def test_nothing_waits_behind_a_long_job_while_another_worker_is_idle(harness: LoopbackHarness) -> None:
    long = threading.Event()

    def handler(jobs: Sequence[Job]) -> list[Any]:
        if Work(0) in jobs:
            assert long.wait(PATIENCE_S)
        return [None] * len(jobs)

    probe = start_probe(harness, "probe", lanes={"work": Lane(handler, workers=2)})
    probe.do(lambda ctx: submit(ctx, [0]))
    for number in range(1, 21):
        probe.do(lambda ctx, number=number: submit(ctx, [number]))
        harness.wait_for(lambda number=number: len(probe.probe.results) == number)
    long.set()
    harness.wait_for(lambda: (0, None) in probe.probe.results)


def test_a_handler_that_loses_count_fails_its_batch(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe", lanes={"work": Lane(lambda jobs: ["only one"])})
    probe.do(lambda ctx: submit(ctx, [1, 2]))
    harness.wait_for(lambda: len(probe.probe.results) == 2)
    assert all("1 results for 2 jobs" in str(result) for _, result in probe.probe.results)


def test_a_worker_survives_whatever_its_handler_raises(harness: LoopbackHarness) -> None:
    def handler(jobs: Sequence[Job]) -> list[Any]:
        raise SystemExit(3)

    probe = start_probe(harness, "probe", lanes={"work": Lane(handler)})
    for number in (1, 2):
        probe.do(lambda ctx, number=number: submit(ctx, [number]))
        harness.wait_for(lambda number=number: len(probe.probe.results) == number)
    assert all(isinstance(result, SystemExit) for _, result in probe.probe.results)


def test_an_unknown_lane_is_refused_in_the_turn(harness: LoopbackHarness) -> None:
    probe = start_probe(harness, "probe")
    probe.handle.call(lambda ctx: ctx.run(1, "work", Work(1)))
    assert probe.handle.join(PATIENCE_S) == 70


def test_an_orderly_stop_runs_the_waiting_jobs_then_closes_the_lane(harness: LoopbackHarness) -> None:
    bench = Bench(open_gate=False)
    probe = start_probe(harness, "probe", lanes={"work": bench.lane(max_batch=2)})
    probe.do(lambda ctx: submit(ctx, range(7)))
    harness.wait_for(lambda: bench.batches)
    stopper = threading.Thread(target=probe.handle.stop)
    stopper.start()
    harness.wait_for(lambda: "stop" in probe.probe.turns)
    bench.gate.set()
    stopper.join(PATIENCE_S)
    assert probe.handle.join(0) == 0
    assert bench.batches == [[0, 1], [2, 3], [4, 5], [6]]
    assert bench.closed_in == ["probe:work:0"]
    assert probe.probe.turns[-1] == "stop"


def test_a_kill_abandons_jobs_and_does_not_close_the_lane(harness: LoopbackHarness) -> None:
    bench = Bench(open_gate=False)
    probe = start_probe(harness, "probe", lanes={"work": bench.lane(max_batch=1)})
    probe.do(lambda ctx: submit(ctx, range(5)))
    harness.wait_for(lambda: bench.batches)
    probe.handle.kill()
    bench.gate.set()
    assert probe.handle.join(PATIENCE_S) == 137
    harness.wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("probe:")])
    assert bench.batches == [[0]]
    assert bench.closed_in == []
    assert probe.probe.results == []


def test_a_stop_does_not_wait_for_a_hung_worker_beyond_its_timeout(harness: LoopbackHarness) -> None:
    bench = Bench(open_gate=False)
    probe = start_probe(harness, "probe", lanes={"work": bench.lane()})
    probe.do(lambda ctx: submit(ctx, [1]))
    harness.wait_for(lambda: bench.batches)
    probe.handle.stop(timeout_s=0.05)
    assert probe.handle.join(PATIENCE_S) == 137
    assert bench.closed_in == []
    bench.gate.set()


def test_a_kill_overtakes_an_orderly_stop(harness: LoopbackHarness) -> None:
    bench = Bench(open_gate=False)
    probe = start_probe(harness, "probe", lanes={"work": bench.lane()})
    probe.do(lambda ctx: submit(ctx, [1]))
    harness.wait_for(lambda: bench.batches)
    stopper = threading.Thread(target=probe.handle.stop, args=(60.0,))
    stopper.start()
    harness.wait_for(lambda: "stop" in probe.probe.turns)
    probe.handle.kill()
    assert probe.handle.join(PATIENCE_S) == 137
    stopper.join(PATIENCE_S)
    assert not stopper.is_alive()
    bench.gate.set()


def test_a_lane_that_fails_to_close_is_reported(harness: LoopbackHarness, caplog: pytest.LogCaptureFixture) -> None:
    def on_close() -> None:
        raise OSError(28, "no space")

    probe = start_probe(harness, "probe", lanes={"work": Lane(lambda jobs: jobs, on_close=on_close)})
    probe.handle.stop()
    assert probe.handle.join(PATIENCE_S) == 0
    assert "lane failed to close" in caplog.text
    assert "no space" in caplog.text
