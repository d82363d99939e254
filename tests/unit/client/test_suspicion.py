"""Suspicion orders choices and fades; the budget serves in order and never for ever not."""

from __future__ import annotations

from dsa_zmq.client.budget import Budget
from dsa_zmq.client.suspicion import FIRST_NS, MAX_DAMAGED, MAX_NS, REPORT_NS, Suspicion
from dsa_zmq.protocol.operations import Report
from dsa_zmq.protocol.values import ShardRef


def test_suspected_nodes_come_last_in_their_order():
    suspicion = Suspicion()
    suspicion.accuse(2, 0)
    suspicion.accuse(1, 0)
    assert suspicion.order([1, 2, 3, 4], 1) == [3, 4, 1, 2]
    assert suspicion.nodes(1) == [1, 2]


def test_suspicion_fades_and_doubles_when_it_comes_back():
    suspicion = Suspicion()
    suspicion.accuse(1, 0)
    suspicion.accuse(1, FIRST_NS - 1)  # of the same trouble
    assert suspicion.suspects(1, FIRST_NS - 1)
    assert not suspicion.suspects(1, FIRST_NS)
    suspicion.accuse(1, FIRST_NS)
    assert suspicion.suspects(1, 3 * FIRST_NS - 1)
    assert not suspicion.suspects(1, 3 * FIRST_NS)
    now = 3 * FIRST_NS
    for _ in range(20):
        suspicion.accuse(1, now)
        now += MAX_NS
        assert not suspicion.suspects(1, now)


def test_a_good_answer_ends_it():
    suspicion = Suspicion()
    suspicion.accuse(1, 0)
    suspicion.acquit(1)
    assert suspicion.nodes(1) == []


def test_room_is_given_in_order_and_within_the_budget():
    budget = Budget(10)
    for owner, size in ((1, 6), (2, 5), (3, 1)):
        budget.ask(owner, size)
    assert budget.grant(stalled=False) == [1]
    budget.give(1, 1)
    assert budget.grant(stalled=False) == [2, 3][:1]
    budget.leave(1)
    assert budget.grant(stalled=False) == [3]
    budget.leave(2)
    budget.leave(3)
    assert budget.used == 0


def test_more_than_the_budget_is_given_alone_or_when_nothing_moves():
    budget = Budget(10)
    budget.ask(1, 99)
    assert budget.grant(stalled=False) == [1]
    budget.ask(2, 5)
    budget.ask(3, 5)
    assert budget.grant(stalled=False) == []
    assert budget.grant(stalled=True) == [2], "one at a time"


def test_who_ends_waits_no_more():
    budget = Budget(10)
    budget.ask(1, 10)
    budget.grant(stalled=False)
    budget.ask(2, 10)
    budget.leave(2)
    assert not budget.waiting


def test_the_master_is_told_once_of_each_suspicion_that_begins():
    suspicion = Suspicion()
    suspicion.accuse(2, 0)
    suspicion.accuse(2, 1)
    assert suspicion.reports(lambda node: 70 + node, 2) == [Report(2, 72, silent=True)]
    assert suspicion.reports(lambda node: 70 + node, REPORT_NS + 2) == []
    suspicion.accuse(2, FIRST_NS - 1)
    assert suspicion.reports(lambda node: 70 + node, FIRST_NS) == []
    suspicion.accuse(2, FIRST_NS)
    assert suspicion.reports(lambda node: 70 + node, FIRST_NS + 1) == [Report(2, 72, silent=True)]


def test_a_node_is_reported_at_most_once_a_second_and_nothing_is_forgotten():
    suspicion = Suspicion()
    suspicion.damaged(2, 10, 0)
    assert suspicion.reports(int, 0) == [Report(2, 2, damaged=[ShardRef(10, 0)])]
    suspicion.damaged(2, 11, 1)
    suspicion.damaged(2, 11, 1)
    suspicion.accuse(2, 5)
    suspicion.accuse(3, 5)
    assert suspicion.reports(int, REPORT_NS - 1) == [Report(3, 3, silent=True)]
    assert suspicion.reports(int, REPORT_NS) == [Report(2, 2, True, [ShardRef(11, 1)])]


def test_a_report_has_so_many_shards_at_most():
    suspicion = Suspicion()
    for chunk in range(2 * MAX_DAMAGED):
        suspicion.damaged(1, chunk, 0)
    (report,) = suspicion.reports(int, 0)
    assert len(report.damaged) == MAX_DAMAGED
