"""The catalog that salvage goes by: made anew from records on the nodes, or from a file that the operator has."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from actors.disk import OsDisk
from dsa_zmq.errors import ConfigError, Conflict, Corrupt, DSAError, Incompatible, LocalError, NotFound
from dsa_zmq.master.catalog.rebuild import Rebuilder
from dsa_zmq.master.catalog.tables import META, META_NAMES, MetaRow
from dsa_zmq.model.records import (
    END,
    ROWS,
    Record,
    VolumeEnd,
    head_of,
    pack_runs,
    seal,
    unpack_runs,
)
from dsa_zmq.salvage.namespace import Namespace, open_namespace
from dsa_zmq.salvage.record_map import NO_LIMIT, Choice, RecordMap
from dsa_zmq.salvage.scratch import Scratch
from dsa_zmq.salvage.sources import Sources

_MADE = "catalog.sqlite"
_SQLITE = b"SQLite format 3\0"
PROGRESS_RECORDS = 1000  #: between two calls of whoever watches

Watch = Callable[[str], None]
"""Is told what goes on."""


class Wish(NamedTuple):
    """Which catalog the operator wants."""

    file: Path | None = None  #: this one: a backup, or that of a master that is stopped
    at_ns: int | None = None  #: as of this moment; None: the newest
    pieces: bool = False  #: also what lies behind damage


class Source(NamedTuple):
    """The catalog in use, in words."""

    namespace: Namespace
    text: str  #: what it is made of, and as of when
    moment_ns: int  #: of its last change; 0: not known
    notes: list[str]


def make_catalog(wish: Wish, sources: Sources, scratch: Scratch, watch: Watch) -> Source:
    """The best catalog there is. NotFound if there is none, Corrupt if it cannot be used, Incompatible for another
    cluster's."""
    if wish.file is not None and _starts_with(wish.file, _SQLITE):
        source = _copied(wish, wish.file, scratch)
    else:
        source = _rebuilt(wish, sources, scratch, watch)
    cluster = source.namespace.cluster
    if cluster and sources.cluster and cluster != sources.cluster:
        source.namespace.close()
        raise Incompatible(
            f"the catalog is of cluster {cluster.hex()[:8]}, the directories are of {sources.cluster.hex()[:8]}",
            "name the directories and the catalog of one cluster",
        )
    return source


# --- from records -----------------------------------------------------------------------------------------------------


def _rebuilt(wish: Wish, sources: Sources, scratch: Scratch, watch: Watch) -> Source:
    files = [wish.file] if wish.file else [node.path / file for node in sources.nodes for file in node.volumes]
    records = RecordMap(scratch.database("records.sqlite"), files)
    try:
        watch("reading the copies of the catalog")
        records.scan()
        if not records.bytes:
            raise _no_catalog(wish, sources)
        if len(records.clusters) > 1:
            raise Incompatible(
                "the copies of the catalog are of several clusters", "name the directories of one cluster"
            )
        if wish.pieces:
            return _of_pieces(records, wish, scratch, watch)
        choice = records.choose(NO_LIMIT if wish.at_ns is None else wish.at_ns)
        if choice is None:
            raise _nothing_whole(records, wish)
        return _of_choice(records, choice, scratch, watch, latest=wish.at_ns is None)
    finally:
        records.close()


def _of_choice(records: RecordMap, choice: Choice, scratch: Scratch, watch: Watch, *, latest: bool) -> Source:
    _rebuild(records.stream(choice), scratch, watch)
    notes = list(records.notes)
    count, wall_ns = records.beyond(choice)
    if latest and count:
        notes.append(
            f"{count} later changes, up to {_when(wall_ns)}, cannot be joined to it, since something between is damaged;"
            " --pieces uses them too"
        )
    text = f"as of {_when(choice.end.wall_ns)}, change {choice.end.position}, term {choice.end.term}"
    return Source(open_namespace(scratch.path / _MADE), text, choice.end.wall_ns, notes)


def _of_pieces(records: RecordMap, wish: Wish, scratch: Scratch, watch: Watch) -> Source:
    begin = records.newest_begin
    if begin is None:
        raise Corrupt(
            "no beginning of a volume of the catalog could be read", "name a backup of the catalog with --catalog"
        )
    latest = [0]
    pieces = (piece for piece in records.in_time() if wish.at_ns is None or piece.wall_ns <= wish.at_ns)
    _rebuild(_joined(begin, pieces, latest), scratch, watch)
    notes = [
        *records.notes,
        "the catalog is made of pieces: files may be missing, or older, and removed ones may be back",
    ]
    text = f"of pieces, the last of {_when(latest[0])}"
    return Source(open_namespace(scratch.path / _MADE, gaps=True), text, latest[0], notes)


def _joined(begin: Record, pieces: Iterable[Record], latest: list[int]) -> Iterator[Record]:
    """A volume whose snapshot is all that there is, the older before the newer."""
    number, last, rows = 0, begin, 0

    def following(kind: int, body: bytes) -> Record:
        nonlocal number, last
        number += 1
        last = seal(kind, number, begin.term, begin.wall_ns, last.hash, body)
        return last

    yield begin
    blank = pack_runs([(META.name, [MetaRow(name, 0) for name in META_NAMES], [])])
    rows += len(META_NAMES)
    yield following(ROWS, blank)
    for piece in pieces:
        if piece.kind == END:
            continue
        latest[0] = max(latest[0], piece.wall_ns)
        body = piece.body()
        rows += sum(len(run[1]) for run in unpack_runs(body))
        yield following(ROWS, body)
    end = VolumeEnd(position=head_of(begin).position, rows=rows)
    yield following(END, msgspec.json.encode(end))


def _rebuild(records: Iterable[Record], scratch: Scratch, watch: Watch) -> None:
    rebuilder = Rebuilder(OsDisk(scratch.path), _MADE)
    try:
        for number, record in enumerate(records):
            if number % PROGRESS_RECORDS == 0:
                watch("making the catalog anew")
            rebuilder.feed(record.data)
        rebuilder.close()
    except BaseException:
        rebuilder.abandon()
        raise


def _no_catalog(wish: Wish, sources: Sources) -> DSAError:
    if wish.file is not None:
        remedy = "name a backup of the catalog, or the catalog.sqlite of a stopped master"
        return ConfigError(f"{wish.file} is neither a copy of a catalog nor a catalog", remedy, str(wish.file))
    remedy = "name the directories of more nodes, or say --catalog FILE with a backup or a stopped master's catalog"
    if sources.catalogs:
        remedy = f"say --catalog {sources.catalogs[0]}, which was found here, or name the directories of more nodes"
    return NotFound(
        "these directories hold no copy of the catalog, without which nobody knows what the bytes are called", remedy
    )


def _nothing_whole(records: RecordMap, wish: Wish) -> DSAError:
    moments = ", ".join(f"{_when(first)} to {_when(last)}" for first, last in records.moments())
    if wish.at_ns is not None and moments:
        return Conflict(f"the catalog cannot be had as of {_when(wish.at_ns)}", f"it can be had as of {moments}")
    return Corrupt(
        "no copy of the catalog in these directories is whole, nor all of them together",
        "name the directories of more nodes, or a backup with --catalog; --pieces takes what there is",
    )


def _when(wall_ns: int) -> str:
    """In this machine's time zone, with it."""
    try:
        return datetime.fromtimestamp(wall_ns / 1e9).astimezone().isoformat(" ", "seconds")
    except (OverflowError, OSError, ValueError):
        return "an unknown time"


# --- from a database --------------------------------------------------------------------------------------------------


def _copied(wish: Wish, file: Path, scratch: Scratch) -> Source:
    """A master's catalog. It is copied first: to read it is to write to it, as its log has to be brought in."""
    if wish.at_ns is not None:
        raise ConfigError("a catalog.sqlite is as of one moment only", "leave out --at, or name a backup or the nodes")
    try:
        for suffix in ("", "-wal"):
            source = Path(f"{file}{suffix}")
            if source.exists():
                shutil.copyfile(source, scratch.path / f"{_MADE}{suffix}")
    except OSError as error:
        raise LocalError(f"{file}: {error.strerror or error}", "check the file, and the room at the target") from error
    return Source(open_namespace(scratch.path / _MADE, shown=str(file)), f"from {file}", 0, [])


def _starts_with(file: Path, magic: bytes) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}", "check the path", str(file)) from error
