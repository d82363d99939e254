"""When repair and trims wait, and for how long: a table of what may look like everybody's death."""

from __future__ import annotations

import pytest

from dsa_zmq.master.haste import Haste
from dsa_zmq.master.members import Members
from dsa_zmq.model.pace import HealingPace
from tests.unit.master.conftest import heartbeat, node_row, register

SECOND = 10**9
PACE = HealingPace()


class Scene:
    """Some nodes, of which each speaks each second while it lives, and a master that looks as often."""

    def __init__(self, count: int, *, registered: bool = True) -> None:
        self.members = Members(3 * SECOND, 10 * SECOND)
        self.missed_ns = 0
        self.haste = Haste(self.members, PACE, lambda: self.missed_ns)
        self.now = 0
        self.alive = set(range(1, count + 1)) if registered else set[int]()
        self.rows = {node: node_row(node) for node in range(1, count + 1)}
        self.members.load(self.rows.values(), 0)
        for node in sorted(self.alive):
            self.register(node)
        self.members.look(0)

    def register(self, node: int) -> None:
        register(self.members, self.rows[node], self.now)
        self.alive.add(node)

    def run(self, seconds: int) -> str:
        """Let time go by; why it is held at the end."""
        for _ in range(seconds):
            self.now += SECOND
            for node in self.alive:
                self.members.heartbeat(heartbeat(self.rows[node]), self.now)
            for change in self.members.look(self.now):
                self.haste.changed(change, self.now)
        return self.haste.held(self.now)


def test_one_death_holds_nothing() -> None:
    scene = Scene(4)
    scene.alive -= {1}
    assert [scene.run(1) for _ in range(60)] == [""] * 60


@pytest.mark.parametrize(
    ("nodes", "dead", "held"),
    [
        (2, 1, False),
        (2, 2, True),
        (3, 1, False),
        (3, 2, True),
        (4, 2, True),
        (6, 2, False),
        (6, 3, True),
        (9, 3, False),
    ],
)
def test_more_than_one_and_more_than_a_third_together_are_a_storm(nodes: int, dead: int, held: bool) -> None:
    scene = Scene(nodes)
    scene.alive -= set(range(1, dead + 1))
    assert bool(scene.run(12)) is held


def test_a_storm_is_said_and_over_when_enough_are_back() -> None:
    scene = Scene(4)
    scene.alive -= {1, 2}
    assert scene.run(12) == (
        "2 of 4 nodes went down together, which looks like one cause: repair waits until 1 of them is back, "
        "at most 5 min 00 s"
    )
    scene.alive.add(1)
    assert scene.run(1) == ""


def test_a_storm_is_over_after_its_time() -> None:
    scene = Scene(4)
    scene.alive -= {1, 2}
    assert scene.run(11)
    assert scene.run(298)
    assert not scene.run(2)


def test_deaths_far_from_each_other_are_no_storm() -> None:
    scene = Scene(4)
    scene.alive -= {1}
    assert not scene.run(80)
    scene.alive -= {2}
    assert not scene.run(12)
    scene.alive -= {3}
    assert scene.run(40), "but the second and the third were together"


def test_a_master_that_has_just_started_waits_for_all_its_nodes() -> None:
    scene = Scene(3, registered=False)
    assert "just started" in scene.run(1)
    scene.register(1)
    scene.register(2)
    assert "just started" in scene.run(1)
    scene.register(3)
    assert not scene.run(1)


def test_a_node_that_does_not_come_holds_a_new_master_only_so_long() -> None:
    scene = Scene(4, registered=False)
    for node in (1, 2, 3):
        scene.register(node)
    assert scene.run(19)
    assert not scene.run(2)


def test_a_pause_of_the_master_holds_until_all_that_were_there_are_heard() -> None:
    scene = Scene(4)
    scene.alive -= {4}
    assert not scene.run(30), "one is dead, and that is known"
    alive, scene.alive = scene.alive, set()
    scene.missed_ns += 60 * SECOND
    assert "away itself" in scene.run(1)
    scene.alive = alive
    assert not scene.run(1), "the dead one is not waited for"


def test_a_pause_holds_only_so_long() -> None:
    scene = Scene(5)
    scene.missed_ns += 60 * SECOND
    assert scene.haste.held(scene.now)
    scene.alive -= {4}
    assert "away itself" in scene.run(19)
    assert not scene.run(2)


def test_a_turn_that_is_a_little_late_holds_nothing() -> None:
    scene = Scene(4)
    for _ in range(20):
        scene.missed_ns += SECOND // 2
        assert not scene.haste.held(scene.now)
        scene.run(1)
