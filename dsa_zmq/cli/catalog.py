"""``dsa catalog``: the copies of the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dsa_zmq.cli.restoring import restore_options, run_restore
from dsa_zmq.cli.session import Command, CommandGroup, Session, pass_session


@click.group(
    cls=CommandGroup,
    examples="""
    dsa catalog restore catalog.backup --dir /srv/dsa/master -n
    """,
)
def catalog() -> None:
    """Look after the copies of the catalog."""


@catalog.command(
    "restore",
    cls=Command,
    examples="""
    dsa catalog restore catalog.backup --dir /srv/dsa/master -n
    dsa catalog restore catalog.backup --dir /srv/dsa/master --older
    """,
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--older", is_flag=True, help="Although nodes hold a newer catalog, or the file is damaged at its end.")
@restore_options
@pass_session
def restore(
    session: Session,
    /,
    file: Path,
    older: bool,
    at: str | None,
    without: tuple[str, ...],
    wait: float,
    cluster_id: str,
    dry_run: bool,
    yes: bool,
    **given: Any,
) -> int:
    """Make a lost master's catalog anew, in a new directory, from a backup.

    As 'dsa cluster restore --from-nodes': nodes are waited for, so that no other master can go on with them. If they hold a
    newer catalog than the file, it is refused unless --older says so.
    """
    return run_restore(
        session, file=file, older=older, at=at, without=without, wait=wait, cluster_id=cluster_id, dry_run=dry_run,
        yes=yes, given=given,
    )  # fmt: skip
