"""``dsa scrub``: have everything verified, and see how far that is."""

from __future__ import annotations

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.session import Command, CommandGroup, Session, pass_session
from dsa_zmq.client.scrubbing import begin_scrub
from dsa_zmq.model.sizes import counted, format_duration


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    examples="""
    dsa scrub
    dsa scrub now
    """,
)
@click.pass_context
def scrub(context: click.Context) -> int:
    """Verify all stored bytes. (Without a further word: status.)

    Each node does so by itself, once a day at a gentle pace. What does not match is never served, and made anew.
    """
    return 0 if context.invoked_subcommand else _show(context.ensure_object(Session))


@scrub.command(
    cls=Command,
    examples="""
    dsa scrub status
    dsa scrub status --json
    """,
)
@pass_session
def status(session: Session) -> int:
    """Show when each node has last verified all it holds, how far it is now, and what it has in quarantine."""
    return _show(session)


@scrub.command(
    cls=Command,
    examples="""
    dsa scrub now
    dsa scrub now node-2
    """,
)
@click.argument("node", required=False, default="")
@pass_session
def now(session: Session, node: str) -> int:
    """Have all nodes (or NODE) begin now, as fast as they can without being in the way. It goes on in the background.

    Nothing is changed but what is found damaged, so nobody is asked.
    """
    with session.connect() as store:
        begin_scrub(store, node)
    if session.json:
        output.emit(begun=True, node=node)
    else:
        output.line("begun; 'dsa scrub status' shows how far it is")
    return 0


def _show(session: Session) -> int:
    with session.connect() as store:
        found = sorted(store.nodes(), key=lambda node: (node.name, node.node))
    if session.json:
        for node in found:
            output.emit(
                name=node.name,
                state=node.state,
                shards=node.shards,
                damaged=node.damaged,
                scrubbing=bool(node.scrub_permille),
                done=node.scrub_permille / 1000,
                scrubbed_seconds=node.scrubbed_s or None,
            )
        return 0
    rows = [
        [
            output.shown(node.name),
            f"{node.shards:,}",
            f"{node.scrub_permille / 10:.1f}%" if node.scrub_permille else "-",
            f"{format_duration(node.scrubbed_s)} ago" if node.scrubbed_s else "never",
            f"{node.damaged:,}",
        ]
        for node in found
    ]
    header = ["NODE", "SHARDS", "NOW AT", "LAST ENDED", "DAMAGED"]
    for text in output.table(header, rows, frozenset(("SHARDS", "NOW AT", "LAST ENDED", "DAMAGED"))):
        output.line(text)
    if damaged := sum(node.damaged for node in found):
        output.line(f"{counted(damaged, 'shard')} in quarantine: kept until others have everything, and never served")
    return 0
