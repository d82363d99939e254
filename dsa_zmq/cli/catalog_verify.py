"""``dsa catalog verify``: every copy is read and verified, and a catalog is made of the newest one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from actors.disk import OsDisk
from dsa_zmq.cli import output
from dsa_zmq.cli.restoring import shown_moment
from dsa_zmq.cli.session import Session
from dsa_zmq.client.catalog_copies import newest_first, read_copy, read_volume
from dsa_zmq.client.local_file import local_error
from dsa_zmq.errors import Conflict, Corrupt, DSAError, NotFound, Unavailable
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.model.volumes import READ_BYTES, VolumeChain

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store
    from dsa_zmq.master.catalog.rebuild import Rebuilder, Rebuilt

DAMAGED = Corrupt.exit_status


def verify_copies(session: Session, store: Store) -> int:
    """All copies on nodes. The exit status."""
    held = store.admin.catalog_copies().volumes
    usable = newest_first(held)
    if not usable:
        raise NotFound("no node holds a copy of the catalog that can be used", "see 'dsa health' for why")
    status = 0
    for volume in held:
        for node, damage in zip(volume.nodes, volume.damages, strict=True):
            status = max(status, _verify_copy(session, store, volume.state.volume, node, damage))
    passed_over: list[str] = []
    pieces = (record.data for record in read_volume(store.admin.ask, usable[0], passed_over, []))
    return max(_rebuild(session, pieces), status)


def _verify_copy(session: Session, store: Store, volume: int, node: str, damage: str) -> int:
    """One copy; the status that it is worth. ``damage`` is what its node has found: then only what is before it is read. One
    that is not complete yet is no damage."""
    chain, size, trouble = VolumeChain(), 0, damage
    state, status = ("damaged", DAMAGED) if damage else ("", 0)
    try:
        for record in read_copy(store.admin.ask, volume, node, chain):
            size += len(record.data)
    except (Corrupt, Conflict) as error:
        state, status, trouble = "damaged", DAMAGED, error.message
    except NotFound:
        state = "removed by now"
    except DSAError as error:
        state, status, trouble = "not read", Unavailable.exit_status, error.message
    state = state or ("good" if chain.usable else "not complete")
    if session.json:
        output.emit(
            node=node, volume=f"{volume:x}", state=state, bytes=size, position=chain.ended,
            moment=output.iso_time(chain.ended_ns), trouble=trouble,
        )  # fmt: skip
    else:
        moment = f", as of {shown_moment(chain.ended_ns)}" if chain.usable else ""
        why = f": {output.shown(trouble)}" if trouble else ""
        output.line(f"{output.shown(node)}, volume {volume:x}: {state}{why}, {format_size(size)}{moment}")
    return status


def verify_file(session: Session, file: Path) -> int:
    """A backup. The exit status."""
    return _rebuild(session, _pieces(file))


def _pieces(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            while data := stream.read(READ_BYTES):
                yield data
    except OSError as error:
        raise local_error(error, str(file)) from error


def _rebuild(session: Session, pieces: Iterator[bytes]) -> int:
    """Make a catalog of a volume, and say what it would be."""
    from dsa_zmq.master.catalog.rebuild import Rebuilder

    with tempfile.TemporaryDirectory(prefix="dsa-verify-") as directory:
        rebuilder = Rebuilder(OsDisk(directory), "catalog.sqlite")
        try:
            trouble = _feed(rebuilder, pieces)
            rebuilt = rebuilder.finish()
        except BaseException:
            rebuilder.abandon()
            raise
    return _tell(session, rebuilt, trouble)


def _feed(rebuilder: Rebuilder, pieces: Iterator[bytes]) -> str:
    """All of them, or up to what cannot be used; why that is."""
    try:
        for data in pieces:
            rebuilder.feed(data)
    except DSAError as error:
        if not rebuilder.usable:
            raise
        return error.message
    return "it ends within a record" if rebuilder.rest else ""


def _tell(session: Session, rebuilt: Rebuilt, trouble: str) -> int:
    wrong = [*([trouble] if trouble else []), *rebuilt.odd]
    if session.json:
        output.emit(
            restorable=True, moment=output.iso_time(rebuilt.moment_ns), position=rebuilt.position, files=rebuilt.files,
            directories=rebuilt.directories, bytes=rebuilt.content_bytes, versions=rebuilt.versions,
            nodes=[node.name for node in rebuilt.nodes], wrong=wrong,
        )  # fmt: skip
    else:
        output.line(
            f"a catalog can be made as of {shown_moment(rebuilt.moment_ns)}: {counted(rebuilt.files, 'file')},"
            f" {format_size(rebuilt.content_bytes)}"
        )
        for text in wrong:
            click.echo(f"wrong: {output.shown(text)}", err=True)
    return DAMAGED if wrong else 0
