"""Putting a node together: from its settings and its disk to what a runtime starts. The same in life and simulated."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from actors.core import ActorSpec, Address
from actors.disk import Disk
from dsa_zmq.errors import ConfigError
from dsa_zmq.model.addresses import WILDCARDS, split_endpoint
from dsa_zmq.model.erasure import check_library
from dsa_zmq.model.limits import HEARTBEAT_S, SEGMENT_BYTES
from dsa_zmq.model.pace import CarePace
from dsa_zmq.node.actor import NodeActor, Profile
from dsa_zmq.node.data_plane import PENDING_BYTES
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.identity import open_identity
from dsa_zmq.node.jobs import node_lanes
from dsa_zmq.node.volume_files import VolumeFiles
from dsa_zmq.protocol.codec import CODEC


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a node is told at its start."""

    master: Address  #: control endpoint
    name: str
    listen: Address  #: endpoint of the data port; port 0: any free one
    capacity: int  #: bytes that it may take
    advertise: Address | None = (
        None  #: where others reach the data port; None: where it is bound; port 0: the bound one
    )
    zone: str = ""
    host: str = ""  #: failure domain, the machine id
    path: str = ""  #: of the directory, for people
    disk: str = ""  #: names the file system, to notice that all nodes share one
    reserve: int = 0  #: bytes left free on the file system
    segment_bytes: int = SEGMENT_BYTES
    answer_s: float = HEARTBEAT_S  #: how long the master may take to answer before it is asked again
    pending_bytes: int = PENDING_BYTES  #: bound on puts, and again on reads, that are under way
    pace: CarePace = field(default_factory=CarePace)


def node_spec(settings: NodeSettings, disk: Disk, rng: random.Random) -> ActorSpec:
    """Open the directory (or format an empty one) and return what to start. Every call is a new incarnation.

    Raises DSAError: ConfigError for settings or a directory that make no sense, Incompatible for one of a newer build,
    Corrupt for a damaged one, Unavailable if the disk fails.
    """
    host, _ = split_endpoint(settings.listen)
    if settings.advertise is None and host in WILDCARDS:
        raise ConfigError(
            f"nobody can connect to {settings.listen}", "say where others reach this node, with --advertise HOST:PORT"
        )
    split_endpoint(settings.master)
    if settings.advertise is not None:
        split_endpoint(settings.advertise)
    identity = open_identity(disk, rng, settings.name)
    store = DiskStore(
        disk, capacity=settings.capacity, reserve=settings.reserve, segment_bytes=settings.segment_bytes, rng=rng
    )
    volumes = VolumeFiles(disk, store.failed, settings.segment_bytes)
    profile = Profile(settings.master, settings.advertise, settings.zone, settings.host, settings.path, settings.disk)
    actor = NodeActor(
        identity.identity,
        profile,
        answer_s=settings.answer_s,
        pending_bytes=settings.pending_bytes,
        notes=[*store.notes, *volumes.notes],
        pace=settings.pace,
        no_codes=_no_codes(),
    )
    return ActorSpec(
        name=f"node-{identity.identity.store_id.hex()[:12]}",
        incarnation=identity.identity.incarnation,
        actor=actor,
        codec=CODEC,
        lanes=node_lanes(store, identity, volumes),
        listen=settings.listen,
    )


def _no_codes() -> ConfigError | None:
    """Why shards of erasure codes cannot be made in this process. Everything else goes on without."""
    try:
        check_library()
    except ConfigError as error:
        return error
    return None
