"""``dsa health``: how safe everything is, what is being repaired, and which files are at risk."""

from __future__ import annotations

import sys
import time

import click

from dsa_zmq.cli import output
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.client.store import Store
from dsa_zmq.errors import Invalid, Timeout, Unavailable
from dsa_zmq.model.sizes import counted, format_duration, format_rate, format_size
from dsa_zmq.protocol.operations import HealthReport

HEALTHY, DEGRADED, ENDANGERED = 0, 1, 2  #: exit statuses of ``dsa health``; the last one also for what is lost
STATES = ("healthy", "degraded", "endangered", "lost")
COLOURS = {"healthy": "green", "degraded": "yellow", "endangered": "red", "lost": "red"}
OLD_MS = 10_000  #: counts of files that are older are shown with their age
WATCH_S = 1.0  #: between two looks: tallies are no fresher than that
CLEAR = "\x1b[H\x1b[2J"  #: the terminal: home, and erase all


@click.command(
    cls=Command,
    examples="""
    dsa health
    dsa health --watch
    dsa health --files endangered
    dsa health --json
    dsa health || mail -s "the store needs help" ops
    """,
)
@click.option("--watch", is_flag=True, help="Stay, and show it again each second, until Ctrl-C.")
@click.option(
    "--files",
    type=click.Choice(STATES[1:]),
    metavar="STATE",
    help="Name the files that are degraded, endangered or lost, or worse than that.",
)
@pass_session
def health(session: Session, watch: bool, files: str | None) -> int:
    """Show how safe everything stored is, what is being repaired, and when that will be done.

    Ends with status 0 if all is healthy, 1 if something is degraded (fewer copies than asked for, also of the catalog), 2
    if something is endangered (one more loss would be final) or lost. With --files it is the worst file named that counts.
    """
    if watch and files:
        raise Invalid("--watch and --files do not go together", "leave one of them away")
    with session.connect() as store:
        if files:
            return _name_files(session, store, files)
        if watch:
            return _watch(session, store)
        return show(session, store.health())


def _watch(session: Session, store: Store) -> int:
    """Until Ctrl-C. A master that is away for a while is waited for."""
    while True:
        begun = time.monotonic()
        try:
            report = store.health()
        except (Timeout, Unavailable) as error:
            click.echo(f"{type(error).__name__.lower()}: {output.shown(error.message)}; trying again", err=True)
        else:
            if output.is_terminal() and not session.json:
                click.echo(CLEAR, nl=False)
            show(session, report)
            if not session.json:
                output.line()
            sys.stdout.flush()
        time.sleep(max(0.0, begun + WATCH_S - time.monotonic()))


def _name_files(session: Session, store: Store, state: str) -> int:
    """As they are found: a walk over many files takes a while."""
    worst, found = 0, 0
    for file in store.files_at_risk(state):
        found += 1
        worst = max(worst, STATES.index(file.state))
        if session.json:
            output.emit(path=file.path, state=file.state, size=file.size, chunks=file.chunks)
        else:
            of = f"{counted(file.chunks, 'chunk')} of {format_size(file.size)}"
            output.line(f"{file.state:<10}  {output.name_as_printed(file.path)}  ({of})")
    if not session.json and not found:
        output.line(f"no file is {state}{'' if state == 'lost' else ' or worse'}")
    return min(worst, ENDANGERED)


def verdict(report: HealthReport) -> tuple[str, int]:
    """The state of the worst chunk, and the exit status for it."""
    if report.lost_chunks:
        return "lost", ENDANGERED
    if report.endangered_chunks:
        return "endangered", ENDANGERED
    if report.degraded_chunks:
        return "degraded", DEGRADED
    return "healthy", DEGRADED if report.catalog_at_risk else HEALTHY


def show(session: Session, report: HealthReport) -> int:
    """Print it. Returns the exit status."""
    state, status = verdict(report)
    chunks = (report.healthy_chunks, report.degraded_chunks, report.endangered_chunks, report.lost_chunks)
    sizes = (report.healthy_bytes, report.degraded_bytes, report.endangered_bytes, report.lost_bytes)
    files = report.files if len(report.files) == len(STATES) else None
    if session.json:
        output.emit(
            state=state,
            **{f"{name}_chunks": count for name, count in zip(STATES, chunks, strict=True)},
            **{f"{name}_bytes": size for name, size in zip(STATES, sizes, strict=True)},
            **({f"{name}_files": count for name, count in zip(STATES, files, strict=True)} if files else {}),
            files_age_seconds=report.files_age_ms / 1000,
            moves=report.moves,
            moves_bytes=report.moves_bytes,
            moves_rate=report.moves_rate,
            seconds_left=report.seconds_left if report.seconds_left >= 0 else None,
            held=report.held,
            waits=[{"node": wait.node, "chunks": wait.chunks, "seconds": wait.seconds} for wait in report.waits],
            nodes_up=report.nodes_up,
            nodes=report.nodes,
            notes=report.notes,
            catalog=report.catalog,
            catalog_at_risk=report.catalog_at_risk,
        )
        return status
    output.line(f"{output.in_colour(state, COLOURS[state])}; {report.nodes_up} of {report.nodes} nodes up")
    output.line()
    rows = [
        [name, f"{chunks[at]:,}", "-" if files is None else f"{files[at]:,}", format_size(sizes[at])]
        for at, name in enumerate(STATES)
    ]
    header, *lines = output.table(["STATE", "CHUNKS", "FILES", "BYTES"], rows, frozenset(("CHUNKS", "FILES", "BYTES")))
    output.line(header)
    for name, count, text in zip(STATES, chunks, lines, strict=True):
        output.line(output.in_colour(text, COLOURS[name] if count else ""))
    if files is not None and (report.files_age_ms >= OLD_MS or any(map(_differs, chunks, files))):
        output.line(f"(files as counted {format_duration(report.files_age_ms / 1000)} ago)")
    for text in repair_lines(report):
        output.line(text)
    if report.catalog:
        output.line(
            output.in_colour(f"catalog: {output.shown(report.catalog)}", "red" if report.catalog_at_risk else "")
        )
    for note in report.notes:
        output.line(f"- {output.shown(note)}")
    return status


def _differs(chunks: int, files: int) -> bool:
    """Files are said to be in a state in which no chunk is any more: they were counted a moment ago."""
    return bool(files) and not chunks


def repair_lines(report: HealthReport) -> list[str]:
    """What is being done about it and for how long still, and what will be done when. Empty if nothing is to be done."""
    if report.held:
        return [f"repair is held: {output.shown(report.held)}"]
    lines = []
    if report.moves:
        text = f"repairing: {counted(report.moves, 'shard')} with {format_size(report.moves_bytes)} to be copied"
        if report.moves_rate > 0:
            text += f", {format_rate(report.moves_rate)}"
        lines.append(f"{text}, {time_left(report)}")
    for wait in report.waits:
        of = f"{output.shown(wait.node)}'s {counted(wait.chunks, 'chunk')}"
        lines.append(f"repair of {of} begins in {format_duration(max(1, wait.seconds))}, unless it is back by then")
    return lines


def time_left(report: HealthReport) -> str:
    """``about 12 s left``."""
    if report.seconds_left < 0:
        return "time left not known yet"
    return f"about {format_duration(max(1, report.seconds_left))} left"
