"""``dsa scrub``: have everything verified, and see how far that is."""

from __future__ import annotations

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.nodes import by_name
from dsa_zmq.cli.session import Command, CommandGroup, Session, pass_session
from dsa_zmq.client.scrubbing import begin_scrub
from dsa_zmq.model.sizes import counted, format_duration

JUST_BEGUN = 1  #: thousandths, the fewest that are told: as good as nothing


@click.group(
    cls=CommandGroup,
    default="status",
    examples="""
    dsa scrub
    dsa scrub now
    """,
)
def scrub() -> None:
    """Verify all stored bytes. (Without a further word: status.)

    Each node does so by itself, once a day at a gentle pace. What does not match is never served, and made anew.
    """


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
    with session.connect() as store:
        found = by_name(store.nodes())
    if session.json:
        for node in found:
            output.emit(
                name=node.name,
                state=node.state,
                shards=node.shards,
                damaged=node.damaged,
                scrubbing=bool(node.scrub_permille),
                done=0.0 if node.scrub_permille <= JUST_BEGUN else node.scrub_permille / 1000,
                scrubbed_seconds=node.scrubbed_s or None,
            )
        return 0
    rows = [
        [
            output.shown(node.name),
            f"{node.shards:,}",
            _how_far(node.scrub_permille),
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
    """Have all nodes (or NODE) begin now, at half of their speed. It goes on in the background.

    Nothing is changed but what is found damaged, so nobody is asked.
    """
    with session.connect() as store:
        begin_scrub(store, node)
    if session.json:
        output.emit(begun=True, node=node)
    else:
        output.line("begun; 'dsa scrub status' shows how far it is")
    return 0


def _how_far(permille: int) -> str:
    if permille <= JUST_BEGUN:
        return "begun, 0%" if permille else "-"
    return f"{permille / 10:.1f}%"
