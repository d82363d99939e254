"""What the words of nodes change: places missing or bad, releases sent off or taken back."""

from __future__ import annotations

import pytest

from dsa_zmq.master.catalog import examine_rules
from dsa_zmq.master.catalog.examine_rules import (
    FIRST_DROP,
    Declare,
    FindUnverified,
    Released,
    ReleasesSettled,
    SettleReleases,
)
from dsa_zmq.master.catalog.jobs import LoadDrops
from dsa_zmq.master.catalog.places import release, view_of
from dsa_zmq.master.catalog.tables import BAD_PLACE, LIVE_PLACE
from dsa_zmq.model.upkeep import Placed, Standing
from dsa_zmq.protocol.operations import Remove
from dsa_zmq.protocol.values import ShardRef
from tests.unit.catalog.conftest import ALL_UP, spare


@pytest.fixture
def staged(kit, staged):
    """With one of its shards on a third node, too."""
    kit.add_place(staged.chunk, spare(staged), staged.receipts[1].index)
    return staged


def places(kit):
    return {(row[0], row[1]): row[3] for row in kit.dump()["places"]}


def let_go(kit, staged):
    """Release the third node's place."""
    node = spare(staged)
    kept = kit.decide(lambda rows: release(rows, staged.chunk, node, view_of(rows, ALL_UP)))
    return Released(staged.chunk, node, staged.receipts[1].index, kept)


# --- words ------------------------------------------------------------------------------------------------------------


def test_a_direct_no_ends_the_place_and_damage_makes_it_bad(kit, staged):
    first, second = staged.receipts
    assert kit.one(Declare(first.node, [ShardRef(staged.chunk, first.index)], [])) == [staged.chunk]
    assert kit.one(Declare(second.node, [], [ShardRef(staged.chunk, second.index)])) == [staged.chunk]
    assert places(kit) == {(staged.chunk, second.node): BAD_PLACE, (staged.chunk, spare(staged)): LIVE_PLACE}
    kit.audit()


def test_words_that_come_twice_change_nothing_the_second_time(kit, staged):
    words = Declare(staged.receipts[0].node, [ShardRef(staged.chunk, staged.receipts[0].index)], [])
    assert kit.run(words, words) == [[staged.chunk], []]
    kit.audit()


def test_a_word_on_another_shard_or_node_or_of_no_chunk_changes_nothing(kit, staged):
    first, second = staged.receipts
    before = kit.dump()
    for node, shards in [
        (first.node, [ShardRef(staged.chunk, second.index), ShardRef(77, 0)]),
        (99, [ShardRef(staged.chunk, first.index)]),
    ]:
        assert kit.one(Declare(node, shards, [])) == []
        assert kit.one(Declare(node, [], shards)) == []
    assert kit.dump() == before


def test_a_no_on_what_was_released_leaves_the_drop(kit, staged):
    """It ends when the node has been told, as every drop does."""
    released = let_go(kit, staged)
    assert kit.one(Declare(released.node, [ShardRef(staged.chunk, released.shard)], [])) == []
    assert kit.one(SettleReleases([released], ALL_UP)).sent_off == 1


# --- releases ---------------------------------------------------------------------------------------------------------


def test_a_release_whose_keepers_are_good_is_sent_off(kit, staged):
    released = let_go(kit, staged)
    assert kit.one(SettleReleases([released], ALL_UP)) == ReleasesSettled(1, [])
    assert kit.one(LoadDrops(released.node, 10)) == [ShardRef(staged.chunk, released.shard)]
    assert kit.one(SettleReleases([released], ALL_UP)) == ReleasesSettled(0, []), "once is enough"
    kit.audit()


@pytest.mark.parametrize("good", [0, 1])
def test_a_release_of_which_a_keeper_is_not_good_is_taken_back(kit, staged, good):
    before = kit.dump()
    released = let_go(kit, staged)
    read = Released(released.chunk, released.node, released.shard, released.keepers[:good])
    assert kit.one(SettleReleases([read], ALL_UP)) == ReleasesSettled(0, [staged.chunk])
    assert kit.dump() == before


def test_a_release_is_taken_back_if_a_keeper_died_or_was_declared_missing_meanwhile(kit, staged):
    before = kit.dump()
    released = let_go(kit, staged)
    keeper = released.keepers[0]
    away = ALL_UP | {keeper.node: Standing.AWAY}
    assert kit.one(SettleReleases([released], away)) == ReleasesSettled(0, [staged.chunk])
    assert kit.dump() == before
    released = let_go(kit, staged)
    kit.one(Declare(keeper.node, [ShardRef(staged.chunk, keeper.index)], []))
    assert kit.one(SettleReleases([released], ALL_UP)) == ReleasesSettled(0, [staged.chunk])
    kit.audit()


def test_a_release_of_a_chunk_that_is_gone_is_sent_off(kit, staged):
    released = let_go(kit, staged)
    kit.good(Remove("/file"))
    kit.collect()
    (found,) = kit.one(FindUnverified(FIRST_DROP, ALL_UP)).released
    assert (found.chunk, found.node, found.keepers) == (staged.chunk, released.node, [])
    assert kit.one(SettleReleases([found], ALL_UP)) == ReleasesSettled(1, [])
    kit.audit()


def test_after_a_restart_all_that_is_unverified_is_found(kit, staged, monkeypatch):
    released = let_go(kit, staged)
    kit.power_loss()
    found = kit.one(FindUnverified(FIRST_DROP, ALL_UP))
    assert found.released == [released]
    assert found.next is None
    away = ALL_UP | {released.keepers[0].node: Standing.AWAY}
    assert kit.one(FindUnverified(FIRST_DROP, away)).released[0].keepers == []
    monkeypatch.setattr(examine_rules, "_SCANNED", 1)
    first = kit.one(FindUnverified(FIRST_DROP, ALL_UP))
    assert first.released == [released]
    assert first.next == (released.node, released.chunk, released.shard)
    assert kit.one(FindUnverified(first.next, ALL_UP)).released == []
    assert [place.node for place in released.keepers] == sorted(receipt.node for receipt in staged.receipts)
    assert isinstance(released.keepers[0], Placed)
