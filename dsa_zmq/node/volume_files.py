"""The volumes of the catalog that a node keeps: one file each, to which records are appended as they came.

Files below the node's directory: ``catalog/`` with a volume in each file, and some spares: preallocated room that puts of
shards cannot take, for when the disk is full. What is said of a volume is durable; ``docs/ON_DISK.md`` has the rules.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from actors.core import Job
from actors.disk import Disk
from dsa_zmq.errors import Conflict, Corrupt, DSAError, NoSpace, NotFound, Unavailable
from dsa_zmq.model.records import BEGIN, Record, head_of, read_record
from dsa_zmq.model.volumes import DIRECTORY, READ_BYTES, VolumeChain, volume_of
from dsa_zmq.node.failure import Failure, plain
from dsa_zmq.node.segments import is_medium
from dsa_zmq.node.volume_room import VolumeRoom
from dsa_zmq.node.volume_scan import GROUP_BYTES, follow
from dsa_zmq.node.volume_writer import (
    Volume,
    make_file,
    open_volume,
    path_of,
    remove_file,
    state_of,
    write_group,
)
from dsa_zmq.protocol.volumes import VolumeState

MAX_VOLUMES = 1000  #: all are told of in one message
OPEN_FILES = 4  #: volumes that are open for writing: the one that is shipped, and the next


class AppendRecords(Job, frozen=True):
    """-> Appended"""

    volume: int
    cluster: bytes
    frames: tuple[bytes | memoryview, ...]  #: a record each; none: only ask


class Appended(NamedTuple):
    state: VolumeState
    error: DSAError | None  #: why it does not have all that was sent


@dataclass(slots=True)
class _Group:
    """What one sync is to make durable of one volume."""

    volume: Volume
    chain: VolumeChain  #: with the records of the group
    is_new: bool
    records: list[bytes] = field(default_factory=list)
    size: int = 0
    error: DSAError | None = None


class VolumeFiles:
    """Opening reads everything. ``append``, ``keep`` and ``close`` are for one thread; the others for any.

    ``failed`` is the store's: a write or sync that fails here fails all of it, and while it is failed nothing is appended.
    """

    def __init__(self, disk: Disk, failed: Failure, step_bytes: int) -> None:
        self.notes: list[str] = []  #: what was found at the start that is worth a line in the log
        self._disk = disk
        self._failed = failed
        self._room = VolumeRoom(disk, step_bytes)
        self._volumes: dict[int, Volume] = {}
        self._lock = threading.Lock()  # of what the others read: the next two
        self._states: dict[int, VolumeState] = {}
        self._sizes: dict[int, int] = {}  # of the files
        try:
            names = self._names()
        except OSError as error:
            self.notes.append(f"the volumes of the catalog cannot be read: {plain(error)}")
            return
        self._room.find(names)
        for name in names:
            if number := volume_of(name):
                self._open(number)

    def _names(self) -> list[str]:
        """What is in the directory, durably: after kill -9 it may show files that a power loss would take."""
        if not self._disk.exists(DIRECTORY):
            return []
        names = self._disk.listdir(DIRECTORY)
        self._disk.sync_dir("")
        self._disk.sync_dir(DIRECTORY)
        return names

    def _open(self, number: int) -> None:
        try:
            volume, note = open_volume(self._disk, number)
        except OSError as error:
            note = f"it cannot be read: {plain(error)}"
            if is_medium(error):  # of its first sync: nothing can be said of what that covered
                self._failed.of_write(error)
            volume = Volume(number, VolumeChain(), damage=note)
        if note:
            self.notes.append(f"volume {number:x} of the catalog: {note}")
        if volume is not None:
            self._volumes[number] = volume
            self._tell(volume)

    def _tell(self, volume: Volume) -> None:
        """Let the others see what is durable now. Damage that was found meanwhile stands."""
        with self._lock:
            known = self._states.get(volume.number)
            if known is not None and known.damage:
                volume.damage = known.damage
            else:
                self._states[volume.number] = state_of(volume.number, volume.chain, volume.end, volume.damage)
            self._sizes[volume.number] = volume.allocated

    # --- for any thread ---------------------------------------------------------------------------------------------------

    def states(self) -> list[VolumeState]:
        """The oldest first."""
        with self._lock:
            states = [self._states[number] for number in sorted(self._states)]
        return [self._marred(state) for state in states]

    def state(self, volume: int) -> VolumeState:
        """Of one volume, be it there or not."""
        with self._lock:
            state = self._states.get(volume)
        return VolumeState(volume) if state is None else self._marred(state)

    def _marred(self, state: VolumeState) -> VolumeState:
        """A failed disk may show what it does not have."""
        if self._failed and not state.damage:
            return msgspec.structs.replace(state, damage=f"the node's store has failed: {self._failed.text}")
        return state

    def usage(self) -> tuple[int, int]:
        """How many volumes there are, and the bytes that they take on the disk, with what is set aside for them."""
        with self._lock:
            return len(self._sizes), sum(self._sizes.values()) + self._room.spare_bytes

    def read(self, volume: int, offset: int, limit: int) -> bytes:
        """Bytes of a volume, as far as they count. NotFound if it is not there, Unavailable if it cannot be read."""
        with self._lock:
            state = self._states.get(volume)
        if state is None:
            raise NotFound(f"volume {volume:x} is not on this node")
        size = min(limit, state.size - offset)
        if offset < 0 or size <= 0:
            return b""
        try:
            file = self._disk.open(path_of(volume), readonly=True)
            try:
                return file.pread(size, offset)
            finally:
                file.close()
        except FileNotFoundError as error:
            raise NotFound(f"volume {volume:x} is not on this node any more") from error
        except OSError as error:
            raise Unavailable(
                f"volume {volume:x} cannot be read: {plain(error)}", "use another copy of the catalog"
            ) from error

    def check(self, volume: int, offset: int, limit: int) -> int | None:
        """Verify some of the records from ``offset`` on. Returns where to go on, or None: that was all. What is damaged, the
        volume's state tells from now on."""
        with self._lock:
            state = self._states.get(volume)
        if state is None or state.damage or offset >= state.size:
            return None
        try:
            file = self._disk.open(path_of(volume), readonly=True)
        except OSError:  # removed meanwhile; or it cannot be opened now, which says nothing of its bytes
            return None
        try:
            end, why = follow(file, None, offset, min(state.size, offset + max(limit, READ_BYTES)))
            if end > offset:
                return end if end < state.size else None
            chain = VolumeChain()
            sound, _ = follow(file, chain, 0, end)
        finally:
            file.close()
        with self._lock:
            if volume in self._states:
                self._states[volume] = state_of(volume, chain, sound, f"damaged at byte {sound}: {why}")
        return None

    # --- appending --------------------------------------------------------------------------------------------------------

    def append(self, jobs: Sequence[AppendRecords]) -> list[Appended]:
        """Append what follows what is there, with as few syncs as possible; one outcome each. Records that are there already
        are passed over."""
        outcomes: list[Appended] = []
        for part in _portions(jobs):
            outcomes += self._append(part)
        return outcomes

    def _append(self, jobs: Sequence[AppendRecords]) -> list[Appended]:
        groups: dict[int, _Group] = {}
        errors = [self._gather(job, groups) for job in jobs]
        for group in groups.values():
            if group.records:
                self._write(group)
        for at, job in enumerate(jobs):
            if job.frames and (group_of := groups.get(job.volume)) is not None and group_of.error is not None:
                errors[at] = group_of.error
        return [Appended(self.state(job.volume), error) for job, error in zip(jobs, errors, strict=True)]

    def _gather(self, job: AppendRecords, groups: dict[int, _Group]) -> DSAError | None:
        """Take a job's records into the group of its volume; why not all of them were."""
        if not job.frames:
            return None
        if self._failed:
            return self._failed.error()
        try:
            records = iter(job.frames)
            group = groups.get(job.volume)
            if group is None:
                group = groups[job.volume] = self._group(job)
            for frame in records:
                record = _record(frame)
                if group.chain.take(record):
                    group.records.append(record.data)
                    group.size += len(record.data)
        except DSAError as error:
            return error
        return None

    def _group(self, job: AppendRecords) -> _Group:
        volume = self._volumes.get(job.volume)
        if volume is None:
            self._check_begin(job, _record(job.frames[0]))
            return _Group(Volume(job.volume, VolumeChain()), VolumeChain(), is_new=True)
        with self._lock:
            damage = self._states[job.volume].damage
        if damage:
            raise Corrupt(f"volume {job.volume:x} is {damage}", "begin another volume")
        return _Group(volume, copy.copy(volume.chain), is_new=False)

    def _check_begin(self, job: AppendRecords, record: Record) -> None:
        if record.kind != BEGIN:
            raise Conflict(f"volume {job.volume:x} is not on this node", "send it from its beginning")
        head = head_of(record)
        if head.volume != job.volume or head.cluster != job.cluster.hex() or not 0 < job.volume < 1 << 63:
            raise Conflict(f"this is the beginning of volume {head.volume:x} of cluster {head.cluster[:8]}")
        if len(self._volumes) >= MAX_VOLUMES:
            raise NoSpace(f"this node keeps {MAX_VOLUMES} volumes already", "say which of them are wanted")

    def _write(self, group: _Group) -> None:
        """Make a group durable, or set its error: then nothing of it counts."""
        volume = group.volume
        try:
            if volume.file is None:
                self._open_for_writing(group)
            if group.is_new or volume.end + group.size > volume.allocated:
                self._room.keep_spares()
            write_group(volume, group.records, group.size, self._room)
            if group.is_new:
                self._disk.sync_dir(DIRECTORY)
        except OSError as error:
            group.error = self._failed_to_write(group, error)
            return
        volume.chain, volume.end = group.chain, volume.end + group.size
        self._volumes[volume.number] = volume
        self._tell(volume)
        if volume.damage:
            group.error = Corrupt(f"volume {volume.number:x} is {volume.damage}", "begin another volume")

    def _open_for_writing(self, group: _Group) -> None:
        writing = [volume for volume in self._volumes.values() if volume.file is not None]
        if len(writing) >= OPEN_FILES:
            writing[0].close()
        if group.is_new:
            group.volume.file = self._room.make_room(lambda: make_file(self._disk, group.volume.number))
        else:
            group.volume.file = self._disk.open(group.volume.path)

    def _failed_to_write(self, group: _Group, error: OSError) -> DSAError:
        if not isinstance(error, NoSpace):
            self._failed.of_write(error)
        if group.is_new:
            group.volume.close()
            remove_file(self._disk, group.volume.number)
        return error if isinstance(error, NoSpace) else self._failed.error()

    # --- letting go -------------------------------------------------------------------------------------------------------

    def keep(self, wanted: Collection[int]) -> None:
        """Remove all other volumes, durably, but for those with higher numbers than any of these: they were begun after this
        was said. OSError of the disk."""
        newest = max(wanted, default=0)
        gone = [number for number in self._volumes if number < newest and number not in wanted]
        for number in gone:
            self._disk.unlink(path_of(number))
            self._volumes.pop(number).close()
            with self._lock:
                del self._states[number], self._sizes[number]
        if gone:
            self._disk.sync_dir(DIRECTORY)

    def close(self) -> None:
        for volume in self._volumes.values():
            volume.close()


def _record(frame: bytes | memoryview) -> Record:
    record = read_record(frame)
    if record is None or len(record.data) != len(frame):
        raise Corrupt("a frame is not one record of the catalog", "send it again")
    return record


def _portions(jobs: Sequence[AppendRecords]) -> Iterator[Sequence[AppendRecords]]:
    """As one sync may cover."""
    first = size = 0
    for at, job in enumerate(jobs):
        length = sum(map(len, job.frames))
        if size and size + length > GROUP_BYTES:
            yield jobs[first:at]
            first, size = at, 0
        size += length
    yield jobs[first:]
