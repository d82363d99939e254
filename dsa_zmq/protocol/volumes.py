"""The catalog's copies on nodes, from protocol version 2 on: values, messages and operations. See dsa_zmq.model.records.

Messages travel over the connections of the control plane, records of the catalog as their payload.
"""

from __future__ import annotations

from typing import ClassVar

from actors.core import Message
from dsa_zmq.protocol.values import Failure, Value

# --- values -------------------------------------------------------------------------------------------------------


class VolumeState(Value, frozen=True):
    """What a node holds of a volume of the catalog's records, durably: see dsa_zmq.model.records."""

    volume: int
    begun: int = -1  #: position of the log when its snapshot was begun; -1: the node does not have the volume
    begun_ns: int = 0  #: by the master's clock
    parts: int = 0  #: records of the snapshot, BEGIN and END included
    complete: bool = False  #: the snapshot's END is there
    whole: int = -1  #: the first position of the log as of which the catalog can be made; -1: not complete
    whole_ns: int = 0
    position: int = -1  #: of the last record of the log; ``begun`` if there is none yet
    term: int = 0  #: of the newest record
    wall_ns: int = 0  #: of the last record of the log, or of BEGIN
    hash: bytes = b""  #: of the last record of the log, or of the one before BEGIN
    size: int = 0  #: bytes of its file, as far as they count
    damage: str = ""  #: why what follows cannot be used; "" while it is sound

    @property
    def usable(self) -> bool:
        """The catalog can be made of it."""
        return self.complete and self.position >= self.whole >= 0

    @property
    def newness(self) -> tuple[int, int]:
        """Of two copies the newer one has the larger one, whichever volume was begun later."""
        return self.term, self.position


class HeldVolume(Value, frozen=True):
    """A volume, and the nodes that hold it, by name, each with how far."""

    state: VolumeState  #: of the one that holds most
    nodes: list[str]
    positions: list[int]  #: of each
    damages: list[str]  #: of each, why what follows there cannot be used; "" while it is sound


# --- messages between nodes and the master, or who restores it --------------------------------------------------------


class Ship(Message, frozen=True, tag=46, array_like=True):
    """Master to node: append the records in the payload, one in each frame, to a volume. If the first of them is its BEGIN,
    it is made. Records that are there already are passed over. Without a payload: what do you have of it? -> Shipped"""

    number: int
    term: int
    volume: int


class Shipped(Message, frozen=True, tag=47, array_like=True):
    """What the node holds of a volume, durably. Number 0: nobody asked; it was found damaged."""

    number: int
    state: VolumeState
    failure: Failure | None = None  #: why what was sent could not be appended


class AskVolumes(Message, frozen=True, tag=48, array_like=True):
    """Master to node, or who restores one. -> Volumes"""

    number: int


class Volumes(Message, frozen=True, tag=49, array_like=True):
    number: int
    volumes: list[VolumeState]


class ReadVolume(Message, frozen=True, tag=50, array_like=True):
    """Master to node, or who restores one: bytes of a volume's file, as far as they count. -> VolumeData"""

    number: int
    volume: int
    offset: int
    limit: int


class VolumeData(Message, frozen=True, tag=51, array_like=True):
    """One payload frame: at most as many bytes as asked, none at the end."""

    number: int
    volume: int
    offset: int
    failure: Failure | None = None


class KeepVolumes(Message, frozen=True, tag=52, array_like=True):
    """Master to node: these volumes are wanted; remove all others with lower numbers than the highest of them. -> Noted,
    after they are gone"""

    number: int
    term: int
    volumes: list[int]


class Claim(Message, frozen=True, tag=53, array_like=True):
    """Who restores a lost master, to a node that asks to be registered: from now on obey nobody of a lower term. What the
    node answers is all that it will ever hold of an earlier master. -> Claimed, once it is durable, or Refused"""

    number: int
    version: int
    oldest: int
    cluster: bytes
    term: int
    master: bytes  #: 16 random bytes of the process that restores
    only_asks: bool = False  #: nothing is to change: the same answer, for who wants to know before


class Claimed(Message, frozen=True, tag=54, array_like=True):
    number: int
    node: int
    name: str
    store_id: bytes
    seen_term: int  #: the newest obeyed before this claim, or the newest so far
    heard_ms: int  #: ago, a master gave a sign of life; -1: none did since this process began
    volumes: list[VolumeState]


# --- operations and their answers -------------------------------------------------------------------------------------


class CatalogHistory(Value, frozen=True, tag=16):
    """The copies of the catalog on nodes. -> CatalogCopies"""

    since: ClassVar[int] = 2


class ReadCatalog(Value, frozen=True, tag=17):
    """Bytes of a volume's file, of the node with that name. -> CatalogData"""

    since: ClassVar[int] = 2

    volume: int
    node: str
    offset: int


class CatalogCopies(Value, frozen=True, tag=61):
    """How safe the catalog is."""

    level: str  #: sync, async or off
    volumes: list[HeldVolume]  #: the oldest first
    position: int = 0  #: of the log, at the master
    safe: int = 0  #: up to here enough nodes hold it
    wanted: int = 0  #: so many nodes are to hold it
    enough: int = 0  #: so many have to, before it counts as safe
    unprotected_ns: int = 0  #: since when, by the master's clock, it is not; 0: it is
    why: str = ""  #: it is not


class CatalogData(Value, frozen=True, tag=62):
    data: bytes  #: b"": that was all
