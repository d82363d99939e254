"""The scenarios can fail: for each promise a defect is planted into the shipped code, and some seed must notice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace as changed

from actors.sim.disk import SimDisk
from dsa_zmq.client import carrier
from dsa_zmq.client.download import Download
from dsa_zmq.client.effects import Ask, Effect
from dsa_zmq.client.shards import Chunk, Shard, Shards, State
from dsa_zmq.client.slots import SlotPool
from dsa_zmq.client.upload import Upload
from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog import batch, garbage, node_rules, receipts, sql
from dsa_zmq.master.damage import DamageDesk
from dsa_zmq.node import compactor, disk_store, jobs, reading, recovery
from dsa_zmq.node.damage import Damages
from dsa_zmq.node.damage_steps import FindDamage
from dsa_zmq.node.scrub_steps import ScrubSome
from dsa_zmq.node.store import ShardInfo
from dsa_zmq.protocol.operations import Locate
from dsa_zmq.protocol.values import Receipt
from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.machines import Machine, MasterMachine, NodeMachine
from dsa_zmq.sim.planting import Plant, Planting, first_to_notice
from dsa_zmq.sim.scenarios import ahead, answers, calm, counted, disks, lies, returning, rot, space, storm

SEEDS = 40  #: within which each bug must be found; most are found by the first


def always_says(plant: Planting, owner: Any, name: str, value: Any) -> None:
    """A rule that only answers always gives this answer, whatever the shipped one says, or raises."""

    @plant.instead_of(owner, name, always=False)
    def say(shipped: Any, *arguments: Any) -> Any:
        try:
            said = shipped(*arguments)
        except DSAError:
            plant.differs()
        else:
            if said != value:
                plant.differs()
        return value


def no_sync_of(machine: type[Machine], files: str) -> Plant:
    """Syncs of files whose path begins so succeed, and do nothing."""

    def plant_it(plant: Planting) -> None:
        lying: list[SimDisk] = []

        @plant.instead_of(Machine, "new_disk")
        def new_disk(shipped: Any, self: Machine) -> SimDisk:
            disk: SimDisk = shipped(self)
            if isinstance(self, machine):
                lying.append(disk)
            return disk

        @plant.instead_of(SimDisk, "datasync", always=False)
        def datasync(shipped: Any, self: SimDisk, path: str, inode: Any) -> None:
            if path.startswith(files) and any(disk is self for disk in lying):
                plant.differs()
            else:
                shipped(self, path, inode)

    return plant_it


def node_acknowledges_before_the_write(plant: Planting) -> None:
    """What is acknowledged now is written with the next batch."""
    late: dict[Any, list[Any]] = {}

    @plant.instead_of(jobs, "_put")
    def acknowledge(shipped: Any, store: Any, batch: Sequence[Any]) -> list[list[ShardInfo | DSAError]]:
        shipped(store, late.pop(store, []))
        late[store] = list(batch)
        return [[ShardInfo(s.key, len(s.data), s.chunk_length, s.hash) for s in job.shards] for job in batch]


def node_trusts_the_page_cache_after_a_crash(plant: Planting) -> None:
    """Records found at the start are believed without being made durable."""

    @plant.instead_of(recovery, "_read")
    def read(shipped: Any, disk: Any, *arguments: Any, **options: Any) -> Any:
        with unsynced(disk):
            return shipped(disk, *arguments, **options)


@contextlib.contextmanager
def unsynced(disk: SimDisk) -> Iterator[None]:
    """Syncs of this disk do nothing."""
    before, disk.ignore_sync = disk.ignore_sync, True
    try:
        yield
    finally:
        disk.ignore_sync = before


def reply_table_is_ignored(plant: Planting) -> None:
    always_says(plant, batch, "kept_answer", None)


def receipts_are_not_checked(plant: Planting) -> None:
    always_says(plant, receipts, "is_present", True)


def incarnations_are_ignored(plant: Planting) -> None:
    @plant.instead_of(receipts, "is_present", always=False)
    def present(shipped: Any, *arguments: Any) -> bool:
        if not shipped(*arguments):
            plant.differs()
        return True


def older_disks_are_welcome(plant: Planting) -> None:
    always_says(plant, node_rules, "_check_return", None)


def greater_nonces_are_later(plant: Planting) -> None:
    """Of two processes that followed the same start the one with the greater nonce is taken for the later one."""
    plant.instead_of(node_rules, "start_of")(lambda shipped, incarnation: incarnation)


def client_does_not_wait_for_all_receipts(plant: Planting) -> None:
    """After the first one it makes up the others, and the master believes it."""

    @plant.instead_of(Shards, "_held", always=False)
    def first_is_enough(
        shipped: Any, self: Shards, index: int, chunk: Chunk, shard: Shard, receipt: Receipt
    ) -> list[Effect]:
        for other in chunk.shards:
            if other is not shard and other.receipt is None:
                plant.differs()
                made_up = changed(receipt, node=other.node, index=other.index)
                other.receipt, other.state = made_up, State.HELD
                chunk.missing -= 1
        effects: list[Effect] = shipped(self, index, chunk, shard, receipt)
        return effects

    receipts_are_not_checked(plant)


class Agreeable:
    """A hash that equals everything."""

    def __init__(self, _data: object) -> None:
        self.hash = b""

    def digest(self) -> Agreeable:
        return self

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def nobody_verifies_hashes(plant: Planting) -> None:
    for module in (disk_store, reading):
        plant.instead_of(module, "blake3")(lambda shipped, data: Agreeable(data))
    always_says(plant, carrier, "check", None)


def compaction_does_not_compare(plant: Planting) -> None:
    """What was dropped between reading and writing is written anew."""
    always_says(plant, compactor.Compactor, "_is_current", True)


def reader_does_not_pin_the_content(plant: Planting) -> None:
    """Later pages of a manifest are looked up under the path again."""

    @plant.instead_of(Download, "_locate")
    def locate(shipped: Any, self: Download, page: int) -> Ask:
        self._asked_pages.add(page)
        return Ask(Locate(self._wanted.path, 0, page), ("locate", page))


def live_chunks_are_dropped(plant: Planting) -> None:
    """A content dies with the first of its references."""

    @plant.instead_of(garbage, "_release", always=False)
    def release(shipped: Any, rows: Any, content: int, died_ns: int) -> None:
        if content:
            row = rows.get(garbage.CONTENTS, content)
            if row.refs > 1:
                plant.differs()
            rows.put(garbage.CONTENTS, row._replace(refs=row.refs - 1))
            garbage.bury(rows, garbage.DEAD_CONTENT, died_ns, content)


def drops_are_only_promised(plant: Planting) -> None:
    plant.instead_of(disk_store.DiskStore, "drop")(lambda shipped, self, keys: list(keys))


def inherited_log_is_believed(plant: Planting) -> None:
    plant.instead_of(sql, "_write_again")(lambda shipped, disk, path: None)


def redundancy_is_not_checked_at_the_commit(plant: Planting) -> None:
    @plant.instead_of(Upload, "_commit", always=False)
    def unchecked(shipped: Any, self: Upload, rows: Any) -> Ask:
        asked = shipped(self, rows)
        if asked.operation.inherits:
            plant.differs()
        return Ask(changed(asked.operation, inherits=False), asked.tag)


def a_slot_is_used_again(plant: Planting) -> None:
    """Each second file gets the slot of the one before."""
    kept: dict[SlotPool, Any] = {}

    @plant.instead_of(SlotPool, "_pop", always=False)
    def pop_twice(shipped: Any, self: SlotPool, *arguments: Any) -> Any:
        again = kept.pop(self, None)
        if again is None:
            again = kept[self] = shipped(self, *arguments)
        else:
            plant.differs()
        return again


def scrub_passes_over_some(plant: Planting) -> None:
    """Each chunk of a number that three divides."""
    verify = disk_store.DiskStore.verify

    @plant.instead_of(jobs.CARE_JOBS, ScrubSome, always=False)
    def passing(shipped: Any, store: Any, job: Any) -> Any:
        def verify_some(self: Any, key: Any, length: Any = None) -> Any:
            if key.chunk % 3:
                return verify(self, key, length)
            plant.differs()
            return self.has(key)

        with pytest.MonkeyPatch.context() as only_now:
            only_now.setattr(disk_store.DiskStore, "verify", verify_some)
            return shipped(store, job)


def a_late_word_of_damage_counts(plant: Planting) -> None:
    """The master forgets which numbers it has noted."""

    @plant.instead_of(DamageDesk, "on_result", always=False)
    def forget(shipped: Any, self: DamageDesk, ctx: Any, token: Any, result: Any) -> None:
        shipped(self, ctx, token, result)
        if self._noted:
            plant.differs()
        self._noted.clear()


def damage_is_repeated_unseen(plant: Planting) -> None:
    """What was in quarantine once is told for ever."""
    known: dict[Any, dict[Any, None]] = {}

    @plant.instead_of(jobs.WRITE_JOBS, FindDamage, always=False)
    def remember(shipped: Any, store: Any, identity: Any, job: Any) -> Any:
        found, told = shipped(store, identity, job), known.setdefault(store, {})
        if told.keys() - set(found):
            plant.differs()
        told.update(dict.fromkeys(found))
        return sorted(told)


def damage_is_kept_quiet(plant: Planting) -> None:
    plant.instead_of(Damages, "look")(lambda shipped, self, ctx: None)


PLANTED: list[tuple[str, Plant, Scenario]] = [
    ("nodes do not sync", no_sync_of(NodeMachine, "segments/"), storm.POWER),
    ("master does not sync", no_sync_of(MasterMachine, "catalog.sqlite-wal"), storm.POWER),
    ("early acknowledgement", node_acknowledges_before_the_write, storm.POWER),
    ("page cache", node_trusts_the_page_cache_after_a_crash, answers.ANSWER),
    ("no reply table", reply_table_is_ignored, counted.COMMIT),
    ("no receipts", receipts_are_not_checked, lies.LYING),
    ("no incarnations", incarnations_are_ignored, lies.LYING),
    ("older disks", older_disks_are_welcome, returning.OLDER),
    ("equal starts", greater_nonces_are_later, returning.OLDER),
    ("hasty client", client_does_not_wait_for_all_receipts, storm.STORM),
    ("no hashes", nobody_verifies_hashes, disks.ROT),
    ("careless scrub", scrub_passes_over_some, rot.EVERYWHERE),
    ("late damage", a_late_word_of_damage_counts, rot.TWICE),
    ("damage unseen", damage_is_repeated_unseen, rot.TWICE),
    ("quiet damage", damage_is_kept_quiet, rot.READ),
    ("unwary compaction", compaction_does_not_compare, space.COMPACTION),
    ("mixed content", reader_does_not_pin_the_content, calm.MEETING),
    ("live chunks", live_chunks_are_dropped, storm.STORM),
    ("promised drops", drops_are_only_promised, calm.CALM),
    ("inherited log", inherited_log_is_believed, disks.SYNC),
    ("believed redundancy", redundancy_is_not_checked_at_the_commit, ahead.AHEAD),
    ("slots used twice", a_slot_is_used_again, ahead.AHEAD),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "scenario"), [entry[1:] for entry in PLANTED], ids=[entry[0] for entry in PLANTED])
def test_some_seed_finds_a_planted_bug(plant: Plant, scenario: Scenario) -> None:
    first_to_notice(plant, scenario, range(SEEDS))
