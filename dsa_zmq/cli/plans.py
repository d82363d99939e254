"""Plans on the command line: shown first, begun when confirmed, followed until they are done."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dsa_zmq.cli import output, reporting
from dsa_zmq.model.sizes import format_duration, format_size

if TYPE_CHECKING:
    from dsa_zmq.cli.session import Session
    from dsa_zmq.client.admin import Admin, Plan, Task
    from dsa_zmq.protocol.values import TaskInfo

NOT_CONFIRMED = 2  #: exit status: nobody there to ask, and no -y
FAILED = 1  #: exit status: the task has ended without its goal


def can_ask(session: Session) -> bool:
    """Whether somebody sits at a terminal and can be asked."""
    return not session.json and sys.stdin is not None and sys.stdin.isatty() and output.is_terminal()


def carry_out(session: Session, plan: Plan, *, dry_run: bool, yes: bool, detach: bool, question: str) -> int:
    """Show a plan; begin it unless that was all; wait for its end. Raises what refuses it."""
    show(session, plan)
    if plan.refusal is not None:
        raise plan.refusal
    if dry_run:
        return 0
    if not yes:
        if not can_ask(session):
            reporting.report_usage(
                "nothing was begun, because nobody can be asked here", "say -y to do this", session.json
            )
            return NOT_CONFIRMED
        if not click.confirm(question, err=True):
            return FAILED
    task = plan.apply()
    if detach and not task.ended:
        _tell(session, task.info)
        return 0
    return follow(session, task)


def follow(session: Session, task: Task) -> int:
    """Wait for a task, with its progress on a terminal."""
    width = 0

    def shown(info: TaskInfo) -> None:
        nonlocal width
        if session.is_live and info.state == "running":
            text = progress_text(info)
            click.echo("\r" + text.ljust(width), nl=False, err=True)
            width = len(text)

    try:
        info = task.info if task.ended else task.wait(progress=shown)
    except KeyboardInterrupt:
        if session.is_live:
            click.echo("\nit goes on; the same command follows it again, with --stop it ends", err=True)
        raise
    if width:
        click.echo("\r" + " " * width + "\r", nl=False, err=True)
    _tell(session, info)
    return 0 if info.state == "done" else FAILED


def stop(session: Session, admin: Admin, kind: str, subject: str = "") -> int:
    """Cancel what runs of this kind for this subject, or take back what it has done. Says so if there is nothing."""
    found = [
        task
        for task in admin.tasks()
        if (task.info.plan.kind, task.info.plan.subject) == (kind, subject) and task.info.state in ("running", "done")
    ]
    ended = bool(found) and found[0].cancel()
    if session.json:
        output.emit(stopped=ended)
    else:
        output.line("stopped; what was done stays" if ended else "nothing of that kind goes on")
    return 0


def show(session: Session, plan: Plan) -> None:
    """The plan as text, or as one JSON object."""
    if session.json:
        output.emit(
            plan=plan.kind, subject=plan.subject, argument=plan.argument, moves=plan.moves, bytes=plan.bytes,
            seconds=plan.seconds, lines=plan.lines, risk=plan.risk,
        )  # fmt: skip
    else:
        for line in plan.lines:
            output.line(output.shown(line))


def emit_task(info: TaskInfo) -> None:
    """A task as one JSON object."""
    output.emit(
        task=info.task, kind=info.plan.kind, subject=info.plan.subject, argument=info.plan.argument, state=info.state,
        moves=info.plan.moves, moves_done=info.moves_done, bytes=info.plan.bytes, bytes_done=info.bytes_done,
        seconds_left=None if info.seconds_left < 0 else info.seconds_left, note=info.note,
    )  # fmt: skip


def title(info: TaskInfo) -> str:
    """What it does, in a few words."""
    return " ".join(word for word in (info.plan.kind, output.shown(info.plan.subject), info.plan.argument) if word)


def progress_text(info: TaskInfo) -> str:
    """How far it is, on one line."""
    text = f"{title(info)}: {format_size(info.bytes_done)} of {format_size(info.plan.bytes)}"
    if info.seconds_left > 0:
        text += f", about {format_duration(info.seconds_left)} left"
    return text + (f"; {output.shown(info.note)}" if info.note else "")


def _tell(session: Session, info: TaskInfo) -> None:
    if session.json:
        emit_task(info)
    elif info.state == "running":
        output.line(f"{title(info)}: begun; 'dsa tasks' shows how far it is")
    else:
        output.line(f"{title(info)}: {info.state}" + (f"; {output.shown(info.note)}" if info.note else ""))
