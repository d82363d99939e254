"""What ``dsa catalog history`` and ``dsa catalog backup`` say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.restoring import shown_moment
from dsa_zmq.cli.session import Session
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.protocol.volumes import CatalogCopies, HeldVolume

if TYPE_CHECKING:
    from dsa_zmq.client.store import Store


def show(session: Session, copies: CatalogCopies) -> int:
    """All volumes, the oldest first."""
    usable = [held for held in copies.volumes if held.state.usable]
    first = usable[0].state.whole_ns if usable else 0
    last = max((held.state.wall_ns for held in usable), default=0)
    if session.json:
        output.emit(
            level=copies.level,
            since=output.iso_time(first) if usable else None,
            until=output.iso_time(last) if usable else None,
            position=copies.position,
            safe=copies.safe,
            wanted=copies.wanted,
            enough=copies.enough,
            unprotected_since=output.iso_time(copies.unprotected_ns) if copies.unprotected_ns else None,
            why=copies.why,
            volumes=[_as_json(held) for held in copies.volumes],
        )
        return 0
    if not usable:
        output.line("no node holds a copy of the catalog that can be used")
    else:
        output.line(f"the catalog can be had as of any moment from {shown_moment(first)} to {shown_moment(last)}")
    unsafe = max(0, copies.position - max(0, copies.safe))
    state = f"{counted(unsafe, 'change')} not safe yet" if unsafe else "all changes are safe"
    if copies.level != "off":
        output.line(f"{copies.level}; {state}")
    if copies.unprotected_ns:
        output.line(f"unprotected since {shown_moment(copies.unprotected_ns)}: {output.shown(copies.why)}")
    if copies.volumes:
        output.line()
        rows = [
            [
                f"{held.state.volume:x}",
                shown_moment(held.state.whole_ns) if held.state.usable else "-",
                shown_moment(held.state.wall_ns) if held.state.usable else "-",
                format_size(held.state.size),
                output.shown(", ".join(map(_holder, held.nodes, held.damages))),
            ]
            for held in copies.volumes
        ]
        for text in output.table(["VOLUME", "FROM", "TO", "SIZE", "NODES"], rows, frozenset(("SIZE",))):
            output.line(text)
    return 0


def _holder(name: str, damage: str) -> str:
    return f"{name} ({damage})" if damage else name


def _as_json(held: HeldVolume) -> dict[str, object]:
    state = held.state
    return {
        "volume": f"{state.volume:x}",
        "usable": state.usable,
        "from": output.iso_time(state.whole_ns) if state.usable else None,
        "to": output.iso_time(state.wall_ns) if state.usable else None,
        "bytes": state.size,
        "nodes": [
            {"name": name, "position": position, "damage": damage}
            for name, position, damage in zip(held.nodes, held.positions, held.damages, strict=True)
        ],
    }


def back_up(session: Session, store: Store, file: Path, *, overwrite: bool) -> int:
    """Write it, and say what was written."""
    from dsa_zmq.cli.progress import Progress

    before = 0
    with Progress(session, "backup", 1, 0) as bar:

        def progress(done: int, total: int) -> None:
            nonlocal before
            bar.expect(total)
            bar.advance(0, done - before)
            before = done

        made = store.admin.backup_catalog(file, overwrite=overwrite, progress=progress)
        bar.advance(1, 0)
    for text in made.passed_over:
        click.echo(f"passed over: {output.shown(text)}", err=True)
    if session.json:
        output.emit(
            file=made.path,
            bytes=made.size,
            volume=f"{made.volume:x}",
            position=made.position,
            moment=output.iso_time(made.moment_ns),
            nodes=made.nodes,
            passed_over=made.passed_over,
        )
    else:
        output.line(f"{output.shown(made.path)}: the catalog as of {shown_moment(made.moment_ns)}")
    return 0
