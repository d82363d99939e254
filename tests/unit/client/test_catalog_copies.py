"""A volume of the catalog is read whole, verified and without repetition, from whichever nodes have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsa_zmq.client.catalog_copies import backup, read_volume
from dsa_zmq.errors import AlreadyExists, Corrupt, DSAError, NotFound, Timeout, from_code
from dsa_zmq.model.records import CHANGES, Record
from dsa_zmq.model.volumes import VolumeChain, read_records
from dsa_zmq.protocol.volumes import CatalogCopies, CatalogData, CatalogHistory, HeldVolume, ReadCatalog, ReadVolume
from tests.keeper import Keeper
from tests.unit.master.harbour import Harbour, Log

PIECE = 700  #: bytes: records are cut in the middle


class Nodes:
    """Answers as a master does for its nodes."""

    def __init__(self, keepers: dict[str, Keeper]) -> None:
        self.keepers = keepers
        self.dies: dict[str, int] = {}  #: by node: after so many pieces
        self.asked: list[str] = []

    def __call__(self, operation: Any, kind: type[Any], timeout_s: float = 0) -> Any:
        if isinstance(operation, CatalogHistory):
            numbers = sorted({volume for keeper in self.keepers.values() for volume in keeper.volumes})
            return CatalogCopies("sync", [self.held(number) for number in numbers])
        assert isinstance(operation, ReadCatalog)
        self.asked.append(operation.node)
        if self.asked.count(operation.node) > self.dies.get(operation.node, 1 << 30):
            raise Timeout("the node does not answer")
        data, payload = self.keepers[operation.node].read(ReadVolume(1, operation.volume, operation.offset, PIECE))
        if data.failure is not None:
            raise from_code(data.failure.code, data.failure.message)
        return CatalogData(payload)

    def held(self, volume: int) -> HeldVolume:
        names = sorted(name for name, keeper in self.keepers.items() if volume in keeper.volumes)
        states = [self.keepers[name].state(volume) for name in names]
        best = max(states, key=lambda state: state.position)
        return HeldVolume(best, names, [state.position for state in states], [state.damage for state in states])


@pytest.fixture
def nodes() -> Nodes:
    """Three nodes with one volume, whose records lie in different orders on them."""
    harbour = Harbour(3, Log(rows=12)).start()
    harbour.wait(0.25)
    harbour.now_ns += 10**9
    harbour.ship.tick(harbour.at)
    harbour.take()
    while harbour.work():
        harbour.change(200)
        harbour.deliver(1)  # the others get what was shipped later, and the parts together
    for _ in range(20):
        harbour.change(200)
    harbour.wait(2)
    return Nodes({f"n{node}": keeper for node, keeper in harbour.keepers.items()})


def newest(nodes: Nodes) -> HeldVolume:
    held: HeldVolume = nodes(CatalogHistory(), CatalogCopies).volumes[-1]
    return held


def check(records: list[Record], position: int) -> None:
    """Each of them once, and each follows."""
    chain = VolumeChain()
    assert all(chain.take(record) for record in records), "none comes twice"
    assert chain.usable
    assert chain.position == position
    log = [record.position for record in records if record.kind == CHANGES]
    assert log == sorted(set(log))


@pytest.mark.parametrize("pieces", [0, 1, 2, 5, 9, 1 << 30])
def test_a_volume_is_whole_and_nothing_in_it_twice_wherever_a_node_stops(nodes: Nodes, pieces: int) -> None:
    held = newest(nodes)
    nodes.dies = {"n1": pieces, "n2": pieces // 2}
    passed_over: list[str] = []
    check(list(read_volume(nodes, held, passed_over, [])), held.state.position)
    assert (len(passed_over) > 0) == (pieces < 1 << 30)


def test_a_flipped_bit_anywhere_costs_only_that_copy(nodes: Nodes) -> None:
    held = newest(nodes)
    data = nodes.keepers["n1"].volumes[held.state.volume].data
    for at in range(0, len(data), 97):
        data[at] ^= 8
        passed_over: list[str] = []
        check(list(read_volume(nodes, held, passed_over, [])), held.state.position)
        assert passed_over
        assert "'n1'" in passed_over[0]
        data[at] ^= 8


def test_if_no_copy_can_be_used_that_is_said(nodes: Nodes, tmp_path: Path) -> None:
    held = newest(nodes)
    for keeper in nodes.keepers.values():
        keeper.volumes[held.state.volume].data[30] ^= 1
    with pytest.raises(Corrupt):
        list(read_volume(nodes, held, [], []))
    with pytest.raises(DSAError):
        backup(nodes, tmp_path / "b", overwrite=False, progress=None)
    assert not list(tmp_path.iterdir()), "nothing half is left"


def test_a_backup_is_a_volume_and_takes_no_other_files_place(nodes: Nodes, tmp_path: Path) -> None:
    nodes.dies = {"n1": 3}
    made = backup(nodes, tmp_path / "b", overwrite=False, progress=None)
    data = (tmp_path / "b").read_bytes()
    assert made.size == len(data)
    check([record for _, record in read_records(data)], newest(nodes).state.position)
    with pytest.raises(AlreadyExists):
        backup(nodes, tmp_path / "b", overwrite=False, progress=None)
    assert (tmp_path / "b").read_bytes() == data
    nodes.dies = {}
    backup(nodes, tmp_path / "b", overwrite=True, progress=None)
    assert [each.name for each in tmp_path.iterdir()] == ["b"]


def test_without_copies_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        backup(Nodes({}), tmp_path / "b", overwrite=False, progress=None)
