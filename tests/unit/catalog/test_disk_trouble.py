"""Power loss, full disks and I/O errors: what was answered is there, and nothing is there by half."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random

import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.master.catalog.jobs import CollectGarbage, LoadNodes
from dsa_zmq.master.catalog.sql import CatalogBroken, Database, DiskFull, Rejected
from dsa_zmq.model.ids import start_of
from dsa_zmq.protocol.operations import Copy, ListDirectory, MakeDirectory, Move, Remove, Stat
from dsa_zmq.protocol.values import Failure


def batches_for(kit, draw, count):
    """Batches of requests of all kinds, with conflicts among them."""
    made = []
    for _ in range(count):
        batch = []
        for _ in range(draw.randrange(1, 9)):
            path, other = (f"/{draw.choice('abc')}/{draw.choice('abcdef')}" for _ in range(2))
            operation = draw.choice([
                lambda path, other: kit.commit(path, draw.choice([0, 10, 9000])),
                lambda path, other: Move(path, other, replace=True),
                lambda path, other: Copy(path, other),
                lambda path, other: Remove(path),
                lambda path, other: MakeDirectory(path, parents=True),
                lambda path, other: kit.stage(kit.new_id(), 0),
            ])(path, other)  # fmt: skip
            batch.append(kit.request(operation))
        if draw.random() < 0.2:
            batch.append(CollectGarbage(20, kit.now, 5, 1 << 60))
        made.append(batch)
    return made


def run_until_broken(kit, batches):
    """The answers of each batch until the catalog breaks."""
    answers = []
    for batch in batches:
        try:
            answers.append(kit.run(*batch))
        except CatalogBroken:
            break
    return answers


def rows_of(kit):
    """All rows but the term."""
    dump = kit.dump()
    dump["meta"] = [row for row in dump["meta"] if row[0] != "term"]
    return dump


@pytest.mark.parametrize("end", ["power loss", "kill"])
def test_every_answered_batch_survives_with_its_replies_and_no_other_survives_by_half(new_kit, seeds, end):
    cut = 0
    for seed in seeds:
        draw = random.Random(seed)
        kit, twin = new_kit(seed), new_kit(seed)
        batches = batches_for(kit, draw, 12)
        kit.disk.die_after(draw.randrange(120))
        answers = run_until_broken(kit, batches)
        cut += len(answers) < len(batches)
        if end == "power loss":
            kit.disk.power_loss()
        else:
            kit.disk.process_crash()
        kit.open()
        kit.audit()
        states = [rows_of(twin)]
        for batch in batches[: len(answers) + 1]:
            twin.run(*batch)
            states.append(rows_of(twin))
        # The batch that was under way may have happened, whole; one that was never begun may not.
        assert rows_of(kit) in states[len(answers) : len(answers) + 2]
        for batch, said in zip(batches, answers, strict=False):
            for request, answer in zip(batch, said, strict=True):
                if not isinstance(request, CollectGarbage):
                    assert kit.one(request) == answer
        assert rows_of(kit) in states[len(answers) : len(answers) + 2]
    assert cut > len(seeds) // 3


def test_a_request_that_was_cut_off_is_repeated_after_the_restart_with_one_effect(new_kit, seeds):
    for seed in seeds:
        kit = new_kit(seed)
        kit.good(MakeDirectory("/d"))
        request = kit.request(MakeDirectory("/d/e"))
        kit.disk.die_after(seed % 6)
        with contextlib.suppress(CatalogBroken):
            kit.one(request)
        kit.power_loss()
        made = kit.one(request)
        assert made.attributes.kind == "dir", made
        assert kit.one(request) == made
        assert len(kit.good(ListDirectory("/d")).entries) == 1
        kit.audit()


@pytest.mark.parametrize("when", ["commit", "later"])
def test_a_failed_sync_ends_the_catalog_until_it_is_opened_again(new_kit, when):
    kit = new_kit()
    kit.good(MakeDirectory("/before"))
    kit.disk.failing_syncs = 1
    with pytest.raises(CatalogBroken, match="commit"):
        kit.do(MakeDirectory("/a"))
    if when == "later":
        for job in (kit.request(Stat("/before")), LoadNodes()):
            with pytest.raises(CatalogBroken):
                kit.one(job)
    kit.power_loss()
    kit.audit()
    kit.good(Stat("/before"))
    kit.good(MakeDirectory("/b"))


def test_a_read_error_ends_the_catalog(new_kit):
    kit = new_kit()
    kit.run(*[kit.request(MakeDirectory(f"/{index:0200}"), done_below=kit.numbers) for index in range(1000)])
    kit.reopen()
    kit.catalog._database.execute("PRAGMA cache_size = 5")  # what the opening has read is not kept
    for sector in range(4096, kit.disk.open("catalog.sqlite").size(), 512):
        kit.disk.bad_sector("catalog.sqlite", sector)
    with pytest.raises(CatalogBroken):
        kit.run(*[kit.request(Stat(f"/{index:0200}")) for index in range(0, 1000, 50)])


def fill(kit, pages=4):
    """Leave almost no room on the disk."""
    kit.disk.capacity_bytes = kit.disk.statistics()["used_bytes"] + pages * 4096


def test_a_full_disk_is_said_for_each_request_and_changes_nothing(new_kit):
    kit = new_kit()
    kit.good(kit.commit("/f"))
    fill(kit)
    before = rows_of(kit)
    batch = [kit.request(kit.commit(f"/{index}", 9000)) for index in range(200)]
    answers = kit.run(*batch)
    refused = [request for request, answer in zip(batch, answers, strict=True) if isinstance(answer, Failure)]
    assert {answer.code for answer in answers if isinstance(answer, Failure)} == {"no-space"}
    assert len(refused) > 150
    kit.audit()
    if len(refused) == len(batch):
        assert rows_of(kit) == before
    kit.good(Stat("/f"))
    kit.disk.capacity_bytes = 1 << 40
    kit.power_loss()
    for request in batch:
        assert not isinstance(kit.one(request), Failure)
    assert len(kit.good(ListDirectory("/")).entries) == 201
    kit.audit()


def test_a_full_disk_in_the_middle_of_applying_rolls_the_whole_batch_back(new_kit):
    for pages in range(1, 40, 3):
        kit = new_kit()
        kit.catalog._database.execute("PRAGMA cache_size = 5")  # pages are written to the log before the commit
        fill(kit, pages)
        batch = [kit.request(MakeDirectory(f"/{index}/{'x' * 200}", parents=True)) for index in range(30)]
        answers = kit.run(*batch)
        kit.audit()
        there = {entry.name for entry in kit.good(ListDirectory("/")).entries}
        assert there == {str(i) for i, answer in enumerate(answers) if not isinstance(answer, Failure)}
        kit.disk.capacity_bytes += 1 << 20  # an opening writes, too
        kit.power_loss()
        assert {entry.name for entry in kit.good(ListDirectory("/")).entries} == there
        kit.audit()


def test_one_refused_request_takes_no_other_of_its_batch_with_it(new_kit):
    kit = new_kit()
    kit.good(MakeDirectory("/a"))
    inode = kit.good(MakeDirectory("/poison")).attributes.inode
    # A name that no rule expects makes the engine refuse the insertion of the next inode.
    kit.catalog._database.execute(f"INSERT INTO inodes VALUES ({inode + 2}, 1, 0, 0, '', 0, 0, 0, 0, 0, 0, 0)")
    answers = kit.run(*[kit.request(MakeDirectory(f"/{name}")) for name in "xyz"])
    assert [getattr(answer, "code", "ok") for answer in answers] == ["ok", "internal", "internal"]
    kit.good(Stat("/x"))


class FailingStatement:
    """Lets the database raise ``error`` at one of its changing statements."""

    def __init__(self, monkeypatch, at, error):
        self.calls = 0
        apply = Database.apply

        def counting(database, sql, values):
            self.calls += 1
            if self.calls == at:
                raise error("injected")
            apply(database, sql, values)

        monkeypatch.setattr(Database, "apply", counting)


@pytest.mark.parametrize("error", [DiskFull, Rejected])
def test_a_failure_of_any_statement_leaves_nothing_by_half(new_kit, monkeypatch, error):
    for broken in itertools.count(1):
        kit, twin = new_kit(), new_kit()
        for each in (kit, twin):
            each.good(each.commit("/f", 9000))
            each.good(MakeDirectory("/d"))
        batch = [
            kit.request(kit.commit("/d/new", 5000)),
            kit.request(Copy("/f", "/g"), done_below=2),
            kit.request(Move("/f", "/h/i")),
            kit.request(Remove("/d", recursive=True)),
        ]
        with monkeypatch.context() as patched:
            statements = FailingStatement(patched, broken, error)
            answers = kit.run(*batch)
        if statements.calls < broken:
            break  # every statement has failed once
        kit.audit()
        assert twin.run(*batch) == answers
        assert rows_of(twin) == rows_of(kit)
    assert broken > 10


def test_a_transaction_that_ended_by_itself_ends_the_catalog(new_kit, monkeypatch):
    kit = new_kit()
    load = Database.load

    def ending(self, sql, keys):
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        return load(self, sql, keys)

    request = kit.request(MakeDirectory("/a/b", parents=True))
    with monkeypatch.context() as patched:
        patched.setattr(Database, "load", ending)
        with pytest.raises(CatalogBroken):
            kit.one(request)
    kit.power_loss()
    kit.audit()
    assert kit.bad(Stat("/a")) == "not-found"


# --- ballast ----------------------------------------------------------------------------------------------------------

BALLAST = 1 << 20


def full_kit(new_kit):
    """A catalog with a ballast on a disk that is full: the kit, and the commits that went through."""
    kit = new_kit(ballast_bytes=BALLAST, disk=SimDisk(random.Random(5)))
    fill(kit, 400)
    stored = []
    for index in range(10_000):
        request = kit.request(kit.commit(f"/{index}", 9000))
        answer = kit.one(request)
        if isinstance(answer, Failure):
            assert answer.code == "no-space"
            assert answer.remedy
            return kit, stored
        stored.append((request, answer))
    raise AssertionError("the disk is never full")


def test_a_full_disk_can_be_cleaned_up_through_the_catalog(new_kit):
    kit, stored = full_kit(new_kit)
    assert len(stored) > 20
    for request, _ in stored:
        kit.good(Remove(request.operation.path))
    assert kit.bad(kit.commit("/new")) == "no-space"
    kit.collect()
    kit.audit()
    assert kit.good(ListDirectory("/")).entries == []


def test_what_deletions_free_inside_the_file_lets_the_catalog_grow_again(new_kit):
    kit, stored = full_kit(new_kit)
    kit.catalog._batches._ballast._size = 64 << 10  # what has to be free: less than these few files leave
    for request, _ in stored:
        kit.good(Remove(request.operation.path), done_below=kit.numbers)
    kit.collect()
    kit.drop_all()
    kit.collect()
    kit.good(kit.commit("/new"))
    kit.audit()


def test_room_on_the_disk_brings_the_ballast_back(new_kit):
    kit, stored = full_kit(new_kit)
    removals = iter(stored)
    while kit.disk.exists("catalog.sqlite.ballast"):
        kit.good(Remove(next(removals)[0].operation.path))
    assert kit.bad(MakeDirectory("/d")) == "no-space"
    kit.disk.capacity_bytes = 1 << 40
    kit.collect()
    kit.good(MakeDirectory("/d"))
    assert kit.disk.open("catalog.sqlite.ballast").size() == BALLAST


def test_a_full_disk_does_not_deny_what_was_done(new_kit):
    kit, stored = full_kit(new_kit)
    for request, answer in stored[-5:]:
        assert kit.one(request) == answer
    later = kit.request(stored[-1][0].operation, number=stored[-1][0].number, done_below=2)
    assert kit.one(later) == stored[-1][1]
    assert kit.bad(MakeDirectory("/d"), session=4711) == "outcome-unknown"


def test_on_a_full_disk_nodes_come_back_and_new_clients_can_clean_up(new_kit):
    kit, stored = full_kit(new_kit)
    while kit.disk.exists("catalog.sqlite.ballast"):
        kit.good(Remove(stored.pop()[0].operation.path))
    assert start_of(kit.register("n0", start=2).incarnation) == 2
    session = kit.open_session(b"a new client ...")
    kit.good(Remove(stored.pop()[0].operation.path), session=session)
    kit.audit()


@pytest.mark.parametrize("said_free", [None, 1 << 40])  # a quota: more is said to be free than may be used
def test_a_ballast_that_does_not_fit_leaves_nothing_behind(new_kit, monkeypatch, said_free):
    kit = new_kit(ballast_bytes=BALLAST, disk=SimDisk(random.Random(5)))
    kit.catalog.close()
    kit.disk.unlink("catalog.sqlite.ballast")
    fill(kit, BALLAST // 4096 - 1)
    if said_free:
        monkeypatch.setattr(kit.disk, "free_bytes", lambda: (said_free, said_free))
    kit.open()
    assert not kit.disk.exists("catalog.sqlite.ballast")
    assert kit.bad(MakeDirectory("/d")) == "no-space"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_or_a_quota_without_room_for_the_ballast_is_no_fault_of_the_disk(new_kit, monkeypatch, number):
    kit = new_kit(disk=SimDisk(random.Random(5)))

    def refuse(path, inode, size):
        raise OSError(number, "no room", path)

    monkeypatch.setattr(kit.disk, "grow", refuse)
    kit.catalog.close()
    kit.open(ballast_bytes=BALLAST)
    assert kit.bad(MakeDirectory("/d")) == "no-space"
    assert not kit.disk.exists("catalog.sqlite.ballast")


def test_a_catalog_on_a_full_disk_still_opens(new_kit):
    kit, _ = full_kit(new_kit)
    kit.disk.capacity_bytes = kit.disk.statistics()["used_bytes"]
    kit.power_loss()
    kit.good(Remove("/0"))
    kit.audit()
