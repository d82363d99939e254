"""Network, lanes, disk, crashes and restarts together: an actor that acknowledges after its sync loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from actors.core import Actor, ActorSpec, Address, Context, Job, Lane, Message, Peer
from actors.sim.disk import SimDisk
from actors.sim.explore import ScenarioFailed, run_seeds, swarm
from actors.sim.faults import NO_FAULTS
from actors.sim.runtime import SimRuntime
from actors.testing import Note, Probe, ProbeCodec, Work

SERVER = Address("tcp://log:1")
MS = 1_000_000
SECOND = 1_000_000_000
RECORD = 600  #: bytes: not a multiple of a sector, so that records are torn


class Log:
    """A lane handler that appends numbered records to a file, and syncs once per batch."""

    def __init__(self, disk: SimDisk, *, sync: bool = True) -> None:
        disk.makedirs("log")
        disk.sync_dir("")
        self._file = disk.open("log/records", create=True)
        self._file.datasync()
        disk.sync_dir("log")
        self._sync = sync
        self.numbers = []
        while len(record := self._file.pread(RECORD, len(self.numbers) * RECORD)) == RECORD:
            if record[:8] * (RECORD // 8) != record:
                break  # a torn tail
            self.numbers.append(int.from_bytes(record[:8], "big"))

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        for job in jobs:
            assert isinstance(job, Work)
            if job.number not in self.numbers:
                self._file.pwritev([job.number.to_bytes(8, "big") * (RECORD // 8)], len(self.numbers) * RECORD)
                self.numbers.append(job.number)
        if self._sync:
            self._file.datasync()
        return [None] * len(jobs)


class LogServer(Actor):
    """Acknowledges a number when it is in the log."""

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        assert isinstance(message, Note)
        ctx.run((sender.address, message), "log", Work(message.number))

    def on_result(self, ctx: Context, token: Any, result: Any) -> None:
        address, message = token
        if result is None:
            ctx.send(address, message)


class Writer(Probe):
    """Sends its numbers until each is acknowledged."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        self.unacknowledged = set(numbers)

    def on_start(self, ctx: Context) -> None:
        ctx.set_timer("resend", 0)

    def on_timer(self, ctx: Context, token: object) -> None:
        for number in sorted(self.unacknowledged):
            ctx.send(SERVER, Note(number))
        ctx.set_timer("resend", 200 * MS)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        super().on_message(ctx, sender, message, payload)
        assert isinstance(message, Note)
        self.unacknowledged.discard(message.number)


def scenario(*, sync: bool = True) -> Callable[[SimRuntime], None]:
    """Three writers; a server that is killed, cut off, paused, and loses power, again and again; then calm."""

    def run(world: SimRuntime) -> None:
        disk = SimDisk(world.random)
        logs: list[Log] = []

        def serve() -> None:
            log = Log(disk, sync=sync)
            assert acknowledged() <= set(log.numbers), "an acknowledged record is lost"
            logs.append(log)
            lanes = {"log": Lane(log.run, max_batch=4)}
            world.spawn(ActorSpec("log", len(logs), LogServer(), ProbeCodec(), lanes, SERVER), disks=[disk])

        writers = [Writer(range(first, first + 30)) for first in (100, 200, 300)]

        def acknowledged() -> set[int]:
            return {number for writer in writers for number in writer.numbers}

        serve()
        for number, writer in enumerate(writers):
            world.spawn(ActorSpec(f"writer{number}", 1, writer, ProbeCodec()))
        for _ in range(6):
            world.run_for(world.random.randrange(20 * MS))
            blow = world.random.randrange(4)
            if blow == 0:
                world.partition({"writer0"}, {"log"}, one_way=True)
            elif blow == 1:
                world.pause("log")
                world.run_for(world.random.randrange(SECOND))
                world.resume("log")
            else:
                world.crash("log", power_loss=blow == 2)
                serve()
        world.heal()
        world.faults = NO_FAULTS
        world.run_until(lambda: not any(writer.unacknowledged for writer in writers))
        world.crash("log", power_loss=True)
        serve()
        assert sorted(logs[-1].numbers) == [first + number for first in (100, 200, 300) for number in range(30)]

    return run


@pytest.mark.slow
def test_acknowledged_records_survive_whatever_happens(seeds: range) -> None:
    report = run_seeds(scenario(), seeds, faults=swarm)
    assert report.rechecked >= 1


@pytest.mark.slow
def test_without_the_sync_some_seed_finds_a_lost_record() -> None:
    with pytest.raises(ScenarioFailed, match="an acknowledged record is lost"):
        run_seeds(scenario(sync=False), range(25), faults=swarm)
