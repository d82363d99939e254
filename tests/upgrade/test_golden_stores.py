"""What earlier builds have written, catalogs and nodes' directories, is read, healed and written on by today's servers."""

from __future__ import annotations

import shutil
from typing import Any

import apsw
import pytest

from dsa_zmq.master.catalog import schema
from dsa_zmq.node import index_file
from tests.golden.make import BUILDS, WITH_CODES

pytestmark = pytest.mark.slow

FORMATS = tuple(BUILDS)
INDEX_OF_FORMAT = {1: 1, 2: 2}  #: which version of a node's index the last build of each catalog format wrote
FORMAT = "SELECT number FROM meta WHERE name = 'format'"
INDEX_VERSION = "SELECT value FROM meta WHERE name = 'version'"


def number_in(path: Any, query: str) -> int:
    """A number in a database as it is found, which stays as it is."""
    copy = path.parent.parent / "copy"
    shutil.copytree(path.parent, copy)
    connection = apsw.Connection(str(copy / path.name))
    try:
        return int(connection.execute(query).get)  # type: ignore[arg-type]
    finally:
        connection.close()
        shutil.rmtree(copy)


@pytest.mark.parametrize("number", FORMATS)
def test_a_store_of_an_earlier_format_is_read_byte_for_byte_and_written_on(
    golden: Any, content: Any, number: int
) -> None:
    store = golden(number)
    catalog = store.directory / "master" / "catalog.sqlite"
    indexes = [store.directory / name / "index.sqlite" for name in store.nodes]
    assert number_in(catalog, FORMAT) == number
    assert {number_in(path, INDEX_VERSION) for path in indexes} == {INDEX_OF_FORMAT[number]}
    written: dict[str, bytes] = {}
    for turn in range(2):
        with store.cluster() as cluster, cluster.connect() as client:
            cluster.wait_healthy()
            store.check(client, written)
            for path, data in written.items():
                assert client.read_bytes(path) == data
            new = {f"/plain/new-{turn}": content(9_000), f"/thrice/new-{turn}": content(300), f"/{turn}": b""}
            for path, data in new.items():
                client.write_bytes(path, data, if_absent=True)
                assert client.read_bytes(path) == data
            written |= new
        store.audit()
        assert number_in(catalog, FORMAT) == schema.NEWEST_FORMAT
        assert {number_in(path, INDEX_VERSION) for path in indexes} == {index_file.SCHEMA_VERSION}


@pytest.mark.parametrize("number", FORMATS)
def test_a_node_of_a_store_of_an_earlier_format_is_healed(golden: Any, number: int) -> None:
    store = golden(number)
    with store.cluster() as cluster, cluster.connect() as client:
        cluster.wipe(number % 4)
        cluster.wait_healthy()
        store.check(client)
    store.audit()


@pytest.mark.parametrize("number", FORMATS)
def test_a_golden_store_has_what_it_is_there_for(golden: Any, number: int) -> None:
    """Files replaced and removed, whose contents are still to be let go; full segments; codes, if there were any."""
    store = golden(number)
    catalog = store.directory / "master" / "catalog.sqlite"
    for query in ("versions", "dead", "chunks WHERE redundancy = 'copies=3'", "inodes WHERE kind = 1 AND content = 0"):
        assert number_in(catalog, f"SELECT count(*) FROM {query}"), query
    coded = number_in(catalog, "SELECT count(*) FROM chunks WHERE redundancy = 'ec=2+1'")
    assert bool(coded) == (number in WITH_CODES)
    indexes = [store.directory / name / "index.sqlite" for name in store.nodes]
    assert any(number_in(path, "SELECT count(*) FROM segments WHERE sealed = 1") for path in indexes)
    killed = {path.parent.name for path in store.directory.glob("*/*-wal")}
    assert killed >= {"master", "node-3"}
