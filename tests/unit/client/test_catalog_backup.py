"""A backup is the newest catalog that nodes hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsa_zmq.client.catalog_copies import backup, newest_first
from dsa_zmq.model.volumes import VolumeChain
from dsa_zmq.node.volume_writer import state_of
from dsa_zmq.protocol.volumes import CatalogCopies, CatalogHistory, HeldVolume, ReadCatalog
from dsa_zmq.protocol.volumes import CatalogData as Data
from tests.unit.node_volumes.conftest import Shipper, joined


def complete(volume: int, position: int, changes: int, *, term: int = 5) -> tuple[HeldVolume, bytes]:
    """A volume with so many changes behind its snapshot."""
    shipper = Shipper(volume, position=position, term=term)
    shipper.part(last=True)
    for _ in range(changes):
        shipper.change()
    chain = VolumeChain()
    for record in shipper.sent:
        chain.take(record)
    data = joined(shipper.sent)
    state = state_of(volume, chain, len(data), "")
    return HeldVolume(state, ["n1"], [state.position], [""]), data


def test_a_volume_that_was_begun_later_and_given_up_is_not_the_newest(tmp_path: Path) -> None:
    held, bytes_of = {}, {}
    for volume, position, changes in ((5, 10, 30), (6, 20, 3)):
        held[volume], bytes_of[volume] = complete(volume, position, changes)

    def ask(operation: Any, kind: type[Any], timeout: float) -> Any:
        if isinstance(operation, CatalogHistory):
            return CatalogCopies("sync", [held[5], held[6]])
        assert isinstance(operation, ReadCatalog)
        return Data(bytes_of[operation.volume][operation.offset :])

    made = backup(ask, tmp_path / "backup", overwrite=False, progress=None)
    assert (made.volume, made.position) == (5, 40)
    assert (tmp_path / "backup").read_bytes() == bytes_of[5]


def test_what_a_later_master_wrote_is_newer_than_what_it_gave_up() -> None:
    given_up, restored = complete(5, 10, 90)[0], complete(6, 20, 3, term=1006)[0]
    assert newest_first([given_up, restored]) == [restored, given_up]
