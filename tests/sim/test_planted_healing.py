"""The scenarios of healing can fail: for each rule a defect is planted into the shipped code, and some seed must notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dsa_zmq.master.catalog import batch, inventory_rules
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.tables import CHUNKS, PLACES
from dsa_zmq.node.dropping import Dropping
from dsa_zmq.sim.campaign import Scenario, is_red
from dsa_zmq.sim.scenarios import inventories

SEEDS = 20  #: within which each bug must be found

Plant = Callable[[pytest.MonkeyPatch], None]

_, _, LATE_LISTING, SWAPPED, DOUBLED = inventories.INVENTORIES


def listing_is_believed(patch: pytest.MonkeyPatch) -> None:
    """What a node's listing does not name is taken for missing, without asking it."""
    judge = inventory_rules.judge_inventory

    def hasty(rows: Any, facts: Any, job: Any) -> Any:
        judged = judge(rows, facts, job)
        for shard in judged.missing:
            chunk, before = rows.get(CHUNKS, shard.chunk), rows.group(PLACES, shard.chunk)
            after = [place for place in before if place.node != job.node]
            change_places(rows, [PlaceChange(chunk, before, after)])
        return judged

    replace_rule(patch, inventory_rules.JudgeInventory, hasty)


def drops_are_carried_out_again(patch: pytest.MonkeyPatch) -> None:
    """A node carries out each Drop that it gets, doubled and late ones too."""
    on_drop = Dropping._on_drop

    def forgetful(self: Dropping, ctx: Any, message: Any) -> None:
        if (message.term, message.number) not in self._under_way:
            self._last = (0, 0)
        on_drop(self, ctx, message)

    patch.setattr(Dropping, "_on_drop", forgetful)


class _NoHorizon:
    """Rows whose horizon lies behind every id."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def number(self, name: object) -> int:
        return 1 << 62


def orphans_have_no_horizon(patch: pytest.MonkeyPatch) -> None:
    """What belongs to no chunk is dropped, though it may be of an upload under way."""
    judge = inventory_rules.judge_inventory
    replace_rule(patch, inventory_rules.JudgeInventory, lambda rows, facts, job: judge(_NoHorizon(rows), facts, job))


def replace_rule(patch: pytest.MonkeyPatch, job: type[Any], rule: Callable[..., Any]) -> None:
    """In whichever table of rules it stands."""
    tables = [table for table in vars(batch).values() if isinstance(table, dict) and job in table]
    assert tables, f"no table has {job.__name__}"
    for table in tables:
        patch.setitem(table, job, rule)


PLANTED: list[tuple[str, Plant, Scenario]] = [
    ("believed listing", listing_is_believed, SWAPPED),
    ("drops again", drops_are_carried_out_again, DOUBLED),
    ("no horizon", orphans_have_no_horizon, LATE_LISTING),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "scenario"), [entry[1:] for entry in PLANTED], ids=[entry[0] for entry in PLANTED])
def test_some_seed_finds_a_planted_bug(plant: Plant, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(is_red(scenario, seed) for seed in range(SEEDS))
