"""The format on disk: what was written by format 1 is read for ever, and the document says what is there."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import apsw
import pytest

from actors.disk import OsDisk
from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, Catalog
from dsa_zmq.master.catalog.jobs import CollectGarbage, LoadStaged, Request
from dsa_zmq.master.catalog.log import COLUMNS
from dsa_zmq.master.catalog.log_jobs import BeginVolume, LoadLog, LogState
from dsa_zmq.master.catalog.tables import META_NAMES, TABLES
from dsa_zmq.model.records import NO_HASH
from dsa_zmq.protocol.operations import ListDirectory, Locate, Remove, Stat

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = json.loads((ROOT / "tests/golden/catalog_v1.json").read_text())
DOCUMENT = (ROOT / "docs/ON_DISK_CATALOG.md").read_text()


LOG = ("log", 1, COLUMNS)


def value(stored):
    return bytes.fromhex(stored["bytes"]) if isinstance(stored, dict) else stored


def open_catalog(path, **options):
    return Catalog.open(OsDisk(path), rng=random.Random(0), secret=b"\x5a" * 32, ballast_bytes=0, **options)


@pytest.fixture
def golden(tmp_path):
    """A catalog as format 1 wrote it, made without our own code, and opened."""
    connection = apsw.Connection(str(tmp_path / CATALOG_FILE))
    for statement in GOLDEN["statements"]:
        connection.execute(statement)
    for table, rows in GOLDEN["rows"].items():
        for row in rows:
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", [value(v) for v in row])
    connection.close()
    catalog = open_catalog(tmp_path)
    yield catalog
    catalog.close()


def test_a_catalog_of_format_1_is_read_and_goes_on(golden):
    assert golden.audit() == []
    assert golden.term == 2
    session = GOLDEN["rows"]["sessions"][0][0]
    stat, located, staged = golden.run(
        [Request(Stat("/é/moved"), 0, 0, 0, 5), Request(Locate("/copy"), 0, 0, 0, 5), LoadStaged()]
    )
    assert (stat.attributes.size, stat.attributes.version, stat.attributes.redundancy) == (9000, 1, "copies=2")
    assert [length for _, length, _, _ in located.chunks] == [4096, 4096, 808]
    assert staged == [row[0] for row in GOLDEN["rows"]["uploads"]]
    kept = golden.run([Request(Remove("/ignored"), session, 1, 0, 5)])[0]
    assert kept.attributes.size == 9000, "the answer that request 1 was given by the earlier process"
    sizes = [
        {entry.name: entry.attributes.size for entry in listed.entries}.get("written")
        for listed in golden.run([Request(ListDirectory("/", seq=seq), 0, 0, 0, 5) for seq in (11, 12, 13, 14, 0)])
    ]
    assert sizes == [None, 5000, 0, 200, 200]
    assert golden.run([Request(Remove("/copy"), session, 100, 0, 5)])[0].count == 1
    assert golden.audit() == []


def test_an_older_catalog_gets_a_log_that_nothing_leads_to(golden, tmp_path):
    assert golden.run([LoadLog()]) == [LogState(0, NO_HASH, 1, 0, 0, 0)]
    golden.close()
    catalog = open_catalog(tmp_path, keeps_log=True)
    (state,) = catalog.run([LoadLog()])
    assert (state.result.position, state.result.volume, state.result.restored_ns) == (2, 0, 0)
    catalog.run([BeginVolume(5, "")])
    catalog.close()
    connection = apsw.Connection(str(tmp_path / CATALOG_FILE))
    connection.execute("UPDATE meta SET number = 2 WHERE name = 'format'")
    connection.execute("DELETE FROM meta WHERE name IN ('volume', 'restored_ns')")
    connection.execute("DROP TABLE log")
    connection.close()
    catalog = open_catalog(tmp_path, keeps_log=True)
    (state,) = catalog.run([LoadLog()])
    assert (state.position, state.result.volume) == (2, 0)
    assert catalog.audit() == []
    catalog.close()


def test_what_format_1_left_to_be_let_go_is_let_go(golden):
    assert {row[0] for row in GOLDEN["rows"]["dead"]} == {1, 2, 3, 4, 5, 6}, "every kind"
    while golden.run([CollectGarbage(5, 1 << 62, 0, 1 << 62, horizon=1 << 40)])[0].more:
        assert golden.audit() == []
    assert golden.audit() == []
    count = golden._database.execute
    assert count("SELECT COUNT(*) FROM dead") == count("SELECT COUNT(*) FROM versions") == [(0,)]
    assert count("SELECT COUNT(*), SUM(refs) FROM contents") == [(2, 3)]


def test_a_released_migration_is_never_edited():
    assert schema.statements(0)[: len(GOLDEN["statements"])] == GOLDEN["statements"]


def test_the_document_names_every_table_with_its_columns_and_its_key():
    rows = re.findall(r"^\| `(\w+)` \| (\*\*.+?) \|", DOCUMENT, re.MULTILINE)
    described = {name: [column.strip() for column in columns.split(",")] for name, columns in rows}
    assert described == {
        name: [f"**{column}**" if position < width else column for position, column in enumerate(columns.split(", "))]
        for name, width, columns in [*[(table.name, table.width, table.columns) for table in TABLES], LOG]
    }


def test_the_document_names_every_value_of_meta_and_the_newest_format():
    assert all(f"`{name}`" in DOCUMENT for name in META_NAMES)
    assert f"Format {schema.NEWEST_FORMAT}." in DOCUMENT


def test_every_table_is_made_by_the_migrations():
    connection = apsw.Connection(":memory:")
    for statement in schema.statements(0):
        connection.execute(statement)
    for name, _, columns in [*[(table.name, table.width, table.columns) for table in TABLES], LOG]:
        assert ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({name})")) == columns
