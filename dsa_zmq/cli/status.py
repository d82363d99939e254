"""``dsa df``, ``dsa health``: how the cluster is."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.nodes import by_name
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.protocol.operations import HealthReport
from dsa_zmq.protocol.values import NodeInfo

HEALTHY, DEGRADED, ENDANGERED = 0, 1, 2  #: exit statuses of ``dsa health``; the last one also for what is lost


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


@click.command(
    cls=Command,
    examples="""
    dsa health
    dsa health --json
    dsa health || mail -s "the store needs help" ops
    """,
)
@pass_session
def health(session: Session) -> int:
    """Show how safe everything stored is.

    Ends with status 0 if all is healthy, 1 if something is degraded (fewer copies than asked for), 2 if something is
    endangered (one more loss would be final) or lost.
    """
    with session.connect() as store:
        report = store.health()
    state, status = _verdict(report)
    kinds = {
        "healthy": (report.healthy_chunks, report.healthy_bytes),
        "degraded": (report.degraded_chunks, report.degraded_bytes),
        "endangered": (report.endangered_chunks, report.endangered_bytes),
        "lost": (report.lost_chunks, report.lost_bytes),
    }
    if session.json:
        output.emit(
            state=state,
            **{f"{name}_chunks": chunks for name, (chunks, _) in kinds.items()},
            **{f"{name}_bytes": size for name, (_, size) in kinds.items()},
            nodes_up=report.nodes_up,
            nodes=report.nodes,
            notes=report.notes,
            held=report.held,
        )
        return status
    output.line(f"{state}; {report.nodes_up} of {report.nodes} nodes up")
    output.line()
    _print(
        ["CHUNKS", "COUNT", "BYTES"],
        [[name, f"{chunks:,}", format_size(size)] for name, (chunks, size) in kinds.items()],
    )
    for note in report.notes:
        output.line(f"- {output.shown(note)}")
    if report.held:
        output.line(f"- repair is held: {output.shown(report.held)}")
    return status


def _verdict(report: HealthReport) -> tuple[str, int]:
    if report.lost_chunks:
        return "lost", ENDANGERED
    if report.endangered_chunks:
        return "endangered", ENDANGERED
    if report.degraded_chunks:
        return "degraded", DEGRADED
    return "healthy", HEALTHY


def _share(node: NodeInfo) -> str:
    return f"{100 * node.used / node.capacity:.0f}%" if node.capacity else "-"


def _print(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    numbers = frozenset(("CAPACITY", "USED", "FREE", "USED%", "COUNT", "BYTES"))
    for text in output.table(header, rows, numbers):
        output.line(text)
