"""A node looks after what it holds: it verifies everything at a limited rate, and tells the master of damage until noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3

from actors.sim.process import EPOCH_NS
from dsa_zmq.errors import Corrupt
from dsa_zmq.model.pace import CarePace
from dsa_zmq.node.damage import SHARDS_AT_ONCE
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.identity import open_identity
from dsa_zmq.node.jobs import READ, WRITE, PutBatch
from dsa_zmq.node.scrub_steps import SaveScrub, ScrubState, save_scrub
from dsa_zmq.node.store import NewShard, ShardKey
from dsa_zmq.protocol.messages import Damage, Heartbeat, Noted, Scrub
from tests.sim.conftest import SECOND, NodeWorld

CAPACITY, SEGMENT = 16 << 20, 256 << 10


class Scene(NodeWorld):
    """A node on a disk that holds shards 1, 2, 3 ..., and a master that notes damage unless that is taken away from it."""

    def __init__(self, sizes: Sequence[int], **pace: Any) -> None:
        self.pace = CarePace(**pace)
        super().__init__(capacity=CAPACITY, segment_bytes=SEGMENT, pace=self.pace)
        self.contents = {number: self.rng.randbytes(size) for number, size in enumerate(sizes, 1)}
        open_identity(self.disk, self.rng, "n3")
        self.with_store(lambda store: store.put([self.shard(number) for number in self.contents]))
        self.master.answers[Damage] = self.noted
        self.keep_hinting()

    def noted(self, damage: Damage) -> Noted:
        return Noted(damage.number)

    def shard(self, number: int) -> NewShard:
        data = self.contents[number]
        return NewShard(ShardKey(number, 0), len(data), blake3(data).digest(), data)

    def with_store(self, work: Callable[[DiskStore], Any]) -> Any:
        """While the node is not running."""
        store = DiskStore(self.disk, capacity=CAPACITY, reserve=0, segment_bytes=SEGMENT, rng=self.rng)
        try:
            return work(store)
        finally:
            store.close()

    def restart(self) -> None:
        self.node.stop(10.0)
        self.up()

    def told(self) -> list[list[int]]:
        """The chunks of each Damage."""
        return [[shard.chunk for shard in damage.shards] for damage in self.master.of(Damage)]

    def rot_shards(self, *numbers: int) -> None:
        for number in numbers:
            self.rot(self.contents[number])

    def run_for(self, seconds: float) -> None:
        self.sim.run_for(int(seconds * SECOND))

    def until(self, done: Callable[[], object], seconds: float = 60.0) -> float:
        """How long it took, in virtual seconds."""
        began_ns = self.sim.now_ns
        self.sim.run_until(done, int(seconds * SECOND))
        return (self.sim.now_ns - began_ns) / SECOND

    @property
    def verified(self) -> int:
        """Shards, by this process."""
        return self.actor.statistics()["scrubbed_shards"]

    @property
    def beat(self) -> Heartbeat:
        """The last one."""
        return next((beat for beat in reversed(self.master.of(Heartbeat))), Heartbeat(0, 0, 0, 0, 0, 0, 0))


# --- scrub ------------------------------------------------------------------------------------------------------------


def test_everything_is_verified_and_what_rots_unread_is_told() -> None:
    scene = Scene([5000] * 300)
    scene.rot_shards(7, 250)
    scene.up()
    scene.until(lambda: scene.master.of(Damage))
    scene.until(lambda: scene.verified == 300)
    scene.run_for(10.0)
    assert {chunk for told in scene.told() for chunk in told} == {7, 250}
    assert (scene.beat.damaged, scene.beat.scrub_permille) == (2, 0)
    assert 0 < scene.beat.scrubbed_s <= 12
    scene.node.stop(10.0)
    assert scene.with_store(lambda store: [info.key.chunk for info in store.damaged()]) == [7, 250], "it is kept"


def test_a_round_goes_at_the_rate_and_progress_is_told() -> None:
    scene = Scene([50_000] * 100, scrub_bytes_s=1_000_000, step_bytes=100_000).up()
    scene.until(lambda: scene.verified >= 50)
    assert 350 <= scene.beat.scrub_permille <= 650
    assert scene.beat.scrubbed_s == 0
    took = scene.until(lambda: scene.verified == 100)
    assert 2.0 <= took <= 3.5


def test_while_somebody_waits_it_is_slower() -> None:
    scene = Scene([50_000] * 100, scrub_bytes_s=1_000_000, step_bytes=100_000).up()
    scene.until(lambda: scene.verified >= 10)
    scene.actor._data._under_way[-1] = SimpleNamespace(lane=READ, weight=1)  # a read that takes long
    scene.actor._data.pending[READ] += 1
    before = scene.verified
    scene.run_for(4.0)
    assert 16 <= scene.verified - before <= 24, "a quarter of 80"


def test_a_restart_goes_on_where_it_was_kept() -> None:
    scene = Scene([50_000] * 100, scrub_bytes_s=1_000_000, step_bytes=100_000, scrub_save_s=0.5).up()
    scene.until(lambda: scene.verified >= 60)
    scene.sim.crash(scene.spec.name)
    scene.up()
    scene.until(lambda: scene.beat.scrubbed_s and not scene.beat.scrub_permille)
    assert 35 <= scene.verified <= 55, "what was verified in the last half second is verified again"


def test_the_next_round_begins_a_day_later_also_after_a_restart() -> None:
    scene = Scene([5000] * 10).up()
    scene.until(lambda: scene.beat.scrubbed_s)
    scene.heartbeat_ms = 100_000
    scene.restart()
    scene.run_for(scene.pace.scrub_every_s - 300)
    assert scene.verified == 0
    scene.until(lambda: scene.verified == 10, 600)


def test_the_master_orders_a_round_once_and_it_begins_at_the_beginning_as_fast_as_it_can() -> None:
    scene = Scene([50_000] * 100, scrub_bytes_s=100_000, step_bytes=100_000).up()
    scene.until(lambda: scene.verified >= 10)
    before = scene.verified
    scene.tell(Scrub(77, scene.term))
    took = scene.until(lambda: scene.verified >= before + 100)
    assert took < 2.0
    scene.until(lambda: Noted(77) in scene.master.of(Noted))
    scene.run_for(1.0)
    verified = scene.verified
    scene.tell(Scrub(77, scene.term))
    scene.run_for(5.0)
    assert scene.verified == verified, "the same command again begins nothing"
    assert scene.master.of(Noted) == [Noted(77), Noted(77)]
    scene.restart()
    scene.run_for(1.0)
    scene.tell(Scrub(77, scene.term))
    scene.run_for(5.0)
    assert (scene.verified, scene.master.of(Noted)) == (0, [Noted(77)] * 3), "nor does it in the next process"


def test_a_former_masters_order_is_not_obeyed() -> None:
    scene = Scene([5000] * 10).up()
    scene.until(lambda: scene.verified == 10)
    scene.tell(Scrub(5, scene.term - 1))
    scene.run_for(5.0)
    assert (scene.verified, scene.master.of(Noted)) == (10, [])


def test_what_is_damaged_already_is_not_read_again() -> None:
    scene = Scene([5000] * 10)
    scene.rot_shards(4)
    scene.up()
    scene.until(lambda: scene.verified == 10)
    scene.tell(Scrub(1, scene.term))
    scene.until(lambda: Noted(1) in scene.master.of(Noted))
    scene.run_for(2.0)
    assert scene.verified == 19


# --- damage -----------------------------------------------------------------------------------------------------------


def damaged(count: int, *bad: int, **pace: Any) -> Scene:
    """A node whose store found these damaged before it started."""
    scene = Scene([100] * count, **pace)
    scene.rot_shards(*bad)

    def read(store: DiskStore) -> None:
        for number in bad:
            with pytest.raises(Corrupt):
                store.get(ShardKey(number, 0))
        now_s = EPOCH_NS // SECOND
        save_scrub(store, SaveScrub(ScrubState(began_s=now_s, ended_s=now_s)))  # the next round is far

    scene.with_store(read)
    return scene


def test_damage_is_told_after_each_registration_and_then_no_more() -> None:
    scene = damaged(10, 3, 5)
    scene.up()
    scene.run_for(30.0)
    assert scene.told() == [[3, 5]]
    scene.term += 1
    scene.restart()
    scene.run_for(30.0)
    assert scene.told() == [[3, 5], [3, 5]]


def test_damage_is_repeated_until_it_is_noted() -> None:
    scene = damaged(10, 3, damage_repeat_s=2.0)
    del scene.master.answers[Damage]
    scene.up()
    scene.run_for(9.0)
    assert len(scene.told()) == 5
    assert [damage.number for damage in scene.master.of(Damage)] == [1, 2, 3, 4, 5]
    scene.tell(Noted(4))
    scene.run_for(0.5)
    scene.master.answers[Damage] = scene.noted
    scene.run_for(10.0)
    assert len(scene.told()) == 6, "only the number that is out counts"


def test_what_was_mended_meanwhile_is_left_out_of_a_repeat() -> None:
    scene = damaged(10, 3, 5, damage_repeat_s=2.0)
    del scene.master.answers[Damage]
    scene.up()
    scene.until(lambda: scene.told() == [[3, 5]])
    scene.spec.lanes[WRITE].handler([PutBatch((scene.shard(3),))])
    scene.run_for(5.0)
    assert scene.told()[1:] == [[5]] * len(scene.told()[1:])


def test_much_damage_is_told_in_pages() -> None:
    bad = range(2, SHARDS_AT_ONCE + 12)
    scene = damaged(SHARDS_AT_ONCE + 20, *bad)
    scene.up()
    scene.run_for(20.0)
    assert scene.told() == [list(bad)[:SHARDS_AT_ONCE], list(bad)[SHARDS_AT_ONCE:]]
