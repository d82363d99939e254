"""Opening a store: what the segments say is brought into the index, before anything is said to anybody.

The index knows a prefix of each segment (see :mod:`dsa_zmq.node.index`). What lies behind is read from the segments. If the
index is not there, malformed, or contradicts the files, it is made anew from all of them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import apsw

from actors.disk import Disk, DiskFile
from dsa_zmq.node.index import Index, SegmentState, row_of
from dsa_zmq.node.index_file import IndexDamaged
from dsa_zmq.node.segment_files import DIRECTORY, SegmentFiles
from dsa_zmq.node.segments import (
    FILE_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    TRAILER_BYTES,
    Found,
    decode_file_header,
    encode_entry,
    find_generation,
    payload_intact,
    read_anyway,
    read_footer,
    scan,
    torn_tail,
)

REBUILD_MARK = "index.damaged"  #: a file that says: SQLite found the index malformed while it was in use
RECORDS_PER_COMMIT = 20_000  #: taken into the index at once: bounds memory and WAL


@dataclass(slots=True)
class Recovered:
    """What a store starts from."""

    index: Index
    segments: dict[int, SegmentState]  #: all but the spares
    spares: list[SegmentState]  #: preallocated and empty, in order of their numbers
    active: SegmentState | None = None  #: where appending goes on
    entries: bytearray = field(default_factory=bytearray)  #: its records, encoded for its footer
    notes: list[str] = field(default_factory=list)  #: what was found that is worth a line in the log


@dataclass(slots=True)
class _Contents:
    """What a segment was found to contain."""

    state: SegmentState
    found: list[Found]
    sealed: bool
    sequence: int = 0  #: the highest, torn records included: theirs are not used again

    def __post_init__(self) -> None:
        self.sequence = max((one.record.sequence for one in self.found), default=0)


def recover(disk: Disk, files: SegmentFiles, wal_pages: int) -> Recovered:
    """Bring index and segments in line; ``wal_pages`` is the index's.

    OSError if the disk cannot be used, ConfigError if the directory cannot, Incompatible if another build wrote it.
    """
    if not disk.exists(DIRECTORY):
        disk.makedirs(DIRECTORY)
        disk.sync_dir("")
    notes: list[str] = []
    try:
        if disk.exists(REBUILD_MARK):
            raise IndexDamaged("it was found malformed while in use")
        return _with(Index(disk, wal_pages), disk, files, notes)
    except (IndexDamaged, apsw.CorruptError) as error:
        if files.numbers():
            notes.append(f"index rebuilt from the segments: {error}")
    recovered = _with(Index.create(disk, wal_pages), disk, files, notes)
    if disk.exists(REBUILD_MARK):
        disk.unlink(REBUILD_MARK)
        disk.sync_dir("")
    return recovered


def _with(index: Index, disk: Disk, files: SegmentFiles, notes: list[str]) -> Recovered:
    with contextlib.ExitStack() as undo:
        undo.callback(index.close)
        recovered = _catch_up(disk, files, index, notes)
        undo.pop_all()
        return recovered


def _catch_up(disk: Disk, files: SegmentFiles, index: Index, notes: list[str]) -> Recovered:
    known = {state.number: state for state in index.segments()}
    numbers = files.numbers()
    unread = [number for number in numbers if number not in known or not known[number].sealed]
    if any(number < max(known, default=0) for number in unread if number not in known):
        raise IndexDamaged("there are segments that it should know, and does not")
    states = dict(known)
    spares: list[SegmentState] = []
    last: _Contents | None = None
    # From the newest back to the last one in use: only its end can be torn, and behind it are the spares.
    while unread and last is None:
        contents = _read(disk, files, unread.pop(), known, newest=True)
        if contents is not None and (contents.found or contents.state.number in known):
            last = contents
        elif contents is not None:
            spares.insert(0, contents.state)
    recovered = Recovered(index, states, spares, notes=notes)
    for number in unread:
        contents = _read(disk, files, number, known, newest=False)
        if contents is not None:
            contents.sealed = True
            _take_in(recovered, contents)
    if last is not None:
        torn = torn_tail(last.found)
        if torn:
            notes.append(f"{len(torn)} records were being written when this node last ended; they do not count")
            _cut_off(disk, files, last, torn)
        _take_in(recovered, last)
        if not last.sealed:
            recovered.active = last.state
            recovered.entries = bytearray().join(encode_entry(found.record) for found in last.found)
    _check_missing(recovered, set(numbers))
    index.complete()
    return recovered


def _read(
    disk: Disk, files: SegmentFiles, number: int, known: dict[int, SegmentState], *, newest: bool
) -> _Contents | None:
    """A segment's records; None if the file was never used and has been removed."""
    file = disk.open(files.path(number))
    try:
        # After kill -9 the page cache shows records that a power loss would take: make them durable before they count.
        file.datasync()
        state = _identify(file, files.path(number), number, known.get(number))
        if state is not None:
            return _contents(file, state, newest=newest)
    finally:
        file.close()
    files.unlink(number)
    return None


def _identify(file: DiskFile, name: str, number: int, known: SegmentState | None) -> SegmentState | None:
    header = decode_file_header(read_anyway(file, FILE_HEADER_BYTES, 0), name)
    if known is not None:
        if header is not None and header.generation != known.generation:
            raise IndexDamaged(f"{name} is not the file that it describes")
        return known
    if header is not None:
        return SegmentState(number, header.generation, header.size, end=FILE_HEADER_BYTES)
    size = file.size()
    generation = find_generation(file, size)
    return None if generation is None else SegmentState(number, generation, size, end=FILE_HEADER_BYTES)


def _contents(file: DiskFile, state: SegmentState, *, newest: bool) -> _Contents:
    records = read_footer(file, state.size, state.generation)
    if records is None:
        return _Contents(state, list(scan(file, state.size, state.generation, verify_from=state.end)), False)
    # The newest footer may have become durable without all of the records that were written with it.
    unsure = state.end if newest else state.size
    return _Contents(state, [Found(r, r.offset < unsure or payload_intact(file, r)) for r in records], True)


def _cut_off(disk: Disk, files: SegmentFiles, contents: _Contents, torn: Sequence[Found]) -> None:
    """Wipe the headers of torn records (and the footer that lists them), so that they never count, whatever is written
    behind them later. The file keeps its length."""
    file = disk.open(files.path(contents.state.number))
    try:
        for found in torn:
            file.pwritev([bytes(RECORD_HEADER_BYTES)], found.record.offset)
        if contents.sealed:
            file.pwritev([bytes(TRAILER_BYTES)], contents.state.size - TRAILER_BYTES)
        file.datasync()
    finally:
        file.close()
    del contents.found[-len(torn) :]
    contents.sealed = False


def _take_in(recovered: Recovered, contents: _Contents) -> None:
    """Bring what lies behind the known end of a segment into the index."""
    state, found = contents.state, contents.found
    recovered.segments[state.number] = state
    sequence = max([contents.sequence, recovered.index.sequence])
    end = max([state.end, *(one.record.end for one in found)])
    fresh = [one for one in found if one.record.offset >= state.end]
    for part in _parts(fresh):
        rows = [row_of(one.record, state.number, intact=one.intact) for one in part]
        state.end = part[-1].record.end
        recovered.index.merge(state, rows, recovered.segments, sequence)
    new_end = state.size if contents.sealed else end
    if fresh or (state.end, state.sealed) != (new_end, contents.sealed):
        state.end, state.sealed = new_end, contents.sealed
        recovered.index.merge(state, (), recovered.segments, sequence)


def _parts(found: Sequence[Found]) -> Iterator[list[Found]]:
    iterator = iter(found)
    while part := list(itertools.islice(iterator, RECORDS_PER_COMMIT)):
        yield part


def _check_missing(recovered: Recovered, present: set[int]) -> None:
    """A segment that is gone from the disk must be empty: then it was unlinked, and the index learns it now."""
    missing = [state for number, state in recovered.segments.items() if number not in present]
    if any(state.live for state in missing):
        raise IndexDamaged(f"segment {next(s.number for s in missing if s.live)} is not there any more")
    for state in missing:
        recovered.index.forget_segment(state.number)
        del recovered.segments[state.number]
