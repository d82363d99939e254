"""A restore from a backup; and the directory into which a catalog is restored."""

from __future__ import annotations

import pytest

from dsa_zmq.errors import AlreadyExists, DSAError
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.restore_events import Reads
from tests.sim.inn import TABLES, Lost, restored
from tests.unit.catalog.scribe import busy


@pytest.fixture
def lost() -> Lost:
    return Lost()


# --- from a file ------------------------------------------------------------------------------------------------------


def test_a_backup_is_restored_when_nodes_have_nothing_newer(lost: Lost) -> None:
    inn = lost.inn()
    inn.start(lost.volume.data())
    assert inn.planned().volumes == []
    assert inn.go().nodes == ["n0", "n1", "n2"]
    assert restored(inn) == lost.rows()
    assert inn.of(Reads)[-1].done == inn.of(Reads)[-1].total


def test_a_backup_that_is_older_than_a_node_has_to_be_wanted(lost: Lost) -> None:
    backup = lost.volume.data()
    position = lost.scribe.position
    busy(lost.kit, lost.scribe, 4)
    inn = lost.inn()
    inn.start(backup)
    error = inn.failure().error
    assert f"newer by {lost.scribe.position - position} changes" in error.message
    assert "--older" in error.remedy
    inn.start(backup, older=True)
    assert inn.planned().newest_position == lost.scribe.position
    inn.go()
    assert restored(inn) == {name: rows for name, rows in lost.scribe.as_of[position].items() if name not in TABLES}


@pytest.mark.parametrize("is_fresh", [False, True])
def test_a_moment_before_a_backup_is_refused_and_not_answered_with_a_later_one(lost: Lost, is_fresh: bool) -> None:
    """A fresh one has only a snapshot, during which nothing has changed."""
    inn = lost.inn()
    backup = lost.scribe.begin(3).complete().data() if is_fresh else lost.volume.data()
    first_ns, *_, last_ns = sorted(lost.scribe.walls.values())
    inn.start(backup, at_ns=first_ns, older=True)
    assert "does not reach back" in inn.failure().error.message
    inn.start(backup, at_ns=last_ns, older=True)
    assert inn.planned().preview.position == lost.scribe.position


def test_a_damaged_backup_is_used_only_if_that_is_wanted(lost: Lost) -> None:
    data = lost.volume.data()
    for backup in (data[:-10], data[: len(data) - 60] + b"\1" * 60):
        inn = lost.inn()
        inn.start(backup)
        assert "the file is damaged behind change" in inn.failure().error.message
        inn.start(backup, older=True)
        assert inn.planned().preview.position < lost.scribe.position
    inn.start(data[:200])
    assert inn.failure().error.exit_status in (4, 8)


def test_a_file_that_is_no_backup_is_refused(lost: Lost) -> None:
    inn = lost.inn()
    inn.start(b"once upon a time" * 100)
    assert "no record begins there" in inn.failure().error.message


def test_nodes_of_another_cluster_than_the_file_do_not_count(lost: Lost) -> None:
    inn = lost.inn()
    inn.guest("x", 1, b"another cluster.").hold()
    inn.start(lost.volume.data())
    inn.planned()
    assert "x: this node belongs to another cluster" in inn.notes


# --- the directory ----------------------------------------------------------------------------------------------------


def test_a_directory_with_a_catalog_is_refused(lost: Lost) -> None:
    inn = lost.inn()
    inn.start()
    inn.planned()
    inn.go()
    with pytest.raises(AlreadyExists, match="there is a catalog already"):
        inn.start()


def test_what_a_former_catalog_left_behind_does_no_harm(lost: Lost) -> None:
    inn = lost.inn()
    for name in (f"{CATALOG_FILE}-wal", f"{CATALOG_FILE}-shm", "stale.json", f"{CATALOG_FILE}.ballast"):
        inn.disk.replace_bytes(name, b"of the former one")
    inn.start()
    inn.planned()
    inn.go()
    assert restored(inn) == lost.rows()
    assert sorted(inn.disk.listdir("")) == [CATALOG_FILE, f"{CATALOG_FILE}.ballast"]


@pytest.mark.slow
@pytest.mark.parametrize("power_loss", [False, True])
def test_a_crash_while_publishing_leaves_no_catalog_or_all_of_it(lost: Lost, power_loss: bool) -> None:
    left = set()
    for operations in range(400):
        inn = lost.inn(seed=operations)
        inn.start()
        inn.planned()
        inn.disk.die_after(operations)
        inn.handle.call(lambda ctx: None)
        try:
            inn.go()
            ended = True
        except DSAError:
            ended = False
        if not inn.handle.alive:
            (inn.disk.power_loss if power_loss else inn.disk.process_crash)()
        else:
            inn.sim.crash("restore", power_loss=power_loss)
        whole = inn.disk.exists(CATALOG_FILE)
        left.add(whole)
        assert whole or not ended, "what was said to be restored is durable"
        if whole:
            assert restored(inn) == lost.rows()
        else:
            inn.start()
            inn.planned()
            inn.go()
            assert restored(inn) == lost.rows()
        if ended:
            break
    assert left == {False, True}
