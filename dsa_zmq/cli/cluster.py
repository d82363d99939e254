"""``dsa cluster``: what concerns the cluster as a whole."""

from __future__ import annotations

from typing import Any

import click

from dsa_zmq.cli.restoring import restore_options, run_restore
from dsa_zmq.cli.session import Command, CommandGroup, Session, pass_session
from dsa_zmq.errors import Invalid


@click.group(
    cls=CommandGroup,
    examples="""
    dsa cluster restore --from-nodes --dir /srv/dsa/master -n
    """,
)
def cluster() -> None:
    """Restore a cluster whose master was lost."""


@cluster.command(
    "restore",
    cls=Command,
    examples="""
    dsa cluster restore --from-nodes --dir /srv/dsa/master -n
    dsa cluster restore --from-nodes --dir /srv/dsa/master --bind 10.0.0.1 --insecure
    dsa cluster restore --from-nodes --dir /srv/dsa/master --without shelf-3 -y
    dsa cluster restore --from-nodes --dir /srv/dsa/master --at 2026-11-01T12:00
    """,
)
@click.option("--from-nodes", is_flag=True, help="From the copies of the catalog that the nodes hold.")
@click.option("--older", is_flag=True, help="Although copies are damaged: what they had behind that is given up.")
@restore_options
@pass_session
def restore(
    session: Session,
    /,
    from_nodes: bool,
    older: bool,
    at: str | None,
    without: tuple[str, ...],
    wait: float,
    cluster_id: str,
    dry_run: bool,
    yes: bool,
    **given: Any,
) -> int:
    """Make a lost master's catalog anew, in a new directory, from the nodes alone.

    It listens where the master did, waits for every node, and refuses to go on beside a master that is alive. Nodes that
    will not come are named with --without; what may be lost by that is said. Then start the master on that directory.
    """
    if not from_nodes:
        raise Invalid(
            "it was not said what to restore from", "say --from-nodes; or use 'dsa catalog restore FILE' with a backup"
        )
    return run_restore(
        session, file=None, older=older, at=at, without=without, wait=wait, cluster_id=cluster_id, dry_run=dry_run,
        yes=yes, given=given,
    )  # fmt: skip
