"""``dsa explain``: where files lie and what they survive, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.health import STATES, verdict
from dsa_zmq.cli.remote_paths import remote
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.client.store import Store
from dsa_zmq.errors import Invalid, NotFound
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.protocol.operations import HealthReport
from dsa_zmq.protocol.values import NodeInfo


@click.command(
    cls=Command,
    examples="""
    dsa explain /models/large.bin
    dsa explain --if-lost node-2
    dsa explain --if-lost node-2 --if-lost node-3 /models/large.bin
    dsa explain --if-lost room-b
    """,
)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option(
    "--if-lost", "lost", multiple=True, metavar="NODE", help="As if this node, or zone, were lost now; may be repeated."
)
@pass_session
def explain(session: Session, paths: tuple[str, ...], lost: tuple[str, ...]) -> int:
    """Say where each chunk of a file lies and what the file survives.

    With --if-lost and a PATH: what would become of that file. Without a PATH: what would become of everything stored;
    the status is then 0 if all stays healthy, 1 if some is degraded, 2 if some is endangered or lost.
    """
    if not paths and not lost:
        raise Invalid("there is nothing to explain", "name a file, or a node with --if-lost")
    with session.connect() as store:
        nodes = store.nodes()
        names = list(dict.fromkeys(node for name in lost for node in _named(name, nodes)))
        if not paths:
            return _whole(session, store, lost, names, nodes)
        for position, path in enumerate(map(remote, paths)):
            sentences = store.explain(path, names)
            if session.json:
                output.emit(path=path, if_lost=list(lost), sentences=sentences)
                continue
            if position:
                output.line()
            for sentence in sentences:
                output.line(output.shown(sentence))
    return 0


def _named(name: str, nodes: Sequence[NodeInfo]) -> list[str]:
    """The node of that name, else all nodes of that zone."""
    found = [node.name for node in nodes if node.name == name] or [node.name for node in nodes if node.zone == name]
    if not name or not found:
        known = ", ".join(sorted(node.name for node in nodes)) or "none"
        raise NotFound(f"there is no node or zone '{output.shown(name)}'", f"the nodes are: {output.shown(known)}")
    return found


def _whole(session: Session, store: Store, lost: Sequence[str], names: Sequence[str], nodes: Sequence[NodeInfo]) -> int:
    now, then = store.health(), store.health(names)
    status = verdict(then)[1]
    held = [node for node in nodes if node.name in names]
    shards, used = sum(node.shards for node in held), sum(node.used for node in held)
    if session.json:
        fields = {
            f"{state}_{unit}": getattr(then, f"{state}_{unit}") for state in STATES for unit in ("chunks", "bytes")
        }
        newly_lost = then.lost_chunks - now.lost_chunks
        output.emit(if_lost=list(lost), nodes_up=then.nodes_up, shards=shards, newly_lost_chunks=newly_lost, **fields)
        return status
    named = " and ".join(output.shown(name) for name in lost)
    output.line(f"If {named} were lost now, {counted(shards, 'shard')} with {format_size(used)} would be gone.")
    for sentence in _consequences(now, then):
        output.line(sentence)
    return status


def _consequences(now: HealthReport, then: HealthReport) -> list[str]:
    lines = []
    gone, gone_bytes = then.lost_chunks - now.lost_chunks, then.lost_bytes - now.lost_bytes
    if gone > 0:
        lines.append(f"{counted(gone, 'chunk')} with {format_size(gone_bytes)} could not be read any more.")
    else:
        lines.append("Everything that can be read now could still be read.")
    if then.endangered_chunks:
        size = format_size(then.endangered_bytes)
        lines.append(f"{counted(then.endangered_chunks, 'chunk')} with {size} would have no redundancy left.")
    if then.degraded_chunks:
        size = format_size(then.degraded_bytes)
        lines.append(f"{counted(then.degraded_chunks, 'chunk')} with {size} would have less redundancy than asked for.")
    if then.healthy_chunks:
        lines.append(f"{counted(then.healthy_chunks, 'chunk')} would lack nothing.")
    return lines
