"""The courier: credit, batches, time-outs; every task ends once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.client.courier import SMALL_BYTES, Courier
from dsa_zmq.client.line import SECOND_NS, Line
from dsa_zmq.client.pace import SHORTEST_NS
from dsa_zmq.client.tasks import Read, Write
from dsa_zmq.model.ids import NONCE_BITS, next_incarnation
from dsa_zmq.protocol.messages import (
    GetShards,
    GotShard,
    Ping,
    Pong,
    PutDone,
    PutOutcome,
    PutShard,
    PutShards,
    ShardData,
    ShardGrant,
)
from dsa_zmq.protocol.values import Failure, NodeAddress, Receipt

FIRST, SECOND = next_incarnation(0, 0xABC), next_incarnation(1 << NONCE_BITS, 0x123)  #: starts of a node
NODES = [NodeAddress(node, f"tcp://n{node}:1", FIRST, f"n{node}") for node in (1, 2, 3)]
MIB = 1 << 20


def write(owner, chunk, node, size=MIB):
    put = PutShard(owner, chunk, 0, size, size, b"h" * 32, 0, b"m" * 16)
    return Write(owner, (chunk, 0), node, size, put, bytes(size) if size < 100 else b"")


def read(owner, chunk, node, size=MIB):
    return Read(owner, (chunk, 0), node, size, ShardGrant(chunk, 0, size, 0, b"m" * 16))


def courier(**options):
    made = Courier(**options)
    made.know(NODES)
    return made


def done(message):
    outcomes = [PutOutcome(put.chunk, put.index, Receipt(1, put.index, 1, b"r")) for put in message.shards]
    return PutDone(message.number, outcomes)


def test_no_more_is_under_way_than_the_windows_allow():
    it = courier(node_credit=4 * MIB, client_credit=6 * MIB)
    for chunk in range(30):
        it.submit(write(1, chunk, 1 + chunk % 3))
    sent = it.flush(0)
    assert len(sent) == 6
    assert max(sum(out.address == node.address for out in sent) for node in NODES) <= 4
    moved = 0
    while sent:
        out = sent.pop(0)
        moved += len(it.put_done(done(out.message), 1))
        it.check()
        sent += it.flush(1)
        assert it.credit_out <= 6 * MIB
    assert moved == 30
    assert it.credit_out == 0
    assert not it.busy


def test_small_shards_of_many_uploads_travel_together_while_others_are_under_way():
    it = courier()
    for chunk in range(100):
        it.submit(write(chunk + 1, chunk, 1, 50))
        if chunk == 0:
            (first,) = it.flush(0)
            assert len(first.message.shards) == 1
    assert it.flush(0) == []
    it.put_done(done(first.message), 1)
    (out,) = it.flush(1)
    assert len(out.message.shards) == len(out.payload) == 99
    assert {put.upload for put in out.message.shards} == set(range(2, 101))


def test_small_shards_do_not_wait_for_an_answer_that_is_late():
    it = courier()
    for chunk in range(3):
        it.submit(write(1, chunk, 1, 50))
        it.flush(0)
    (out,) = it.flush(SHORTEST_NS)
    assert len(out.message.shards) == 2
    it.submit(write(1, 9, 1, 50))
    assert it.flush(5 * SHORTEST_NS) == []  # two are under way


def test_large_shards_do_not_wait_for_small_ones():
    it = courier()
    for chunk in range(2):
        it.submit(write(1, chunk, 1, 50))
        it.flush(0)
    it.submit(write(1, 9, 1, SMALL_BYTES))
    assert [len(out.message.shards) for out in it.flush(0)] == [2]


def test_credit_of_a_read_comes_back_when_it_is_processed():
    it = courier()
    it.submit(read(1, 5, 1))
    (out,) = it.flush(0)
    assert isinstance(out.message, GetShards)
    (outcome,) = it.shard_data(ShardData(out.message.number, [GotShard(5, 0, b"h")]), [memoryview(b"x")], 1)
    assert bytes(outcome.data) == b"x"
    assert it.credit_out == MIB
    it.release(outcome.task)
    assert it.credit_out == 0


def test_answers_may_be_short_repeated_and_unknown():
    it = courier()
    for chunk in (5, 6):
        it.submit(read(1, chunk, 1, 10))
    (out,) = it.flush(0)
    answer = ShardData(out.message.number, [GotShard(6, 0, b"", Failure("corrupt", "bad"))])
    outcomes = it.shard_data(answer, [], 1)
    assert [outcome.failure.code for outcome in outcomes] == ["unavailable", "corrupt"]
    assert it.shard_data(answer, [], 1) == []
    assert it.put_done(PutDone(999, []), 1) == []
    it.check()


def test_silent_node_is_pinged_then_given_up_with_all_that_waits_for_it():
    it = courier(node_credit=100)
    for chunk in range(3):
        it.submit(write(1, chunk, 1, 90))
    it.flush(0)
    outcomes, now = [], 0
    pings = 0
    while not outcomes:
        now += SECOND_NS // 10
        outcomes, sends = it.tick(now)
        pings += sum(isinstance(out.message, Ping) for out in sends)
    assert 0.9 < now / SECOND_NS < 1.3
    assert pings >= 2
    assert sends[-1].message is None, "its connection is dropped"
    assert [outcome.task.slot[0] for outcome in outcomes] == [0, 1, 2]
    assert it.credit_out == 0
    assert not it.busy


def test_node_that_lives_has_longer_to_answer():
    it = courier()
    it.submit(write(1, 1, 1, 90))
    it.flush(0)
    outcomes, again, now = [], [], 0
    while not outcomes:
        now += SECOND_NS // 10
        outcomes, sends = it.tick(now)
        for out in sends:
            if isinstance(out.message, Ping):
                again += it.pong(Pong(out.message.number, 1, FIRST), now)[1]
    assert [out.message.number for out in again] == [1], "asked once more: the first may be lost"
    assert 9.9 < now / SECOND_NS < 10.3


def test_pong_of_a_new_process_ends_what_the_old_one_was_asked():
    it = courier()
    it.submit(write(1, 5, 1))
    it.flush(0)
    outcomes, _ = it.pong(Pong(1, 1, SECOND), SECOND_NS)
    assert [outcome.task.slot for outcome in outcomes] == [(5, 0)]


@pytest.mark.parametrize("other", [FIRST - (1 << NONCE_BITS), FIRST + 1, FIRST - 1])
def test_pong_of_an_earlier_process_or_of_a_copy_is_no_sign_of_life(other):
    it = courier()
    it.submit(write(1, 5, 1, 90))
    it.flush(0)
    outcomes, now = [], 0
    while not outcomes:
        now += SECOND_NS // 10
        assert it.pong(Pong(1, 1, other), now) == ([], [])
        outcomes, _ = it.tick(now)
    assert 0.9 < now / SECOND_NS < 1.3
    assert it.know(NODES) == [], "it was not taken for the node"


def test_slow_line_is_not_a_dead_node():
    it = courier()
    for chunk in range(24):
        it.submit(write(1, chunk, 1 + chunk % 3))
    flying = sorted(it.flush(0), key=lambda out: out.message.shards[0].chunk)
    now = 0
    it.tick(0)
    while flying:  # one megabyte in two seconds, for all nodes together
        for _ in range(20):
            now += SECOND_NS // 10
            outcomes, _ = it.tick(now)
            assert outcomes == []
        it.put_done(done(flying.pop(0).message), now)
        flying += it.flush(now)


def test_node_that_hangs_is_left_after_a_second_on_a_line_that_is_fast():
    it = courier()
    for chunk in range(24):
        it.submit(write(1, chunk, 1 + chunk % 3))
    flying, now, outcomes = it.flush(0), 0, []
    it.tick(0)
    while not outcomes:  # two of the nodes take 10 MB/s between them, the third one nothing
        now += SECOND_NS // 10
        answering = [out for out in flying if out.address != NODES[0].address]
        for out in answering[:1]:
            flying.remove(out)
            assert len(it.put_done(done(out.message), now)) == 1
        outcomes = it.tick(now)[0]
        flying += it.flush(now)
    assert {outcome.task.node for outcome in outcomes} == {1}
    assert now / SECOND_NS < 6


def test_late_read_is_told_once_and_still_ends():
    it = courier()
    it.submit(read(1, 5, 1, 10))
    it.flush(0)
    told = []
    for step in range(1, 40):
        told += it.tick(step * SECOND_NS // 10)[0]
    assert [outcome.late for outcome in told] == [True, False]


def test_reads_that_wait_for_a_silent_node_go_elsewhere_when_those_before_them_are_late():
    it = courier(node_credit=MIB)
    for chunk in range(5):
        it.submit(read(1, chunk, 1))
    it.submit(write(2, 9, 1))
    (first,) = it.flush(0)
    assert it.tick(4 * SECOND_NS // 10)[0] == []
    outcomes = [outcome for step in (10, 20, 29) for outcome in it.tick(step * SECOND_NS // 10)[0]]
    assert [outcome.task.slot[0] for outcome in outcomes if outcome.late] == [0]
    assert [outcome.task.slot[0] for outcome in outcomes if outcome.failure is not None] == [1, 2, 3, 4]
    it.shard_data(ShardData(first.message.number, [GotShard(0, 0, b"h")]), [memoryview(b"x")], 3 * SECOND_NS)
    it.release(outcomes[0].task)
    (second,) = it.flush(3 * SECOND_NS)
    assert isinstance(second.message, PutShards)  # which has no other place yet
    it.check()


def test_overtaken_read_is_late_though_the_node_answers_others():
    it = courier()
    it.submit(read(1, 5, 1))
    it.submit(read(1, 6, 1))
    _, second = it.flush(0)
    it.shard_data(ShardData(second.message.number, [GotShard(6, 0, b"h")]), [memoryview(b"x")], SECOND_NS // 2)
    (outcome,) = it.tick(SECOND_NS * 6 // 10)[0]
    assert outcome.late
    assert outcome.task.slot == (5, 0)


def test_restarted_or_lost_node_fails_what_was_under_way():
    it = courier()
    it.submit(write(1, 5, 1))
    it.submit(write(1, 6, 2))
    it.flush(0)
    moved = it.know([NodeAddress(1, "tcp://n1:2", SECOND, "n1")])
    assert [outcome.task.slot for outcome in moved] == [(5, 0)]
    assert it.know([NodeAddress(1, "tcp://n1:1", FIRST, "n1")]) == [], "an older answer changes nothing"
    assert it.lost("tcp://n1:1") == []
    assert [outcome.task.slot for outcome in it.lost("tcp://n2:1")] == [(6, 0)]
    it.submit(write(1, 7, 1))
    assert it.flush(1)[0].address == "tcp://n1:2"


@pytest.mark.parametrize("nonce", [0, 0xFFF])
def test_another_process_of_the_same_start_is_another_process_whichever_nonce_is_greater(nonce):
    it = courier()
    it.submit(write(1, 5, 1))
    it.flush(0)
    other = NodeAddress(1, "tcp://n1:1", next_incarnation(0, nonce), "n1")
    assert [outcome.task.slot for outcome in it.know([other])] == [(5, 0)]
    assert it.know([other]) == []


def test_cancelled_tasks_do_not_leave():
    it = courier(node_credit=10)
    it.submit(write(1, 5, 1, 10))
    (out,) = it.flush(0)
    it.submit(write(1, 6, 1, 10))
    it.submit(write(2, 7, 1, 10))
    it.cancel(1)
    it.put_done(done(out.message), 1)
    (out,) = it.flush(1)
    assert [put.chunk for put in out.message.shards] == [7]


@given(st.integers(0, 2**32))
def test_every_task_ends_exactly_once_and_no_credit_leaks(seed):
    rng = random.Random(seed)
    it = courier(node_credit=3 * MIB, client_credit=5 * MIB)
    ended, flying, now, chunk = {}, [], 0, 0

    def end(outcomes):
        for outcome in outcomes:
            if not outcome.late:
                ended[outcome.task.slot] = ended.get(outcome.task.slot, 0) + 1
                if outcome.data is not None:
                    it.release(outcome.task)

    for _ in range(60):
        now += rng.randrange(SECOND_NS)
        for _ in range(rng.randrange(4)):
            chunk += 1
            make = rng.choice([write, read])
            it.submit(make(1, chunk, rng.randrange(1, 4), rng.choice([10, 5000, MIB, 4 * MIB])))
        flying += [out.message for out in it.flush(now) if out.message is not None]
        action = rng.random()
        if flying and action < 0.6:
            message = rng.choice(flying)
            if isinstance(message, GetShards):
                got = [GotShard(shard.chunk, shard.index, b"h") for shard in message.shards]
                end(it.shard_data(ShardData(message.number, got), [memoryview(b"x")] * len(got), now))
            else:
                end(it.put_done(done(message), now))
        elif action < 0.7:
            end(it.lost(f"tcp://n{rng.randrange(1, 4)}:1"))
        else:
            end(it.tick(now)[0])
        it.check()
    for _ in range(400):
        now += SECOND_NS
        it.flush(now)
        end(it.tick(now)[0])
    assert ended == {(number, 0): 1 for number in range(1, chunk + 1)}
    assert it.credit_out == 0


def test_line_learns_its_rate_and_forgets_slowly():
    line = Line()
    begin = 10**15
    assert line.drain_ns(MIB, begin) == 2 * SECOND_NS
    line.moved(MIB)
    assert line.drain_ns(MIB, begin + SECOND_NS) <= 2 * SECOND_NS
    for second in range(2, 10):
        line.moved(100 * MIB)
        allowed = line.drain_ns(64 * MIB, begin + second * SECOND_NS)
    assert allowed < 2 * SECOND_NS
    assert line.drain_ns(64 * MIB, begin + 60 * SECOND_NS) == allowed, "an idle line says nothing"
