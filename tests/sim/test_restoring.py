"""A lost master's catalog comes back from its nodes: whole, the newest, and only where no other master lives."""

from __future__ import annotations

import pytest

from actors.sim.faults import Faults
from dsa_zmq.errors import Conflict, Corrupt, Unavailable
from dsa_zmq.master import restore_reading
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, Catalog
from dsa_zmq.master.restore_events import Came, Failed, Planned, Waiting
from dsa_zmq.master.restore_plan import TERM_MARGIN
from tests.sim.inn import SECOND, TABLES, Inn, Lost, restored, state_of
from tests.unit.catalog.scribe import busy


@pytest.fixture
def lost() -> Lost:
    return Lost()


# --- as it should go --------------------------------------------------------------------------------------------------


def test_the_catalog_comes_back_as_it_was_and_a_master_goes_on_with_it(lost: Lost) -> None:
    inn = lost.inn()
    inn.start()
    plan = inn.planned()
    assert (plan.preview.files, plan.preview.position) == (lost.kit.number("files"), lost.scribe.position)
    assert (plan.volumes, plan.absent) == ([2], [])
    assert all(guest.promised == [] for guest in inn.guests.values()), "nobody is claimed for a plan"
    assert not inn.disk.exists(CATALOG_FILE)
    done = inn.go()
    assert done.nodes == ["n0", "n1", "n2"]
    assert done.term == 5 + TERM_MARGIN
    assert all(guest.promised == [done.term] for guest in inn.guests.values())
    assert restored(inn) == lost.rows()
    catalog = Catalog.open(inn.disk, rng=inn.rng, secret=b"s" * 32, ballast_bytes=0)
    assert catalog.term == done.term + 1
    assert catalog.audit() == []
    catalog.close()


@pytest.mark.parametrize("seed", range(6))
def test_it_gets_through_a_bad_network(lost: Lost, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_reading, "PIECE_BYTES", 700)
    faults = Faults(loss=0.1, duplicate=0.1, spike=0.05, reset=0.01, slow_batch=0.1, slow_batch_ns=SECOND)
    inn = lost.inn(seed=seed, faults=faults)
    for guest in inn.guests.values():
        guest.short = 500
    inn.start(wait_s=60)
    inn.planned()
    inn.go()
    assert restored(inn) == lost.rows()


def test_who_has_most_is_read(lost: Lost) -> None:
    inn = lost.inn()
    records = [record.data for record in lost.volume.log]
    whole = lost.volume.data()
    inn.guests["n0"].hold(whole[: -len(b"".join(records[-3:]))])
    del inn.guests["n1"].volumes[2]
    inn.guests["n2"].hold(whole)
    inn.start()
    assert inn.planned().preview.position == lost.scribe.position


def test_another_holder_is_read_when_one_is_silent(lost: Lost) -> None:
    inn = lost.inn()
    inn.guests["n0"].reads = False
    inn.guests["n1"].reads = False
    inn.start()
    inn.planned()
    assert "cannot be read from n0: it does not answer" in inn.notes
    inn.go()
    assert restored(inn) == lost.rows()


def test_another_holder_is_read_when_bytes_are_damaged(lost: Lost) -> None:
    inn = lost.inn()
    for name in ("n0", "n1"):
        data = bytearray(inn.guests[name].volumes[2])
        inn.guests[name].states[2] = state_of(bytes(data))
        data[len(data) // 3 if name == "n0" else -40] ^= 4
        inn.guests[name].volumes[2] = bytes(data)
    inn.start()
    inn.planned()
    assert "cannot be read from n0: a record of the catalog is damaged" in inn.notes
    inn.go()
    assert restored(inn) == lost.rows()


def test_nothing_older_is_restored_because_those_who_have_the_newest_are_silent(lost: Lost) -> None:
    inn = lost.inn()
    for guest in inn.guests.values():
        guest.mute[2] = 0
    inn.start()
    failed = inn.failure()
    assert "volume 2 cannot be read: n0, n1, n2 did not answer" in failed.error.message
    assert all(guest.promised == [] for guest in inn.guests.values())


def test_what_one_holder_had_damaged_does_not_count_against_the_next(
    lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_reading, "PIECE_BYTES", 1000)
    inn = lost.inn(faults=Faults(slow_batch=1.0, slow_batch_ns=9 * SECOND))
    del inn.guests["n2"].volumes[2]
    guest = inn.guests["n0"]
    data = bytearray(guest.volumes[2])
    guest.states[2], guest.mute[2] = state_of(bytes(data)), 4000
    data[3500] ^= 4
    guest.volumes[2] = bytes(data)
    inn.start(wait_s=600)
    inn.sim.run_until(lambda: inn.of(Planned) or inn.of(Failed), 3000 * SECOND)
    assert "cannot be read from n0: it does not answer" in inn.notes
    assert "from n1" not in inn.notes
    assert inn.planned().preview.position == lost.scribe.position


def test_what_is_before_the_damage_is_used_when_all_copies_have_one(lost: Lost) -> None:
    inn = lost.inn()
    last = lost.volume.log[-2].data
    for guest in inn.guests.values():
        data = guest.volumes[2]
        del guest.volumes[1]
        guest.states[2] = state_of(data)
        at = data.index(last)
        guest.volumes[2] = data[: at + 120] + b"\0" + data[at + 121 :]
    inn.start()
    with pytest.raises(Corrupt, match="n0, n1, n2 are damaged"):
        inn.planned()
    inn.start(older=True)
    plan = inn.planned()
    assert plan.damaged == ["n0", "n1", "n2"]
    positions = [position for position in lost.scribe.as_of if position < lost.volume.log[-2].position]
    assert plan.preview.position == max(positions)
    assert plan.newest_position == lost.scribe.position, "the plan tells of the loss"
    assert "no other node has more of it" in inn.notes
    inn.go()
    assert restored(inn) == {
        name: rows for name, rows in lost.scribe.as_of[max(positions)].items() if name not in TABLES
    }


def test_a_moment_can_be_named(lost: Lost) -> None:
    for position in sorted(lost.scribe.as_of)[-14::3]:
        inn = lost.inn()
        inn.start(at_ns=lost.scribe.walls[position])
        assert inn.planned().preview.position == position
        inn.go()
        expected = lost.scribe.as_of[position]
        assert restored(inn) == {name: rows for name, rows in expected.items() if name not in TABLES}


def test_a_moment_before_all_copies_is_refused_with_what_there_is(lost: Lost) -> None:
    inn = lost.inn()
    inn.start(at_ns=1, wait_s=8)
    with pytest.raises(Conflict, match="do not reach back to that moment"):
        inn.planned()


def test_what_a_node_got_between_plan_and_claim_is_restored_too(lost: Lost) -> None:
    inn = lost.inn()
    inn.start()
    inn.planned()
    busy(lost.kit, lost.scribe, 3)
    newer = lost.volume.data()
    guest = inn.guests["n1"]
    guest.on_promise = lambda: guest.hold(newer) and None  # type: ignore[method-assign,func-returns-value]
    inn.go()
    assert "has got more meanwhile" in inn.notes
    assert restored(inn) == lost.rows()


def test_a_node_that_is_known_only_now_has_to_promise_too(lost: Lost) -> None:
    inn = lost.inn()
    inn.start()
    inn.planned()
    row = lost.kit.register("n3")
    lost.scribe.note()
    busy(lost.kit, lost.scribe, 1)
    newer = lost.volume.data()
    guest = inn.guests["n1"]
    guest.on_promise = lambda: guest.hold(newer) and None  # type: ignore[method-assign,func-returns-value]
    new = inn.guest("n3", row.node, lost.cluster, store=row.store_id)
    new.claims = False
    inn.sim.run_until(lambda: Came("n3", 0) in inn.events)
    with pytest.raises(Unavailable, match="do not answer any more: n3"):
        inn.go()
    assert "has got more meanwhile" in inn.notes
    assert not inn.disk.exists(CATALOG_FILE)


def test_no_less_is_restored_than_was_planned(lost: Lost) -> None:
    inn = lost.inn()
    older = lost.old.data()[: -len(b"".join(record.data for record in lost.old.log[-5:]))]
    inn.start()
    inn.planned()
    busy(lost.kit, lost.scribe, 3)
    newer = lost.volume.data()

    def spoil() -> None:
        for name, guest in inn.guests.items():
            guest.states[2] = state_of(newer)
            guest.volumes[2] = b"rot of " + name.encode() + newer[9:]
            guest.hold(older)

    inn.guests["n2"].on_promise = spoil  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="can be read no more"):
        inn.go()
    assert not inn.disk.exists(CATALOG_FILE)


# --- nodes that are missing -------------------------------------------------------------------------------------------


def test_an_absent_node_has_to_be_named(lost: Lost) -> None:
    inn = lost.inn("n0", "n2")
    inn.start(wait_s=6)
    failed = inn.failure()
    assert failed.absent == ("n1",)
    assert failed.moment_ns == lost.scribe.wall_ns
    assert "--without n1" in failed.error.remedy
    assert all(guest.promised == [] for guest in inn.guests.values())
    inn.start(wait_s=6, without=("n1",))
    assert inn.planned().absent == ["n1"]
    assert inn.go().nodes == ["n0", "n2"]
    assert restored(inn) == lost.rows()


def test_a_node_that_comes_late_is_waited_for(lost: Lost) -> None:
    inn = lost.inn("n0", "n2")
    inn.start(wait_s=30)
    inn.sim.run_until(lambda: Waiting("n1") in inn.events)
    row = next(row for row in lost.kit.nodes if row.name == "n1")
    inn.guest("n1", row.node, lost.cluster, store=row.store_id)
    assert inn.planned().absent == []


def test_a_plan_says_that_nodes_have_obeyed_a_master_of_which_there_is_no_copy(lost: Lost) -> None:
    """All who hold the newest may be nodes that nobody here knows of."""
    for obeyed, said in ((lost.kit.catalog.term, 0), (7, 7)):
        inn = lost.inn()
        for guest in inn.guests.values():
            guest.seen_term = lost.kit.catalog.term
        inn.guests["n1"].seen_term = obeyed
        inn.start()
        assert inn.planned().later_term == said


def test_a_name_that_no_node_has_is_refused(lost: Lost) -> None:
    inn = lost.inn()
    inn.start(without=("n7",))
    assert "there is no node 'n7'" in inn.failure().error.message


def test_nobody_is_restored_from_nobody(lost: Lost) -> None:
    inn = Inn()
    inn.start(wait_s=5)
    assert "no node of a cluster came here within 5 s" in inn.failure().error.message
    assert inn.disk.listdir("") == []


def test_nodes_without_a_usable_copy_do_not_do(lost: Lost) -> None:
    inn = lost.inn()
    snapshot = b"".join(record.data for record in lost.volume.parts[:-1])
    for guest in inn.guests.values():
        guest.volumes.clear()
    inn.guests["n0"].hold(snapshot)
    inn.start(wait_s=5)
    assert "no node that is here has a usable copy" in inn.failure().error.message
    assert "volume 2 on n0 is incomplete" in inn.notes
