"""A plant that shows nothing is not taken for one that was found, nor for one that was not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.cluster import SimCluster
from dsa_zmq.sim.planting import Plant, Planting, Unnoticed, Unsound, both, first_to_notice, planted, stays_green


class Shipped:
    """What is planted into."""

    def rule(self, seed: int) -> bool:
        return True

    def unused(self) -> None:
        raise AssertionError("nobody calls this")


TABLE: dict[type, Any] = {Shipped: lambda seed: True}


def obeys_the_rule(cluster: SimCluster) -> None:
    assert Shipped().rule(cluster.seed)


def obeys_the_table(cluster: SimCluster) -> None:
    assert TABLE[Shipped](cluster.seed)


def is_red_anyway(cluster: SimCluster) -> None:
    Shipped().rule(cluster.seed)
    raise AssertionError("for another reason")


def does_not_care(cluster: SimCluster) -> None:
    Shipped().rule(cluster.seed)


OBEYS, TABLED, RED, CARELESS = map(Scenario, (obeys_the_rule, obeys_the_table, is_red_anyway, does_not_care))


def broken_from_two_on(plant: Planting) -> None:
    @plant.instead_of(Shipped, "rule", always=False)
    def rule(shipped: Any, self: Shipped, seed: int) -> bool:
        if seed < 2:
            return bool(shipped(self, seed))
        plant.differs()
        return False


def broken_table(plant: Planting) -> None:
    plant.instead_of(TABLE, Shipped)(lambda shipped, seed: False)


def in_dead_code(plant: Planting) -> None:
    plant.instead_of(Shipped, "unused")(lambda shipped, self: None)


def as_shipped(plant: Planting) -> None:
    plant.instead_of(Shipped, "rule", always=False)(lambda shipped, self, seed: shipped(self, seed))


def renamed(plant: Planting) -> None:
    plant.instead_of(Shipped, "former_name")(lambda shipped, self: None)


def other_arguments(plant: Planting) -> None:
    plant.instead_of(Shipped, "rule")(lambda shipped, self: False)


def fails_itself(plant: Planting) -> None:
    plant.instead_of(Shipped, "rule")(lambda shipped, self, seed: self.former_name)


def runs_later(plant: Planting) -> None:
    @plant.instead_of(Shipped, "rule")
    def rule(shipped: Any, self: Shipped, seed: int) -> Any:
        yield False


def nothing(plant: Planting) -> None:
    """Forgotten."""


def test_the_first_seed_that_notices_is_told() -> None:
    assert first_to_notice(broken_from_two_on, OBEYS, range(5)) == 2
    assert first_to_notice(broken_table, TABLED, range(5)) == 0


def test_all_is_as_shipped_afterwards() -> None:
    before = Shipped.rule, TABLE[Shipped]
    with planted(broken_from_two_on, broken_table):
        assert before != (Shipped.rule, TABLE[Shipped])
    assert before == (Shipped.rule, TABLE[Shipped])


def test_a_plant_in_one_place_twice_is_undone_in_turn() -> None:
    before = Shipped.rule
    assert first_to_notice(both(broken_from_two_on, as_never_two), OBEYS, range(5)) == 2
    assert before == Shipped.rule


def as_never_two(plant: Planting) -> None:
    plant.instead_of(Shipped, "rule")(lambda shipped, self, seed: shipped(self, seed))


@pytest.mark.parametrize("judge", [first_to_notice, stays_green])
@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (in_dead_code, "planted code never ran: .*Shipped.unused"),
        (as_shipped, "planted code never ran: .*Shipped.rule"),
        (both(broken_from_two_on, in_dead_code), "planted code never ran: .*Shipped.unused$"),
        (renamed, "there is no .*Shipped.former_name"),
        (other_arguments, "the planted code itself has failed: TypeError"),
        (fails_itself, "the planted code itself has failed: AttributeError"),
        (runs_later, "would run when nobody looks"),
        (nothing, "nothing is planted"),
    ],
)
def test_a_plant_that_cannot_show_anything_is_refused(judge: Any, plant: Plant, why: str) -> None:
    with pytest.raises(Unsound, match=why):
        judge(plant, OBEYS, range(2, 4))


def test_what_is_red_without_the_plant_has_noticed_nothing() -> None:
    with pytest.raises(Unsound, match="is_red_anyway is red without it, too, with seed 2"):
        first_to_notice(broken_from_two_on, RED, range(2, 4))


def test_what_is_red_before_the_planted_code_runs_has_noticed_nothing() -> None:
    with pytest.raises(Unsound, match="planted code never ran"):
        first_to_notice(broken_from_two_on, RED, range(4))


def test_a_bug_that_nobody_notices_is_told() -> None:
    with pytest.raises(Unnoticed, match="does_not_care stays green"):
        first_to_notice(broken_from_two_on, CARELESS, range(4))


def test_a_line_that_does_not_protect_alone_is_told() -> None:
    stays_green(broken_from_two_on, CARELESS, range(2, 4))
    with pytest.raises(AssertionError, match="obeys_the_rule is red, with seed 2"):
        stays_green(broken_from_two_on, OBEYS, range(2, 4))


def test_an_error_of_shipped_code_below_a_plant_is_no_fault_of_the_plant() -> None:
    class Strict(SimpleNamespace):
        pass

    namespace: dict[str, Any] = {}
    exec(compile("def rule(seed):\n    raise TypeError(seed)\n", "shipped.py", "exec"), namespace)
    Strict.rule = staticmethod(namespace["rule"])  # type: ignore[attr-defined]
    table = {Strict: namespace["rule"]}
    with Planting() as planting:
        planting.instead_of(table, Strict)(lambda shipped, seed: shipped(seed))
        with pytest.raises(TypeError):
            table[Strict](1)
    planting.check_itself()
    planting.check_ran()
