"""What is damaged in a store now: asked of it before each time that the master is told."""

from __future__ import annotations

from actors.core import Job
from dsa_zmq.node.identity import IdentityFile
from dsa_zmq.node.store import ShardKey, ShardStore


class FindDamage(Job, frozen=True):
    """-> the next keys in quarantine behind ``after``, in order. For the lane of writes: what is mended by a put is left out
    of all that is told after the receipt for it."""

    after: ShardKey | None
    limit: int


def find_damage(store: ShardStore, identity: IdentityFile, job: FindDamage) -> list[ShardKey]:
    if store.failure:  # what such a disk shows proves nothing, and its node's places do not count anyway
        return []
    return [info.key for info in store.damaged(job.after, job.limit)]
