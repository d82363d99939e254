"""Reading the copies of the catalog that nodes hold: bytes come through the master, and count once records are verified.

Records of one volume may lie in another order on each node; a volume is the same whichever of them each record comes from.
So when a node fails in the middle, another one's copy is read from its beginning, and what is known already is passed over.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dsa_zmq.client.local_file import local_error
from dsa_zmq.client.risks import Ask
from dsa_zmq.errors import AlreadyExists, Conflict, Corrupt, DSAError, NotFound
from dsa_zmq.model.records import Record, read_record
from dsa_zmq.model.volumes import VolumeChain
from dsa_zmq.protocol.volumes import CatalogCopies, CatalogData, CatalogHistory, HeldVolume, ReadCatalog

PIECE_TIMEOUT_S = 10.0  #: for some hundred KiB

Progress = Callable[[int, int], object]
"""Called with the bytes that are there and, about, those there will be."""


@dataclass(frozen=True)
class CatalogBackup:
    """What was written."""

    path: str
    size: int  #: bytes
    volume: int
    position: int  #: of the last change in it
    moment_ns: int  #: of that change, by the master's clock
    nodes: list[str]  #: that it was read from
    passed_over: list[str]  #: what could not be used, in words


def read_copy(ask: Ask, volume: int, node: str, chain: VolumeChain) -> Iterator[Record]:
    """The records of one node's copy that are not in ``chain`` yet, each verified, and taken into it. Raises what ends it
    before the copy's end: Corrupt or Conflict for bytes that cannot be used."""
    offset, buffer = 0, b""
    while data := ask(ReadCatalog(volume, node, offset), CatalogData, PIECE_TIMEOUT_S).data:
        offset += len(data)
        buffer += data
        done = 0
        while (record := read_record(buffer, done)) is not None:
            done += len(record.data)
            if chain.take(record):
                yield record
        buffer = buffer[done:]
    if buffer:
        raise Corrupt(f"the copy of '{node}' ends within a record", "use another copy of the catalog")


def read_volume(ask: Ask, held: HeldVolume, passed_over: list[str], used: list[str]) -> Iterator[Record]:
    """The records of a volume, from whichever node has them: first those that hold most. Ends when the catalog can be made
    of what came and no node that can be read has more. Raises Corrupt if it never can. What could not be used is noted in
    ``passed_over``, and the nodes that were of use in ``used``."""
    chain = VolumeChain()
    wanted = max(held.positions, default=0)
    for _, node in sorted(zip(held.positions, held.nodes, strict=True), key=lambda each: (-each[0], each[1])):
        came = 0
        try:
            for record in read_copy(ask, held.state.volume, node, chain):
                came += 1
                yield record
        except DSAError as error:
            passed_over.append(f"'{node}', volume {held.state.volume:x}: {error.message}")
        if came:
            used.append(node)
        if chain.usable and chain.position >= wanted:
            return
    if not chain.usable:
        raise Corrupt(
            f"no catalog can be made of volume {held.state.volume:x}", "see 'dsa catalog history' for other volumes"
        )


def copies(ask: Ask) -> CatalogCopies:
    """What there is, as the nodes tell now."""
    return ask(CatalogHistory(), CatalogCopies, PIECE_TIMEOUT_S)


def newest_first(volumes: Iterable[HeldVolume]) -> list[HeldVolume]:
    """Those that can be used. A volume that was begun later may have been given up, and end earlier."""
    return sorted([held for held in volumes if held.state.usable], key=lambda held: held.state.newness, reverse=True)


def backup(ask: Ask, file: str | os.PathLike[str], *, overwrite: bool, progress: Progress | None) -> CatalogBackup:
    """Write the newest volume that can be read to a file of this machine, whole or not at all."""
    target = Path(file)
    if not overwrite and os.path.lexists(target):
        raise AlreadyExists(f"{target} exists", "name another file, or say that it is to be overwritten", str(target))
    passed_over: list[str] = []
    for held in newest_first(copies(ask).volumes):
        try:
            return _write(ask, held, target, overwrite=overwrite, progress=progress, passed_over=passed_over)
        except (Corrupt, Conflict) as error:
            passed_over.append(f"volume {held.state.volume:x}: {error.message}")
    if passed_over:
        raise Corrupt(f"no copy of the catalog can be used: {passed_over[-1]}", "see 'dsa catalog verify'")
    raise NotFound("no node holds a copy of the catalog", "see 'dsa health' for why")


def _write(
    ask: Ask, held: HeldVolume, target: Path, *, overwrite: bool, progress: Progress | None, passed_over: list[str]
) -> CatalogBackup:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    used: list[str] = []
    chain, size = VolumeChain(), 0
    try:
        with open(part, "xb") as stream:
            for record in read_volume(ask, held, passed_over, used):
                chain.take(record)
                stream.write(record.data)
                size += len(record.data)
                if progress is not None:
                    progress(size, max(size, held.state.size))
            stream.flush()
            os.fsync(stream.fileno())
        _publish(part, target, overwrite=overwrite)
    except OSError as error:
        if isinstance(error, DSAError):
            raise
        raise local_error(error, str(target)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return CatalogBackup(
        str(target), size, held.state.volume, chain.ended, chain.ended_ns, list(dict.fromkeys(used)), passed_over
    )


def _publish(part: Path, target: Path, *, overwrite: bool) -> None:
    """Give it its name, durably."""
    if overwrite or not hasattr(os, "link"):
        os.replace(part, target)
    else:
        try:
            os.link(part, target)  # unlike a rename, it does not take the place of what has come meanwhile
        except FileExistsError:
            raise AlreadyExists(f"{target} exists", "name another file", str(target)) from None
    if hasattr(os, "O_DIRECTORY"):
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
