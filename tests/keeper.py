"""Volumes of the catalog as a node keeps them, in memory: for scripted nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dsa_zmq.errors import Conflict, Corrupt, DSAError, NotFound
from dsa_zmq.model.records import BEGIN, Record, read_record
from dsa_zmq.model.volumes import VolumeChain
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.volumes import KeepVolumes, ReadVolume, Ship, Shipped, VolumeData, Volumes, VolumeState


@dataclass
class Kept:
    """One volume."""

    chain: VolumeChain = field(default_factory=VolumeChain)
    data: bytearray = field(default_factory=bytearray)
    damage: str = ""


class Keeper:
    """All volumes of one node."""

    def __init__(self) -> None:
        self.volumes: dict[int, Kept] = {}
        self.term = 0  #: the newest obeyed
        self.refusal: Failure | None = None  #: say this instead of taking anything

    def ship(self, message: Ship, payload: Sequence[bytes | memoryview]) -> Shipped | None:
        """The answer; None to a master of the past."""
        if message.term < self.term:
            return None
        self.term = message.term
        failure = self.refusal if payload else None
        try:
            for data in payload if failure is None else ():
                self._append(message.volume, bytes(data))
        except DSAError as error:
            failure = Failure(error.code, error.message, error.remedy)
        return Shipped(message.number, self.state(message.volume), failure)

    def _append(self, volume: int, data: bytes) -> None:
        record = read_record(data)
        if record is None or len(record.data) != len(data):
            raise Corrupt("a frame is no record")
        if volume not in self.volumes:
            if record.kind != BEGIN:
                raise Conflict("the volume is not here")
            self.volumes[volume] = Kept()
        kept = self.volumes[volume]
        if kept.damage:
            raise Corrupt(kept.damage)
        if kept.chain.take(record):
            kept.data += data

    def state(self, volume: int) -> VolumeState:
        kept = self.volumes.get(volume)
        if kept is None:
            return VolumeState(volume)
        chain = kept.chain
        assert chain.head is not None
        return VolumeState(
            volume, chain.head.position, chain.begun_ns, chain.parts, chain.complete, chain.whole, chain.whole_ns,
            chain.position, chain.term, chain.wall_ns, chain.hash, len(kept.data), kept.damage,
        )  # fmt: skip

    def tell(self, number: int) -> Volumes:
        return Volumes(number, [self.state(volume) for volume in sorted(self.volumes)])

    def read(self, message: ReadVolume) -> tuple[VolumeData, bytes]:
        kept = self.volumes.get(message.volume)
        if kept is None:
            error = NotFound("there is no such volume here")
            return VolumeData(message.number, message.volume, message.offset, Failure(error.code, error.message)), b""
        data = bytes(kept.data[message.offset : message.offset + message.limit])
        return VolumeData(message.number, message.volume, message.offset), data

    def keep(self, message: KeepVolumes) -> bool:
        """Whether it was done."""
        if message.term < self.term:
            return False
        newest = max(message.volumes, default=0)  # what is above was begun since
        self.volumes = {
            number: kept for number, kept in self.volumes.items() if number in message.volumes or number > newest
        }
        return True

    def records(self, volume: int) -> list[Record]:
        """All of a volume."""
        found, offset, data = [], 0, bytes(self.volumes[volume].data)
        while (record := read_record(data, offset)) is not None:
            found.append(record)
            offset += len(record.data)
        return found
