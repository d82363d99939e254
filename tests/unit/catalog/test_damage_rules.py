"""What follows when a node says that shards are damaged: the table of the rules, row by row."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog.damage_rules import DamageTaken, TakeDamage
from dsa_zmq.master.catalog.jobs import LoadDrops
from dsa_zmq.master.catalog.places import PlaceChange, change_places
from dsa_zmq.master.catalog.tables import BAD_PLACE, CHUNKS, DROPS, MOVES, PLACES, UNVERIFIED, DropRow, MoveRow
from dsa_zmq.model.upkeep import Standing, Why
from dsa_zmq.protocol.operations import Remove
from dsa_zmq.protocol.values import ShardRef
from tests.unit.catalog.conftest import ALL_UP, spare

NOTHING = DamageTaken([], 0)


def tell(kit, node, *shards, standings=ALL_UP):
    outcome = kit.one(TakeDamage(node, [ShardRef(*shard) for shard in shards], standings))
    kit.audit()
    return outcome


def bad_places(kit):
    return [row[:2] for row in kit.dump()["places"] if row[3] == BAD_PLACE]


def test_a_place_is_bad_once(kit, staged):
    first = staged.receipts[0]
    assert tell(kit, first.node, (staged.chunk, first.index)) == DamageTaken([staged.chunk], 0)
    assert bad_places(kit) == [(staged.chunk, first.node)]
    assert tell(kit, first.node, (staged.chunk, first.index)) == NOTHING
    assert kit.one(LoadDrops(first.node, 10)) == [], "its bytes stay"


def test_another_shard_of_the_chunk_on_that_node_is_not_meant(kit, staged):
    first = staged.receipts[0]
    assert tell(kit, first.node, (staged.chunk, 1 - first.index)) == NOTHING
    assert bad_places(kit) == []


def test_what_is_no_place_goes_if_a_good_node_has_the_shard(kit, staged):
    node, index = spare(staged), staged.receipts[0].index
    assert tell(kit, node, (staged.chunk, index), (staged.chunk, index)) == DamageTaken([], 1)
    assert kit.one(LoadDrops(node, 10)) == [ShardRef(staged.chunk, index)]
    assert tell(kit, node, (staged.chunk, index)) == NOTHING, "its drop goes on"


def test_damaged_bytes_stand_in_for_nothing(kit, staged):
    """Else they would be there for ever once their node has got the copy that is missing."""
    kept, lost = staged.receipts
    away = {**ALL_UP, lost.node: Standing.AWAY}
    assert tell(kit, spare(staged), (staged.chunk, kept.index), standings=away) == DamageTaken([], 1)


@pytest.mark.parametrize("standing", [Standing.SILENT, Standing.FAILED, Standing.AWAY, Standing.LEAVES])
def test_damaged_bytes_are_kept_while_there_may_be_no_others(kit, staged, standing):
    node, holder = spare(staged), staged.receipts[0]
    assert tell(kit, node, (staged.chunk, holder.index), standings={**ALL_UP, holder.node: standing}) == NOTHING
    assert kit.one(LoadDrops(node, 10)) == []


def test_of_what_nobody_names_only_that_below_the_horizon_goes(kit, staged):
    node = spare(staged)
    upcoming = staged.chunk + 1000
    assert tell(kit, node, (upcoming, 0)) == NOTHING, "an upload may be under way"
    kit.good(Remove("/file"))
    kit.collect()
    kit.drop_all()
    kit.collect(horizon=staged.chunk + 1)
    assert tell(kit, node, (staged.chunk, 0), (upcoming, 0), (0, 0), (-5, 0)) == DamageTaken([], 1)
    assert kit.one(LoadDrops(node, 10)) == [ShardRef(staged.chunk, 0)]


def test_a_pending_move_and_a_drop_go_on_by_themselves(kit, staged):
    moving, leaving = [node for node in range(1, 5) if node not in {each.node for each in staged.receipts}]
    index = staged.receipts[0].index

    def rule(rows):
        rows.put(MOVES, MoveRow(staged.chunk, moving, index, 5, Why.REPAIR, 0, 0))
        rows.put(DROPS, DropRow(leaving, staged.chunk, index, UNVERIFIED))

    kit.decide(rule)
    assert tell(kit, moving, (staged.chunk, index)) == NOTHING
    assert tell(kit, leaving, (staged.chunk, index)) == NOTHING


def test_a_bad_place_justifies_no_drop(kit, staged):
    node, first = spare(staged), staged.receipts[0]

    def rule(rows):
        before = rows.group(PLACES, staged.chunk)
        after = [row._replace(state=BAD_PLACE) if row.node == first.node else row for row in before]
        change_places(rows, [PlaceChange(rows.get(CHUNKS, staged.chunk), before, after)])

    kit.decide(rule)
    assert tell(kit, node, (staged.chunk, first.index)) == NOTHING
