"""Opening a catalog: what is there is kept, and what is wrong is said in words."""

from __future__ import annotations

import contextlib
import random

import apsw
import pytest

from actors.disk import OsDisk
from actors.sim.disk import SimDisk
from dsa_zmq.errors import ConfigError, Conflict, Corrupt, DSAError, Incompatible, Invalid
from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, Catalog
from dsa_zmq.model.ids import id_floor
from dsa_zmq.protocol.operations import MakeDirectory, Stat


def open_again(disk, **options):
    return Catalog.open(disk, rng=random.Random(99), secret=bytes(32), ballast_bytes=0, **options)


def refused(disk, kind):
    """The error of opening, which has to name the file and a remedy."""
    with pytest.raises(DSAError) as caught:
        open_again(disk)
    assert type(caught.value) is kind, caught.value
    assert CATALOG_FILE in caught.value.message
    assert caught.value.remedy
    return caught.value


def change(disk, *statements):
    """Edit the file behind the catalog's back."""
    connection = apsw.Connection(disk.sqlite_path(CATALOG_FILE), vfs=disk.sqlite_vfs)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_every_opening_begins_a_new_term_in_the_same_cluster(kit):
    cluster, terms = kit.catalog.cluster, [kit.catalog.term]
    for _ in range(3):
        kit.reopen()
        terms.append(kit.catalog.term)
    assert kit.catalog.cluster == cluster
    assert len(cluster) == 16
    assert terms == [1, 2, 3, 4]


def test_two_new_catalogs_are_two_clusters(new_kit):
    assert new_kit(1).catalog.cluster != new_kit(2).catalog.cluster


def test_a_term_survives_power_loss_before_it_is_used(kit):
    terms = {kit.catalog.term}
    for _ in range(5):
        kit.disk.power_loss()
        kit.open()
        assert kit.catalog.term not in terms
        terms.add(kit.catalog.term)


def test_ids_of_two_terms_never_meet(kit):
    first = kit.good(MakeDirectory("/a")).attributes.inode
    kit.reopen()
    second = kit.good(MakeDirectory("/b")).attributes.inode
    assert first < id_floor(2) < second


def test_the_default_redundancy_belongs_to_the_catalog_not_to_the_opening(kit):
    kit.reopen(default_redundancy="copies=3")
    assert kit.catalog.default_redundancy == "copies=2"
    assert kit.good(Stat("/")).attributes.redundancy == "copies=2"


def test_a_new_root_has_the_redundancy_asked_for(new_kit):
    assert new_kit(default_redundancy="copies=1").catalog.default_redundancy == "copies=1"
    with pytest.raises(Invalid):
        new_kit(default_redundancy="many")


def test_a_newer_format_is_refused_and_left_alone(kit):
    kit.catalog.close()
    change(kit.disk, f"UPDATE meta SET number = {schema.NEWEST_FORMAT + 1} WHERE name = 'format'")
    error = refused(kit.disk, Incompatible)
    assert str(schema.NEWEST_FORMAT + 1) in error.message
    change(kit.disk, f"UPDATE meta SET number = {schema.NEWEST_FORMAT} WHERE name = 'format'")
    kit.open()
    assert kit.catalog.term == 2


def test_another_programs_database_is_left_alone():
    disk = SimDisk(random.Random(0))
    change(disk, "CREATE TABLE things (a)")
    refused(disk, ConfigError)
    change(disk, "DROP TABLE things")
    open_again(disk).close()


@pytest.mark.parametrize("offset", [0, 20, 100, 2000])
def test_a_damaged_beginning_is_an_error_in_words(kit, offset):
    kit.catalog.close()
    file = kit.disk.open(CATALOG_FILE)
    file.pwritev([random.Random(1).randbytes(3000)], offset)
    file.close()
    refused(kit.disk, Corrupt)
    kit.disk.unlink(CATALOG_FILE)
    kit.open()


def test_a_file_of_something_else_is_an_error_in_words():
    disk = SimDisk(random.Random(0))
    disk.replace_bytes(CATALOG_FILE, b"this is not a database, whatever its name says" * 100)
    refused(disk, Corrupt)


def test_a_file_cut_short_is_an_error_in_words(kit):
    for index in range(200):
        kit.good(MakeDirectory(f"/{index}"))
    kit.catalog.close()
    data = kit.disk.read_bytes(CATALOG_FILE)
    kit.disk.replace_bytes(CATALOG_FILE, data[: len(data) // 2])
    refused(kit.disk, Corrupt)
    kit.disk.replace_bytes(CATALOG_FILE, data)
    kit.open()


@pytest.mark.parametrize("name", ["term", "cluster", "seq", "format"])
def test_a_catalog_without_one_of_its_numbers_is_damaged(kit, name):
    kit.catalog.close()
    change(kit.disk, f"CREATE TABLE kept AS SELECT * FROM meta WHERE name = '{name}'",
           f"DELETE FROM meta WHERE name = '{name}'")  # fmt: skip
    refused(kit.disk, Corrupt)
    change(kit.disk, "INSERT INTO meta SELECT * FROM kept", "DROP TABLE kept")
    kit.open()


def test_a_catalog_without_a_root_is_damaged(kit):
    kit.catalog.close()
    change(kit.disk, "UPDATE inodes SET inode = 5 WHERE inode = 1")
    refused(kit.disk, Corrupt)
    change(kit.disk, "UPDATE inodes SET inode = 1 WHERE inode = 5")
    kit.open()


def test_a_catalog_in_use_is_refused_and_free_when_it_is_closed(tmp_path):
    disk = OsDisk(tmp_path)
    first = open_again(disk)
    refused(disk, Conflict)
    assert first.run([]) == []
    first.close()
    second = open_again(disk)
    assert second.term == 2
    second.close()


def test_a_read_only_disk_is_an_error_in_words(kit):
    kit.catalog.close()
    kit.disk.readonly = True
    refused(kit.disk, ConfigError)
    kit.disk.readonly = False
    kit.open()


def test_a_directory_in_the_place_of_the_file_is_an_error_in_words(tmp_path):
    (tmp_path / CATALOG_FILE).mkdir()
    refused(OsDisk(tmp_path), ConfigError)


# apsw reports what the dying disk says to SQLite's own tidying up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_opening_cut_off_anywhere_leaves_a_catalog_that_opens():
    for seed in range(40):
        disk = SimDisk(random.Random(seed))
        disk.die_after(seed)
        with contextlib.suppress(DSAError):
            open_again(disk).abandon()
        disk.power_loss()
        catalog = open_again(disk)
        assert catalog.audit() == []
        assert len(catalog.cluster) == 16
        catalog.close()
