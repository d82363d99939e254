"""``dsa up`` and ``dsa down``: a cluster on this machine, each server a process, its data found again at the next start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from dsa_zmq.cli.local_data import STATE, capacity_each, default_directory, read_state, refuse_second, settle_shape
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.cluster import LocalCluster
from dsa_zmq.config import LocalOptions, options
from dsa_zmq.directory import open_directory, owner_of
from dsa_zmq.errors import Denied, DSAError, Invalid, NotFound, Timeout, from_code
from dsa_zmq.model.limits import SEGMENT_BYTES
from dsa_zmq.model.sizes import counted
from dsa_zmq.process import ignore_stop_signals, stop_signals, write_atomically
from dsa_zmq.spawn import environment

START_TIMEOUT_S = 60.0  #: of a detached cluster: the servers' own limit is half of it
STOP_TIMEOUT_S = 30.0
RESTART_FIRST_S, RESTART_MAX_S = 1.0, 30.0  #: wait before a server that has ended is started again; doubles
RESTART_FORGET_S = 60.0  #: a server that ran for this long begins again at the first wait
POLL_S = 0.25


@click.command(
    cls=Command,
    examples="""
    dsa up
    dsa up --nodes 6 --dir /srv/dsa -d
    dsa up --nodes 1 --redundancy copies=1 --tmp
    """,
)
@click.option("--nodes", type=int, metavar="N", help="How many nodes; at first 4, then as many as there were.")
@click.option("--dir", metavar="DIR", help="Where the data lives; else below your user data directory.")
@click.option("--port", type=click.IntRange(0, 65_535), metavar="N", help="The master's port; 7700 unless given.")
@click.option("--redundancy", metavar="NAME", help="Of the root directory, when the cluster is made: copies=2.")
@click.option("--placement", metavar="NAME", help="Which nodes get a chunk: rendezvous or chained.")
@click.option("--catalog-copies", metavar="LEVEL", help="When answers leave: sync, async or off; see OPERATING.")
@click.option("--catalog-history", metavar="TIME", help="How far back the catalog can be had: 1h.")
@click.option("--tmp", is_flag=True, help="Data in a temporary directory, removed at the end.")
@click.option("-d", "--detach", is_flag=True, help="Return once it runs; 'dsa down' stops it.")
@click.option("--config", metavar="FILE", help="Read options from [cluster] of a TOML file.")
@click.option("--ready-file", hidden=True, metavar="FILE")
@pass_session
def up(session: Session, /, tmp: bool, detach: bool, config: str | None, ready_file: str | None, **given: Any) -> int:
    """Run a cluster on this machine until Ctrl-C or 'dsa down'.

    A master and some nodes, each a process of its own, reachable from this machine only. A server that ends by itself
    is started again. At the next start the data is found again.
    """
    session.start_log()
    chosen = options(LocalOptions, given, config)
    if tmp and chosen.dir is not None:
        raise Invalid("--tmp and a directory were given", "give one of them")
    if detach:
        return _detach(session, chosen, tmp)
    temporary = Path(tempfile.mkdtemp(prefix="dsa-up-")) if tmp else None
    directory = temporary or (Path(chosen.dir) if chosen.dir is not None else default_directory())
    try:
        with stop_signals():
            ready = None if ready_file is None else Path(ready_file)
            return _run(session, chosen, directory.absolute(), ready, temporary=tmp)
    except DSAError as error:
        if ready_file is not None:
            failure = {"code": error.code, "message": error.message, "remedy": error.remedy}
            write_atomically(Path(ready_file), {"error": failure})
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _run(session: Session, chosen: LocalOptions, directory: Path, ready_file: Path | None, *, temporary: bool) -> int:
    refuse_second(directory)
    with open_directory(directory, "local"):
        shape = settle_shape(directory, chosen)
        announced = chosen.port != 0
        if announced:
            _announce(session, directory, f"dsa://127.0.0.1:{chosen.port}")
        cluster = LocalCluster(
            nodes=shape.nodes,
            redundancy=shape.redundancy,
            placement=shape.placement,
            processes=True,
            directory=directory,
            port=chosen.port,
            capacity=capacity_each(directory, shape.nodes),
            segment_bytes=SEGMENT_BYTES,
            speed=1,
            catalog_copies=chosen.care().copies,
            catalog_history_s=chosen.care().history,
        )
        try:
            with cluster:
                if not announced:
                    _announce(session, directory, cluster.url)
                state = {
                    "pid": os.getpid(),
                    "directory": str(directory),
                    "url": cluster.url,
                    "nodes": shape.nodes,
                    "temporary": temporary,
                }
                write_atomically(directory / STATE, state)
                if ready_file is not None:
                    write_atomically(ready_file, state)
                if not session.json:
                    click.echo(f"ready     {counted(shape.nodes, 'node')} up; Ctrl-C stops it")
                with contextlib.suppress(KeyboardInterrupt):  # the usual end
                    _supervise(cluster)
                ignore_stop_signals()
        finally:
            (directory / STATE).unlink(missing_ok=True)
    if not session.json:
        click.echo("stopped   the data stays where it is" if not temporary else "stopped   and removed")
    return 0


def _announce(session: Session, directory: Path, url: str) -> None:
    if session.json:
        session.emit(directory=str(directory), url=url)
    else:
        click.echo(f"data      {directory}\nurl       {url}")


def _supervise(cluster: LocalCluster) -> None:
    """Start again what ends, with growing waits, until somebody stops us."""
    waits: dict[str, float] = {}
    due: dict[str, float] = {}
    started: dict[str, float] = {}
    while True:
        now = time.monotonic()
        for name in cluster.ended():
            if name not in due:
                calm = now - started.get(name, now) > RESTART_FORGET_S
                waits[name] = (
                    min(RESTART_MAX_S, waits.get(name, 0) * 2) if name in waits and not calm else RESTART_FIRST_S
                )
                due[name] = now + waits[name]
                click.echo(f"dsa: {name} has ended; starting it again in {waits[name]:.0f} s", err=True)
            elif now >= due[name]:
                del due[name]
                started[name] = now
                try:
                    cluster.restart_server(name)
                except DSAError as error:
                    click.echo(f"dsa: {name} does not start: {error}", err=True)
        time.sleep(POLL_S)


# --- in the background -------------------------------------------------------------------------------------------------


def _detach(session: Session, chosen: LocalOptions, tmp: bool) -> int:
    """Start this very command in the background and wait until it says that it is ready, or why not."""
    directory = None if tmp else (Path(chosen.dir) if chosen.dir is not None else default_directory()).absolute()
    if directory is not None:
        refuse_second(directory)
    with tempfile.TemporaryDirectory(prefix="dsa-up-") as scratch:
        ready = Path(scratch) / "ready"
        command = [sys.executable, "-m", "dsa_zmq", "up", "--port", str(chosen.port), "--ready-file", str(ready)]
        command += ["--tmp"] if directory is None else ["--dir", str(directory)]
        for name in ("nodes", "redundancy", "placement", "catalog_copies", "catalog_history"):
            value = getattr(chosen, name)
            command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        settings: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            settings = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            command, stdin=null, stdout=null, stderr=null, env=environment(), cwd="/", **settings
        )
        state = _await_ready(process, ready)
    if session.json:
        session.emit(**state)
    else:
        down = "dsa down" if directory == default_directory() else f"dsa down --dir {state['directory']}"
        click.echo(f"data      {state['directory']}\nurl       {state['url']}")
        click.echo(f"ready     {counted(state['nodes'], 'node')} up, in the background; '{down}' stops it")
    return 0


def _await_ready(process: subprocess.Popen[bytes], ready: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        ended = process.poll() is not None
        if ready.exists():
            break
        if ended:
            status = process.returncode
            raise DSAError(f"the cluster ended with status {status} at its start", "run it without -d to see why")
        if time.monotonic() > deadline:
            process.terminate()
            raise Timeout(f"the cluster was not ready within {START_TIMEOUT_S:g} s", "run it without -d to see why")
        time.sleep(0.02)
    state: dict[str, Any] = json.loads(ready.read_text(encoding="utf-8"))
    if "error" in state:
        process.wait(STOP_TIMEOUT_S)
        raise from_code(state["error"]["code"], state["error"]["message"], state["error"]["remedy"])
    return state


@click.command(
    cls=Command,
    examples="""
    dsa down
    dsa down --dir /srv/dsa
    """,
)
@click.option("--dir", metavar="DIR", help="The directory that 'dsa up' was given; else the default one.")
@pass_session
def down(session: Session, dir: str | None) -> int:
    """Stop the cluster that 'dsa up' runs. Its data stays."""
    directory = (Path(dir) if dir is not None else default_directory()).absolute()
    owner = owner_of(directory)
    if owner is None:
        raise NotFound(f"no cluster runs in {directory}", "name its directory with --dir, as 'dsa up' has printed it")
    if owner == 0:
        raise DSAError(f"{directory} is in use, but not said by whom", "find and stop the 'dsa up' that runs there")
    is_temporary = bool(read_state(directory).get("temporary"))
    try:
        with contextlib.suppress(ProcessLookupError):  # it has ended since; the wait below sees the lock free
            os.kill(owner, signal.SIGTERM)
    except PermissionError:
        raise Denied(f"process {owner}, which runs the cluster, is another user's", "stop it as that user") from None
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while owner_of(directory) == owner:
        if time.monotonic() > deadline:
            raise Timeout(f"process {owner} did not stop within {STOP_TIMEOUT_S:g} s", f"end it with 'kill -9 {owner}'")
        time.sleep(0.02)
    if session.json:
        session.emit(directory=str(directory), stopped=owner)
    else:
        click.echo("stopped   and removed" if is_temporary else f"stopped   the data stays in {directory}")
    return 0
