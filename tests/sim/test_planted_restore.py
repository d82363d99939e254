"""Scenarios of a lost master can fail: defects of shipping and of the restore are planted, and some seed must notice."""

from __future__ import annotations

from typing import Any

import pytest

from dsa_zmq.master import restoring
from dsa_zmq.master.catalog.rebuild import Restoration
from dsa_zmq.master.gate import ALL, Gate
from dsa_zmq.master.restore_guests import Guests
from dsa_zmq.master.restore_plan import term_above
from dsa_zmq.master.restoring import RestoreActor
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.planting import Plant, Planting, first_to_notice
from dsa_zmq.sim.scenarios import lost_master
from dsa_zmq.sim.scenarios.lost_master import FORMER, LAGGING, LOST

pytestmark = pytest.mark.slow

SEEDS = range(40)


def answers_leave_before_they_are_safe(plant: Planting) -> None:
    """The master's answers do not wait for copies."""

    @plant.instead_of(Gate, "_set_limit")
    def at_once(shipped: Any, gate: Gate, served_ns: int) -> None:
        gate.limit = ALL


def nobody_is_claimed(plant: Planting) -> None:
    """A restore goes on with what the nodes said, and lets them obey whom they like."""

    @plant.instead_of(RestoreActor, "_begin_claiming")
    def finish(shipped: Any, actor: Any, ctx: Any) -> None:
        actor._state = "finishing"
        term = term_above(actor._guests.highest_term)
        actor._claim = actor._claim_of(b"", term)
        for guest in actor._guests:
            guest.claimed = True
        actor._copying.finish(ctx, Restoration(term, ctx.wall_ns(), 0))


def any_copy_will_do(plant: Planting) -> None:
    """Not the newest usable copy is restored, but the oldest."""

    @plant.instead_of(restoring, "choose")
    def oldest(shipped: Any, copies: Any, **options: Any) -> Any:
        volumes = {copy.state.volume for copy in copies if copy.state.complete}
        return shipped([copy for copy in copies if not volumes or copy.state.volume == min(volumes)], **options)


def nodes_that_are_missing_are_not_waited_for(plant: Planting) -> None:
    """Whoever came first is enough."""

    @plant.instead_of(RestoreActor, "_missing")
    def nobody(shipped: Any, actor: Any) -> list[Any]:
        return []

    @plant.instead_of(Guests, "restless")
    def calm(shipped: Any, guests: Any, now_ns: int) -> None:
        return None


def nothing_is_forgiven(plant: Planting) -> None:
    """Asynchronous copies are taken for such that lose nothing."""

    @plant.instead_of(lost_master, "forgive")
    def nothing(shipped: Any, cluster: Any, lag_ns: int) -> None:
        return None


@pytest.mark.parametrize(
    ("plant", "scenario"),
    [
        (answers_leave_before_they_are_safe, LOST),
        (nobody_is_claimed, FORMER),
        (nothing_is_forgiven, LAGGING),
        (any_copy_will_do, LOST),
        (nodes_that_are_missing_are_not_waited_for, LOST),
    ],
    ids=lambda value: getattr(value, "__name__", value.name if isinstance(value, Scenario) else None),
)
@pytest.mark.timeout(600)
def test_a_defect_is_noticed(plant: Plant, scenario: Scenario) -> None:
    first_to_notice(plant, scenario, SEEDS)
