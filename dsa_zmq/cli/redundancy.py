"""``dsa redundancy``: how many nodes may be lost, by directory."""

from __future__ import annotations

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.completion import RemotePath
from dsa_zmq.cli.plans import carry_out, stop
from dsa_zmq.cli.remote_paths import remote
from dsa_zmq.cli.session import Command, CommandGroup, Session, pass_session

INHERIT = "inherit"


@click.group(
    cls=CommandGroup,
    examples="""
    dsa redundancy set /models copies=3
    dsa redundancy apply -n /models
    """,
)
def redundancy() -> None:
    """Choose how many nodes may be lost, by directory; 'dsa stat' shows what is chosen."""


@redundancy.command(
    "set",
    cls=Command,
    examples="""
    dsa redundancy set /models copies=3
    dsa redundancy set /archive ec=4+2
    dsa redundancy set /models inherit
    """,
)
@click.argument("path", metavar="DIRECTORY", type=RemotePath())
@click.argument("name", metavar="NAME|inherit")
@pass_session
def set_redundancy(session: Session, path: str, name: str) -> int:
    """Say what new files in a directory get from now on, and in those below that say nothing else.

    NAME is copies=N, which survives the loss of any N-1 nodes, or ec=K+M, an erasure code: K+M shards on as many nodes, of
    which any K are enough. Files of a few kilobytes are kept as copies that survive as much. What is there already stays
    as it is, until 'dsa redundancy apply'. With 'inherit' the directory gets again what the one above it says.
    """
    with session.connect() as store:
        found = store.admin.set_redundancy(remote(path), "" if name == INHERIT else name)
    if session.json:
        output.emit(**output.fields_of(found))
    else:
        shown = output.shown(found.path)
        output.line(f"new files in {shown} get {found.redundancy}; 'dsa redundancy apply {shown}' converts the others")
    return 0


@redundancy.command(
    "apply",
    cls=Command,
    examples="""
    dsa redundancy apply -n /models
    dsa redundancy apply -y /models
    dsa redundancy apply --stop /models
    """,
)
@click.argument("path", metavar="PATH", type=RemotePath())
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-d", "--detach", is_flag=True, help="Return once it has begun.")
@click.option("--stop", "ends", is_flag=True, help="End it; what was converted stays so.")
@pass_session
def apply_redundancy(session: Session, path: str, dry_run: bool, yes: bool, detach: bool, ends: bool) -> int:
    """Convert what is stored at PATH and below to the redundancy that its directories say now.

    Files can be read and written meanwhile. It goes on if this command ends; the same command follows it again.
    """
    wanted = remote(path)
    with session.connect() as store:
        if ends:
            return stop(session, store.admin, "convert", wanted)
        plan = store.admin.plan_convert(wanted)
        return carry_out(session, plan, dry_run=dry_run, yes=yes, detach=detach, question="Convert this?")
