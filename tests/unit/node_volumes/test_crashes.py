"""What was said of a volume holds after any crash, at any operation: the volumes of a node against a model."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from actors.sim.disk import SimDisk
from dsa_zmq.model.records import Record
from dsa_zmq.node.volume_files import AppendRecords, VolumeFiles
from tests.unit.node_volumes.conftest import Shipper, append_all, content, joined, open_files

VOLUMES = (5, 6)


class Crashes(RuleBasedStateMachine):
    """``sure`` is how many records of a volume were acknowledged; what comes behind them in ``taken`` may be there."""

    @initialize(seed=st.integers(0, 1 << 32))
    def start(self, seed: int) -> None:
        self.disk = SimDisk(random.Random(seed))
        self.seed = seed
        self.shippers = {volume: Shipper(volume, seed=seed) for volume in VOLUMES}
        self.sure = dict.fromkeys(VOLUMES, 0)
        self.dropping: set[int] = set()  #: were being removed at a crash
        self.files = open_files(self.disk)

    def more(self, volume: int, count: int, size: int) -> list[Record]:
        """Records that follow what is surely there, some of them again."""
        shipper, sure = self.shippers[volume], self.sure[volume]
        shipper.size = size
        while len(shipper.sent) < sure + count:
            shipper.part() if len(shipper.sent) % 3 else shipper.change()
        first = max(0, sure - 1)
        return shipper.sent[first : sure + count]

    def jobs(self, counts: list[tuple[int, int]], size: int) -> list[AppendRecords]:
        return [self.shippers[volume].job(*self.more(volume, count, size)) for volume, count in counts]

    @rule(
        counts=st.lists(st.tuples(st.sampled_from(VOLUMES), st.integers(1, 6)), min_size=1, max_size=4),
        size=st.integers(0, 5000),
    )
    def append(self, counts: list[tuple[int, int]], size: int) -> None:
        jobs = self.jobs(counts, size)
        for job, outcome in zip(jobs, self.files.append(jobs), strict=True):
            assert outcome.error is None
            self.acknowledged(job)

    def acknowledged(self, job: AppendRecords) -> None:
        sent = [record.data for record in self.shippers[job.volume].sent]
        self.sure[job.volume] = max(self.sure[job.volume], sent.index(bytes(job.frames[-1])) + 1)

    @rule(
        counts=st.lists(st.tuples(st.sampled_from(VOLUMES), st.integers(1, 6)), min_size=1, max_size=4),
        size=st.integers(0, 5000),
        operations=st.integers(0, 12),
        power=st.booleans(),
    )
    def crash_while_appending(self, counts: list[tuple[int, int]], size: int, operations: int, power: bool) -> None:
        jobs = self.jobs(counts, size)
        self.disk.die_after(operations)
        for job, outcome in zip(jobs, self.files.append(jobs), strict=True):
            if outcome.error is None:
                self.acknowledged(job)
        self.crash(power)

    @rule(volume=st.sampled_from(VOLUMES))
    def remove(self, volume: int) -> None:
        self.files.keep({*VOLUMES, 9} - {volume})
        self.begin_anew(volume)

    @rule(volume=st.sampled_from(VOLUMES), operations=st.integers(0, 3), power=st.booleans())
    def crash_while_removing(self, volume: int, operations: int, power: bool) -> None:
        self.disk.die_after(operations)
        try:
            self.files.keep({*VOLUMES, 9} - {volume})
        except OSError:
            self.dropping.add(volume)
        else:
            self.begin_anew(volume)
        self.crash(power)

    def begin_anew(self, volume: int) -> None:
        self.seed += 1
        self.shippers[volume], self.sure[volume] = Shipper(volume, seed=self.seed), 0

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        if power:
            self.disk.power_loss()
        else:
            self.disk.process_crash()
        self.open()

    @rule(power=st.booleans(), operations=st.integers(0, 6))
    def crash_while_starting(self, power: bool, operations: int) -> None:
        self.disk.process_crash()
        self.disk.die_after(operations)
        open_files(self.disk)
        self.crash(power)

    @rule()
    def restart(self) -> None:
        self.files.close()
        self.open()

    def open(self) -> None:
        self.files = open_files(self.disk)
        for volume in self.dropping:
            if self.files.state(volume).begun == -1:
                self.begin_anew(volume)
        self.dropping.clear()
        for volume in VOLUMES:  # more than was acknowledged may be there, durably by now
            data = content(self.files, volume) if self.files.state(volume).begun >= 0 else b""
            sent = self.shippers[volume].sent
            count = next(n for n in range(len(sent) + 1) if len(joined(sent[:n])) >= len(data))
            assert data == joined(sent[:count]), "what was never sent"
            assert count >= self.sure[volume], "acknowledged records are lost"
            self.sure[volume] = count

    @invariant()
    def all_that_was_acknowledged_is_there(self) -> None:
        if not hasattr(self, "files"):
            return
        states = {state.volume: state for state in self.files.states()}
        assert set(states) == {volume for volume in VOLUMES if self.sure[volume]}
        for volume, state in states.items():
            assert state.damage == ""
            assert content(self.files, volume) == joined(self.shippers[volume].sent[: self.sure[volume]])


TestCrashes = pytest.mark.slow(Crashes.TestCase)
TestCrashes.settings = settings(stateful_step_count=30, deadline=None)


def acknowledge_and_lose_power(disk: SimDisk, operations: int) -> None:
    """Raises AssertionError if something acknowledged is not there afterwards."""
    files, shipper = open_files(disk), Shipper(size=700)
    sent = [[shipper.begin], *([shipper.change(), shipper.part()] for _ in range(4))]
    disk.die_after(operations)
    sure = 0
    for group in sent:
        (outcome,) = files.append([shipper.job(*group)])
        sure += len(group) if outcome.error is None else 0
    disk.power_loss()
    again: VolumeFiles = open_files(disk)
    state = again.state(5)
    assert state.size >= len(joined(shipper.sent[:sure])), "acknowledged records are lost"
    assert state.damage == ""
    append_all(again, shipper, *shipper.sent)
    assert content(again, 5) == joined(shipper.sent)


@pytest.mark.parametrize("operations", range(45))
def test_what_was_acknowledged_survives_power_loss_at_every_operation(operations: int) -> None:
    for seed in range(6):
        acknowledge_and_lose_power(SimDisk(random.Random(seed)), operations)


def test_these_crashes_find_a_disk_that_does_not_sync() -> None:
    for seed in range(20):
        disk = SimDisk(random.Random(seed))
        disk.ignore_sync = True
        try:
            acknowledge_and_lose_power(disk, 45)
        except AssertionError:
            return
    raise AssertionError("nothing was noticed")
