"""The scenarios can fail: for each promise a defect is planted into the shipped code, and some seed must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from dsa_zmq.node.damage_steps import FindDamage, find_damage
from dsa_zmq.node.scrub_steps import ScrubSome, scrub_some
from dsa_zmq.node.store import ShardInfo
from dsa_zmq.protocol.operations import Locate
from dsa_zmq.protocol.values import Receipt
from dsa_zmq.sim.campaign import Scenario, is_red
from dsa_zmq.sim.machines import Machine, MasterMachine, NodeMachine
from dsa_zmq.sim.scenarios import ahead, answers, calm, counted, disks, lies, returning, rot, space, storm

SEEDS = 40  #: within which each bug must be found; most are found by the first

Plant = Callable[[pytest.MonkeyPatch], None]


def no_sync_of(machine: type[Machine], files: str) -> Plant:
    """Syncs of files whose path begins so succeed, and do nothing."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        new_disk, datasync = machine.new_disk, SimDisk.datasync
        lying: set[int] = set()

        def lying_disk(self: Machine) -> SimDisk:
            disk = new_disk(self)
            kept.append(disk)
            lying.add(id(disk))
            return disk

        def sync(self: SimDisk, path: str, inode: Any) -> None:
            if id(self) not in lying or not path.startswith(files):
                datasync(self, path, inode)

        kept: list[SimDisk] = []  # so that no other disk gets the same id
        patch.setattr(machine, "new_disk", lying_disk)
        patch.setattr(SimDisk, "datasync", sync)

    return plant


def node_acknowledges_before_the_write(patch: pytest.MonkeyPatch) -> None:
    """What is acknowledged now is written with the next batch."""
    put = jobs._put
    late: dict[int, list[Any]] = {}

    def acknowledge(store: Any, batch: Sequence[Any]) -> list[list[ShardInfo | DSAError]]:
        put(store, late.pop(id(store), []))
        late[id(store)] = list(batch)
        return [[ShardInfo(s.key, len(s.data), s.chunk_length, s.hash) for s in job.shards] for job in batch]

    patch.setattr(jobs, "_put", acknowledge)


def node_trusts_the_page_cache_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    """Records found at the start are believed without being made durable."""
    read = recovery._read

    def without_sync(disk: Any, *arguments: Any, **options: Any) -> Any:
        before, disk.ignore_sync = disk.ignore_sync, True
        try:
            return read(disk, *arguments, **options)
        finally:
            disk.ignore_sync = before

    patch.setattr(recovery, "_read", without_sync)


def reply_table_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, "kept_answer", lambda rows, job: None)


def receipts_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receipts, "is_present", lambda *_: True)


def incarnations_are_ignored(patch: pytest.MonkeyPatch) -> None:
    present = receipts.is_present
    patch.setattr(receipts, "is_present", lambda *arguments: present(*arguments) or True)


def older_disks_are_welcome(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_rules, "_check_return", lambda *_: None)


def greater_nonces_are_later(patch: pytest.MonkeyPatch) -> None:
    """Of two processes that followed the same start the one with the greater nonce is taken for the later one."""
    patch.setattr(node_rules, "start_of", lambda incarnation: incarnation)


def client_does_not_wait_for_all_receipts(patch: pytest.MonkeyPatch) -> None:
    """After the first one it makes up the others, and the master believes it."""
    held = Shards._held

    def first_is_enough(self: Shards, index: int, chunk: Chunk, shard: Shard, receipt: Receipt) -> list[Effect]:
        for other in chunk.shards:
            if other is not shard and other.receipt is None:
                made_up = changed(receipt, node=other.node, index=other.index)
                other.receipt, other.state = made_up, State.HELD
                chunk.missing -= 1
        return held(self, index, chunk, shard, receipt)

    patch.setattr(Shards, "_held", first_is_enough)
    receipts_are_not_checked(patch)


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


def nobody_verifies_hashes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disk_store, "blake3", Agreeable)
    patch.setattr(reading, "blake3", Agreeable)
    patch.setattr(carrier, "check", lambda data, hash_: None)


def compaction_does_not_compare(patch: pytest.MonkeyPatch) -> None:
    """What was dropped between reading and writing is written anew."""
    patch.setattr(compactor.Compactor, "_is_current", lambda self, row: True)


def reader_does_not_pin_the_content(patch: pytest.MonkeyPatch) -> None:
    """Later pages of a manifest are looked up under the path again."""

    def locate(self: Download, page: int) -> Ask:
        self._asked_pages.add(page)
        return Ask(Locate(self._wanted.path, 0, page), ("locate", page))

    patch.setattr(Download, "_locate", locate)


def live_chunks_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """A content dies with the first of its references."""

    def release(rows: Any, content: int, died_ns: int) -> None:
        if content:
            row = rows.get(garbage.CONTENTS, content)
            rows.put(garbage.CONTENTS, row._replace(refs=row.refs - 1))
            garbage.bury(rows, garbage.DEAD_CONTENT, died_ns, content)

    patch.setattr(garbage, "_release", release)


def drops_are_only_promised(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disk_store.DiskStore, "drop", lambda self, keys: list(keys))


def inherited_log_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sql, "_write_again", lambda disk, path: None)


def redundancy_is_not_checked_at_the_commit(patch: pytest.MonkeyPatch) -> None:
    commit = Upload._commit

    def unchecked(self: Upload, rows: Any) -> Ask:
        asked = commit(self, rows)
        return Ask(changed(asked.operation, inherits=False), asked.tag)

    patch.setattr(Upload, "_commit", unchecked)


def a_slot_is_used_again(patch: pytest.MonkeyPatch) -> None:
    """Each second file gets the slot of the one before."""
    pop = SlotPool._pop
    kept: dict[int, Any] = {}

    def pop_twice(self: SlotPool, *arguments: Any) -> Any:
        again = kept.pop(id(self), None)
        if again is None:
            again = kept[id(self)] = pop(self, *arguments)
        return again

    patch.setattr(SlotPool, "_pop", pop_twice)


def scrub_passes_over_some(patch: pytest.MonkeyPatch) -> None:
    """Each chunk of a number that three divides."""
    verify = disk_store.DiskStore.verify

    def passing(store: Any, job: Any) -> Any:
        with pytest.MonkeyPatch.context() as only_now:
            only_now.setattr(
                disk_store.DiskStore,
                "verify",
                lambda self, key, length=None: verify(self, key, length) if key.chunk % 3 else self.has(key),
            )
            return scrub_some(store, job)

    patch.setitem(jobs.CARE_JOBS, ScrubSome, passing)


def a_late_word_of_damage_counts(patch: pytest.MonkeyPatch) -> None:
    """The master forgets which numbers it has noted."""
    on_result = DamageDesk.on_result

    def forget(self: DamageDesk, ctx: Any, token: Any, result: Any) -> None:
        on_result(self, ctx, token, result)
        self._noted.clear()

    patch.setattr(DamageDesk, "on_result", forget)


def damage_is_repeated_unseen(patch: pytest.MonkeyPatch) -> None:
    """What was in quarantine once is told for ever."""
    known: dict[int, dict[Any, None]] = {}

    def remember(store: Any, identity: Any, job: Any) -> Any:
        told = known.setdefault(id(store), {})
        told.update(dict.fromkeys(find_damage(store, identity, job)))
        return sorted(told)

    patch.setitem(jobs.WRITE_JOBS, FindDamage, remember)


def damage_is_kept_quiet(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Damages, "look", lambda self, ctx: None)


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
def test_some_seed_finds_a_planted_bug(plant: Plant, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(is_red(scenario, seed) for seed in range(SEEDS))
