"""What earlier builds have written, catalogs and nodes' directories, is read, healed and written on by today's servers."""

from __future__ import annotations

import shutil
from typing import Any

import apsw
import pytest

from dsa_zmq.master.catalog import schema
from dsa_zmq.node import index_file
from tests.golden.make import BUILDS

pytestmark = pytest.mark.slow

FORMATS = tuple(BUILDS)
INDEX_OF_FORMAT = {1: 1, 2: 2}  #: which version of a node's index the last build of each catalog format wrote
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


def format_of(path: Any) -> int:
    return number_in(path, "SELECT number FROM meta WHERE name = 'format'")


@pytest.mark.parametrize("number", FORMATS)
def test_a_store_of_an_earlier_format_is_read_byte_for_byte_and_written_on(
    golden: Any, content: Any, number: int
) -> None:
    store = golden(number)
    catalog = store.directory / "master" / "catalog.sqlite"
    assert format_of(catalog) == number
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
        assert format_of(catalog) == schema.NEWEST_FORMAT


@pytest.mark.parametrize("number", FORMATS)
def test_a_node_of_a_store_of_an_earlier_format_is_healed(golden: Any, number: int) -> None:
    store = golden(number)
    with store.cluster() as cluster, cluster.connect() as client:
        for node in (0, 1):
            cluster.wipe(node)
            cluster.wait_healthy()
        store.check(client)
    store.audit()


@pytest.mark.parametrize("number", FORMATS)
def test_an_index_of_an_earlier_build_is_used_or_made_anew(golden: Any, number: int) -> None:
    store = golden(number)
    indexes = [store.directory / name / "index.sqlite" for name in store.nodes]
    assert {number_in(path, INDEX_VERSION) for path in indexes} == {INDEX_OF_FORMAT[number]}
    with store.cluster() as cluster, cluster.connect() as client:
        store.check(client)
    assert {number_in(path, INDEX_VERSION) for path in indexes} == {index_file.SCHEMA_VERSION}
