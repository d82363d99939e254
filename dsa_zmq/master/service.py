"""A master put together: its catalog on a disk, its actor, its one catalog worker."""

from __future__ import annotations

import random

from actors.core import ActorSpec, Lane
from actors.disk import Disk
from dsa_zmq.master.actor import MasterActor
from dsa_zmq.master.catalog.catalog import Catalog
from dsa_zmq.master.department import CATALOG_LANE
from dsa_zmq.master.secret import load_or_create_secret
from dsa_zmq.master.settings import MasterSettings
from dsa_zmq.protocol.codec import CODEC

__all__ = ["MasterSettings", "load_or_create_secret", "master_spec"]

MASTER_NAME = "master"  #: of the actor: what it calls itself to the bus
BATCH_JOBS = 256  #: in one transaction: more would only make the first of them wait


def master_spec(
    settings: MasterSettings,
    disk: Disk,
    rng: random.Random,
    secret: bytes,
    *,
    wall_ns: int = 0,
    scrambled: bool = False,
    take_over: bool = False,
) -> ActorSpec:
    """What a runtime needs to start a master on this disk. Opening the catalog raises the term, which is the incarnation.

    ``wall_ns`` is now: when the root directory was made, if the catalog is new, and when this term began. ``rng`` must be
    the system's entropy in life. ``scrambled`` as in :class:`~dsa_zmq.master.catalog.sql.Database`. ``take_over`` is the
    operator's word that a catalog which was found to be an old copy is to be used all the same, once. Raises DSAError if the
    catalog cannot be opened. The caller makes sure that no other process has the same directory.
    """
    catalog = Catalog.open(
        disk,
        rng=rng,
        secret=secret,
        default_redundancy=settings.default_redundancy,
        wall_ns=wall_ns,
        scrambled=scrambled,
        take_over=take_over,
        keeps_log=settings.catalog_copies != "off",
    )
    actor = MasterActor(
        settings, cluster=catalog.cluster, term=catalog.term, master=rng.randbytes(16), secret=secret,
        restored_ns=catalog.restored_ns,
    )  # fmt: skip
    return ActorSpec(
        name=MASTER_NAME,
        incarnation=catalog.term,
        actor=actor,
        codec=CODEC,
        lanes={CATALOG_LANE: Lane(catalog.run, workers=1, max_batch=BATCH_JOBS, on_close=catalog.close)},
        listen=settings.listen,
        publish=settings.publish,
        subscribe=settings.subscribe,
    )
