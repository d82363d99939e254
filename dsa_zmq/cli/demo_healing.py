"""How the demonstration waits for the cluster to heal."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from dsa_zmq.cli.health import verdict
from dsa_zmq.cli.session import Session
from dsa_zmq.client.store import Store
from dsa_zmq.model.sizes import counted, format_duration
from dsa_zmq.protocol.operations import HealthReport

PATIENCE_S = 30.0  #: without any progress: then something is wrong, and it is said
POLL_S = 0.25


class HealingLine:
    """Shows how far it is: on a terminal a line that changes, for everybody else one when it begins."""

    def __init__(self, session: Session, killed: str) -> None:
        self._session = session
        self._killed = killed
        self._begun = False

    def __call__(self, done: int, most: int) -> None:
        if not self._begun and not self._session.json:
            self._begun = True
            click.echo(f"{'healing':<13} {self._killed} is given up: {counted(most, 'chunk')} lack a copy")
        if self._session.is_live:
            end = "\r" if done < most else "\r\x1b[K"
            text = f"{'healing':<13} {done:,} of {counted(most, 'chunk')} are whole again"
            click.echo(text + end, nl=False, err=True)


OnReport = Callable[[int, int], None]
"""Gets the chunks that are whole again, and how many there are to be made whole."""


def wait_healed(store: Store, killed: str, on_report: OnReport) -> str:
    """Return once the master has noticed this node's death and all chunks are healthy without it: "". Or why they are
    not, if nothing gets better for a while."""
    most, least, since = 0, -1, time.monotonic()
    report: HealthReport | None = None
    while time.monotonic() - since < PATIENCE_S:
        if any(node.name == killed and node.state == "down" for node in store.nodes()):
            report = store.health()
            left = report.degraded_chunks + report.endangered_chunks + report.lost_chunks
            if not left and verdict(report)[0] == "healthy":
                on_report(most, most)
                return ""
            most = max(most, left)
            on_report(most - left, most)
            if least < 0 or left < least:
                least, since = left, time.monotonic()
        time.sleep(POLL_S)
    waited = format_duration(PATIENCE_S)
    if report is None:
        return f"the master has not noticed within {waited} that {killed} is gone"
    why = report.held or "; ".join(report.notes) or "nothing is known of the cause"
    return f"{counted(least, 'chunk')} got no further for {waited}: {why}"
