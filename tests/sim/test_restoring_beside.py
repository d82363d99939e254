"""Who else comes while a lost master is restored: strangers, other clusters, a master that lives, another restore."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import Conflict, Unavailable
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.restore_events import Came, Failed
from dsa_zmq.master.restore_plan import TERM_MARGIN
from tests.sim.inn import SECOND, Lost, restored


@pytest.fixture
def lost() -> Lost:
    return Lost()


def test_strangers_wait(lost: Lost) -> None:
    inn = lost.inn()
    newcomer = inn.guest("new", 0, b"")
    old = inn.guest("old", 9, lost.cluster)
    old.version = 1
    inn.start()
    inn.planned()
    assert [failure.code for failure in newcomer.refusals[:1] + old.refusals[:1]] == ["unavailable", "unavailable"]
    assert "never in a cluster" in inn.notes
    assert "upgrade it" in old.refusals[0].remedy or "upgrade it" in old.refusals[0].message


def test_nodes_of_two_clusters_are_told_apart_by_the_operator(lost: Lost) -> None:
    inn = lost.inn()
    inn.guest("x", 1, b"another cluster.").hold()
    inn.start()
    assert "nodes of 2 clusters come here" in inn.failure().error.message
    inn.start(cluster=lost.cluster.hex()[:6])
    assert [event.node for event in inn.of(Came)] == []
    inn.planned()
    assert "belongs to another cluster" in inn.notes


# --- another master ---------------------------------------------------------------------------------------------------


def test_beside_a_living_master_nobody_is_claimed(lost: Lost) -> None:
    inn = lost.inn()
    inn.guests["n1"].hears = True
    inn.start()
    assert "a master of term 5 is alive: n1 heard it" in inn.failure().error.message
    assert all(guest.promised == [] for guest in inn.guests.values())
    assert inn.disk.listdir("") == []


def test_a_master_that_has_just_died_is_waited_out(lost: Lost) -> None:
    inn = lost.inn()
    for guest in inn.guests.values():
        guest.heard_ns = inn.sim.now_ns
    inn.start()
    begun = inn.sim.now_ns
    inn.planned()
    assert inn.sim.now_ns - begun >= 4 * SECOND
    inn.go()


def test_a_node_that_another_restore_has_claimed_ends_this_one(lost: Lost) -> None:
    inn = lost.inn()
    inn.start()
    inn.planned()
    inn.guests["n2"].seen_term = 10_000
    with pytest.raises(Conflict, match="node 'n2' cannot be claimed: seen term 10000"):
        inn.go()
    assert not inn.disk.exists(CATALOG_FILE)


def test_a_second_attempt_is_above_the_first(lost: Lost) -> None:
    inn = lost.inn()
    inn.start()
    inn.planned()
    inn.guests["n1"].claims = False
    with pytest.raises(Unavailable, match="do not answer any more: n1"):
        inn.go()
    failed = inn.of(Failed)[0]
    assert (failed.claimed, failed.term) == (("n0", "n2"), 5 + TERM_MARGIN)
    inn.guests["n1"].claims = True
    inn.start()
    inn.planned()
    assert inn.go().term == 5 + 2 * TERM_MARGIN
    assert restored(inn) == lost.rows()


def test_a_term_that_nothing_can_follow_is_refused(lost: Lost) -> None:
    inn = lost.inn()
    inn.guests["n0"].seen_term = 1 << 60
    inn.start(wait_s=5)
    assert inn.failure().absent == ("n0",)
    assert "n0: this node says that it has obeyed a master of term" in inn.notes
