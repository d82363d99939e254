"""``dsa gc``: let go of what nobody holds, now instead of a moment later."""

from __future__ import annotations

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.client.collecting import begin_collection, plan_collection
from dsa_zmq.model.sizes import format_size


@click.command(
    cls=Command,
    examples="""
    dsa gc -n
    dsa gc -n --json
    dsa gc
    """,
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be let go.")
@pass_session
def gc(session: Session, dry_run: bool) -> int:
    """Let go of what nobody holds any more: removed files after their grace, uploads that were given up, shards to be
    dropped. It goes on by itself all the time; this begins a round now.

    Nothing that can still be read is ever touched, so nobody is asked.
    """
    with session.connect() as store:
        plan = plan_collection(store)
        if not dry_run:
            begin_collection(store)
    if session.json:
        output.emit(shards=plan.moves, bytes=plan.bytes, lines=plan.lines, begun=not dry_run)
        return 0
    for line in plan.lines:
        output.line(output.shown(line))
    if plan.bytes:
        output.line(f"about {format_size(plan.bytes)} come back")
    if not dry_run:
        output.line("begun; it goes on in the background")
    return 0
