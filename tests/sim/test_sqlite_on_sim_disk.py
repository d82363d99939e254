"""SQLite keeps its promises on a simulated disk, and breaks them when its syncs are taken away."""

from __future__ import annotations

import gc
import random

import apsw
import pytest

from actors.sim.disk import DiskFaults, SimDisk

JOURNALS = ["wal", "delete"]


def connect(disk: SimDisk, journal: str) -> apsw.Connection:
    connection = apsw.Connection(disk.sqlite_path("db/x.sqlite"), vfs=disk.sqlite_vfs)
    for pragma in ("locking_mode=EXCLUSIVE", f"journal_mode={journal}", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    assert connection.execute("PRAGMA journal_mode").fetchone() == (journal,)
    return connection


def write_until_power_loss(
    seed: int, journal: str, transactions: int, *, ignore_sync: bool = False
) -> tuple[int, SimDisk]:
    """Commit rows one by one and lose power, also in the middle of a commit; returns how many were acknowledged."""
    draw = random.Random(seed)
    disk = SimDisk(random.Random(seed))
    disk.makedirs("db")
    disk.sync_dir("")
    connection = connect(disk, journal)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
    disk.ignore_sync = ignore_sync
    acknowledged = 0
    disk.die_after(draw.randrange(transactions * 5))
    try:
        for number in range(transactions):
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, draw.randbytes(draw.choice([20, 200, 9000]))))
            acknowledged += 1
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1000000, zeroblob(50000))")
    except apsw.IOError:
        pass  # the process died in the middle of that commit
    disk.power_loss()
    disk.ignore_sync = False
    return acknowledged, disk


def rows_after(disk: SimDisk, journal: str) -> list[int]:
    connection = connect(disk, journal)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = [number for (number,) in connection.execute("SELECT id FROM t ORDER BY id")]
    connection.close()
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("journal", JOURNALS)
def test_committed_rows_survive_power_loss_and_others_do_not(journal: str) -> None:
    cut_short = 0
    for seed in range(12):
        acknowledged, disk = write_until_power_loss(seed, journal, 300)
        rows = rows_after(disk, journal)
        # A commit that was under way may have happened; one that was never asked for may not.
        assert rows in (list(range(acknowledged)), list(range(acknowledged + 1)))
        assert acknowledged == 300 or len(rows) <= 300
        cut_short += acknowledged < 300
    assert cut_short > 3


@pytest.mark.slow
@pytest.mark.parametrize("journal", JOURNALS)
def test_without_syncs_committed_rows_are_lost_for_some_seed(journal: str) -> None:
    broken = 0
    for seed in range(12):
        acknowledged, disk = write_until_power_loss(seed, journal, 60, ignore_sync=True)
        try:
            rows = rows_after(disk, journal)
        except (apsw.Error, AssertionError):
            broken += 1
        else:
            broken += rows[:acknowledged] != list(range(acknowledged))
    assert broken >= 3


@pytest.mark.parametrize("journal", JOURNALS)
def test_nothing_is_lost_when_only_the_process_dies(journal: str) -> None:
    disk = SimDisk(random.Random(3))
    disk.makedirs("db")
    connection = connect(disk, journal)
    connection.execute("PRAGMA synchronous=OFF; CREATE TABLE t (id INTEGER PRIMARY KEY)")
    for number in range(20):
        connection.execute("INSERT INTO t VALUES (?)", (number,))
    disk.process_crash()
    with pytest.raises(apsw.ConnectionClosedError):
        connection.execute("SELECT 1")
    assert rows_after(disk, journal) == list(range(20))


@pytest.mark.parametrize("seed", range(8))
def test_an_old_wal_does_not_come_back_in_place_of_one_that_a_killed_process_left_empty(seed: int) -> None:
    """Neither the removal of the old WAL nor the name of the new one is durable when that process dies. SQLite opens a WAL
    to be created even if it is there, so the next process syncs the directory with the first sync of it."""
    disk = SimDisk(random.Random(seed))
    disk.makedirs("db")
    disk.sync_dir("")
    connection = connect(disk, "wal")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()  # brings all into the database, and removes the WAL
    connection = connect(disk, "wal")
    connection.execute("BEGIN IMMEDIATE; ROLLBACK")
    assert disk.read_bytes("db/x.sqlite-wal") == b""
    disk.process_crash()
    connection = connect(disk, "wal")
    connection.execute("DELETE FROM t")
    connection.execute("INSERT INTO t VALUES (2)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    disk.power_loss()
    assert rows_after(disk, "wal") == [2]


def test_a_dead_process_removes_no_file_any_more() -> None:
    disk = SimDisk(random.Random(3))
    disk.makedirs("db")
    connection = connect(disk, "wal")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before, names = disk.statistics(), disk.listdir("db")
    assert len(names) == 2
    disk.process_crash()
    assert disk.listdir("db") == names
    assert disk.statistics() == before


def test_a_full_disk_is_sqlites_full_error_and_the_database_goes_on() -> None:
    disk = SimDisk(random.Random(1), faults=DiskFaults(capacity_bytes=400_000))
    disk.makedirs("db")
    connection = connect(disk, "wal")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
    connection.execute("INSERT INTO t VALUES (1, zeroblob(1000))")
    with pytest.raises(apsw.FullError):
        connection.execute("INSERT INTO t VALUES (2, randomblob(500000))")
    disk.capacity_bytes *= 10
    connection.execute("INSERT INTO t VALUES (3, zeroblob(1000))")
    connection.close()
    assert rows_after(disk, "wal") == [1, 3]


def test_an_io_error_is_sqlites_io_error() -> None:
    disk = SimDisk(random.Random(1))
    disk.makedirs("db")
    connection = connect(disk, "wal")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    disk.failing_syncs = 1
    with pytest.raises(apsw.IOError):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()


def test_temporary_files_work_and_leave_no_names() -> None:
    disk = SimDisk(random.Random(1))
    disk.makedirs("db")
    connection = connect(disk, "wal")
    connection.execute("PRAGMA temp_store=FILE; PRAGMA cache_size=10; CREATE TEMP TABLE t (b)")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
    connection.execute(f"INSERT INTO t {numbers} SELECT randomblob(1000) FROM n")
    assert connection.execute("SELECT count(*) FROM (SELECT b FROM t ORDER BY b)").fetchone() == (500,)
    connection.close()
    assert disk.listdir("db") == ["x.sqlite"]


def test_the_vfs_goes_with_its_disk() -> None:
    disk = SimDisk(random.Random(1))
    disk.makedirs("db")
    name = disk.sqlite_vfs
    connect(disk, "wal").close()
    assert name in apsw.vfs_names()
    disk.close()
    assert name not in apsw.vfs_names()

    other = SimDisk(random.Random(1)).sqlite_vfs
    gc.collect()
    assert other not in apsw.vfs_names()
