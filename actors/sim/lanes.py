"""Simulated lanes: handlers really run, in this thread, at a seeded instant between start and end of their batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.core import Job, Lane, Token

if TYPE_CHECKING:
    from actors.sim.process import Process

PARTLY_OPERATIONS = 16  #: a crash in the middle of a batch lets fewer disk operations than this still happen


class Batch:
    """Jobs that one worker has taken. ``results`` is None until the batch has had its effect."""

    __slots__ = ("jobs", "results", "tokens")

    def __init__(self, tokens: Sequence[Token], jobs: Sequence[Job]) -> None:
        self.tokens = tokens
        self.jobs = jobs
        self.results: Sequence[Any] | None = None


class SimLane:
    """The queue and the workers of one lane of one process."""

    def __init__(self, process: Process, name: str, lane: Lane) -> None:
        self._process = process
        self._world = process.world
        self.name = name
        self._lane = lane
        self._waiting: deque[tuple[Token, Job]] = deque()
        self._idle = lane.workers
        self._running: dict[Batch, None] = {}  # an ordered set
        self._closing = False
        self.closed = False

    def submit(self, token: Token, job: Job) -> None:
        """Queue a job; :meth:`dispatch` gives it to a worker."""
        self._waiting.append((token, job))

    def dispatch(self) -> None:
        """Give what waits to the workers that are idle, at most ``max_batch`` jobs to each."""
        world, faults = self._world, self._world.faults
        while self._idle and self._waiting:
            count = min(len(self._waiting), self._lane.max_batch)
            taken = [self._waiting.popleft() for _ in range(count)]
            batch = Batch([token for token, _ in taken], [job for _, job in taken])
            self._idle -= 1
            self._running[batch] = None
            longest_ns = faults.batch_max_ns
            if faults.slow_batch and world.random.random() < faults.slow_batch:
                longest_ns = faults.slow_batch_ns
            duration_ns = world.random.randint(faults.batch_min_ns, max(faults.batch_min_ns, longest_ns))
            duration_ns *= self._process.slowness
            world.after(int(duration_ns * world.random.random()), self._take_effect, batch)
            world.after(duration_ns, self._finish, batch)

    def _take_effect(self, batch: Batch) -> None:
        if batch in self._running and batch.results is None:
            self._run(batch)

    def _run(self, batch: Batch) -> None:
        world, address = self._world, self._process.address
        world.count("batches")
        world.trace.add(world.now_ns, "batch", address, f"{self.name} {len(batch.jobs)}", batch.jobs)
        try:
            results = self._lane.handler(batch.jobs)
        except Exception as error:  # noqa: BLE001 - the contract: every job of the batch gets what its handler raised
            results = [error] * len(batch.jobs)
        if len(results) != len(batch.jobs):
            wrong = f"lane {self.name} returned {len(results)} results for {len(batch.jobs)} jobs"
            results = [RuntimeError(wrong)] * len(batch.jobs)
        batch.results = results

    def _finish(self, batch: Batch) -> None:
        if batch not in self._running:
            return  # the process was killed
        if self._process.paused:  # its threads stand still too
            self._process.defer(self._finish, batch)
            return
        del self._running[batch]
        self._idle += 1
        assert batch.results is not None
        if self._closing:
            self._close_if_idle()
            return
        self.dispatch()
        self._process.deliver_results(batch.tokens, batch.results)

    def close(self) -> None:
        """Orderly stop: what waits is dropped, what runs ends, then ``on_close`` is called."""
        self._closing = True
        self._waiting.clear()
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._running or self.closed:
            return
        if self._lane.on_close is not None:
            self._lane.on_close()
        self.closed = True
        self._process.lane_closed()

    def crash(self) -> None:
        """The process dies: the seed says of each batch under way whether it takes effect, does not, or stops half-way.

        A batch stops half-way by its process' disks refusing everything after some more operations; what has no disk
        then has its whole effect.
        """
        running, self._running = self._running, {}
        self._waiting.clear()
        for batch in running:
            if batch.results is not None:
                continue
            draw = self._world.random.random()
            if draw < 1 / 3:
                continue
            if draw < 2 / 3:
                for disk in self._process.disks:
                    disk.die_after(self._world.random.randrange(PARTLY_OPERATIONS))
            self._run(batch)
