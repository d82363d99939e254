"""A client as something that a runtime can start."""

from __future__ import annotations

import random

from actors.core import ActorSpec, Lane
from dsa_zmq.client import jobs
from dsa_zmq.client.actor import ClientActor
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.protocol.codec import CODEC


def client_spec(settings: ClientSettings, rng: random.Random) -> ActorSpec:
    """A new client process: its name and incarnation are drawn from ``rng``, so that no two are taken for one."""
    client = rng.randbytes(16)
    incarnation = rng.getrandbits(48) + 1
    return ActorSpec(
        name=f"{settings.name}-{client[:6].hex()}",
        incarnation=incarnation,
        actor=ClientActor(settings, client, incarnation),
        codec=CODEC,
        lanes={jobs.LANE: Lane(jobs.run, workers=jobs.WORKERS, max_batch=jobs.MAX_BATCH)},
    )
