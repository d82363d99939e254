"""A restore put together: the actor, and the lane that makes the catalog."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from actors.core import ActorSpec, Address, Lane
from actors.disk import Disk, DiskFile
from dsa_zmq.master.restore_events import Event, Wanted
from dsa_zmq.master.restore_jobs import RESTORE_LANE, Workshop, check_vacant
from dsa_zmq.master.restoring import RestoreActor
from dsa_zmq.protocol.codec import CODEC

RESTORE_NAME = "restore"  #: of the actor: what it calls itself to the bus
FEEDS_AT_ONCE = 4


def restore_spec(
    listen: Address,
    disk: Disk,
    rng: random.Random,
    wanted: Wanted,
    tell: Callable[[Event], None],
    source: DiskFile | None = None,
) -> ActorSpec:
    """What a runtime needs to restore a catalog on this disk, at the address where nodes look for their master.

    ``source``: a file with a volume, if it is not made of the nodes' copies. Raises AlreadyExists if there is a catalog. The
    caller makes sure that no other process has the same directory.
    """
    check_vacant(disk)
    workshop = Workshop(disk, source)
    if source is not None:
        wanted = replace(wanted, file_bytes=source.size())
    return ActorSpec(
        name=RESTORE_NAME,
        incarnation=rng.getrandbits(62),
        actor=RestoreActor(wanted, tell),
        codec=CODEC,
        lanes={RESTORE_LANE: Lane(workshop.run, workers=1, max_batch=FEEDS_AT_ONCE, on_close=workshop.close)},
        listen=listen,
    )
