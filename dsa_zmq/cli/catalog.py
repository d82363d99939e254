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
    dsa catalog history
    dsa catalog backup catalog.backup
    dsa catalog verify
    dsa catalog restore catalog.backup --dir /srv/dsa/master -n
    """,
)
def catalog() -> None:
    """Look after the copies of the catalog."""


@catalog.command(
    cls=Command,
    examples="""
    dsa catalog history
    dsa catalog history --json
    """,
)
@pass_session
def history(session: Session) -> int:
    """Show as of which moments the catalog can be had, and which nodes hold it.

    A volume begins with a snapshot and goes on with the changes since: it is enough to make the catalog anew.
    """
    from dsa_zmq.cli.catalog_history import show

    with session.connect() as store:
        return show(session, store.admin.catalog_copies())


@catalog.command(
    cls=Command,
    examples="""
    dsa catalog backup catalog.backup
    dsa catalog backup /backup/dsa-$(date +%F) --force
    """,
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Although there is a file of this name.")
@pass_session
def backup(session: Session, file: Path, force: bool) -> int:
    """Write the newest copy of the catalog that nodes hold to FILE, verified.

    If a node is gone, or its copy is damaged, another one's is read. What was stored, the files' bytes, is not in it.
    """
    from dsa_zmq.cli.catalog_history import back_up

    with session.connect() as store:
        return back_up(session, store, file, overwrite=force)


@catalog.command(
    cls=Command,
    examples="""
    dsa catalog verify
    dsa catalog verify catalog.backup
    """,
)
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@pass_session
def verify(session: Session, file: Path | None) -> int:
    """Prove that a restore would work: read all copies (or FILE), and make a catalog of the newest.

    Every record is verified, and the catalog that is made, in a temporary directory, is audited. Ends with status 8 if
    anything is damaged.
    """
    from dsa_zmq.cli.catalog_verify import verify_copies, verify_file

    if file is not None:
        return verify_file(session, file)
    with session.connect() as store:
        return verify_copies(session, store)


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
