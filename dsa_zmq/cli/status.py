"""``dsa df``: how much room there is."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.nodes import by_name
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.protocol.values import NodeInfo


@click.command(
    cls=Command,
    examples="""
    dsa df
    dsa df --redundancy copies=3
    dsa df --json
    """,
)
@click.option(
    "--redundancy", default="", metavar="NAME", help="As if stored with this: copies=3, ec=4+2. Else the root's."
)
@pass_session
def df(session: Session, redundancy: str) -> int:
    """Show how much can still be stored, and how full each node is."""
    with session.connect() as store:
        space = store.statfs(redundancy)
        nodes = by_name(store.nodes())
    if session.json:
        output.emit(
            storable=space.storable,
            redundancy=space.redundancy,
            files=space.files,
            content_bytes=space.content_bytes,
            capacity=space.capacity,
            used=space.used,
            free=space.free,
            nodes_up=space.nodes_up,
            nodes=[
                {
                    "name": node.name,
                    "state": node.state,
                    "capacity": node.capacity,
                    "used": node.used,
                    "free": node.free,
                }
                for node in nodes
            ],
        )
        return 0
    output.line(f"{format_size(space.storable)} more at {space.redundancy}")
    output.line(
        f"{counted(space.files, 'file')} with {format_size(space.content_bytes)};"
        f" {space.nodes_up} of {counted(space.nodes, 'node')} up"
    )
    if nodes:
        output.line()
        rows = [
            [
                output.shown(node.name),
                node.state,
                format_size(node.capacity),
                format_size(node.used),
                format_size(node.free),
                _share(node),
            ]
            for node in nodes
        ]
        _print(["NODE", "STATE", "CAPACITY", "USED", "FREE", "USED%"], rows)
    return 0


def _share(node: NodeInfo) -> str:
    return f"{100 * node.used / node.capacity:.0f}%" if node.capacity else "-"


def _print(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    numbers = frozenset(("CAPACITY", "USED", "FREE", "USED%"))
    for text in output.table(header, rows, numbers):
        output.line(text)
