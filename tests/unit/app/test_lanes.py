"""Letting go of a server's files: never under the hands of a worker that a killed actor left behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from actors.core import Job, Lane
from dsa_zmq.app import closing_last

PATIENCE_S = 10.0


def test_files_are_closed_after_the_batch_at_work_and_nothing_begins_behind() -> None:
    begun, go_on = threading.Event(), threading.Event()
    happened: list[str] = []

    def work(jobs: Sequence[Job]) -> Sequence[Any]:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        happened.append("worked")
        return [1] * len(jobs)

    lane = closing_last(Lane(work, on_close=lambda: happened.append("closed")))
    assert lane.on_close is not None
    worker = threading.Thread(target=lane.handler, args=([Job()],))
    closer = threading.Thread(target=lane.on_close)
    worker.start()
    assert begun.wait(PATIENCE_S)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    worker.join(PATIENCE_S)
    closer.join(PATIENCE_S)
    assert happened == ["worked", "closed"]
    (late,) = lane.handler([Job()])
    assert isinstance(late, Exception)
    assert happened == ["worked", "closed"]


def test_a_lane_without_files_is_left_as_it_is() -> None:
    lane = Lane(lambda jobs: [None] * len(jobs), workers=2)
    assert closing_last(lane) is lane
