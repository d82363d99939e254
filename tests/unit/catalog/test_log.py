"""The catalog's log: what transactions leave in it makes the catalog anew, and what goes past it never passes for it."""

from __future__ import annotations

import random

import msgspec
import pytest

from dsa_zmq.errors import Conflict
from dsa_zmq.master.catalog import log
from dsa_zmq.master.catalog.catalog import CatalogBroken
from dsa_zmq.master.catalog.jobs import DropsDone, LoadNodes, MarkStale
from dsa_zmq.master.catalog.log_jobs import BeginVolume, Committed, LoadLog, ReadLog, TakeSlice, TrimLog
from dsa_zmq.model.records import BODY_BYTES, NO_HASH, read_record, unpack_runs
from dsa_zmq.model.volumes import VolumeChain
from dsa_zmq.protocol.operations import ListDirectory, MakeDirectory, Move, Remove, Stat
from dsa_zmq.protocol.values import ShardRef

EVERYTHING = 1 << 30  #: bytes


def log_of(kit):
    """All records that are in the catalog."""
    first = kit.one(LoadLog()).first
    return [read_record(data) for data in kit.one(ReadLog(first, EVERYTHING))]


def follows(record, before):
    return (record.position, record.previous) == (before.position + 1, before.hash)


def tables_in(record):
    return {name: (rows, removed) for name, rows, removed in unpack_runs(record.body())}


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_the_log_of_a_new_catalog_makes_it_from_nothing(kit, new_copy):
    kit.good(kit.commit("/a/b", 9000))
    kit.one(BeginVolume(1, ""))  # from now on there is somebody who would have to follow
    kit.reopen()
    kit.good(Remove("/a", recursive=True))
    kit.collect()
    kit.reopen(default_redundancy="copies=3")
    kit.good(kit.commit("/c"))
    assert (kit.records[0].position, kit.records[0].previous) == (1, NO_HASH)
    assert all(follows(record, before) for before, record in zip(kit.records, kit.records[1:], strict=False))
    assert new_copy(*kit.records).dump() == kit.kept()


def test_each_opening_is_in_the_log_with_its_term(kit):
    before = kit.records[-1]
    kit.one(BeginVolume(1, ""))
    kit.reopen()
    record = kit.records[-1]
    assert follows(record, before)
    assert (record.term, tables_in(record)) == (2, {"meta": ([("term", 2, b"")], [])})


def test_all_results_say_how_far_the_log_was_and_the_first_brings_the_records(kit):
    before = kit.catalog.run([kit.request(Stat("/x"))])[0].position
    first, second = kit.catalog.run([kit.request(Stat("/x")), kit.request(MakeDirectory("/x"))])
    (record,) = map(read_record, first.records)
    assert first.position == second.position == record.position == before + 1
    assert second.records == ()
    assert first.result.code == "not-found"
    assert second.result.attributes.kind == "dir"


def test_what_changed_nothing_leaves_no_record(kit):
    kit.good(kit.commit("/a"))
    position = kit.one(LoadLog()).position
    results = kit.catalog.run([kit.request(Stat("/a")), kit.request(ListDirectory("/")), LoadNodes(), LoadLog()])
    assert [(each.position, each.records) for each in results] == [(position, ())] * 4


def test_of_each_row_the_last_image_counts(kit, new_copy):
    upload = kit.new_id()
    made, moved, *_ = kit.run(
        kit.request(MakeDirectory("/a")),
        kit.request(Move("/a", "/b")),
        kit.request(kit.stage(upload, 0)),
        kit.request(ListDirectory("/")),  # everything so far is written before it
        kit.request(Move("/b", "/c")),
    )
    tables = tables_in(kit.records[-1])
    assert [row[0] for row in tables["inodes"][0]] == [made.attributes.inode] == [moved.attributes.inode]
    assert len({row[:3] for row in tables["names"][0]}) == len(tables["names"][0])
    assert new_copy(*kit.records).dump() == kit.kept()


def test_what_can_be_counted_anew_and_what_speaks_of_the_log_are_in_no_record(kit):
    kit.one(BeginVolume(1, ""))
    kit.good(kit.commit("/a"))
    changed = {name for name, _, _ in kit.changes}
    assert {"holders", "inventories"} < changed
    assert ("meta", "volume") in {(name, key) for name, key, _ in kit.changes}
    tables = [tables_in(record) for record in kit.records]
    assert not {"holders", "inventories", "log"} & {name for each in tables for name in each}
    assert "volume" not in {row[0] for each in tables for row in each.get("meta", ([], []))[0]}


def test_beginning_a_volume_is_no_change_by_itself(kit):
    position = kit.one(LoadLog()).position
    assert kit.catalog.run([BeginVolume(1, "")])[0][1:] == (position, ())


def test_a_large_transaction_is_cut_and_only_its_last_record_ends_it(kit, new_copy):
    before = len(kit.records)
    kit.run(*[kit.request(kit.commit(f"/{index:0200}", 9000)) for index in range(250)])
    records = kit.records[before:]
    assert len(records) > 1
    assert [record.ends for record in records] == [False] * (len(records) - 1) + [True]
    assert all(len(record.body()) <= BODY_BYTES + 1000 for record in records)
    assert sum(len(record.body()) for record in records) > (len(records) - 1) * BODY_BYTES * 0.9
    assert new_copy(*kit.records).dump() == kit.kept()
    kit.reopen()
    kit.run(*[kit.request(Remove(f"/{index:0200}")) for index in range(250)])
    kit.collect(limit=5000)
    assert kit.records[-1].body() != b""
    assert new_copy(*kit.records).dump() == kit.kept()


# --- when not all goes well -------------------------------------------------------------------------------------------


def test_jobs_that_are_run_again_one_by_one_have_records_of_their_own(kit, new_copy):
    kit.good(MakeDirectory("/a"))
    inode = kit.good(MakeDirectory("/poison")).attributes.inode
    # A name that no rule expects makes the engine refuse the insertion of the next inode.
    kit.catalog._database.execute(f"INSERT INTO inodes VALUES ({inode + 2}, 1, 0, 0, '', 0, 0, 0, 0, 0, 0, 0)")
    last = kit.one(LoadLog()).position
    made, refused, stat = kit.catalog.run(
        [kit.request(op) for op in (MakeDirectory("/x"), MakeDirectory("/y"), Stat("/x"))]
    )
    assert (made.position, len(made.records)) == (last + 1, 1)
    assert (refused.position, refused.records, refused.result.code) == (last + 1, (), "internal")
    assert stat == Committed(stat.result, last + 1)
    kit.catalog._database.execute(f"DELETE FROM inodes WHERE inode = {inode + 2}")
    kit.records.append(read_record(made.records[0]))
    assert new_copy(*kit.records).dump() == kit.kept()


def test_errors_come_with_their_position_too_but_a_mark_of_an_old_copy_comes_bare(kit):
    kit.disk.capacity_bytes = kit.disk.statistics()["used_bytes"]
    position = kit.one(LoadLog()).position
    drops = DropsDone(1, [ShardRef(5, 0)])
    full, mark, none = kit.catalog.run([kit.request(MakeDirectory("/x" * 200)), MarkStale(1, 2, "n", 5), drops])
    assert (full.position, full.records, full.result.code) == (position, (), "no-space")
    assert isinstance(mark, OSError)
    assert none == Committed(None, position)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_a_crash_anywhere_log_and_rows_agree(new_kit, new_copy, seeds):
    for seed in seeds:
        kit = new_kit(seed)
        draw = random.Random(seed)
        kit.one(BeginVolume(1, ""))
        kit.disk.die_after(draw.randrange(60))
        try:
            for index in range(8):
                kit.run(*[kit.request(kit.commit(f"/{draw.choice('abc')}/{index}", 5000)) for _ in range(3)])
        except CatalogBroken:
            pass
        kit.power_loss() if seed % 2 else (kit.disk.process_crash(), kit.open())
        records = log_of(kit)
        assert records[: len(kit.records) - 1] == kit.records[:-1], "what was answered is there"
        assert records[-1] == kit.records[-1], "and what the opening has changed"
        assert len(records) <= len(kit.records) + 1, "one batch at most was durable and not answered"
        assert new_copy(*records).dump() == kit.kept()
        kit.audit()


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_record_has_the_latest_time_that_a_job_has_brought(kit):
    kit.now = 5_000
    first = kit.request(MakeDirectory("/a"))
    kit.run(msgspec.structs.replace(first, wall_ns=9_000), kit.request(MakeDirectory("/b")))
    assert kit.records[-1].wall_ns == 9_000
    kit.good(MakeDirectory("/c"))
    assert kit.records[-1].wall_ns == 9_000, "a clock that was turned back"
    kit.now = 20_000
    kit.do(Stat("/c"))
    kit.reopen()
    assert kit.records[-1].wall_ns == 9_000, "nobody has told this process"


def test_a_job_without_a_time_has_that_of_those_before_it(kit):
    kit.good(kit.commit("/a"))
    kit.good(Remove("/a"))
    kit.collect()
    kit.now = 1 << 62
    kit.do(Stat("/a"))
    kit.drop_all()
    assert kit.records[-1].wall_ns == kit.now


# --- reading and trimming ---------------------------------------------------------------------------------------------


def test_records_are_read_from_a_position_on_by_size_one_at_least(kit):
    for index in range(10):
        kit.good(MakeDirectory(f"/{index}"))
    records = kit.records
    for at, limit in ((0, EVERYTHING), (3, 1), (3, len(records[3].data) + len(records[4].data)), (len(records) - 1, 9)):
        found = kit.one(ReadLog(records[at].position, limit))
        size, count = 0, 0
        for record in records[at:]:
            size += len(record.data)
            count += size <= limit
        assert found == [record.data for record in records[at : at + max(1, count)]]
    last = records[-1].position
    assert kit.one(ReadLog(0, EVERYTHING)) == kit.one(ReadLog(last + 1, EVERYTHING)) == []


def test_trimming_goes_in_pieces_and_never_takes_the_last_record(kit, monkeypatch):
    monkeypatch.setattr(log, "TRIM_ROWS", 4)
    for index in range(10):
        kit.good(MakeDirectory(f"/{index}"))
    last = kit.records[-1]
    assert kit.one(TrimLog(1)) is False
    assert kit.one(LoadLog()).first == 1
    sizes = [kit.one(LoadLog()).size]
    assert sizes == [sum(len(record.data) for record in kit.records)]
    while kit.one(TrimLog(last.position + 99)):
        sizes.append(kit.one(LoadLog()).size)
    assert len(sizes) == -(-(len(kit.records) - 1) // 4)
    assert sizes == sorted(set(sizes), reverse=True)
    state = kit.one(LoadLog())
    assert (state.first, state.position, state.hash, state.size) == (
        last.position,
        last.position,
        last.hash,
        len(last.data),
    )
    assert kit.one(ReadLog(last.position - 1, EVERYTHING)) == []
    assert kit.one(ReadLog(last.position, EVERYTHING)) == [last.data]
    kit.one(BeginVolume(1, ""))
    kit.reopen()
    assert follows(kit.records[-1], last)
    assert kit.one(LoadLog()).first == last.position


def test_a_trim_that_is_rolled_back_has_not_happened(kit):
    for index in range(5):
        kit.good(MakeDirectory(f"/{index}"))
    before = kit.one(LoadLog())
    inode = kit.good(MakeDirectory("/poison")).attributes.inode
    kit.catalog._database.execute(f"INSERT INTO inodes VALUES ({inode + 1}, 1, 0, 0, '', 0, 0, 0, 0, 0, 0, 0)")
    trimmed, refused = kit.run(TrimLog(4), kit.request(MakeDirectory("/x")))
    assert (trimmed, refused.code) == (False, "internal")
    assert kit.one(LoadLog()).first == 4
    kit.catalog._database.execute(f"DELETE FROM inodes WHERE inode = {inode + 1}")
    kit.audit()
    assert before.first == 1


def test_the_space_of_trimmed_records_is_used_again(kit):
    """By a row that grows no more, however often it is changed."""
    size, written = 0, 0
    for start in range(2, 150):
        if start == 20:
            size = kit.catalog._database.file_bytes()
        kit.register("n0", start=start, zone=kit.random.randbytes(5_000).hex())
        written += len(kit.records[-1].data)
        if start % 10 == 0:
            kit.one(TrimLog(EVERYTHING))
    assert written > 500_000
    assert kit.catalog._database.file_bytes() - size < 100_000


def test_the_state_of_the_log_is_found_again(kit):
    kit.good(kit.commit("/a", 9000))
    kit.one(TrimLog(3))
    begun = kit.one(BeginVolume(1, ""))
    before = kit.one(LoadLog())
    assert before.volume == begun.volume
    kit.power_loss()
    after = kit.one(LoadLog())
    assert (after.volume, after.first, after.position) == (before.volume, before.first, before.position + 1)
    assert after.size == before.size + len(kit.records[-1].data)
    kit.audit()


# --- breaks -----------------------------------------------------------------------------------------------------------


def test_switched_off_nothing_is_written_and_results_come_bare(new_kit):
    kit = new_kit(keeps_log=False)
    kit.good(kit.commit("/a"))
    assert kit.catalog.run([LoadLog()])[0] == kit.one(LoadLog())
    state = kit.one(LoadLog())
    assert (state.position, state.hash, state.first, state.size, state.volume) == (0, NO_HASH, 1, 0, 0)
    assert kit.catalog._database.execute("SELECT COUNT(*) FROM log") == [(0,)]
    for job in (BeginVolume(1, ""), TakeSlice(5, b"", 1, b"", 1, 1000)):
        assert kit.one(job).code == Conflict.code
    kit.audit()


def test_what_was_changed_while_the_log_was_off_is_never_taken_for_followed(kit):
    begun = kit.one(BeginVolume(1, ""))
    kit.good(kit.commit("/a"))
    held = VolumeChain()
    held.take(read_record(begun.begin))
    held.take(kit.records[-1])
    kit.reopen(keeps_log=False)
    kit.good(kit.commit("/b"))
    assert kit.one(LoadLog()).volume == 0
    kit.reopen(keeps_log=False)
    kit.reopen()
    state = kit.one(LoadLog())
    opening = kit.records[-1]
    assert (state.volume, state.first, state.position) == (0, opening.position, held.position + 2)
    assert opening.previous == held.hash
    with pytest.raises(Conflict, match="does not follow"):
        held.take(opening)
    kit.audit()
    begun = kit.one(BeginVolume(1, ""))
    kit.reopen()
    chain = VolumeChain()
    assert chain.take(read_record(begun.begin))
    assert chain.take(kit.records[-1])


def test_as_long_as_no_volume_was_begun_every_opening_begins_the_log_anew(kit):
    kit.good(MakeDirectory("/a"))
    before = kit.records[-1]
    kit.reopen()
    state = kit.one(LoadLog())
    assert state.first == state.position == before.position + 2
    assert log_of(kit) == [kit.records[-1]]
    kit.audit()


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE log SET hash = zeroblob(32) WHERE position = 3", "3"),
        ("UPDATE log SET body = (SELECT body FROM log WHERE position = 2) WHERE position = 3", "3"),
        ("UPDATE log SET body = zeroblob(500) WHERE position = 3", "damaged"),
        ("UPDATE log SET wall_ns = wall_ns + 1 WHERE position = 3", "3"),
        ("DELETE FROM log WHERE position = 3", "4"),
        ("UPDATE log SET ends = 0 WHERE position = (SELECT MAX(position) FROM log)", "row"),
    ],
)
def test_the_audit_knows_the_log(kit, statement, finding):
    kit.audit()
    assert kit.records[-1].position > 3
    kit.catalog._database.execute("BEGIN")
    kit.catalog._database.execute(statement)
    found = kit.catalog.audit()
    kit.catalog._database.execute("ROLLBACK")
    assert found
    assert finding in found[0]
