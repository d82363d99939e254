"""A batch answers and leaves exactly what its jobs would one by one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.master.catalog.health import TakeTally
from dsa_zmq.master.catalog.jobs import (
    CollectGarbage,
    ExpireUploads,
    LoadDrops,
    LoadNodes,
    LoadStaged,
    RegisterNode,
)
from dsa_zmq.master.catalog.tables import TABLES
from dsa_zmq.protocol.operations import (
    Abort,
    Allocate,
    CloseSession,
    Commit,
    Copy,
    ListDirectory,
    Locate,
    MakeDirectory,
    Move,
    OpenSession,
    Remove,
    Stat,
    Statfs,
)

PATHS = st.sampled_from(["/a", "/b", "/a/b", "/a/c", "/b/a/c", "/c/c/c/c", "/a/b/c", "/a//b/", "/", "/../x"])
WORK = st.one_of(
    st.tuples(st.just("commit"), PATHS, st.sampled_from([0, 9, 5000])),
    st.tuples(st.just("again"), st.integers(0, 5)),
    st.tuples(st.just("stage"), st.integers(0, 2)),
    st.tuples(st.just("finish"), PATHS),
    st.tuples(st.just("node"), st.sampled_from(["n0", "n1", "x"]), st.integers(1, 3), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("garbage"), st.sampled_from([1, 3, 100])),
    st.tuples(st.just("expire"), st.integers(1001, 1010)),
    st.tuples(st.just("done"), st.integers(0, 40)),
    st.tuples(st.just("client"), st.integers(1, 2)),
    st.sampled_from([LoadNodes(), LoadStaged(), LoadDrops(1, 3), TakeTally()]),
    st.builds(MakeDirectory, PATHS, st.booleans(), st.booleans()),
    st.builds(Remove, PATHS, st.booleans()),
    st.builds(Move, PATHS, PATHS, st.booleans(), st.booleans()),
    st.builds(Copy, PATHS, PATHS, st.booleans(), st.booleans()),
    st.builds(Stat, PATHS),
    st.builds(ListDirectory, PATHS, st.just(""), st.just(2), st.sampled_from([0, 3, 5, 6, 7, 9])),
    st.builds(Locate, PATHS, st.sampled_from([0, 0, 1001, 1002]), st.sampled_from([0, 1])),
    st.builds(lambda path: Allocate(0, path, 4096, 0, [1]), PATHS),
    st.builds(Statfs),
    st.builds(Abort, st.integers(1001, 1010)),
    st.just(CloseSession(12345)),
)


class Script:
    """Jobs from drawn work. Made once, run by several catalogs: their clusters and ids are alike."""

    def __init__(self, kit):
        self.kit = kit
        self.made = []
        self.stages = 0
        self.upload = kit.new_id()
        self.floor = 0

    def request(self, operation):
        self.made.append(self.kit.request(operation, done_below=self.floor))
        return self.made[-1]

    def job(self, work):
        kit = self.kit
        match work:
            case ("commit", path, size):
                return self.request(kit.commit(path, size))
            case ("again", back):
                return self.made[-1 - back % len(self.made)] if self.made else LoadNodes()
            case ("stage", page):
                self.stages = max(self.stages, page + 1)
                return self.request(kit.stage(self.upload, page))
            case ("finish", path):
                upload, self.upload = self.upload, kit.new_id()
                chunks = 4 * self.stages
                self.stages = 0
                return self.request(Commit(upload, path, chunks << 24, 16 << 20, chunks, "copies=2", [], 0))
            case ("node", name, start, nonce, alive):
                return RegisterNode(kit.introduction(name, start=start, nonce=nonce), alive, kit.now)
            case ("garbage", limit):
                return CollectGarbage(limit, kit.now, 3, 1 << 60, horizon=0)
            case ("expire", upload):
                return ExpireUploads([upload])
            case ("done", below):
                self.floor = below
                return self.request(Stat("/a"))
            case ("client", incarnation):
                return self.request(OpenSession(b"s" * 16, incarnation))
            case msgspec.Struct() if type(work) in (LoadNodes, LoadStaged, LoadDrops, TakeTally):
                return work
            case _:
                return self.request(work)


@pytest.mark.slow
@given(st.lists(WORK, max_size=25), st.integers(1, 8))
def test_batches_of_any_size_and_any_row_order_give_the_same_answers_and_rows(new_kit, to_bytes, work, size):
    one, many, scrambled = new_kit(nodes=3), new_kit(nodes=3, keeps_log=False), new_kit(nodes=3, scrambled=True)
    script = Script(one)
    jobs = [script.job(each) for each in work]
    alone = [one.one(job) for job in jobs]
    for kit in (many, scrambled):
        together = [result for at in range(0, len(jobs), size) for result in kit.run(*jobs[at : at + size])]
        assert to_bytes(together) == to_bytes(alone)
        assert kit.dump() == one.dump()
        kit.audit()


@pytest.mark.slow
@given(st.lists(WORK, max_size=25), st.integers(1, 8))
def test_the_row_changes_of_all_batches_rebuild_the_catalog(new_kit, work, size):
    kit = new_kit(nodes=3)
    script = Script(kit)
    jobs = [script.job(each) for each in work]
    for at in range(0, len(jobs), size):
        kit.run(*jobs[at : at + size])
    widths = {table.name: table.width for table in TABLES}
    rebuilt = {name: {key_of(row, widths[name]): tuple(row) for row in rows} for name, rows in kit.initial.items()}
    for table, key, row in kit.changes:
        assert row != rebuilt[table].get(key), "a change that changes nothing"
        if row is None:
            del rebuilt[table][key]
        else:
            rebuilt[table][key] = tuple(row)
    assert {name: sorted(rows.values()) for name, rows in rebuilt.items()} == kit.dump()


def key_of(row, width):
    return row[0] if width == 1 else tuple(row[:width])


def test_reads_see_the_writes_before_them_and_not_those_behind(kit):
    before, made, after = kit.run(kit.request(Stat("/a")), kit.request(kit.commit("/a", 10)), kit.request(Stat("/a")))
    assert before.code == "not-found"
    assert after == made


def test_a_batch_sees_through_its_own_moves(kit):
    kit.good(kit.commit("/a/b/f", 5000))
    results = kit.run(
        kit.request(Move("/a/b", "/c")),
        kit.request(kit.commit("/c/g")),
        kit.request(Remove("/a")),
        kit.request(Move("/c", "/a")),
        kit.request(ListDirectory("/a")),
        kit.request(Locate("/a/f")),
        kit.request(Stat("/c/g")),
    )
    assert [entry.name for entry in results[4].entries] == ["f", "g"]
    assert len(results[5].chunks) == 2
    assert results[6].code == "not-found"


def test_a_file_can_be_read_in_the_batch_that_makes_it(kit):
    commit = kit.commit("/f", 9000)
    _, located, other, again = kit.run(
        kit.request(commit), kit.request(Locate("/f")), kit.request(kit.commit("/g")), kit.request(Locate("/f"))
    )
    assert [chunk[0] for chunk in located.chunks] == [chunk.chunk for chunk in commit.chunks]
    assert all(len(places) == 2 for *_, places in located.chunks)
    assert other.attributes.size == 1000
    assert again == located


def test_an_empty_batch_is_fine(kit):
    assert kit.run() == []


def test_a_batch_without_changes_writes_nothing(kit):
    kit.good(kit.commit("/a"))
    changes, written = len(kit.changes), kit.disk.statistics()["bytes_written"]
    kit.run(*[kit.request(Stat("/a")), kit.request(ListDirectory("/")), LoadNodes()])
    assert len(kit.changes) == changes
    assert kit.disk.statistics()["bytes_written"] == written
