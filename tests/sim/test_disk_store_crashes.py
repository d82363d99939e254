"""The disk store against a model, with crashes, power losses, a full disk, and an index that is lost or old."""

from __future__ import annotations

import contextlib
import random

import hypothesis.strategies as st
import pytest
from blake3 import blake3
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.sim.disk import SimDisk
from dsa_zmq.errors import Conflict, Corrupt, DSAError, NoSpace, NotFound, Unavailable
from dsa_zmq.model.inventory import digests
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.space import MIN_BALLAST_BYTES, MIN_WAL_PAGES, PAGE_BYTES
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey

SEGMENT = 8 << 10
CAPACITY = MIN_BALLAST_BYTES + 2 * MIN_WAL_PAGES * PAGE_BYTES + 12 * SEGMENT
KEYS = [ShardKey(chunk, index) for chunk in range(1, 9) for index in (0, 3)]


def new_shard(key: ShardKey, size: int, version: int) -> NewShard:
    data = random.Random(f"{key} {size} {version}").randbytes(size)
    return NewShard(key, size, blake3(data).digest(), data)


class Crashes(RuleBasedStateMachine):
    """``sure`` shards were acknowledged. What was under way at a crash is ``maybe``: the old, the new, or a quarantined
    torn one, which a put may replace; never other bytes."""

    @initialize(seed=st.integers(0, 1 << 32))
    def start(self, seed: int) -> None:
        self.disk = SimDisk(random.Random(seed))
        self.rng = random.Random(seed + 1)
        self.sure: dict[ShardKey, NewShard] = {}
        self.maybe: dict[ShardKey, list[NewShard | None]] = {}
        self.version = 0
        self.open()

    def open(self) -> None:
        self.store = DiskStore(self.disk, capacity=CAPACITY, reserve=0, segment_bytes=SEGMENT, rng=self.rng)
        self.settle()

    def settle(self) -> None:
        """After a crash: look what became of the doubtful, which must be one of what was possible."""
        for key, possible in self.maybe.items():
            try:
                _, data = self.store.get(key)
                found = next((one for one in possible if one is not None and one.data == data), None)
                assert found is not None, f"{key} has bytes that were never put"
                self.sure[key] = found
            except NotFound:
                assert None in possible, f"{key} is lost"
                self.sure.pop(key, None)
            except Corrupt:
                assert None in possible, f"{key} was acknowledged, and is torn"
                self.store.drop([key])
                self.sure.pop(key, None)
        self.maybe.clear()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.disk.close()

    def batch(self, keys: list[ShardKey], size: int) -> list[NewShard]:
        self.version += 1
        return [new_shard(key, size, self.version) for key in keys]

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True), size=st.integers(1, 3000))
    def put(self, keys: list[ShardKey], size: int) -> None:
        shards = self.batch(keys, size)
        for shard, outcome in zip(shards, self.store.put(shards), strict=True):
            if isinstance(outcome, ShardInfo):
                assert shard.key not in self.sure
                assert outcome == ShardInfo(shard.key, size, size, shard.hash)
                self.sure[shard.key] = shard
            elif shard.key in self.sure:
                assert isinstance(outcome, Conflict)
            else:
                assert isinstance(outcome, NoSpace)

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=8, unique=True))
    def put_again(self, keys: list[ShardKey]) -> None:
        shards = [self.sure[key] for key in keys if key in self.sure]
        assert [i.hash for i in self.store.put(shards) if isinstance(i, ShardInfo)] == [s.hash for s in shards]

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=10))
    def drop(self, keys: list[ShardKey]) -> None:
        gone = self.store.drop(keys)
        assert gone == [key for key in dict.fromkeys(keys) if key in self.sure]
        for key in gone:
            del self.sure[key]

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True),
        size=st.integers(1, 3000),
        dropping=st.booleans(),
        operations=st.integers(0, 12),
        power=st.booleans(),
    )
    def crash_while_busy(self, keys: list[ShardKey], size: int, dropping: bool, operations: int, power: bool) -> None:
        shards = self.batch(keys, size)
        old = [self.sure.get(shard.key) for shard in shards]
        self.disk.die_after(operations)
        done: list[object] = []
        with contextlib.suppress(DSAError):
            done = list(self.store.drop(keys) if dropping else self.store.put(shards))
        for shard, before in zip(shards, old, strict=True):
            if dropping:
                self.maybe[shard.key] = [None] if shard.key in done else [None, before]
            elif before is None:
                acknowledged = any(isinstance(d, ShardInfo) and d.key == shard.key for d in done)
                self.maybe[shard.key] = [shard] if acknowledged else [None, shard]
        self.crash(power)

    @rule(share=st.sampled_from([0.05, 0.25]), steps=st.integers(1, 12), dropped=st.sampled_from(KEYS))
    def compact(self, share: float, steps: int, dropped: ShardKey) -> None:
        """Some steps, or to the end; a drop comes in between."""
        self.compacted(share, steps, dropped)

    @rule(share=st.sampled_from([0.05, 0.25]), operations=st.integers(0, 20), power=st.booleans())
    def crash_while_compacting(self, share: float, operations: int, power: bool) -> None:
        self.disk.die_after(operations)
        with contextlib.suppress(DSAError):
            self.compacted(share, 12, None)
        self.crash(power)

    def compacted(self, share: float, steps: int, dropped: ShardKey | None) -> None:
        number = self.store.compactor.choose(share)
        for _ in range(steps):
            part = None if number is None else self.store.compactor.gather(number, 2000)
            if dropped is not None:
                self.drop([dropped])
            if number is None or part is None or self.store.compactor.rewrite(part).ended:
                return

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        if power:
            self.disk.power_loss()
        else:
            self.disk.process_crash()
        self.open()

    @rule(power=st.booleans(), operations=st.integers(0, 30))
    def crash_while_starting(self, power: bool, operations: int) -> None:
        self.disk.process_crash()
        self.disk.die_after(operations)
        with contextlib.suppress(Unavailable):
            self.open()
        self.crash(power)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()

    @rule(power=st.booleans())
    def lose_the_index(self, power: bool) -> None:
        if power:
            self.disk.power_loss()
        else:
            self.disk.process_crash()
        for name in ("index.sqlite", "index.sqlite-wal"):
            if self.disk.exists(name):
                self.disk.unlink(name)
        self.disk.sync_dir("")
        self.open()

    @rule()
    def keep_a_copy_of_the_index(self) -> None:
        self.store.close()
        self.copy = self.disk.read_bytes("index.sqlite")
        self.open()

    @precondition(lambda self: hasattr(self, "copy"))
    @rule()
    def bring_back_an_old_index(self) -> None:
        self.store.close()
        self.disk.replace_bytes("index.sqlite", self.copy)
        self.open()

    @rule(room=st.integers(0, 2 * SEGMENT), keys=st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
    def drop_on_a_full_disk(self, room: int, keys: list[ShardKey]) -> None:
        capacity = self.disk.capacity_bytes
        self.disk.capacity_bytes = capacity - self.disk.free_bytes()[0] + room
        self.drop(keys)
        self.disk.capacity_bytes = capacity

    @invariant()
    def all_sure_shards_are_there(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.failure == ""
        assert [info.key for info in self.store.list(None, 100)] == sorted(self.sure)
        assert self.store.usage().shards == len(self.sure)
        assert self.store.digests(0) == digests(self.sure, 0)
        assert sum(state.live for state in self.store._writer.segments.values()) == len(self.sure)
        assert self.store.usage().used <= CAPACITY
        for key, shard in self.sure.items():
            assert self.store.get(key)[1] == shard.data
        for key in set(KEYS) - set(self.sure):
            assert self.store.has(key) is None


TestCrashes = pytest.mark.slow(Crashes.TestCase)
TestCrashes.settings = settings(stateful_step_count=40, deadline=None)
