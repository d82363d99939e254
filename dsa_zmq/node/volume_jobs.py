"""Jobs about the catalog's volumes, and the lane for those that somebody waits for.

A change of the catalog is acknowledged when nodes hold it, so these jobs never wait behind bulk puts. All that wait together
are appended with one sync. A claim is one of them: what was queued before it is in its answer, and nothing comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

from actors.core import Job, Lane
from dsa_zmq.errors import DSAError, Unavailable
from dsa_zmq.node.failure import plain
from dsa_zmq.node.identity import Identity, IdentityFile
from dsa_zmq.node.volume_files import AppendRecords, VolumeFiles
from dsa_zmq.protocol.volumes import VolumeState

COPIES = "copies"
COPIES_BATCH = 64  #: jobs; their bytes are bounded by what the department admits


class ListVolumes(Job, frozen=True):
    """-> list[VolumeState], the oldest first"""


class RemoveVolumes(Job, frozen=True):
    """Remove all but these, and those with higher numbers. -> None"""

    wanted: frozenset[int]


class TakeClaim(Job, frozen=True):
    """-> ClaimTaken"""

    term: int
    master: bytes
    cluster: bytes


class ClaimTaken(NamedTuple):
    identity: Identity  #: as it is on the disk now
    states: list[VolumeState]


class ReadBytes(Job, frozen=True):
    """-> bytes of a volume"""

    volume: int
    offset: int
    limit: int


class CheckSome(Job, frozen=True):
    """Verify some of a volume. -> Checked"""

    volume: int
    offset: int
    limit: int


class Checked(NamedTuple):
    next: int | None  #: offset to go on from; None: that was all of it
    state: VolumeState


def copies_lane(volumes: VolumeFiles, identity: IdentityFile) -> Lane:
    """One worker. It closes the volumes at the end."""

    def work(jobs: Sequence[Job]) -> list[Any]:
        results: list[Any] = []
        for kind, group in groupby(jobs, key=type):
            if kind is AppendRecords:
                results += volumes.append(cast("list[AppendRecords]", list(group)))
            else:
                results += [_outcome(volumes, identity, job) for job in group]
        return results

    return Lane(work, workers=1, max_batch=COPIES_BATCH, on_close=volumes.close)


def _outcome(volumes: VolumeFiles, identity: IdentityFile, job: Job) -> Any:
    try:
        return COPIES_JOBS[type(job)](volumes, identity, job)
    except DSAError as error:
        return error
    except OSError as error:
        return Unavailable(f"the volumes of the catalog cannot be changed: {plain(error)}", "check the disk")


def _list(volumes: VolumeFiles, identity: IdentityFile, job: ListVolumes) -> list[VolumeState]:
    return volumes.states()


def _remove(volumes: VolumeFiles, identity: IdentityFile, job: RemoveVolumes) -> None:
    volumes.keep(job.wanted)


def _claim(volumes: VolumeFiles, identity: IdentityFile, job: TakeClaim) -> ClaimTaken:
    known = identity.claim(term=job.term, master=job.master, cluster=job.cluster)
    return ClaimTaken(known, volumes.states())


def _read(volumes: VolumeFiles, job: ReadBytes) -> bytes:
    return volumes.read(job.volume, job.offset, job.limit)


def _check(volumes: VolumeFiles, job: CheckSome) -> Checked:
    return Checked(volumes.check(job.volume, job.offset, job.limit), volumes.state(job.volume))


COPIES_JOBS: dict[type[Job], Callable[[VolumeFiles, IdentityFile, Any], Any]] = {
    ListVolumes: _list,
    RemoveVolumes: _remove,
    TakeClaim: _claim,
}
"""All but appending, which is done together. A DSAError that is raised is the job's outcome."""

OTHER_JOBS: dict[type[Job], Callable[[VolumeFiles, Any], Any]] = {ReadBytes: _read, CheckSome: _check}
"""For the lanes of reads and of care."""
