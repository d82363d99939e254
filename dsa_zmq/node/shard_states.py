"""Whether shards are here, and whether their bytes are good: what is asked of the store for an answer to the master."""

from __future__ import annotations

from actors.core import Job
from dsa_zmq.errors import Corrupt, DSAError, NotFound
from dsa_zmq.node.identity import IdentityFile
from dsa_zmq.node.store import ShardKey, ShardStore
from dsa_zmq.protocol.messages import ABSENT, DAMAGED, GOOD, UNREADABLE

STEP_BYTES = 1 << 20  #: read in one step: some 10 ms of a disk


class ReadShards(Job, frozen=True):
    """Read and verify the first of these, as many as one step may. -> their states"""

    keys: tuple[ShardKey, ...]


class LookUpShards(Job, frozen=True):
    """Which of these are there, as the index says now. -> GOOD, ABSENT, DAMAGED or UNREADABLE for each"""

    keys: tuple[ShardKey, ...]


def read_shards(store: ShardStore, job: ReadShards) -> list[int]:
    states: list[int] = []
    size = 0
    for key in job.keys:
        state, length = _read(store, key)
        states.append(state)
        size += length
        if size >= STEP_BYTES:
            break
    return states


def look_up_shards(store: ShardStore, identity: IdentityFile, job: LookUpShards) -> list[int]:
    if store.failure:  # what it does not show may be there all the same
        return [UNREADABLE] * len(job.keys)
    return [_look_up(store, key) for key in job.keys]


def _read(store: ShardStore, key: ShardKey) -> tuple[int, int]:
    """State and bytes read."""
    try:
        return GOOD, store.verify(key).length
    except NotFound:
        return ABSENT, 0
    except Corrupt:
        return DAMAGED, 0
    except DSAError:
        return UNREADABLE, 0


def _look_up(store: ShardStore, key: ShardKey) -> int:
    try:
        if store.has(key) is not None:
            return GOOD
        return _read(store, key)[0]  # absent, or in quarantine, which is known without a read
    except DSAError:
        return UNREADABLE
