"""Tasks in the catalog: begun once, cancelled wholly, done only when nothing names the node, and kept over any restart."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.places import release, send_off, view_of
from dsa_zmq.master.catalog.tables import MOVES, MoveRow
from dsa_zmq.master.catalog.task_jobs import FindPlaces, FinishTask, LookAtTasks, PlanTask, TaskRequest, View
from dsa_zmq.master.catalog.task_rules import KEEP_ENDED
from dsa_zmq.model.upkeep import Standing, Why
from dsa_zmq.protocol.operations import BeginTask, EndTask, MakePlan, Planned, SetRedundancy, Tasks
from dsa_zmq.protocol.values import Failure

GB = 10**9


def view(**standings):
    """All four nodes keep, but for those named."""
    seen = {number: standings.get(f"n{number - 1}", Standing.KEEPS) for number in range(1, 5)}
    rooms = {number: 100 * GB for number, standing in seen.items() if standing is Standing.KEEPS}
    return View(seen, rooms, 10**8, 0.05, 0.2)


def ask(kit, operation, seen=None, *, number=0):
    """As the master's actor would: with how it sees the nodes."""
    request = kit.request(operation, number=number)
    return kit.one(
        TaskRequest(
            request.operation, request.session, request.number, request.done_below, request.wall_ns, seen or view()
        )
    )


def plan(kit, kind, subject="", argument="", seen=None):
    found = kit.one(PlanTask(MakePlan(kind, subject, argument), seen or view()))
    assert isinstance(found, Planned), found
    return found.plan


def drain(kit, name="n0"):
    begun = ask(kit, BeginTask("drain", name))
    assert isinstance(begun, Tasks), begun
    return begun.tasks[0]


def look(kit, seen=None):
    return kit.one(LookAtTasks(seen or view()))


def finish(kit, task):
    return kit.one(FinishTask(task.task, kit.now, "may be switched off"))


def empty(kit, node):
    """Everything on a node goes to others, as the survey would have it."""
    for chunk, holder, shard, _ in list(kit.dump()["places"]):
        if holder != node:
            continue
        others = {row[1] for row in kit.dump()["places"] if row[0] == chunk}
        target = next(number for number in range(1, 5) if number not in others)
        kit.add_place(chunk, target, shard)
        standings = dict.fromkeys(range(1, 5), Standing.KEEPS) | {node: Standing.LEAVES}

        def let_go(rows, chunk=chunk, shard=shard, standings=standings):
            seen = view_of(rows, standings)
            kept = release(rows, chunk, node, seen)
            assert kept is not None
            return kept

        kept = kit.decide(let_go)
        kit.decide(
            lambda rows, chunk=chunk, shard=shard, kept=kept, standings=standings: send_off(
                rows, chunk, node, shard, kept, view_of(rows, standings)
            )
        )


@pytest.fixture
def full(kit):
    for number in range(8):
        kit.good(kit.commit(f"/f{number}", redundancy="copies=2"))
    return kit


def test_a_plan_changes_nothing_and_is_what_the_task_then_shows(full):
    before = full.dump()
    shown = plan(full, "drain", "n0")
    assert full.dump() == before
    assert shown.moves == sum(row[1] == 1 for row in before["places"]) > 0
    assert drain(full).plan == shown


def test_a_drain_is_done_when_no_place_no_move_and_no_drop_names_the_node(full):
    task = drain(full)
    assert finish(full, task) is False
    empty(full, 1)
    (seen,) = look(full).running
    assert (seen.shards_left, seen.bytes_left, seen.busy) == (0, 0, True)
    assert finish(full, task) is False  # it has not yet dropped them
    full.drop_all()
    chunk = full.dump()["chunks"][0][0]
    full.decide(lambda rows: rows.put(MOVES, MoveRow(chunk, 1, 0, rows.new_id(), Why.REPAIR, chunk, 0)))
    assert finish(full, task) is False
    full.decide(lambda rows: rows.delete(MOVES, (chunk, 1)))
    assert not look(full).running[0].busy
    assert finish(full, task) is True
    (info,) = look(full).ended
    assert (info.state, info.note, info.moves_done) == ("done", "may be switched off", task.plan.moves)
    assert look(full).draining == {1}


def test_progress_is_what_is_gone_from_the_node(full):
    task = drain(full)
    assert look(full).running[0].info.moves_done == 0
    empty(full, 1)
    assert look(full).running[0].info.moves_done == task.plan.moves
    assert look(full).running[0].info.bytes_done == task.plan.bytes


def test_to_begin_what_runs_already_returns_it(full):
    assert drain(full).task == drain(full).task
    assert drain(full, "n1").task != drain(full).task
    assert len(look(full).running) == 2


def test_a_repeated_request_begins_once(full):
    first = ask(full, BeginTask("rebalance"), number=900)
    task = first.tasks[0].task
    ask(full, EndTask(task))
    assert ask(full, BeginTask("rebalance"), number=900) == first
    assert look(full).running == []


def test_a_cancelled_drain_leaves_the_node_in_use(full):
    task = drain(full)
    assert look(full).draining == {1}
    assert ask(full, EndTask(task.task)).count == 1
    seen = look(full)
    assert (seen.draining, seen.running, seen.ended[0].state) == (frozenset(), [], "cancelled")
    assert ask(full, EndTask(task.task)).count == 0
    assert finish(full, task) is False


def test_a_finished_drain_can_be_taken_back(kit):
    task = drain(kit)
    assert finish(kit, task) is True
    assert ask(kit, EndTask(task.task)).count == 1
    assert look(kit).draining == frozenset()
    assert look(kit).ended[0].state == "done"


def test_a_task_outlives_a_loss_of_power(full):
    task = drain(full)
    full.power_loss()
    seen = look(full)
    assert [each.info.task for each in seen.running] == [task.task]
    assert seen.draining == {1}


def test_a_removed_node_is_forgotten_and_its_drain_ends(kit):
    drain(kit)
    away = view(n0=Standing.AWAY)
    assert isinstance(ask(kit, BeginTask("remove", "n0"), away), Tasks)
    seen = look(kit, away)
    assert (seen.removed, seen.draining, seen.running) == ({1}, frozenset(), [])
    assert {info.state for info in seen.ended} == {"done", "cancelled"}
    back = kit.register("n0", start=2)
    assert not back.removed
    assert not back.draining


def test_what_only_a_node_holds_keeps_it_from_removal(full):
    full.good(full.commit("/once", redundancy="copies=1"))
    holder = full.dump()["places"][-1][1]
    name = f"n{holder - 1}"
    away = view(**{name: Standing.AWAY})
    refused = ask(full, BeginTask("remove", name), away)
    assert isinstance(refused, Failure)
    assert refused.code == "conflict"
    assert "--lost" in refused.remedy
    assert isinstance(ask(full, BeginTask("remove", name, "lost"), away), Tasks)


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (BeginTask("drain", "n9"), "not-found"),
        (BeginTask("paint", "n0"), "invalid"),
        (BeginTask("rebalance", "n0"), "invalid"),
        (BeginTask("remove", "n0", "perhaps"), "invalid"),
        (BeginTask("remove", "n0"), "conflict"),
        (EndTask(12345), "not-found"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(full, operation, code):
    before = full.dump("replies", "sessions")
    refused = ask(full, operation)
    assert isinstance(refused, Failure)
    assert refused.code == code
    assert full.dump("replies", "sessions") == before


def test_nodes_that_are_emptied_do_not_count_for_a_redundancy(kit):
    drain(kit)
    refused = kit.do(SetRedundancy("/", "copies=4"))
    assert refused.code == "too-few-nodes"
    assert refused.message == "copies=4 needs 4 nodes, the cluster has 3, without those that are to be emptied"


def test_all_places_on_a_node_are_found_whatever_their_state(full):
    wanted = [row[0] for row in full.dump()["places"] if row[1] == 1]
    found = full.one(FindPlaces(1))
    assert found.chunks == wanted
    assert found.next is None


def test_only_the_last_that_have_ended_are_kept(kit):
    for _ in range(3 * KEEP_ENDED):
        ask(kit, EndTask(ask(kit, BeginTask("rebalance")).tasks[0].task))
    assert len(look(kit).ended) == KEEP_ENDED
    assert len(kit.dump()["tasks"]) <= 2 * KEEP_ENDED
