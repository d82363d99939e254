"""``dsa nodes``: which there are; one is emptied, one is forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.plans import carry_out, stop
from dsa_zmq.cli.session import Command, CommandGroup, Session, pass_session
from dsa_zmq.model.sizes import format_duration, format_size
from dsa_zmq.protocol.values import NodeInfo


@click.group(
    cls=CommandGroup,
    default="ls",
    examples="""
    dsa nodes
    dsa nodes ls --json
    dsa nodes drain -n node-2
    """,
)
def nodes() -> None:
    """Show the nodes, empty one, forget one. (Without a further word: ls.)"""


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
    """List the nodes: state, address, zone, space, for how long each has been silent, and the build that it runs."""
    with session.connect() as store:
        found = by_name(store.nodes())
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
                draining=node.draining,
                reach=node.reach,
                software=node.software,
                protocol=node.protocol,
            )
        return 0
    if not found:
        output.line("no node has registered yet; start one with 'dsa node --master ADDRESS --path DIR'")
        return 0
    rows = [
        [
            output.shown(node.name),
            f"{node.state}, draining" if node.draining else node.state,
            node.address.removeprefix("tcp://"),
            output.shown(node.zone) or "-",
            format_size(node.used),
            format_size(node.free),
            f"{node.shards:,}",
            format_duration(node.silent_ms / 1000),
            build(node),
        ]
        for node in found
    ]
    right = frozenset(("USED", "FREE", "SHARDS", "SILENT"))
    for text in output.table(
        ["NODE", "STATE", "ADDRESS", "ZONE", "USED", "FREE", "SHARDS", "SILENT", "BUILD"], rows, right
    ):
        output.line(text)
    for node in found:
        if node.failure:
            output.line(f"{output.shown(node.name)} has failed: {output.shown(node.failure)}")
        if node.reach:
            output.line(f"{output.shown(node.name)} is {node.state}: {output.shown(node.reach)}")
    return 0


@nodes.command(
    cls=Command,
    examples="""
    dsa nodes drain -n node-2
    dsa nodes drain -y node-2
    dsa nodes drain --stop node-2
    """,
)
@click.argument("name", metavar="NODE")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-d", "--detach", is_flag=True, help="Return once it has begun.")
@click.option("--stop", "ends", is_flag=True, help="Use the node again; what was moved stays where it is.")
@pass_session
def drain(session: Session, name: str, dry_run: bool, yes: bool, detach: bool, ends: bool) -> int:
    """Empty a node: everything on it goes to others, and it gets nothing new.

    Says when it may be switched off. Nothing is less safe meanwhile. It goes on if this command ends; the same command
    follows it again.
    """
    with session.connect() as store:
        if ends:
            return stop(session, store.admin, "drain", name)
        plan = store.admin.plan_drain(name)
        question = f"Empty '{output.shown(name)}'?"
        return carry_out(session, plan, dry_run=dry_run, yes=yes, detach=detach, question=question)


@nodes.command(
    "rm",
    cls=Command,
    examples="""
    dsa nodes rm -n node-2
    dsa nodes rm -y node-2
    """,
)
@click.argument("name", metavar="NODE")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--lost", is_flag=True, help="Even if something cannot be read any more then.")
@pass_session
def remove_node(session: Session, name: str, dry_run: bool, yes: bool, lost: bool) -> int:
    """Forget a node that is switched off for good. What it held and others lack is made anew.

    Refused while something can be read from it alone, unless --lost is given. Started again with its directory, it comes
    back.
    """
    with session.connect() as store:
        plan = store.admin.plan_remove(name, lost=lost)
        question = f"Forget '{output.shown(name)}'?"
        return carry_out(session, plan, dry_run=dry_run, yes=yes, detach=False, question=question)


def build(node: NodeInfo) -> str:
    """Which one it runs, as far as it has said: ``0.1.0, protocol 1``."""
    said = [output.shown(node.software.removeprefix("dsa-zmq "))] if node.software else []
    return ", ".join([*said, f"protocol {node.protocol}"] if node.protocol else said) or "-"


def by_name(found: Sequence[NodeInfo]) -> list[NodeInfo]:
    """Nodes in the order in which they are shown."""
    return sorted(found, key=lambda node: (node.name, node.node))
