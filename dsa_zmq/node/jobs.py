"""What a node's actor asks of its disk, as data, and the lanes that do it.

``write``: one worker. The puts that wait together are one call of the store, hence one sync: group commit over all
clients. ``read``: two workers, which never wait for a sync. ``care``: one worker for what nobody waits for. ``copies`` is
the catalog's: :mod:`dsa_zmq.node.volume_jobs`.

Each lane has a table of who does which job. A department's jobs are in its own file, with one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, cast

import msgspec

from actors.core import Job, Lane
from dsa_zmq.errors import DSAError, Unavailable
from dsa_zmq.node.compactor import Rewritten, Share
from dsa_zmq.node.damage_steps import FindDamage, find_damage
from dsa_zmq.node.identity import IdentityFile
from dsa_zmq.node.inventory_steps import DigestStore, ReadRanges, digest_store, read_ranges
from dsa_zmq.node.making import MakeShards, make_shards
from dsa_zmq.node.scrub_steps import LoadScrub, SaveScrub, ScrubSome, load_scrub, save_scrub, scrub_some
from dsa_zmq.node.shard_states import LookUpShards, ReadShards, look_up_shards, read_shards
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey, ShardStore, Usage
from dsa_zmq.node.volume_files import VolumeFiles
from dsa_zmq.node.volume_jobs import COPIES, OTHER_JOBS, copies_lane

WRITE, READ, CARE = "write", "read", "care"
WRITE_BATCH = 256  #: jobs; their bytes are bounded by what the actor admits
READ_BATCH = 8  #: jobs: few, so that the second worker gets its share
READERS = 2
CARE_BATCH = 1  #: jobs: each is a small step of something long


class PutBatch(Job, frozen=True):
    """-> a list of ShardInfo or DSAError, one each"""

    shards: tuple[NewShard, ...]


class DropBatch(Job, frozen=True):
    """-> the keys that were there"""

    keys: tuple[ShardKey, ...]


class Remember(Job, frozen=True):
    """A master has registered us. -> the identity as it is on the disk now, or the DSAError why it must not be obeyed"""

    term: int
    master: bytes
    cluster: bytes
    node: int


class GiveBackStart(Job, frozen=True):
    """This process was refused before it did anything. -> None, or the DSAError of the disk"""


class Wanted(msgspec.Struct, frozen=True):
    """One shard to read, of exactly that length."""

    key: ShardKey
    length: int


class GetBatch(Job, frozen=True):
    """-> a list of (ShardInfo, bytes) or DSAError, one each"""

    shards: tuple[Wanted, ...]


class VerifyBatch(Job, frozen=True):
    """For receipts. -> a list of ShardInfo or DSAError, one each"""

    shards: tuple[Wanted, ...]


class LookAtStore(Job, frozen=True):
    """-> StoreStatus"""


class ChooseSegment(Job, frozen=True):
    """Of the full segments that are dead to this share. -> the one to rewrite next, or None"""

    share: float


class GatherShare(Job, frozen=True):
    """-> the next Share of a segment, or None if it must wait"""

    segment: int
    limit_bytes: int


class RewriteShare(Job, frozen=True):
    """-> Rewritten"""

    share: Share


@dataclass(frozen=True, slots=True)
class StoreStatus:
    usage: Usage
    failure: str  #: "" while the store is good
    volumes: int = 0  #: of the catalog
    volume_bytes: int = 0  #: that these take on the disk, with what is set aside for them


def node_lanes(store: ShardStore, identity: IdentityFile, volumes: VolumeFiles) -> dict[str, Lane]:
    """The lanes of one node. The write lane closes the store at the end."""

    def write(jobs: Sequence[Job]) -> list[Any]:
        results: list[Any] = []
        for kind, group in groupby(jobs, key=type):
            if kind is PutBatch:
                results += _put(store, cast("list[PutBatch]", list(group)))
            else:
                results += [_outcome(lambda job=job: WRITE_JOBS[type(job)](store, identity, job)) for job in group]  # type: ignore[misc]
        return results

    def read(jobs: Sequence[Job]) -> list[Any]:
        return [_outcome(lambda job=job: look_after(READ_JOBS, job)) for job in jobs]  # type: ignore[misc]

    def care(jobs: Sequence[Job]) -> list[Any]:
        return [_outcome(lambda job=job: look_after(CARE_JOBS, job)) for job in jobs]  # type: ignore[misc]

    def look_after(table: Mapping[type[Job], Callable[[ShardStore, Any], Any]], job: Job) -> Any:
        if isinstance(job, LookAtStore):
            return StoreStatus(store.usage(), store.failure, *volumes.usage())
        other = OTHER_JOBS.get(type(job))
        return table[type(job)](store, job) if other is None else other(volumes, job)

    return {
        WRITE: Lane(write, workers=1, max_batch=WRITE_BATCH, on_close=store.close),
        READ: Lane(read, workers=READERS, max_batch=READ_BATCH),
        CARE: Lane(care, workers=1, max_batch=CARE_BATCH),
        COPIES: copies_lane(volumes, identity),
    }


def _put(store: ShardStore, jobs: Sequence[PutBatch]) -> list[list[ShardInfo | DSAError]]:
    shards = [shard for job in jobs for shard in job.shards]
    try:
        outcomes = iter(store.put(shards))
    except DSAError as error:
        outcomes = iter([error] * len(shards))
    return [list(islice(outcomes, len(job.shards))) for job in jobs]


def _drop(store: ShardStore, identity: IdentityFile, job: DropBatch) -> list[ShardKey]:
    return store.drop(job.keys)


def _remember(store: ShardStore, identity: IdentityFile, job: Remember) -> Any:
    return identity.remember(term=job.term, master=job.master, cluster=job.cluster, node=job.node)


def _give_back(store: ShardStore, identity: IdentityFile, job: GiveBackStart) -> None:
    identity.give_back_start()


def _get_all(store: ShardStore, job: GetBatch) -> list[tuple[ShardInfo, bytes] | DSAError]:
    return [_get(store, wanted) for wanted in job.shards]


def _verify_all(store: ShardStore, job: VerifyBatch) -> list[ShardInfo | DSAError]:
    if store.failure:
        return [_promises_nothing(store.failure)] * len(job.shards)
    return [_verify(store, wanted) for wanted in job.shards]


def _choose(store: ShardStore, job: ChooseSegment) -> int | None:
    return None if store.compactor is None else store.compactor.choose(job.share)


def _gather(store: ShardStore, job: GatherShare) -> Share | None:
    return None if store.compactor is None else store.compactor.gather(job.segment, job.limit_bytes)


def _rewrite(store: ShardStore, identity: IdentityFile, job: RewriteShare) -> Rewritten:
    assert store.compactor is not None, "what was gathered can be rewritten"
    return store.compactor.rewrite(job.share)


WRITE_JOBS: dict[type[Job], Callable[[ShardStore, IdentityFile, Any], Any]] = {
    DropBatch: _drop,
    Remember: _remember,
    GiveBackStart: _give_back,
    RewriteShare: _rewrite,
    LookUpShards: look_up_shards,
    FindDamage: find_damage,
}
"""All but puts, which are done together. A DSAError that is raised is the job's outcome."""

READ_JOBS: dict[type[Job], Callable[[ShardStore, Any], Any]] = {GetBatch: _get_all, VerifyBatch: _verify_all}

CARE_JOBS: dict[type[Job], Callable[[ShardStore, Any], Any]] = {
    ChooseSegment: _choose,
    GatherShare: _gather,
    MakeShards: make_shards,
    ReadShards: read_shards,
    DigestStore: digest_store,
    ReadRanges: read_ranges,
    LoadScrub: load_scrub,
    SaveScrub: save_scrub,
    ScrubSome: scrub_some,
}


# What the world did wrong is answered, not raised.


def _get(store: ShardStore, wanted: Wanted) -> tuple[ShardInfo, bytes] | DSAError:
    try:
        return store.get(wanted.key, wanted.length)
    except DSAError as error:
        return error


def _verify(store: ShardStore, wanted: Wanted) -> ShardInfo | DSAError:
    try:
        return store.verify(wanted.key, wanted.length)
    except DSAError as error:
        return error


def _promises_nothing(why: str) -> Unavailable:
    """A failed store may show what its disk does not have: it is read from, and each read is verified by who asked, but
    nothing more is said to be there durably."""
    return Unavailable(f"the node's store has failed: {why}", "store the shard on another node")


def _outcome(work: Callable[[], Any]) -> Any:
    """The value, or the DSAError as a value."""
    try:
        return work()
    except DSAError as error:
        return error
