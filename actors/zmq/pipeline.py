"""Jobs to workers and their results back: one PUSH per worker, one PULL for all results, inside the process.

One PUSH that feeds many PULLs deals blindly, and behind one long job fast ones wait. So every worker has a PUSH of its
own, and the next batch goes only to an idle one. Jobs and results are handed over by reference in a deque beside the
socket: the (empty) message says that something is there, and nothing is encoded.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import zmq

from actors.core import Job, Lane, Token
from actors.zmq.counters import Journal
from actors.zmq.sockets import NOBLOCK, Context, Socket, has_message, lean_send, open_socket, terminate

_RESULTS_AT: Final = "inproc://results"

ABANDON_TIMEOUT_S: Final = 1.0  #: idle workers leave at once; no reason to hang if one does not

FINISH_POLL_MS: Final = 20  #: how often an orderly end looks whether it was overtaken by a kill

Batch = list[tuple[Token, Job]]
Finished = tuple["_Worker", Batch, Sequence[Any]]
OnResult = Callable[[Token, Any], bool]
"""Delivers one result to the actor; False once it takes no more."""


class _Crew:
    """One lane: its waiting jobs, its workers. Touched by the reactor's thread, except ``leave``."""

    def __init__(self, name: str, lane: Lane) -> None:
        self.name = name
        self.lane = lane
        self.waiting: Batch = []
        self.workers: list[_Worker] = []
        self.idle: deque[_Worker] = deque()
        self._at_work = lane.workers
        self._lock = threading.Lock()

    def leave(self, journal: Journal) -> None:
        """A worker: no more batches come. The last one to say so closes the lane."""
        with self._lock:
            self._at_work -= 1
            if self._at_work:
                return
        if self.lane.on_close is not None:
            try:
                self.lane.on_close()
            except Exception as error:  # noqa: BLE001 - the lane is over either way; said aloud, not raised in a thread
                journal.write(logging.ERROR, "lane failed to close", {"lane": self.name}, error)


class _Worker:
    """One thread of a lane. Its PUSH belongs to the reactor, the other two sockets to the thread once that runs."""

    def __init__(self, context: Context, crew: _Crew, results: deque[Finished], jobs_at: str) -> None:
        self.crew = crew
        self.inbox: deque[Batch | None] = deque()  # None: the end
        self.push = open_socket(context, zmq.PUSH)
        self.push.bind(jobs_at)
        self._send = lean_send(self.push)
        self.thread: threading.Thread | None = None
        self._results = results
        # Connected here, so that an end handed over at once finds its way; starting the thread is the memory barrier
        # that the migration of a socket needs.
        self._jobs = open_socket(context, zmq.PULL)
        self._jobs.connect(jobs_at)
        self._done = open_socket(context, zmq.PUSH)
        self._done.connect(_RESULTS_AT)

    def hand(self, batch: Batch | None) -> None:
        """Reactor: give the next batch, or None for the end."""
        self.inbox.append(batch)
        self._send(b"", NOBLOCK)

    def main(self, journal: Journal, abandoned: threading.Event) -> None:
        """The thread."""
        receive, send, results = self._jobs.recv, lean_send(self._done), self._results
        try:
            while True:
                receive()
                batch = self.inbox.popleft()
                if batch is None or abandoned.is_set():
                    break
                results.append((self, batch, self._outcomes(batch)))
                send(b"", NOBLOCK)
            if not abandoned.is_set():
                self.crew.leave(journal)
        except (zmq.ContextTerminated, zmq.Again):
            return  # the reactor has gone: nobody waits for results
        finally:
            self._jobs.close(0)
            self._done.close(0)

    def _outcomes(self, batch: Batch) -> Sequence[Any]:
        try:
            results = self.crew.lane.handler([job for _, job in batch])
            if len(results) == len(batch):
                return results
            failure: BaseException = RuntimeError(
                f"lane {self.crew.name} returned {len(results)} results for {len(batch)} jobs"
            )
        except BaseException as error:  # noqa: BLE001 - becomes the result; a worker that died would hang its lane
            failure = error
        return [failure] * len(batch)


class Pipeline:
    """All lanes of one actor. Every method is called on the reactor's thread.

    It has a context of its own, so that closing the actor's other sockets never waits for an abandoned job.
    """

    def __init__(self, name: str, lanes: Mapping[str, Lane], journal: Journal) -> None:
        """Open the sockets and start the workers, idle."""
        context: Context = zmq.Context(io_threads=0)
        self.socket: Socket | None = None  #: readable when results are there, for the poller; None without lanes
        self._name = name
        self._context = context
        self._results: deque[Finished] = deque()
        self._crews = {lane_name: _Crew(lane_name, lane) for lane_name, lane in lanes.items()}
        self._loaded: list[_Crew] = []  # crews that got jobs since the last dispatch
        self._abandoned = threading.Event()
        if lanes:
            self.socket = open_socket(context, zmq.PULL)
            self.socket.bind(_RESULTS_AT)
        for crew in self._crews.values():
            for index in range(crew.lane.workers):
                jobs_at = f"inproc://jobs-{crew.name}-{index}"
                worker = _Worker(context, crew, self._results, jobs_at)
                crew.workers.append(worker)
                crew.idle.append(worker)
                worker.thread = threading.Thread(
                    target=worker.main,
                    args=(journal, self._abandoned),
                    name=f"{name}:{crew.name}:{index}",
                    daemon=True,
                )
                worker.thread.start()

    def __contains__(self, lane: object) -> bool:
        return lane in self._crews

    def submit(self, token: Token, lane: str, job: Job) -> None:
        """Queue a job; it leaves with the next :meth:`dispatch`, together with its neighbours."""
        crew = self._crews[lane]
        if not crew.waiting:
            self._loaded.append(crew)
        crew.waiting.append((token, job))

    def dispatch(self) -> None:
        """Give what waits to idle workers: all of it to one, or in equal parts if several are idle."""
        if self._loaded:
            for crew in self._loaded:
                self._dispatch(crew)
            self._loaded.clear()

    def _dispatch(self, crew: _Crew) -> None:
        waiting, idle = crew.waiting, crew.idle
        done = 0
        while done < len(waiting) and idle:
            share = -(-(len(waiting) - done) // len(idle))
            batch = waiting[done : done + min(share, crew.lane.max_batch)]
            idle.popleft().hand(batch)
            done += len(batch)
        del waiting[:done]

    def drain(self, on_result: OnResult) -> bool:
        """Deliver the results that are there, and keep their workers busy meanwhile. Returns False: nothing is left."""
        for batch, outcomes in self._collect():
            for (token, _), outcome in zip(batch, outcomes, strict=True):
                if not on_result(token, outcome):
                    return False
        return False

    def _collect(self) -> list[tuple[Batch, Sequence[Any]]]:
        """Take all finished batches; their workers get the next ones at once."""
        finished: list[tuple[Batch, Sequence[Any]]] = []
        while self.socket is not None:
            try:
                self.socket.recv(NOBLOCK)
            except zmq.Again:
                break
            worker, batch, outcomes = self._results.popleft()
            crew = worker.crew
            crew.idle.append(worker)
            if crew.waiting:
                self._dispatch(crew)
            finished.append((batch, outcomes))
            if not self._results and not has_message(self.socket):  # an entry comes before its message
                break
        return finished

    def finish(self, left_ms: Callable[[], int]) -> bool:
        """Orderly end: run what waits, close the lanes, join the workers.

        ``left_ms`` says how much time is left; it is asked again and again, and may turn 0 at any moment. False if
        the time did not suffice: what still runs is abandoned.
        """
        self.dispatch()
        while self.socket is not None and self._busy():
            if left_ms() <= 0:
                self.abandon()
                return False
            self.socket.poll(min(left_ms(), FINISH_POLL_MS))
            self._collect()
        workers = self._hand_end()
        for worker in workers:
            if worker.thread is not None:
                worker.thread.join(left_ms() / 1000)
        self._close()
        terminate(self._context, self._name, left_ms() / 1000)
        return not any(worker.thread is not None and worker.thread.is_alive() for worker in workers)

    def abandon(self) -> None:
        """Abrupt end: idle workers go at once, busy ones after their batch, whose results nobody hears."""
        self._abandoned.set()
        self._hand_end()
        self._close()
        terminate(self._context, self._name, 0.0 if self._busy() else ABANDON_TIMEOUT_S)

    def _busy(self) -> bool:
        return any(len(crew.idle) < len(crew.workers) for crew in self._crews.values())

    def _hand_end(self) -> list[_Worker]:
        workers = [worker for crew in self._crews.values() for worker in crew.workers]
        for worker in workers:
            worker.hand(None)
        return workers

    def _close(self) -> None:
        for crew in self._crews.values():
            for worker in crew.workers:
                worker.push.close(-1)  # the end is in its queue; the worker takes it, or the context drops it
        if self.socket is not None:
            self.socket.close(0)

    def statistics(self) -> dict[str, dict[str, int]]:
        """Per lane: jobs waiting, workers busy."""
        return {
            name: {"waiting": len(crew.waiting), "busy": len(crew.workers) - len(crew.idle)}
            for name, crew in self._crews.items()
        }
