"""``dsa rebalance``, ``dsa tasks``: nodes filled alike; what goes on."""

from __future__ import annotations

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.plans import carry_out, emit_task, progress_text, stop, title
from dsa_zmq.cli.session import Command, Session, pass_session


@click.command(
    cls=Command,
    examples="""
    dsa rebalance -n
    dsa rebalance -y
    dsa rebalance --stop
    """,
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-d", "--detach", is_flag=True, help="Return once it has begun.")
@click.option("--stop", "ends", is_flag=True, help="End it; what was moved stays where it is.")
@pass_session
def rebalance(session: Session, dry_run: bool, yes: bool, detach: bool, ends: bool) -> int:
    """Move shards from fuller nodes to emptier ones, as after one was added, until all are filled alike.

    It goes on if this command ends; the same command follows it again.
    """
    with session.connect() as store:
        if ends:
            return stop(session, store.admin, "rebalance")
        plan = store.admin.plan_rebalance()
        return carry_out(session, plan, dry_run=dry_run, yes=yes, detach=detach, question="Move them?")


@click.command(
    cls=Command,
    examples="""
    dsa tasks
    dsa tasks --json
    """,
)
@pass_session
def tasks(session: Session) -> int:
    """Show the tasks that run, how far they are and what they wait for; then the last that have ended."""
    with session.connect() as store:
        found = store.admin.task_infos()
    if session.json:
        for info in found:
            emit_task(info)
        return 0
    if not found:
        output.line("nothing was begun yet")
    for info in found:
        if info.state == "running":
            output.line(progress_text(info))
        else:
            note = f"; {output.shown(info.note)}" if info.note else ""
            output.line(f"{title(info)}: {info.state}{note}  ({output.local_time(info.began_ns)})")
    return 0
