"""A master's records for volumes, and volumes on simulated disks."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from actors.sim.disk import SimDisk
from dsa_zmq.model.records import BEGIN, CHANGES, END, ROWS, VOLUME_FORMAT, Record, VolumeEnd, VolumeHead, seal
from dsa_zmq.model.volumes import file_name
from dsa_zmq.node.failure import Failure
from dsa_zmq.node.volume_files import Appended, AppendRecords, VolumeFiles

CLUSTER = b"c" * 16
STEP = 64 << 10


class Shipper:
    """Seals the records of one volume, each after the one before; ``sent`` has them all."""

    def __init__(self, volume: int = 5, *, seed: int = 1, term: int = 5, size: int = 60, position: int = 10) -> None:
        self.draw = random.Random(f"{seed} {volume}")
        self.volume, self.term, self.size = volume, term, size
        self.position, self.hash = position, self.draw.randbytes(32)
        head = VolumeHead(VOLUME_FORMAT, CLUSTER.hex(), volume, 3, position, "dsa-zmq test")
        self.sent: list[Record] = []
        self.begin = self._seal(BEGIN, 0, self.hash, msgspec.json.encode(head))
        self.parts, self.part_hash = 1, self.begin.hash

    def _seal(self, kind: int, position: int, previous: bytes, body: bytes, *, ends: bool = True) -> Record:
        record = seal(kind, position, self.term, 1000 + len(self.sent), previous, body, ends=ends)
        self.sent.append(record)
        return record

    def change(self, size: int | None = None) -> Record:
        self.position += 1
        body = self.draw.randbytes(self.size if size is None else size)
        record = self._seal(CHANGES, self.position, self.hash, body)
        self.hash = record.hash
        return record

    def part(self, *, last: bool = False) -> Record:
        body = msgspec.json.encode(VolumeEnd(self.position, 1)) if last else self.draw.randbytes(self.size)
        record = self._seal(END if last else ROWS, self.parts, self.part_hash, body)
        self.parts, self.part_hash = self.parts + 1, record.hash
        return record

    def job(self, *records: Record) -> AppendRecords:
        return AppendRecords(self.volume, CLUSTER, tuple(record.data for record in records))


def open_files(disk: Any, step: int = STEP) -> VolumeFiles:
    """A new process opens them, as it would with its store."""
    failed = Failure(disk)
    failed.load()
    return VolumeFiles(disk, failed, step)


def append(files: VolumeFiles, shipper: Shipper, *records: Record) -> Appended:
    (outcome,) = files.append([shipper.job(*records)])
    return outcome


def append_all(files: VolumeFiles, shipper: Shipper, *records: Record) -> None:
    outcome = append(files, shipper, *records)
    assert outcome.error is None, outcome.error


def path(shipper: Shipper) -> str:
    return f"catalog/{file_name(shipper.volume)}"


def content(files: VolumeFiles, volume: int) -> bytes:
    """All bytes that count, read in portions."""
    data = b""
    while portion := files.read(volume, len(data), 1000):
        data += portion
    return data


def joined(records: list[Record]) -> bytes:
    return b"".join(record.data for record in records)


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(random.Random(5))


@pytest.fixture
def files(disk: SimDisk) -> VolumeFiles:
    return open_files(disk)
