"""Damaged bytes are never served: they are quarantined, told, and kept until they are dropped."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from actors.disk import OsDisk
from actors.sim.disk import SimDisk
from dsa_zmq.errors import Corrupt, DSAError, NotFound
from dsa_zmq.node import segment_files
from dsa_zmq.node.index_file import PATH as INDEX
from dsa_zmq.node.segments import RECORD_HEADER_BYTES
from dsa_zmq.node.store import NewShard, ShardKey
from tests.unit.disk_store.conftest import (
    contents,
    crash,
    drop,
    image,
    lose_index,
    open_store,
    place,
    put,
    put_all,
    rot,
    segments,
    shard,
)


def test_a_bad_sector_is_quarantined_and_told_and_survives_a_restart(disk: SimDisk) -> None:
    store = open_store(disk)
    put_all(store, shard(1), shard(2, 2000))
    path, at = place(disk, shard(2, 2000))
    disk.bad_sector(path, at + 1000)
    with pytest.raises(Corrupt):
        store.get(ShardKey(2, 0))
    assert [info.key for info in store.damaged()] == [ShardKey(2, 0)]
    assert store.failure == ""
    store.close()
    store = open_store(disk)
    assert [info.key for info in store.damaged()] == [ShardKey(2, 0)]
    assert contents(store) == {shard(1).key: shard(1).data}


@pytest.mark.parametrize("offset", [0, -RECORD_HEADER_BYTES], ids=["payload", "header"])
@pytest.mark.parametrize("size", [1000, 5000], ids=["open segment", "full segment"])
def test_rot_at_the_very_end_after_an_orderly_stop_is_damage_and_no_torn_write(
    disk: SimDisk, offset: int, size: int
) -> None:
    """The index was told of all records: what it knows was written, whatever stands there now."""
    store = open_store(disk)
    put_all(store, shard(1), shard(2, size))
    path, at = place(disk, shard(2, size))
    store.close()
    disk.flip_bit(path, at + offset)
    store = open_store(disk, seed=2)
    assert not any("being written" in note for note in store.notes)
    with pytest.raises(Corrupt):
        store.get(ShardKey(2, 0))
    assert [info.key for info in store.damaged()] == [ShardKey(2, 0)]
    put(store, 3)
    store = crash(disk, power=False)
    assert [info.key for info in store.damaged()] == [ShardKey(2, 0)]
    assert contents(store) == {each.key: each.data for each in (shard(1), shard(3))}


def test_a_record_that_is_not_the_one_that_the_index_means_is_not_served(disk: SimDisk) -> None:
    """The index is no more than a hint: what it points to must be this very record, though the bytes be the same."""
    store = open_store(disk)
    one = shard(1)
    put_all(store, one, NewShard(ShardKey(2, 0), one.chunk_length, one.hash, one.data))
    store._index.tell()
    store._index._index._db.execute(
        "UPDATE shards SET offset = (SELECT offset FROM shards WHERE chunk = 1) WHERE chunk = 2"
    )
    with pytest.raises(Corrupt):
        store.get(ShardKey(2, 0))
    assert store.get(ShardKey(1, 0))[1] == one.data


def test_quarantined_bytes_stay_on_the_disk(disk: SimDisk) -> None:
    store = open_store(disk)
    put(store, *range(1, 8))
    path, at = place(disk, shard(1))
    disk.flip_bit(path, at)
    with pytest.raises(Corrupt):
        store.get(ShardKey(1, 0))
    drop(store, *range(2, 8))
    put(store, *range(11, 31))
    drop(store, *range(11, 31))
    assert path in segments(disk)
    store.drop([ShardKey(1, 0)])
    assert path not in segments(disk)


def test_a_replaced_damaged_shard_does_not_come_back_when_its_replacement_is_dropped(disk: SimDisk) -> None:
    store = open_store(disk)
    filler = [shard(chunk) for chunk in range(10, 30)]
    put_all(store, shard(1), *filler)
    rot(disk, shard(1))
    with pytest.raises(Corrupt):
        store.get(ShardKey(1, 0))
    put_all(store, shard(1))
    store.drop([ShardKey(1, 0)])
    lose_index(disk)
    disk.process_crash()
    store = open_store(disk)
    with pytest.raises(NotFound):
        store.get(ShardKey(1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("keep_index", [True, False])
def test_a_flipped_byte_anywhere_is_never_a_crash_and_never_wrong_bytes(keep_index: bool) -> None:
    disk = SimDisk(random.Random(5))
    store = open_store(disk, segment_bytes=4096)
    news = [shard(chunk, 700, index=chunk % 3) for chunk in range(1, 10)]
    put_all(store, *news)
    store.drop([news[0].key, news[7].key])
    wanted = {new.key: new.data for new in news if new not in (news[0], news[7])}
    store.close()
    originals = {path: image(disk, path) for path in segments(disk)}
    index = disk.read_bytes(INDEX)
    for path in list(originals)[:3]:
        for at in range(0, 4096, 11):
            disk.flip_bit(path, at, at % 8)
            store = open_store(disk, segment_bytes=4096)
            wrong = 0
            for new in news:
                try:
                    assert store.get(new.key)[1] == new.data
                    assert new.key in wanted or not keep_index
                except (Corrupt, NotFound):
                    wrong += new.key in wanted
            assert wrong <= 1, (path, at)
            put_all(store, shard(100, 100))
            store.close()
            for name in segments(disk):
                disk.unlink(name)
            for name, data in originals.items():
                disk.replace_bytes(name, data)
            if keep_index:
                disk.replace_bytes(INDEX, index)
            else:
                lose_index(disk)


@pytest.mark.slow
def test_readers_never_meet_wrong_bytes_while_one_writer_puts_and_drops(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_files, "OPEN_FILES", 3)
    store = open_store(OsDisk(tmp_path), capacity=4 << 20)
    put(store, *range(1, 100))
    problems: list[object] = []
    reads = [0, 0, 0]
    stop = threading.Event()

    def read(number: int) -> None:
        draw = random.Random(number)
        while not stop.is_set() or reads[number] < 50:
            new = shard(draw.randrange(1, 200))
            try:
                if store.get(new.key)[1] != new.data:
                    problems.append(new.key)
            except NotFound:
                if new.key.chunk < 100:
                    problems.append(new.key)
            except DSAError as error:
                problems.append(error)
            reads[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        put(store, *range(100, 200))
        drop(store, *range(100, 200))
    stop.set()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert problems == []
    store.close()
