"""A migration that a loss of power cuts off leaves the old format or the new one, never a mixture, and nothing is lost."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import apsw
import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.errors import DSAError, Incompatible
from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, Catalog
from tests.golden.make import BUILDS

pytestmark = [
    pytest.mark.slow,
    # apsw reports what the dying disk says to SQLite's own tidying up.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SEEDS = 3  #: of what a loss of power takes, for each place where it strikes
KEPT = ("names", "inodes", "versions", "contents", "pages", "chunks", "uploads", "dead", "sessions", "replies")
"""Tables whose rows no migration so far has changed, but for more columns."""
NEXT = (
    "CREATE TABLE added (number BIGINT PRIMARY KEY)",
    "ALTER TABLE contents ADD COLUMN added BIGINT NOT NULL DEFAULT 7",
)


@pytest.fixture
def next_format(monkeypatch: pytest.MonkeyPatch) -> int:
    """One format more than there is, so that the newest one has a migration to come, too."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
    monkeypatch.setattr(schema, "NEWEST_FORMAT", len(schema.MIGRATIONS))
    return schema.NEWEST_FORMAT


def files_of(golden: Any, number: int) -> dict[str, bytes]:
    """A catalog, with the WAL that a killed master has left."""
    directory: Path = golden(number).directory / "master"
    files = {path.name: path.read_bytes() for path in directory.glob(f"{CATALOG_FILE}*") if "ballast" not in path.name}
    assert len(files) == 2
    return files


def disk_with(files: dict[str, bytes], seed: int) -> SimDisk:
    disk = SimDisk(random.Random(seed))
    for name, data in files.items():
        disk.replace_bytes(name, data)
    return disk


def opened(disk: SimDisk) -> Catalog:
    return Catalog.open(disk, rng=random.Random(9), secret=bytes(32), ballast_bytes=0)


def look(disk: SimDisk, columns: dict[str, list[str]]) -> tuple[int, dict[str, str], dict[str, list[Any]]]:
    """Format, statements that make the tables, and rows, as SQLite finds them after a crash, without our code."""
    copy = disk.snapshot()
    connection = apsw.Connection(copy.sqlite_path(CATALOG_FILE), vfs=copy.sqlite_vfs)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    number = connection.execute("SELECT number FROM meta WHERE name = 'format'").get
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
    rows = {name: connection.execute(f"SELECT {', '.join(columns[name])} FROM {name}").fetchall() for name in KEPT}
    connection.close()
    copy.close()
    return int(number), tables, rows  # type: ignore[arg-type]


def made_by(number: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The statements that make the tables of a format, and the columns of those that are kept."""
    connection = apsw.Connection(":memory:")
    for migration in schema.MIGRATIONS[:number]:
        for statement in migration:
            connection.execute(statement.format_map(schema.SQLITE))
    tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
    return tables, {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})").fetchall()] for name in KEPT
    }


@pytest.mark.parametrize("number", BUILDS)
def test_a_migration_cut_off_anywhere_leaves_one_format_or_the_other(
    golden: Any, next_format: int, number: int
) -> None:
    files = files_of(golden, number)
    before, columns = made_by(number)
    made = {number: before, next_format: made_by(next_format)[0]}
    untouched = look(disk_with(files, 0), columns)
    assert untouched[:2] == (number, before)
    seen, operations, ended = set(), 0, False
    while not ended:
        for seed in range(SEEDS):
            disk = disk_with(files, seed)
            disk.die_after(operations)
            with contextlib.suppress(DSAError):
                opened(disk).abandon()
                ended = True
            disk.power_loss()
            found, tables, rows = look(disk, columns)
            assert tables == made[found], f"a mixture after {operations} operations, seed {seed}"
            assert rows == untouched[2]
            seen.add(found)
            catalog = opened(disk)
            assert catalog.audit() == []
            catalog.close()
            assert look(disk, columns)[0] == next_format
            disk.close()
        operations += 1
    assert seen == {number, next_format}
    assert operations > 5


def test_a_catalog_that_a_newer_build_has_touched_is_refused_by_the_older_one(
    golden: Any, next_format: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to upgrade is said, and that there is no way back but a backup. Nothing is changed in it."""
    disk = disk_with(files_of(golden, max(BUILDS)), 0)
    opened(disk).close()
    monkeypatch.undo()
    before = disk.read_bytes(CATALOG_FILE)
    with pytest.raises(Incompatible) as caught:
        opened(disk)
    assert disk.read_bytes(CATALOG_FILE) == before
    assert f"has format {next_format}" in caught.value.message
    assert f"up to {next_format - 1}" in caught.value.message
    assert CATALOG_FILE in caught.value.message
    assert "backup" in caught.value.remedy
