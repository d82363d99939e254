"""What a disk store acknowledged survives; after a failed sync nothing more is acknowledged."""

from __future__ import annotations

import errno
import random
from typing import Any

import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.errors import Unavailable
from dsa_zmq.node.failure import FAILED
from dsa_zmq.node.store import ShardKey
from tests.unit.disk_store.conftest import contents, crash, drop, open_store, put_all, shard


def test_a_batch_is_one_write_and_one_sync(disk: SimDisk) -> None:
    store = open_store(disk, capacity=1 << 28, segment_bytes=4 << 20)
    put_all(store, shard(99))  # a new WAL begins with a sync of its header
    before = disk.counts["datasync"]
    put_all(store, *(shard(chunk, 20) for chunk in range(1, 20)))
    assert disk.counts["datasync"] - before == 1


def test_acknowledged_shards_survive_power_loss(disk: SimDisk) -> None:
    store = open_store(disk)
    wanted = {}
    for chunk in range(1, 40):
        new = shard(chunk, chunk * 30)
        put_all(store, new)
        wanted[new.key] = new.data
        if chunk % 7 == 0:
            store = crash(disk)
    assert contents(crash(disk)) == wanted


@pytest.mark.parametrize("seed", range(6))
def test_what_a_store_shows_after_kill_9_survives_a_power_loss_right_then(seed: int) -> None:
    """Until it is synced, a record is in the page cache only: shown it would be, and lost."""
    disk = SimDisk(random.Random(seed))
    store = open_store(disk)
    put_all(store, shard(100))
    shown = 0
    for operations in range(4):
        disk.die_after(operations)
        store.put([shard(operations + 1, 2000)])
        store = crash(disk, power=False)
        seen = contents(store)
        shown += operations + 1 in {key.chunk for key in seen}
        store = crash(disk)
        assert contents(store) == seen
    assert shown >= 2


@pytest.mark.parametrize("seed", range(8))
def test_after_kill_9_of_a_store_that_had_done_nothing_a_power_loss_mixes_no_two_states_of_the_index(seed: int) -> None:
    """The WAL of the index was made anew by the store that was killed, and its name is not durable when the next begins:
    with the one of before in its place, tables of the index would be of different times."""
    disk = SimDisk(random.Random(seed))
    store = open_store(disk)
    put_all(store, shard(1))
    store = crash(disk, power=False)  # tells the index, which begins this WAL anew: it has only some of the pages
    store.close()
    store = open_store(disk)
    store = crash(disk, power=False)
    drop(store, 1)
    store.close()
    store = open_store(disk)
    store = crash(disk)
    assert store.notes == []
    assert contents(store) == {}
    assert store.usage().shards == 0
    assert store.digests(0) == {}


def test_a_failed_sync_fails_the_store_for_good_until_an_operator_clears_it(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1))
    disk.failing_syncs = 1
    assert isinstance(store.put([shard(2)])[0], Unavailable)
    assert "Input/output error" in store.failure or "input/output error" in store.failure
    for _ in range(2):
        assert isinstance(store.put([shard(2)])[0], Unavailable)
        with pytest.raises(Unavailable):
            store.drop([ShardKey(1, 0)])
        assert store.get(ShardKey(1, 0))[1] == shard(1).data
        store = crash(disk, power=False)
        assert store.failure
    disk.unlink(FAILED)
    store = crash(disk)
    assert store.failure == ""
    put_all(store, shard(2))


def test_a_failed_sync_of_a_drop_fails_the_store(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1))
    disk.failing_syncs = 1
    with pytest.raises(Unavailable):
        store.drop([ShardKey(1, 0)])
    assert store.failure
    assert store.get(ShardKey(1, 0))[1] == shard(1).data


def test_a_read_only_file_system_is_named(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1))
    disk.readonly = True
    outcome = store.put([shard(2)])[0]
    assert isinstance(outcome, Unavailable)
    assert "read-only" in str(outcome)
    assert "read-only" in store.failure
    assert store.get(ShardKey(1, 0))[1] == shard(1).data
    disk.readonly = False
    store = crash(disk)
    assert store.failure == ""


def test_a_disk_that_cannot_be_read_at_the_start_is_unavailable(disk: SimDisk) -> None:
    open_store(disk).close()
    disk.readonly = True
    with pytest.raises(Unavailable, match="cannot be used"):
        open_store(disk)


def test_too_many_open_files_is_no_damage(disk: SimDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(disk)
    put_all(store, shard(1))

    def refuse(number: int) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(store._files, "borrow", refuse)
        with pytest.raises(Unavailable):
            store.get(ShardKey(1, 0))
    assert store.get(ShardKey(1, 0))[1] == shard(1).data
    assert store.damaged() == []
