"""``dsa df``, ``dsa nodes``: how much room there is, and who is there."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.session import Command, CommandGroup, Session, pass_session
from dsa_zmq.model.sizes import counted, format_duration, format_size
from dsa_zmq.protocol.values import NodeInfo


@click.command(
    cls=Command,
    examples="""
    dsa df
    dsa df --redundancy copies=3
    dsa df --json
    """,
)
@click.option("--redundancy", default="", metavar="NAME", help="As if stored with this: copies=3. Else the root's.")
@pass_session
def df(session: Session, redundancy: str) -> int:
    """Show how much can still be stored, and how full each node is."""
    with session.connect() as store:
        space = store.statfs(redundancy)
        nodes = _by_name(store.nodes())
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


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    examples="""
    dsa nodes
    dsa nodes ls --json
    """,
)
@click.pass_context
def nodes(context: click.Context) -> int:
    """Show the nodes. (Without a further word: ls.)"""
    return 0 if context.invoked_subcommand else _list_nodes(context.ensure_object(Session))


@nodes.command(
    "ls",
    cls=Command,
    examples="""
    dsa nodes ls
    dsa nodes ls --json
    """,
)
@pass_session
def list_nodes(session: Session) -> int:
    """List the nodes: state, address, zone, space, and for how long each has been silent."""
    return _list_nodes(session)


def _list_nodes(session: Session) -> int:
    with session.connect() as store:
        found = _by_name(store.nodes())
    if session.json:
        for node in found:
            output.emit(
                name=node.name,
                state=node.state,
                address=node.address,
                zone=node.zone,
                host=node.host,
                capacity=node.capacity,
                used=node.used,
                free=node.free,
                shards=node.shards,
                silent_seconds=node.silent_ms / 1000,
                failure=node.failure,
                reach=node.reach,
            )
        return 0
    if not found:
        output.line("no node has registered yet; start one with 'dsa node --master ADDRESS --path DIR'")
        return 0
    rows = [
        [
            output.shown(node.name),
            node.state,
            node.address.removeprefix("tcp://"),
            output.shown(node.zone) or "-",
            format_size(node.used),
            format_size(node.free),
            f"{node.shards:,}",
            format_duration(node.silent_ms / 1000),
        ]
        for node in found
    ]
    _print(["NODE", "STATE", "ADDRESS", "ZONE", "USED", "FREE", "SHARDS", "SILENT"], rows)
    for node in found:
        if node.failure:
            output.line(f"{output.shown(node.name)} has failed: {output.shown(node.failure)}")
        if node.reach:
            output.line(f"{output.shown(node.name)} is suspect: {output.shown(node.reach)}")
    return 0


def _by_name(found: Sequence[NodeInfo]) -> list[NodeInfo]:
    return sorted(found, key=lambda node: (node.name, node.node))


def _share(node: NodeInfo) -> str:
    return f"{100 * node.used / node.capacity:.0f}%" if node.capacity else "-"


def _print(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    numbers = frozenset(("CAPACITY", "USED", "FREE", "USED%", "SHARDS", "SILENT"))
    for text in output.table(header, rows, numbers):
        output.line(text)
