"""Compaction keeps to its budget, tells what it has left to do, and leaves a failed store alone."""

from __future__ import annotations

from typing import Any

from dsa_zmq.model.pace import CarePace
from dsa_zmq.node.jobs import RewriteShare
from dsa_zmq.protocol.messages import Heartbeat
from dsa_zmq.sim.cluster import SimCluster

SEGMENT = 128 << 10
SECOND = 1_000_000_000


class Day:
    """One node with half-dead segments, and what was seen of it."""

    def __init__(self) -> None:
        self.cluster = SimCluster(3, nodes=1, redundancy="copies=1", segment_bytes=SEGMENT, gc_grace_s=0.0)
        self.shares: list[tuple[int, int]] = []  # when, and bytes read and written
        self.garbage: list[int] = []
        self.cluster.on_batch.append(self._saw_batch)
        self.cluster.on_message.append(self._saw_message)
        self.cluster.wait_up()
        user = self.cluster.user()
        paths = [f"/{number}" for number in range(100)]
        self.cluster.must(*(user.put(path, self.cluster.ledger.new_content(26_000, 20_000)) for path in paths))
        self.kept = paths[::2]
        self.user = user
        self.gone = paths[1::2]

    def _saw_batch(self, machine: Any, lane: str, jobs: Any, results: Any) -> None:
        for job, result in zip(jobs, results, strict=True):
            if isinstance(job, RewriteShare) and not isinstance(result, Exception):
                size = job.share.read_bytes + result.written_bytes
                self.shares.append((self.cluster.world.now_ns, size))

    def _saw_message(self, owner: Any, sender: Any, message: Any) -> None:
        if isinstance(message, Heartbeat):
            self.garbage.append(message.garbage)

    def remove(self) -> None:
        self.cluster.must(*(self.user.rm(path) for path in self.gone))


def test_it_keeps_to_its_budget_and_tells_what_is_left() -> None:
    day = Day()
    day.remove()
    day.cluster.run_for(6)
    assert len(day.shares) > 10
    took_s = (day.shares[-1][0] - day.shares[0][0]) / SECOND
    assert sum(size for _, size in day.shares[:-1]) / took_s <= CarePace().compact_bytes_s
    assert max(day.garbage) > 4 * SEGMENT
    assert day.garbage[-1] < 0.25 * max(day.garbage)
    day.cluster.must(*(day.user.get(path) for path in day.kept))
    day.cluster.close()


def test_a_failed_store_is_not_rewritten() -> None:
    day = Day()
    node = day.cluster.nodes[0]
    node.disk.failing_syncs = 1
    day.cluster.wait(day.user.put("/more", day.cluster.ledger.new_content(26_000)), seconds=20)
    day.shares.clear()
    day.cluster.wait(*(day.user.rm(path) for path in day.gone))
    day.cluster.run_for(6)
    assert day.shares == []
    day.cluster.close()
