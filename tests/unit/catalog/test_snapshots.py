"""Volumes: a snapshot read in slices while the catalog changes, and the log since it was begun, are the catalog."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import Conflict
from dsa_zmq.master.catalog import schema, slices
from dsa_zmq.master.catalog.jobs import LoadNodes
from dsa_zmq.master.catalog.log_jobs import BeginVolume, LoadLog, TakeSlice
from dsa_zmq.master.catalog.slices import walk
from dsa_zmq.master.catalog.tables import LOGGED
from dsa_zmq.model.records import BODY_BYTES, END, ROWS, end_of, head_of, read_record, unpack_runs
from dsa_zmq.model.volumes import VolumeChain
from dsa_zmq.protocol.operations import Copy, ListDirectory, MakeDirectory, Move, Remove


class Volume:
    """A volume as a node gets it: the parts of the snapshot as they are made, and the log in between."""

    def __init__(self, kit, wall_ns=7, software="9.9"):
        self.kit = kit
        self.from_position = len(kit.records)
        self.begun = kit.one(BeginVolume(wall_ns, software))
        self.parts = [read_record(self.begun.begin)]
        self.cursor = b""
        self.complete = False
        self.sizes = []

    def job(self, limit=1000):
        return TakeSlice(self.begun.volume, self.cursor, len(self.parts), self.parts[-1].hash, 7, limit)

    def take(self, made):
        """The result of the job."""
        fresh = [read_record(record) for record in made.records]
        self.parts += fresh
        self.cursor, self.complete = made.cursor, not made.cursor
        assert made.part == len(self.parts)
        assert made.previous == self.parts[-1].hash
        self.sizes.append(sum(size_of(record) for record in fresh))

    def slice(self, limit=1000):
        self.take(self.kit.one(self.job(limit)))

    def finish(self, limit=1000):
        while not self.complete:
            self.slice(limit)
        return end_of(self.parts[-1])

    def records(self, *, up_to=1 << 62):
        """In an order in which a node may have them."""
        log = self.kit.records[self.from_position :]
        return [*self.parts, *[record for record in log if record.position <= up_to]]

    def check_chain(self):
        chain = VolumeChain()
        for record in self.records():
            assert chain.take(record)
        return chain


def size_of(record):
    """Bytes of its rows, about."""
    return len(record.body()) if record.kind == ROWS else 0


def test_a_volume_says_what_it_is_and_follows_the_log(kit):
    kit.good(kit.commit("/a", 9000))
    before = kit.one(LoadLog())
    volume = Volume(kit, wall_ns=kit.now + 5)
    head = head_of(volume.parts[0])
    assert (head.cluster, head.volume) == (kit.catalog.cluster.hex(), volume.begun.volume)
    assert (head.catalog_format, head.software) == (schema.NEWEST_FORMAT, "9.9")
    assert head.position == volume.begun.position == before.position
    assert volume.parts[0].previous == before.hash
    assert volume.parts[0].wall_ns == kit.now + 5
    assert kit.one(LoadLog()).volume == head.volume
    end = volume.finish()
    chain = volume.check_chain()
    assert chain.usable
    assert (chain.whole, end.rows) == (before.position, sum(map(len, kit.kept().values())))
    assert chain.whole_ns >= chain.wall_ns


def test_numbers_of_volumes_are_never_drawn_twice(kit):
    numbers = [Volume(kit).begun.volume for _ in range(3)]
    kit.power_loss()
    numbers += [Volume(kit).begun.volume for _ in range(3)]
    assert numbers == sorted(set(numbers))


def test_a_snapshot_has_every_row_once_in_slices_of_the_size_asked_for(kit, new_copy):
    for index in range(20):
        kit.good(kit.commit(f"/{index}", 9000))
        kit.good(Copy(f"/{index}", f"/copy-{index}"))
    kit.good(Remove("/3"))
    for limit in (1, 300, 1000, 1 << 20):
        volume = Volume(kit)
        end = volume.finish(limit)
        rows = [
            row
            for record in volume.parts
            if record.kind == ROWS
            for run in unpack_runs(record.body())
            for row in run[1]
        ]
        assert len(rows) == end.rows == sum(map(len, kit.kept().values()))
        assert new_copy(*volume.parts).dump() == kit.kept()
        if limit == 1:
            assert len(volume.sizes) >= end.rows
        else:
            assert max(volume.sizes) <= limit + 100 * len(LOGGED)


def test_a_slice_is_bounded_by_rows_too_and_its_records_by_their_size(kit, new_copy, monkeypatch):
    for index in range(300):
        kit.good(kit.commit(f"/{index:0200}", 9000))
    volume = Volume(kit)
    volume.finish(1 << 30)
    assert len(volume.sizes) == 1
    assert len(volume.parts) == 4
    assert all(size_of(record) <= BODY_BYTES + 1000 for record in volume.parts)
    monkeypatch.setattr(slices, "SLICE_ROWS", 50)
    volume = Volume(kit)
    end = volume.finish(1 << 30)
    assert end.rows / 50 <= len(volume.sizes) <= end.rows / 50 + 2
    assert new_copy(*volume.parts).dump() == kit.kept()


def test_names_are_walked_by_their_bytes(kit, new_copy):
    names = ["a", "B", "\U0001f600", "é", "e\u0301", "ﬀ", "\uffee", "a\x01", "Z" * 255, "aa", "ß"]
    for name in names:
        kit.good(kit.commit(f"/{name}"))
    volume = Volume(kit)
    volume.finish(1)
    seen = [row[1] for record in volume.parts if record.kind == ROWS for name, rows, _ in unpack_runs(record.body())
            if name == "names" for row in rows]  # fmt: skip
    assert seen == sorted(names, key=str.encode)
    assert new_copy(*volume.parts).dump() == kit.kept()


@pytest.mark.parametrize("table", LOGGED, ids=lambda table: table.name)
def test_each_table_is_walked_along_its_key(kit, table):
    for after in (None, (1,) * table.width):
        query, values = walk(table, after, 10)
        (row,) = kit.catalog._database.execute(f"EXPLAIN QUERY PLAN {query}", values)
        assert "TEMP B-TREE" not in row[3]
        assert row[3].count("?") == (table.width if after else 0), row[3]


def test_a_slice_shows_what_was_committed_before_its_batch(kit, new_copy):
    kit.good(MakeDirectory("/a"))
    volume = Volume(kit)
    position = kit.one(LoadLog()).position
    jobs = [kit.request(operation) for operation in (MakeDirectory("/b"), ListDirectory("/"), Move("/a", "/c"))]
    _, listed, made, _ = kit.run(*jobs[:2], volume.job(1 << 20), jobs[2])
    assert len(listed.entries) == 2, "what was changed is written already"
    before = kit.kept()
    volume.take(made)
    assert volume.complete
    assert end_of(volume.parts[-1]).position == position
    assert len(new_copy(*volume.parts).dump()["names"]) == 1
    assert volume.check_chain().usable
    assert new_copy(*volume.records()).dump() == before


def test_answers_and_sessions_are_in_a_snapshot(kit, new_copy):
    kit.good(kit.commit("/a"))
    volume = Volume(kit)
    volume.finish()
    rows = new_copy(*volume.parts).dump()
    assert rows["replies"]
    assert [row[0] for row in rows["sessions"]] == [kit.session]


def test_a_slice_can_be_asked_for_again(kit):
    kit.good(kit.commit("/a", 9000))
    volume = Volume(kit)
    volume.slice(300)
    assert kit.one(volume.job(300)) == kit.one(volume.job(300))


def test_a_slice_of_a_volume_that_was_given_up_is_refused(kit):
    volume = Volume(kit)
    volume.slice()
    Volume(kit)
    assert kit.one(volume.job()).code == Conflict.code


def test_a_slice_goes_on_after_a_restart(kit, new_copy):
    kit.good(kit.commit("/a", 9000))
    volume = Volume(kit)
    volume.slice(300)
    kit.reopen()
    volume.finish(300)
    assert volume.check_chain().usable
    assert new_copy(*volume.records()).dump() == kit.kept()


OPERATIONS = st.one_of(
    st.tuples(st.just("commit"), st.sampled_from("abcd"), st.sampled_from([0, 9, 9000])),
    st.tuples(st.just("remove"), st.sampled_from("abcd")),
    st.tuples(st.just("move"), st.sampled_from("abcd"), st.sampled_from("abcd")),
    st.tuples(st.just("stage")),
    st.tuples(st.just("done")),
    st.tuples(st.just("list")),
    st.tuples(st.just("node"), st.integers(2, 9)),
    st.tuples(st.just("slice"), st.sampled_from([1, 200, 1500])),
    st.tuples(st.just("slice"), st.sampled_from([200, 1500])),
)


def job_of(kit, volume, work):
    match work:
        case ("commit", name, size):
            return kit.request(kit.commit(f"/{name}", size))
        case ("remove", name):
            return kit.request(Remove(f"/{name}"))
        case ("move", source, target):
            return kit.request(Move(f"/{source}", f"/{target}", replace=True))
        case ("stage",):
            return kit.request(kit.stage(kit.new_id(), 0))
        case ("done",):
            return kit.request(Remove("/nothing"), done_below=kit.numbers)
        case ("list",):
            return kit.request(ListDirectory("/"))
        case ("node", start):
            return kit.node_job(f"n{start % 4}", start=start)
        case ("slice", limit) if not volume.complete:
            return volume.job(limit)
    return LoadNodes()


@pytest.mark.slow
@given(
    st.lists(OPERATIONS, max_size=12),
    st.lists(st.tuples(st.lists(OPERATIONS, max_size=4), st.booleans()), max_size=20),
)
def test_snapshot_and_log_are_the_catalog_however_they_are_mixed(new_kit, new_copy, earlier, batches):
    kit = new_kit(nodes=4)
    kit.run(*[job_of(kit, None, work) for work in earlier if work[0] != "slice"])
    kit.collect()
    volume = Volume(kit)
    as_of = {}
    for batch, ends_with_collection in batches:
        slices_before, jobs = 0, []
        for work in batch:
            if work[0] == "slice" and slices_before:
                continue  # the next goes on where this one will end
            slices_before += work[0] == "slice"
            jobs.append(job_of(kit, volume, work))
        for job, result in zip(jobs, kit.run(*jobs), strict=True):
            if isinstance(job, TakeSlice):
                volume.take(result)
        if ends_with_collection:
            kit.collect(limit=3)
        as_of[kit.one(LoadLog()).position] = kit.kept()
    end = volume.finish(400)
    as_of[kit.one(LoadLog()).position] = kit.kept()
    assert volume.parts[-1].kind == END
    chain = volume.check_chain()
    assert chain.usable
    for position, rows in as_of.items():
        if position >= end.position:
            assert new_copy(*volume.records(up_to=position)).dump() == rows
