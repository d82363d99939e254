"""What ``dsa cluster restore`` and ``dsa catalog restore`` share: options, plan, progress, outcome."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dsa_zmq.cli import output, reporting
from dsa_zmq.cli.plans import FAILED, NOT_CONFIRMED, can_ask
from dsa_zmq.cli.session import Session
from dsa_zmq.errors import Corrupt, DSAError, Invalid
from dsa_zmq.model.limits import DOWN_S
from dsa_zmq.model.sizes import counted, format_duration, format_size

if TYPE_CHECKING:
    from dsa_zmq.master.restore_events import Event, Planned, Restored, Wanted
    from dsa_zmq.restore import Restore

SECOND = 1_000_000_000
LAST_NS = (1 << 63) - 2  #: the last moment that a record can have; in 2262
QUIET_S = DOWN_S  #: so long no node must have heard of a master: after that it would be missed by a cluster, too
_F = TypeVar("_F", bound=Callable[..., Any])


def restore_options(function: _F) -> _F:
    """What both commands take."""
    for option in reversed(
        [
            click.option("--dir", metavar="DIR", help="The new master's directory; made if it is missing."),
            click.option(
                "--config", metavar="FILE", help="Read options from [master] of a TOML file, as the master did."
            ),
            click.option("--bind", metavar="ADDRESS", help="Wait for nodes at this address, as the master did."),
            click.option("--port", type=click.IntRange(0, 65_535), metavar="N", help="And at this port."),
            click.option("--insecure", is_flag=True, default=None, help="Listen to other machines without keys."),
            click.option("--at", metavar="TIME", help="As of this moment: 2026-11-01T12:00, here or with Z or +01:00."),
            click.option("--without", metavar="NODE", multiple=True, help="This node will not come."),
            click.option("--wait", type=click.FloatRange(min=1), default=60.0, metavar="SECONDS", help="For nodes."),
            click.option(
                "--cluster", "cluster_id", default="", metavar="ID", help="If nodes of several clusters come."
            ),
            click.option("-n", "--dry-run", is_flag=True, help="Only say what would be restored."),
            click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        ]
    ):
        function = option(function)
    return function


def moment_of(text: str) -> int:
    """Nanoseconds of ``2026-11-01T12:00``: local time, unless it ends with Z or an offset; at most what a catalog can hold.
    Raises Invalid."""
    try:
        seconds = datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):  # the others: a year that this machine's time zone does not reach
        raise Invalid(f"'{text}' is not a moment", "write it as in 2026-11-01T12:00 or 2026-11-01T11:00:30Z") from None
    return min(max(0, int(seconds * 1_000_000) * 1000), LAST_NS)


def shown_moment(ns: int) -> str:
    """``2026-11-01 12:00:31`` in this machine's time zone."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // SECOND))
    except (OverflowError, OSError, ValueError):
        return "?"


def run_restore(
    session: Session,
    *,
    file: Path | None,
    older: bool,
    at: str | None,
    without: tuple[str, ...],
    wait: float,
    cluster_id: str,
    dry_run: bool,
    yes: bool,
    given: dict[str, Any],
) -> int:
    """Plan, ask, restore; the exit status. Raises DSAError.

    If the directory is that of ``dsa up``, its nodes run only with the cluster: they are started here for as long.
    """
    from dsa_zmq import config
    from dsa_zmq.cluster_directory import NodesAlone, nodes_in
    from dsa_zmq.cluster_servers import MASTER
    from dsa_zmq.master.catalog.rebuild import NO_LIMIT
    from dsa_zmq.master.restore_events import Wanted
    from dsa_zmq.process import stop_signals
    from dsa_zmq.restore import Restore

    file_of_options = given.pop("config")
    root = Path(given["dir"] or "").absolute()
    alone = NodesAlone(root) if given["dir"] is not None and nodes_in(root) else None
    there = given if alone is None else {**given, "dir": str(root / MASTER), "port": given["port"] or 0}
    options = config.options(config.MasterOptions, there, file_of_options)
    wanted = Wanted(
        at_ns=NO_LIMIT if at is None else moment_of(at),
        without=without,
        cluster=cluster_id.lower(),
        wait_s=wait,
        quiet_s=QUIET_S * max(1.0, options.down_s / DOWN_S),
        older=older,
    )
    session.start_log()
    told = _Told(session)
    with stop_signals(), alone or contextlib.nullcontext(), Restore(options, wanted, file) as restore:
        told.begin(restore.endpoint)
        try:
            if alone is not None:
                alone.start(restore.endpoint.removeprefix("tcp://"))
            plan = restore.plan(told)
            told.end_line()
            _show(session, plan, wanted.at_ns)
            if dry_run:
                return 0
            if not yes:
                if not can_ask(session):
                    reporting.report_usage(
                        "nothing was restored, because nobody can be asked here", "say -y to do this", session.json
                    )
                    return NOT_CONFIRMED
                if not click.confirm("Restore it?", err=True):
                    return FAILED
            done = restore.carry_out(told)
        except DSAError:
            told.end_line()
            _explain(session, restore, wanted)
            raise
        told.end_line()
    start = _start_of(given, file_of_options) if alone is None else shlex.join(["dsa", "up", "--dir", given["dir"]])
    return _tell(session, done, start)


def _start_of(given: Mapping[str, Any], file: str | None) -> str:
    """The line that starts the master where it was restored."""
    words = ["dsa", "master", *(["--config", file] if file is not None else [])]
    for name in ("dir", "bind", "port"):
        if given[name] is not None:
            words += [f"--{name}", str(given[name])]
    return shlex.join([*words, *(["--insecure"] if given["insecure"] else [])])


class _Told:
    """Shows events as they come: lines on stderr, and what is read in place."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._width = 0

    def begin(self, endpoint: str) -> None:
        self._say(f"waiting for nodes at {endpoint.removeprefix('tcp://')}")

    def __call__(self, event: Event) -> None:
        from dsa_zmq.master.restore_events import Came, Noted, Reads, Waiting

        match event:
            case Came():
                self._say(f"{output.shown(event.node)} is here, with {counted(event.volumes, 'volume')}")
            case Waiting():
                self._say(f"waiting for {output.shown(event.why)}")
            case Noted():
                self._say(output.shown(event.text))
            case Reads() if self._session.is_live:
                text = f"reading {format_size(event.done)} of {format_size(event.total)}"
                click.echo("\r" + text.ljust(self._width), nl=False, err=True)
                self._width = len(text)

    def end_line(self) -> None:
        """What was shown in place is over."""
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width = 0

    def _say(self, text: str) -> None:
        self.end_line()
        if not self._session.json:
            click.echo(text, err=True)


def _show(session: Session, plan: Planned, at_ns: int) -> None:
    from dsa_zmq.master.catalog.rebuild import NO_LIMIT

    preview = plan.preview
    lost_s = max(0, plan.newest_ns - preview.moment_ns) / SECOND
    lost = max(0, plan.newest_position - preview.position)
    if session.json:
        output.emit(
            plan="restore", cluster=preview.cluster, moment=output.iso_time(preview.moment_ns), files=preview.files,
            bytes=preview.content_bytes, position=preview.position, term=preview.term, volumes=plan.volumes,
            nodes=[node.name for node in preview.nodes], absent=plan.absent, given_up_changes=lost,
            given_up_seconds=lost_s, damaged=plan.damaged, later_term=plan.later_term,
        )  # fmt: skip
        return
    output.line(f"cluster {preview.cluster[:8]} as of {shown_moment(preview.moment_ns)}")
    output.line(f"  {counted(preview.files, 'file')}, {format_size(preview.content_bytes)}; change {preview.position}")
    output.line(
        f"  {counted(len(preview.nodes), 'node')}: {output.shown(', '.join(node.name for node in preview.nodes))}"
    )
    if lost:
        output.line(f"  {counted(lost, 'later change')} are given up: {format_duration(lost_s)}")
    if plan.damaged:
        output.line(f"  damaged on {output.shown(', '.join(plan.damaged))}: what they had behind that is not used")
    if plan.newest_ns < at_ns < NO_LIMIT:
        output.line(f"  that is the newest there is; nothing is known of {shown_moment(at_ns)}")
    if plan.later_term:
        output.line(
            f"  a master of term {plan.later_term} came after it (this is of term {preview.term}), and no node here has a"
            " copy of what it did: look for nodes that have"
        )
    if plan.absent:
        output.line(f"  without {output.shown(', '.join(plan.absent))}: {loss_of(plan.absent, preview.moment_ns)}")


def loss_of(absent: list[str] | tuple[str, ...], moment_ns: int) -> str:
    """What may be on absent nodes only, in words."""
    from dsa_zmq.master.restore_plan import may_be_lost

    moment = shown_moment(moment_ns)
    if may_be_lost(absent):
        return f"they may have changes after {moment} that no other node has"
    return (
        f"what was acknowledged after {moment} is lost only if health said 'unprotected' then, or the copies were not"
        " kept in step (async)"
    )


def _explain(session: Session, restore: Restore, wanted: Wanted) -> None:
    """What the error cannot say in a sentence."""
    from dsa_zmq.master.catalog.rebuild import NO_LIMIT

    failed = restore.failed
    if failed is None or session.json:
        return
    if failed.absent and failed.moment_ns:
        click.echo(f"the newest change here is of {shown_moment(failed.moment_ns)}", err=True)
        click.echo(
            f"without {output.shown(', '.join(failed.absent))}: {loss_of(failed.absent, failed.moment_ns)}", err=True
        )
    if failed.history is not None and wanted.at_ns != NO_LIMIT:
        first, last = map(shown_moment, failed.history)
        click.echo(f"the catalog can be had as of {first} to {last}", err=True)
    if failed.claimed:
        names = output.shown(", ".join(failed.claimed))
        click.echo(f"{names} obey no master below term {failed.term} any more: repeat this", err=True)


def _tell(session: Session, done: Restored, start: str) -> int:
    rebuilt = done.rebuilt
    if session.json:
        output.emit(
            restored=True, moment=output.iso_time(rebuilt.moment_ns), files=rebuilt.files, directories=rebuilt.directories,
            bytes=rebuilt.content_bytes, versions=rebuilt.versions, position=rebuilt.position, term=done.term,
            nodes=done.nodes, odd=rebuilt.odd,
        )  # fmt: skip
    else:
        output.line(
            f"restored as of {shown_moment(rebuilt.moment_ns)}: {counted(rebuilt.files, 'file')} in"
            f" {rebuilt.directories:,} {'directory' if rebuilt.directories == 1 else 'directories'},"
            f" {format_size(rebuilt.content_bytes)}"
        )
        for text in rebuilt.odd:
            output.line(f"does not agree: {output.shown(text)}")
        output.line(f"start it now: {start}")
        output.line(
            "then look at 'dsa health': what nodes hold is compared with the catalog before anything is dropped"
        )
    return Corrupt.exit_status if rebuilt.odd else 0
