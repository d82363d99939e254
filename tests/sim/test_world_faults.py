"""What a simulated world does when something is cut, paused, killed or full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from actors.core import ActorSpec, Address, Job, Lane, PeerEvent
from actors.errors import BindError
from actors.sim.disk import SimDisk, SimFile
from actors.sim.faults import NO_FAULTS, Faults
from actors.sim.runtime import SimHandle, SimRuntime, Stalled
from actors.testing import Note, Probe, ProbeCodec, Work, echo

SERVER = Address("tcp://server:1")
MS = 1_000_000
SECOND = 1_000_000_000
GONE = (SERVER, PeerEvent.GONE)
UNNOTICED = Faults(unnoticed=1.0)


class Pair:
    """An echoing server and a client that has reached it."""

    def __init__(self, faults: Faults = NO_FAULTS, seed: int = 1) -> None:
        self.world = SimRuntime(seed, faults=faults, keep_events=50)
        self.server, self.client = Probe(reply=echo), Probe()
        self.server_handle = self.serve()
        self.handle = self.world.spawn(ActorSpec("client", 1, self.client, ProbeCodec()))
        self.send(0)
        self.world.run_until(lambda: self.client.messages)

    def serve(self, incarnation: int = 1) -> SimHandle:
        return self.world.spawn(ActorSpec("server", incarnation, self.server, ProbeCodec(), listen=SERVER))

    def send(self, *numbers: int) -> None:
        self.handle.call(lambda ctx: [ctx.send(SERVER, Note(number)) for number in numbers])


@pytest.mark.parametrize("seed", range(8))
def test_a_short_partition_delays_and_keeps_the_order(seed: int) -> None:
    pair = Pair(seed=seed)
    pair.world.partition({"client"}, {"server"})
    pair.send(1, 2)
    pair.world.run_for(2 * SECOND)
    assert pair.server.numbers == [0]
    pair.send(3)
    pair.world.heal()
    pair.send(4)
    pair.world.run_for(100 * MS)
    assert pair.client.numbers == [0, 1, 2, 3, 4]


def test_a_one_way_partition_lets_requests_through_and_no_replies() -> None:
    pair = Pair()
    pair.world.partition({"server"}, {"client"}, one_way=True)
    pair.send(1)
    pair.world.run_for(SECOND)
    assert pair.server.numbers == [0, 1]
    assert pair.client.numbers == [0]


def test_a_long_partition_breaks_the_connection_and_loses_what_was_under_way() -> None:
    pair = Pair()
    pair.world.partition({"client"}, {"server"})
    pair.send(1)
    pair.world.run_until(lambda: pair.client.peers == [GONE])
    assert pair.world.now_ns >= NO_FAULTS.heartbeat_ns
    pair.send(2)
    pair.world.run_for(SECOND)
    pair.world.heal()
    pair.world.run_until(lambda: 2 in pair.client.numbers)
    assert pair.server.numbers == [0, 2]


def test_a_client_that_is_not_told_reconnects_and_goes_on() -> None:
    pair = Pair(UNNOTICED)
    pair.world.crash("server")
    pair.send(1)
    pair.world.run_for(SECOND)
    pair.serve(2)
    pair.send(2)
    pair.world.run_for(10 * SECOND)
    assert pair.client.peers == []
    assert pair.client.numbers == [0, 2]
    assert pair.client.messages[-1].sender.incarnation == 2


def test_after_a_broken_connection_its_name_is_gone_for_the_listener() -> None:
    pair = Pair()
    pair.world.partition({"client"}, {"server"})
    pair.world.run_until(lambda: pair.client.peers == [GONE])
    pair.world.heal()
    pair.server_handle.call(lambda ctx: ctx.send(Address("client/1"), Note(1)))
    pair.world.run_for(SECOND)
    assert pair.server.peers == [("client/1", PeerEvent.GONE)]
    assert pair.client.numbers == [0]


def test_a_disconnect_drops_the_replies_under_way() -> None:
    pair = Pair()
    pair.send(1)
    pair.world.run_until(lambda: pair.server.numbers == [0, 1])
    pair.handle.call(lambda ctx: ctx.disconnect(SERVER))
    pair.world.run_for(SECOND)
    assert pair.client.numbers == [0]
    pair.send(2)
    pair.world.run_for(SECOND)
    assert pair.client.numbers == [0, 2]


def test_the_linger_time_lets_a_last_message_find_its_listener() -> None:
    world = SimRuntime(1)
    server = Probe()
    client = world.spawn(ActorSpec("client", 1, Probe(at_stop=lambda ctx: ctx.send(SERVER, Note(1))), ProbeCodec()))
    world.run_for(MS)
    world.at(world.now_ns + 50 * MS, world.spawn, ActorSpec("server", 1, server, ProbeCodec(), listen=SERVER))
    client.stop()
    assert world.now_ns > 400 * MS
    assert server.numbers == [1]


def test_a_turn_that_kills_its_own_process_has_no_effects() -> None:
    pair = Pair()
    pair.handle.call(lambda ctx: (ctx.send(SERVER, Note(1)), pair.handle.kill()))
    pair.world.run_for(SECOND)
    assert pair.server.numbers == [0]
    assert not pair.handle.alive


def test_partitions_cut_only_between_the_sets() -> None:
    pair = Pair()
    pair.world.partition({"client"}, {"another"})
    pair.send(1)
    pair.world.run_for(100 * MS)
    assert pair.client.numbers == [0, 1]


def test_a_paused_process_gets_everything_in_order_when_it_goes_on() -> None:
    pair = Pair()
    pair.world.pause("server")
    pair.send(1, 2)
    pair.world.run_for(SECOND)
    assert pair.server.numbers == [0]
    pair.world.resume("server")
    pair.world.run_for(10 * MS)
    assert pair.client.numbers == [0, 1, 2]


def test_a_long_pause_breaks_connections_but_stale_messages_still_arrive() -> None:
    pair = Pair()
    pair.world.pause("server")
    pair.send(1)
    pair.world.run_until(lambda: pair.client.peers == [GONE])
    pair.world.resume("server")
    pair.world.run_for(10 * MS)
    assert pair.server.numbers == [0, 1]
    assert pair.client.numbers == [0]


def test_timers_and_results_of_a_paused_process_come_late() -> None:
    probe = Probe()
    world = SimRuntime(1)
    lane = Lane(lambda jobs: ["done"] * len(jobs))
    handle = world.spawn(ActorSpec("probe", 1, probe, ProbeCodec(), {"work": lane}))
    handle.call(lambda ctx: (ctx.set_timer("t", 5 * MS), ctx.run("j", "work", Work(1))))
    world.run_for(1000)
    world.pause("probe")
    world.run_for(SECOND)
    assert not probe.timers
    assert not probe.results
    world.resume("probe")
    world.run_for(MS)
    assert [token for token, _ in probe.timers] == ["t"]
    assert probe.results == [("j", "done")]


def test_a_paused_process_begins_no_new_batch() -> None:
    batches: list[int] = []
    world = SimRuntime(1)
    lane = Lane(lambda jobs: [batches.append(len(jobs)) for _ in jobs])
    handle = world.spawn(ActorSpec("probe", 1, Probe(), ProbeCodec(), {"work": lane}))
    handle.call(lambda ctx: ctx.run(1, "work", Work(1)))
    handle.call(lambda ctx: ctx.run(2, "work", Work(2)))
    world.run_for(1000)
    world.pause("probe")
    world.run_for(SECOND)
    assert batches == [1]
    world.resume("probe")
    world.run_for(SECOND)
    assert batches == [1, 1]


def test_a_full_queue_drops_and_says_busy() -> None:
    pair = Pair(Faults(queue_messages=10))
    pair.world.pause("server")
    pair.send(*range(1, 16))
    pair.world.run_for(SECOND)
    assert pair.client.peers == [(SERVER, PeerEvent.BUSY)] * 5
    pair.world.resume("server")
    pair.world.run_for(SECOND)
    assert pair.server.numbers == list(range(11))
    pair.send(20)
    pair.world.run_for(SECOND)
    assert pair.client.numbers[-1] == 20


def test_messages_to_an_absent_listener_wait_up_to_the_limit() -> None:
    world = SimRuntime(1, faults=Faults(queue_messages=10, unnoticed=1.0))
    client, server = Probe(), Probe()
    handle = world.spawn(ActorSpec("client", 1, client, ProbeCodec()))
    handle.call(lambda ctx: [ctx.send(SERVER, Note(number)) for number in range(12)])
    world.run_for(SECOND)
    assert client.peers == [(SERVER, PeerEvent.BUSY)] * 2
    world.spawn(ActorSpec("server", 1, server, ProbeCodec(), listen=SERVER))
    world.run_for(10 * SECOND)
    assert server.numbers == list(range(10))


@pytest.mark.parametrize("silent", [False, True])
def test_a_dead_process_refuses_connections_and_a_dead_host_says_nothing(silent: bool) -> None:
    pair = Pair()
    pair.world.crash("server", power_loss=silent)
    pair.world.run_until(lambda: pair.client.peers == [GONE])
    begin_ns = pair.world.now_ns
    pair.send(1)
    pair.world.run_for(SECOND)
    assert pair.client.peers == ([GONE] if silent else [GONE, GONE])
    pair.serve(2)
    pair.send(2)
    pair.world.run_until(lambda: 2 in pair.client.numbers)
    assert pair.client.numbers == ([0, 1, 2] if silent else [0, 2])
    assert pair.world.now_ns - begin_ns < 10 * SECOND


def test_faults_of_messages_happen_and_the_numbers_say_so() -> None:
    faults = Faults(loss=0.1, duplicate=0.1, spike=0.1, spike_ns=20 * MS)
    pair = Pair(faults, seed=3)
    for start in range(1, 501, 50):
        pair.send(*range(start, start + 50))
        pair.world.run_for(200 * MS)
    seen = pair.server.numbers
    statistics = pair.world.statistics()
    assert statistics["lost"] > 20
    assert statistics["duplicated"] > 20
    assert len(set(seen)) < 501
    assert len(seen) > len(set(seen))
    first_times = list(dict.fromkeys(seen))
    assert first_times == sorted(first_times)  # only duplicates come out of order


def test_a_reset_loses_the_tail_and_the_client_may_not_be_told() -> None:
    told = untold = 0
    for seed in range(10):
        pair = Pair(seed=seed)
        pair.world.faults = Faults(reset=0.05, unnoticed=0.5)
        for start in range(1, 201, 20):
            pair.send(*range(start, start + 20))
            pair.world.run_for(500 * MS)
        statistics = pair.world.statistics()
        gone = pair.client.peers.count(GONE)
        told += gone
        untold += statistics.get("broken", 0) - gone
        assert pair.server.numbers == sorted(set(pair.server.numbers))
    assert told > 5
    assert untold > 5


def test_old_messages_of_a_killed_client_may_arrive_after_its_successor_started() -> None:
    late = 0
    for seed in range(20):
        pair = Pair(Faults(jitter_ns=5 * MS), seed=seed)
        pair.send(*range(1, 50))
        pair.world.run_for(1000)
        pair.world.crash("client")
        again = Probe()
        handle = pair.world.spawn(ActorSpec("client", 2, again, ProbeCodec()))
        handle.call(lambda ctx: ctx.send(SERVER, Note(100)))
        pair.world.run_for(SECOND)
        old = [received.number for received in pair.server.messages if received.sender.incarnation == 1]
        assert old == list(range(len(old)))
        assert again.numbers == [100]
        late += 1 < len(old) < 50
    assert late > 3


def test_byte_bandwidth_makes_large_messages_slow() -> None:
    pair = Pair(Faults(bytes_per_second=1_000_000))
    pair.handle.call(lambda ctx: ctx.send(SERVER, Note(1), [bytes(500_000)]))
    began = pair.world.now_ns
    pair.world.run_until(lambda: pair.server.numbers == [0, 1])
    assert 0.5 * SECOND <= pair.world.now_ns - began <= 0.52 * SECOND


def test_an_endpoint_in_use_cannot_be_bound_until_its_process_ends() -> None:
    pair = Pair()
    with pytest.raises(BindError, match="tcp://server:1 is in use"):
        pair.serve(2)
    pair.world.crash("server")
    assert pair.serve(2).endpoint("listen") == SERVER


def test_clocks_drift_and_jump_and_timers_are_still_never_early() -> None:
    probe = Probe()
    world = SimRuntime(1)
    handle = world.spawn(ActorSpec("probe", 1, probe, ProbeCodec()))
    world.clock_drift("probe", -100_000)  # 10 % slow
    walls: list[int] = []
    handle.call(lambda ctx: (probe.noted.append(ctx.now_ns()), walls.append(ctx.wall_ns()), ctx.set_timer("t", SECOND)))
    world.run_for(MS)
    world.clock_jump("probe", 3600 * SECOND)
    world.run_until(lambda: probe.timers)
    assert 1.11 * SECOND < world.now_ns < 1.12 * SECOND
    assert SECOND <= probe.timers[0][1] - probe.noted[0] < SECOND + 10
    handle.call(lambda ctx: walls.append(ctx.wall_ns()))
    world.run_for(MS)
    assert walls[1] - walls[0] > 3600 * SECOND


def test_a_clock_that_is_slowed_down_delays_the_timers_already_set() -> None:
    probe = Probe()
    world = SimRuntime(1)
    handle = world.spawn(ActorSpec("probe", 1, probe, ProbeCodec()))
    handle.call(lambda ctx: (probe.noted.append(ctx.now_ns()), ctx.set_timer("t", SECOND)))
    world.run_for(MS)
    world.clock_drift("probe", -500_000)  # half as fast
    world.run_until(lambda: probe.timers)
    assert probe.timers[0][1] - probe.noted[0] >= SECOND


def test_waiting_for_what_never_happens_ends_at_its_virtual_deadline() -> None:
    world = SimRuntime(1)
    with pytest.raises(Stalled, match="5 virtual seconds"):
        world.run_until(lambda: False, 5 * SECOND)
    assert world.now_ns == 5 * SECOND


class Counter:
    """A lane handler that remembers what took effect."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        self.done += [job.number for job in jobs if isinstance(job, Work)]
        return [None] * len(jobs)


def test_a_crash_leaves_a_batch_whole_or_undone_and_its_result_unheard() -> None:
    outcomes = set()
    for seed in range(30):
        counter, probe = Counter(), Probe()
        world = SimRuntime(seed)
        handle = world.spawn(ActorSpec("probe", 1, probe, ProbeCodec(), {"work": Lane(counter.run)}))
        handle.call(lambda ctx: [ctx.run(number, "work", Work(number)) for number in range(3)])
        handle.call(lambda ctx: ctx.run(3, "work", Work(3)))
        world.run_for(10_000)  # every batch takes longer
        world.crash("probe")
        world.run_for(SECOND)
        assert probe.results == []
        assert counter.done in ([], [0, 1, 2])
        outcomes.add(len(counter.done))
    assert outcomes == {0, 3}


def test_a_crash_may_cut_a_batch_short_between_two_disk_operations() -> None:
    outcomes = set()
    for seed in range(60):
        world = SimRuntime(seed)
        disk = SimDisk(world.random)
        file = disk.open("a", create=True)

        def write(jobs: Sequence[Job], file: SimFile = file) -> list[Any]:
            for number in range(10):
                file.pwritev([b"x"], number)
            return [None] * len(jobs)

        spec = ActorSpec("probe", 1, Probe(), ProbeCodec(), {"work": Lane(write)})
        handle = world.spawn(spec, disks=[disk])
        handle.call(lambda ctx: ctx.run(1, "work", Work(1)))
        world.run_for(10_000)
        world.crash("probe")
        outcomes.add(len(disk.read_bytes("a")))
    assert {0, 10} < outcomes


def test_a_slow_process_takes_longer_for_its_batches() -> None:
    def duration(factor: int) -> int:
        counter, probe = Counter(), Probe()
        world = SimRuntime(1)
        handle = world.spawn(ActorSpec("probe", 1, probe, ProbeCodec(), {"work": Lane(counter.run)}))
        world.slow_down("probe", factor)
        handle.call(lambda ctx: ctx.run(1, "work", Work(1)))
        world.run_until(lambda: probe.results)
        return world.now_ns

    assert duration(1000) == 1000 * duration(1)
