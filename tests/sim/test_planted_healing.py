"""The scenarios of healing can fail: for each rule a defect is planted into the shipped code, and some seed must notice.

Some rules have more than one line of defence. Then all are planted away at once, and each alone is shown to suffice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from dsa_zmq.client import plausible
from dsa_zmq.master import allocation
from dsa_zmq.master.catalog import batch, examine_rules, inventory_rules, move_rules, places, receipts, survey_rules
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.tables import CHUNKS, HORIZON, LIVE_PLACE, MOVES, PLACES, PlaceRow
from dsa_zmq.master.comparison import Comparison
from dsa_zmq.master.haste import Haste
from dsa_zmq.master.removals import Removals
from dsa_zmq.model import steps
from dsa_zmq.model.steps import Ground, Holding, Release, Step
from dsa_zmq.model.upkeep import NodeView, Placed, Standing
from dsa_zmq.node import jobs
from dsa_zmq.node.damage import Damages
from dsa_zmq.node.dropping import Dropping
from dsa_zmq.node.fetching import Fetching
from dsa_zmq.node.scrub_steps import LoadScrub, ScrubState
from dsa_zmq.node.writer import SegmentWriter
from dsa_zmq.protocol.messages import GOOD
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.planting import Plant, Planting, both, first_to_notice, stays_green
from dsa_zmq.sim.scenarios import degraded, held, inventories, moving, removing, resuming

SEEDS = 20  #: within which each bug must be found
FEW = 3  #: of seeds, each of which must stay green if one line of defence is left

_, _, LATE_LISTING, SWAPPED, _ = inventories.INVENTORIES


# --- what is believed -------------------------------------------------------------------------------------------------


def listing_is_believed(plant: Planting) -> None:
    """What a node's listing does not name is taken for missing, without asking it."""

    @plant.instead_of(batch.JOB_RULES, inventory_rules.JudgeInventory, always=False)
    def hasty(shipped: Any, rows: Any, facts: Any, job: Any) -> Any:
        judged = shipped(rows, facts, job)
        for shard in judged.missing:
            plant.differs()
            chunk, before = rows.get(CHUNKS, shard.chunk), rows.group(PLACES, shard.chunk)
            after = [place for place in before if place.node != job.node]
            change_places(rows, [PlaceChange(chunk, before, after)])
        return judged


class _NoHorizon:
    """Rows whose horizon lies behind every id."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def number(self, name: str) -> int:
        return 1 << 62 if name == HORIZON else int(self._rows.number(name))


def orphans_have_no_horizon(plant: Planting) -> None:
    """What belongs to no chunk is dropped, though it may be of an upload under way."""

    @plant.instead_of(batch.JOB_RULES, inventory_rules.JudgeInventory)
    def judge(shipped: Any, rows: Any, facts: Any, job: Any) -> Any:
        return shipped(_NoHorizon(rows), facts, job)


def drops_are_carried_out_again(plant: Planting) -> None:
    """A node carries out each Drop that it gets, doubled and late ones too."""

    @plant.instead_of(Dropping, "_on_drop", always=False)
    def forgetful(shipped: Any, self: Dropping, ctx: Any, message: Any) -> None:
        this = (message.term, message.number)
        if this not in self._under_way:
            if this <= self._last:
                plant.differs()
            self._last = (0, 0)
        shipped(self, ctx, message)


# --- too few nodes ----------------------------------------------------------------------------------------------------


def the_next_loss_is_the_last(plant: Planting) -> None:
    """A write that may be degraded is given places, and is committed, with no more shards than are needed to read it."""
    for module in (allocation, plausible, receipts):

        @plant.instead_of(module, "fewest", always=False)
        def fewest(shipped: Any, redundancy: Any, degraded: bool) -> int:
            if degraded and redundancy.tolerates:
                plant.differs()
                return int(redundancy.needed)
            return int(shipped(redundancy, degraded))


# --- letting go: three lines count ------------------------------------------------------------------------------------


def two_remove_at_once(plant: Planting) -> None:
    """A second remover decides beside the survey's, each right alone: it counts what is there, and does not know what the
    first lets go. Once for each chunk; the transaction of a survey may be run again."""
    turns: dict[int, Any] = {}
    now: list[Any] = []

    @plant.instead_of(batch.JOB_RULES, survey_rules.Survey)
    def look(shipped: Any, rows: Any, facts: Any, job: Any) -> Any:
        now[:] = [job]
        return shipped(rows, facts, job)

    @plant.instead_of(steps, "_release_all", always=False)
    def both_decide(shipped: Any, holding: Holding, ground: Ground) -> list[Step]:
        first: list[Step] = list(shipped(holding, ground))
        if not first or turns.setdefault(holding.chunk, now[0]) is not now[0]:
            return first
        taken = {step.node for step in first if isinstance(step, Release)}
        left, second = list(holding.places), []
        for place in holding.places:
            if place.node not in taken and steps._is_superfluous(holding, ground, left, place):
                plant.differs()
                left.remove(place)
                second.append(Release(place.node))
        return [*first, *second]


def _does_not_count(module: Any, name: str) -> Plant:
    def plant_it(plant: Planting) -> None:
        @plant.instead_of(module, name)
        def uncounted(shipped: Any, *arguments: Any) -> Any:
            with pytest.MonkeyPatch.context() as only_now:
                only_now.setattr(places, "keepers_of", _all_others)
                return shipped(*arguments)

    return plant_it


def _all_others(chunk: Any, rows: Sequence[PlaceRow], leaving: Placed, view: Any) -> list[Placed]:
    return [Placed(row.node, row.shard) for row in rows if row.node != leaving.node and row.state == LIVE_PLACE]


release_does_not_count = _does_not_count(survey_rules, "release")
send_off_does_not_count = _does_not_count(examine_rules, "send_off")

nobody_counts = both(two_remove_at_once, release_does_not_count, send_off_does_not_count)
"""A place is released, and sent off, without counting the others in the transaction; and what is proposed there is not
fresh: the survey decides in the very transaction of the release, which would be enough."""


def keepers_are_not_asked(plant: Planting) -> None:
    """What was released is sent off without a question to those who have it, too."""

    @plant.instead_of(Removals, "_ask")
    def settle_at_once(shipped: Any, self: Removals, ctx: Any, released: Sequence[Any]) -> None:
        self._open |= {(each.node, each.chunk, each.shard) for each in released}
        self._settle(ctx, released, [GOOD for each in released for _ in each.keepers])


def keepers_are_not_read(plant: Planting) -> None:
    """They are asked, but do not look at the bytes."""

    @plant.instead_of(Removals, "_ask")
    def ask(shipped: Any, self: Removals, ctx: Any, released: Sequence[Any]) -> None:
        examiner = self.office.examiner
        with pytest.MonkeyPatch.context() as only_now:
            unread = lambda ctx, shards, read, reply, ask=examiner.ask: ask(ctx, shards, False, reply)  # noqa: E731
            only_now.setattr(examiner, "ask", unread)
            shipped(self, ctx, released)


def a_draining_node_keeps(plant: Planting) -> None:
    """Places on a node that is to be emptied justify that others go, wherever that is counted."""

    def as_if_staying(view: Mapping[int, NodeView]) -> dict[int, NodeView]:
        leaving = {node for node, each in view.items() if each.standing is Standing.LEAVES}
        if leaving:
            plant.differs()
        return {
            node: dataclasses.replace(each, standing=Standing.KEEPS) if node in leaving else each
            for node, each in view.items()
        }

    for module in (steps, places):

        @plant.instead_of(module, "keepers", always=False)
        def keepers(shipped: Any, there: Any, leaving: Any, redundancy: Any, view: Any, *, good: bool = True) -> Any:
            return shipped(there, leaving, redundancy, as_if_staying(view), good=good)


# --- moves ------------------------------------------------------------------------------------------------------------


def a_receipt_needs_no_row(plant: Planting) -> None:
    """What has arrived is a place, though its move is not there any more."""

    @plant.instead_of(move_rules, "_apply", always=False)
    def apply(shipped: Any, rows: Any, facts: Any, node: int, arrived: Any) -> Any:
        there = rows.get(MOVES, (arrived.chunk, node)) is not None
        if there or any(place.node == node for place in rows.group(PLACES, arrived.chunk)):
            return shipped(rows, facts, node, arrived)
        plant.differs()
        rows.put(PLACES, PlaceRow(arrived.chunk, node, arrived.receipt.index))
        return move_rules.Applied(move_rules.DONE)


def moves_go_where_a_drop_is(plant: Planting) -> None:
    """A shard is made where one of its chunk is still to be dropped."""

    @plant.instead_of(survey_rules, "_holding", always=False)
    def holding(shipped: Any, chunk: Any, shards: Any) -> Holding:
        found: Holding = shipped(chunk, shards)
        if found.dropping:
            plant.differs()
        return dataclasses.replace(found, dropping=frozenset())


def fetched_shards_are_not_synced(plant: Planting) -> None:
    """A node says that a shard has arrived before it is durable; what clients put, it syncs."""
    fetched = set()

    @plant.instead_of(Fetching, "_run", always=False)
    def run(shipped: Any, self: Any, ctx: Any, command: Any, step: str, shards: Any, lane: str, job: Any) -> None:
        if step == "put":
            plant.differs()
            fetched.update(shard.key for shard in job.shards)
        shipped(self, ctx, command, step, shards, lane, job)

    @plant.instead_of(jobs, "_put", always=False)
    def put(shipped: Any, store: Any, batch: Sequence[Any]) -> Any:
        if not all(shard.key in fetched for job in batch for shard in job.shards):
            return shipped(store, batch)
        plant.differs()
        with pytest.MonkeyPatch.context() as only_now:
            only_now.setattr(store._disk, "ignore_sync", True)
            return shipped(store, batch)


# --- haste ------------------------------------------------------------------------------------------------------------


def _nothing_is_held(reason: str) -> Plant:
    def plant_it(plant: Planting) -> None:
        @plant.instead_of(Haste, reason, always=False)
        def hurry(shipped: Callable[[Haste, int], str], self: Haste, served_ns: int) -> str:
            if shipped(self, served_ns):
                plant.differs()
            return ""

    return plant_it


# --- a node's own disk ------------------------------------------------------------------------------------------------


def rewritten_shards_are_not_synced(plant: Planting) -> None:
    """Compaction unlinks a segment while what it has taken from there is not durable."""

    @plant.instead_of(SegmentWriter, "rewrite")
    def rewrite(shipped: Any, self: SegmentWriter, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as only_now:
            only_now.setattr(self._files._disk, "ignore_sync", True)
            return shipped(self, *arguments)


def scrubbing_begins_anew(plant: Planting) -> None:
    """A start does not know how far it was."""

    @plant.instead_of(jobs.CARE_JOBS, LoadScrub, always=False)
    def load(shipped: Any, store: Any, job: LoadScrub) -> ScrubState:
        if shipped(store, job).running:
            plant.differs()
        return ScrubState()


def damage_is_not_told_anew(plant: Planting) -> None:
    """What was in quarantine when a node was started is not told."""

    @plant.instead_of(Damages, "on_registered")
    def registered(shipped: Any, self: Damages, ctx: Any) -> None:
        self._counted = 1 << 30


def inventories_are_not_compared(plant: Planting) -> None:
    """What is in quarantine is in no inventory, so that comparing them finds it as well."""
    plant.instead_of(Comparison, "_begin")(lambda shipped, self, ctx, node, served_ns: None)


PLANTED: list[tuple[str, Plant, Scenario]] = [
    ("believed listing", listing_is_believed, SWAPPED),
    ("no horizon", orphans_have_no_horizon, LATE_LISTING),
    ("drops again", drops_are_carried_out_again, removing.AGAIN),
    ("no loss to spare", the_next_loss_is_the_last, degraded.DEGRADED),
    ("nobody counts", nobody_counts, removing.LOST),
    ("keepers not asked", keepers_are_not_asked, removing.ROTTEN),
    ("keepers not read", keepers_are_not_read, removing.ROTTEN),
    ("draining keeper", a_draining_node_keeps, removing.DRAINED),
    ("receipt without row", a_receipt_needs_no_row, moving.REMOVED),
    ("move onto drop", moves_go_where_a_drop_is, removing.AGAIN),
    ("fetched, not synced", fetched_shards_are_not_synced, moving.DURABLE),
    ("storm not held", _nothing_is_held("_held_by_storm"), held.AWAY),
    ("start not held", _nothing_is_held("_held_by_start"), held.AWAY),
    ("pause not held", _nothing_is_held("_held_by_pause"), held.AWAY),
    ("rewritten, not synced", rewritten_shards_are_not_synced, resuming.REWRITTEN),
    ("scrub anew", scrubbing_begins_anew, resuming.SCRUB),
    ("damage untold", both(damage_is_not_told_anew, inventories_are_not_compared), resuming.UNTOLD),
]

ONE_LINE_LEFT: list[tuple[str, Plant, Scenario]] = [
    ("a fresh proposal", both(release_does_not_count, send_off_does_not_count), removing.LOST),
    ("release counts", both(two_remove_at_once, send_off_does_not_count), removing.LOST),
    ("send-off counts", both(two_remove_at_once, release_does_not_count), removing.LOST),
    ("the node tells", inventories_are_not_compared, resuming.UNTOLD),
    ("inventories tell", damage_is_not_told_anew, resuming.UNTOLD),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "scenario"), [entry[1:] for entry in PLANTED], ids=[entry[0] for entry in PLANTED])
def test_some_seed_finds_a_planted_bug(plant: Plant, scenario: Scenario) -> None:
    first_to_notice(plant, scenario, range(SEEDS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "scenario"), [entry[1:] for entry in ONE_LINE_LEFT], ids=[entry[0] for entry in ONE_LINE_LEFT]
)
def test_one_line_of_defence_is_enough(plant: Plant, scenario: Scenario) -> None:
    stays_green(plant, scenario, range(FEW))
