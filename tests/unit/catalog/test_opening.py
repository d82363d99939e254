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
from dsa_zmq.master.catalog.jobs import LoadNodes, MarkStale
from dsa_zmq.master.catalog.stale import STALE_FILE
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
            open_again(disk, keeps_log=True).abandon()
        disk.power_loss()
        catalog = open_again(disk, keeps_log=seed % 3 > 0)
        assert catalog.audit() == []
        assert len(catalog.cluster) == 16
        catalog.close()


# --- old copies -------------------------------------------------------------------------------------------------------


def mark(kit, seen_term=9):
    return kit.one(MarkStale(kit.catalog.term, seen_term, "shelf-1", 1_000))


def test_a_catalog_marked_as_an_old_copy_does_not_open_again_and_keeps_its_term(kit):
    assert mark(kit) is None
    kit.catalog.close()
    for _ in range(3):
        error = refused_for_good(kit.disk)
        assert "a master of term 9, this catalog is of term 1: it is an old copy" in error.message
        assert "shelf-1" in error.message
        assert "dsa master --take-over" in error.remedy
    kit.open(take_over=True)
    assert kit.catalog.term == 10
    kit.reopen()
    assert kit.catalog.term == 11


def refused_for_good(disk, **options):
    before = {name: disk.read_bytes(name) for name in disk.listdir("")}
    with pytest.raises(ConfigError) as caught:
        open_again(disk, **options)
    assert {name: disk.read_bytes(name) for name in disk.listdir("")} == before
    return caught.value


def test_two_copies_of_one_term_are_told_apart_by_the_operator_only(kit):
    mark(kit, seen_term=kit.catalog.term)
    kit.catalog.close()
    assert "two masters have run on copies of one catalog" in refused_for_good(kit.disk).message
    kit.open(take_over=True)
    assert kit.catalog.term == 2


def test_the_mark_is_durable_when_the_job_ends_and_others_of_its_batch_have_their_results(kit):
    jobs = [LoadNodes(), MarkStale(1, 9, "shelf-1", 0), LoadNodes()]
    before, marked, after = kit.run(*jobs)
    assert marked is None
    assert [node.name for node in before] == [node.name for node in after] == ["n0", "n1", "n2", "n3"]
    kit.disk.power_loss()
    refused_for_good(kit.disk)
    kit.open(take_over=True)


def test_a_mark_finds_room_on_a_full_disk(new_kit):
    kit = new_kit(ballast_bytes=1 << 20)
    kit.disk.capacity_bytes -= kit.disk.free_bytes()[0]
    assert mark(kit) is None
    kit.catalog.close()
    refused_for_good(kit.disk)


def test_a_mark_that_cannot_be_written_is_an_outcome_and_not_an_end(kit):
    kit.disk.capacity_bytes -= kit.disk.free_bytes()[0]
    assert isinstance(mark(kit), OSError)
    assert len(kit.one(LoadNodes())) == 4


def test_taking_over_from_nobody_is_refused(kit):
    kit.catalog.close()
    assert "nothing to take over" in refused_for_good(kit.disk, take_over=True).message
    kit.open()
    assert kit.catalog.term == 2


def test_a_damaged_mark_still_refuses_every_start(kit):
    kit.catalog.close()
    kit.disk.replace_bytes(STALE_FILE, b"{}")
    for take_over in (False, True):
        assert "damaged" in refused_for_good(kit.disk, take_over=take_over).message
    kit.disk.unlink(STALE_FILE)
    kit.open()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_take_over_cut_off_anywhere_ends_above_the_other_term():
    for operations in range(12):
        disk = SimDisk(random.Random(operations))
        catalog = open_again(disk)
        catalog.run([MarkStale(1, 9, "n", 0)])
        catalog.close()
        disk.die_after(operations)
        with contextlib.suppress(DSAError, OSError):
            open_again(disk, take_over=True).abandon()
        disk.power_loss()
        catalog = open_again(disk, take_over=disk.exists(STALE_FILE))
        assert catalog.term in (10, 11)
        catalog.close()


@pytest.mark.parametrize("loss", ["removed", "emptied"])
def test_a_catalog_that_is_gone_is_not_begun_anew(tmp_path, loss):
    disk = OsDisk(tmp_path)
    first = Catalog.open(disk, rng=random.Random(1), secret=bytes(32), ballast_bytes=4096)
    first.close()
    (tmp_path / CATALOG_FILE).unlink()
    if loss == "emptied":
        (tmp_path / CATALOG_FILE).touch()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert "is gone or empty" in refused(disk, Corrupt).message
    assert sorted(path.name for path in tmp_path.iterdir()) == before
