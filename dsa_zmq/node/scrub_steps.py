"""Verifying all that a store holds, in small steps, and keeping how far it has come."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.core import Job
from dsa_zmq.errors import Corrupt, NotFound
from dsa_zmq.node.store import ShardKey, ShardStore

STEP_SHARDS = 128  #: in one step at most: where they are small, the index takes longer than the disk
FIRST = ShardKey(-1, 0)  #: before all keys
_PREFIX = "scrub."  #: of the names of marks


class ScrubState(msgspec.Struct, frozen=True):
    """How far it is. Times are seconds of the wall clock, for showing and for what recurs each day; 0: never."""

    running: bool = False
    after: ShardKey = FIRST  #: up to here all are verified, in key order
    shards: int = 0  #: verified in the round that goes on, or in the last one
    damaged: int = 0  #: of these
    began_s: int = 0
    ended_s: int = 0  #: the last whole round
    order: int = 0  #: number of the last command to begin now
    urgent: bool = False  #: the round was ordered: no limit of rate


class LoadScrub(Job, frozen=True):
    """-> the ScrubState that was kept, or a new one"""


class SaveScrub(Job, frozen=True):
    """-> None"""

    state: ScrubState


class ScrubSome(Job, frozen=True):
    """Read and verify the next shards behind ``after``, as many as one step may. What does not match goes into quarantine.
    -> Scrubbed"""

    after: ShardKey
    limit_bytes: int


class Scrubbed(msgspec.Struct, frozen=True):
    after: ShardKey | None  #: go on behind it; None: there is nothing more
    shards: int
    bytes: int
    damaged: int


def load_scrub(store: ShardStore, job: LoadScrub) -> ScrubState:
    marks = {name.removeprefix(_PREFIX): value for name, value in store.marks().items() if name.startswith(_PREFIX)}
    return _unpack(marks)


def save_scrub(store: ShardStore, job: SaveScrub) -> None:
    store.mark({_PREFIX + name: value for name, value in _pack(job.state).items()})


def scrub_some(store: ShardStore, job: ScrubSome) -> Scrubbed:
    page = store.list(job.after, STEP_SHARDS)
    shards = size = damaged = 0
    for info in page:
        shards += 1
        try:
            size += store.verify(info.key).length
        except NotFound:
            pass  # dropped meanwhile
        except Corrupt:
            damaged += 1
            size += info.length
        if size >= job.limit_bytes:
            return Scrubbed(info.key, shards, size, damaged)
    return Scrubbed(page[-1].key if len(page) == STEP_SHARDS else None, shards, size, damaged)


def _pack(state: ScrubState) -> dict[str, int]:
    plain = {name: int(value) for name, value in msgspec.structs.asdict(state).items() if name != "after"}
    return {**plain, "chunk": state.after.chunk, "index": state.after.index}


def _unpack(marks: Mapping[str, int]) -> ScrubState:
    """Marks that are missing, as after a rebuild of the index, make a new state."""
    number = marks.get
    return ScrubState(
        running=bool(number("running", 0)),
        after=ShardKey(number("chunk", FIRST.chunk), number("index", FIRST.index)),
        shards=number("shards", 0),
        damaged=number("damaged", 0),
        began_s=number("began_s", 0),
        ended_s=number("ended_s", 0),
        order=number("order", 0),
        urgent=bool(number("urgent", 0)),
    )
