"""``dsa demo``: the promise of the whole thing, kept before the user's eyes in about a minute."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import click

from dsa_zmq.cli.demo_files import Source, Sources, default, given
from dsa_zmq.cli.demo_healing import HealingLine, wait_healed
from dsa_zmq.cli.local_data import Shape, keep_shape
from dsa_zmq.cli.progress import Progress
from dsa_zmq.cli.session import Command, Session, pass_session
from dsa_zmq.client.store import Store
from dsa_zmq.cluster import LocalCluster
from dsa_zmq.config import check_nodes
from dsa_zmq.directory import open_directory
from dsa_zmq.errors import DSAError, LocalError, NoSpace
from dsa_zmq.model.redundancy import parse_redundancy
from dsa_zmq.model.sizes import counted, format_duration, format_rate, format_size
from dsa_zmq.process import stop_signals

IN_FLIGHT = 16  #: files at a time, each way
MAX_FAILED = 20  #: files that may fail before it gives up: each may take its time-out
SHOWN = 5  #: differences named one by one
SPEED = 4  #: times faster than in life a death is noticed and repair begins: some six seconds, safe from a busy machine
_STEP_BYTES = 1 << 20
_SPARE_BYTES = 512 << 20  #: disk beyond the shards themselves: preallocated segments, catalog, logs


@dataclass
class Outcome:
    """What came of it."""

    stored_bytes: int = 0
    up_s: float = 0.0
    read_files: int = 0
    read_bytes: int = 0
    down_s: float = 0.0
    listed: int = 0
    killed: list[str] = field(default_factory=list)
    heal_s: float | None = None  #: from the first kill until all was whole again; None: it was not
    not_healed: str = ""  #: why
    wrong: list[str] = field(default_factory=list)  #: one sentence for each file that differs
    given_up: bool = False  #: too many could not be read: the rest was not tried
    changed: int = 0  #: sources that somebody else changed meanwhile: nothing to compare with


@click.command(
    cls=Command,
    examples="""
    dsa demo
    dsa demo ~/Documents ~/photos.zip
    dsa demo --nodes 6 --redundancy copies=3 --keep
    dsa demo --nodes 5 --redundancy ec=2+1
    """,
)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--nodes", type=int, default=4, show_default=True, metavar="N", help="How many nodes.")
@click.option("--redundancy", default="copies=2", show_default=True, metavar="NAME", help="How much may be lost.")
@click.option("--keep", is_flag=True, help="Keep the cluster's data; 'dsa up --dir' then serves it.")
@pass_session
def demo(session: Session, paths: tuple[str, ...], nodes: int, redundancy: str, keep: bool) -> int:
    """Store files, kill a node, let it heal, kill another, read everything back, compare every byte.

    It starts a master and some nodes as processes on this machine, with a directory of their own. PATHs are files and
    folders of yours, which are only read; without any, Python's own library and some made-up files are stored. After
    the first kill it waits until every file has all its copies, or shards, again; where too few nodes are left for
    that, it says so and kills nobody else. Deaths are noticed four times as fast as in life.
    """
    session.start_log()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop_signals())
        directory = Path(tempfile.mkdtemp(prefix="dsa-demo-"))
        if not keep:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsa-made-", ignore_cleanup_errors=True)))
        return _Demo(session, nodes, redundancy, directory, keep).run(paths, made)


class _Demo:
    """One run."""

    def __init__(self, session: Session, nodes: int, redundancy: str, directory: Path, keep: bool) -> None:
        self._session = session
        self._nodes = nodes
        self._redundancy = redundancy
        self._directory = directory
        self._keep = keep
        self._outcome = Outcome()
        self._shards = "copies" if parse_redundancy(redundancy).alike else "shards"

    def run(self, paths: tuple[str, ...], made: Path) -> int:
        """All steps; the exit status."""
        check_nodes(self._nodes, self._redundancy)
        begin = time.monotonic()
        self._say("preparing", "files" if paths else "Python's library and some made files")
        sources = given(paths) if paths else default(made)
        if not sources.files:
            raise LocalError("there is not a single readable file to store", "name another file or folder")
        self._report_left_out(sources)
        self._check_room(sources)
        with self._cluster() as cluster, cluster.connect() as store:
            started = time.monotonic() - begin
            self._say(
                "cluster",
                f"a master and {counted(self._nodes, 'node')} are up at {cluster.url} ({format_duration(started)})",
            )
            self._store(store, sources)
            self._list(store, sources)
            if self._kill(cluster, "killing") and self._heal(store, cluster):
                self._kill(cluster, "killing two")
            self._compare(store, sources)
        return self._conclude(sources, time.monotonic() - begin)

    def _cluster(self) -> LocalCluster:
        if self._keep:
            open_directory(self._directory, "local").close()
            keep_shape(self._directory, Shape(self._nodes, self._redundancy))
        return LocalCluster(self._nodes, self._redundancy, processes=True, directory=self._directory, speed=SPEED)

    # --- steps ----------------------------------------------------------------------------------------------------------

    def _store(self, store: Store, sources: Sources) -> None:
        for folder in sources.folders:
            store.mkdir(folder, parents=True, exist_ok=True)
        begin = time.monotonic()
        with Progress(self._session, "storing", len(sources.files), sources.size) as progress:

            def put(source: Source) -> None:
                store.put(source.local, source.remote, progress=partial(progress.advance, 0))
                progress.advance(1, 0)

            failed = _in_parallel(put, sources.files, (LocalError,), len(sources.files))
        self._outcome.up_s = time.monotonic() - begin
        for source, error in failed:
            sources.files.remove(source)  # it was readable a moment ago, and is the user's, not ours
            sources.refuse(source.local, str(error))
        self._outcome.stored_bytes = sources.size

    def _list(self, store: Store, sources: Sources) -> None:
        listed = {}
        waiting = ["/"]
        while waiting:
            folder = waiting.pop()
            for entry in store.ls(folder):
                path = f"{folder.rstrip('/')}/{entry.name}"
                if entry.is_dir:
                    waiting.append(path)
                else:
                    listed[path] = entry.size
        self._outcome.listed = len(listed)
        for source in sources.files:
            if listed.get(source.remote) != source.size and not source.has_changed():
                there = f"with {listed[source.remote]} bytes" if source.remote in listed else "not at all"
                self._outcome.wrong.append(f"{source.remote} is listed {there}, and has {source.size}")
        self._say("listing", f"{counted(len(listed), 'file')} listed")

    def _kill(self, cluster: LocalCluster, step: str) -> bool:
        """Kill the last node that runs. False if no loss can be borne."""
        name = next(name for name in reversed(cluster.names) if name not in self._outcome.killed)
        pid = cluster.pids()[name]
        if not parse_redundancy(self._redundancy).tolerates:
            self._say(step, f"nobody: {self._redundancy} survives no loss")
            return False
        cluster.kill(name)
        self._outcome.killed.append(name)
        self._say(step, f"{name} (process {pid}) got SIGKILL; the others carry on")
        return True

    def _heal(self, store: Store, cluster: LocalCluster) -> bool:
        """Wait until all is whole again. False if it cannot be, or does not get on; why has been said then."""
        outcome = self._outcome
        needed, left = parse_redundancy(self._redundancy).shards, self._nodes - len(outcome.killed)
        if left < needed:
            are = "is" if left == 1 else "are"
            outcome.not_healed = f"{self._redundancy} needs {counted(needed, 'node')}, and {left} {are} left"
            self._say("healing", f"not possible: {outcome.not_healed}; all can be read, and nobody else is killed")
            return False
        begin = time.monotonic()
        outcome.not_healed = wait_healed(store, outcome.killed[-1], HealingLine(self._session, outcome.killed[-1]))
        if outcome.not_healed:
            self._say("healing", f"{outcome.not_healed}; all can be read, and nobody else is killed")
            return False
        outcome.heal_s = time.monotonic() - begin
        self._say("healing", f"every file has all its {self._shards} again, after {format_duration(outcome.heal_s)}")
        return True

    def _compare(self, store: Store, sources: Sources) -> None:
        begin = time.monotonic()
        with Progress(self._session, "reading back", len(sources.files), sources.size) as progress:

            def compare(source: Source) -> None:
                difference = _difference(store, source, partial(progress.advance, 0))
                progress.advance(1, 0)
                if difference and source.has_changed():
                    self._outcome.changed += 1
                elif difference:
                    self._outcome.wrong.append(f"{source.remote} {difference}")
                else:
                    self._outcome.read_files += 1
                    self._outcome.read_bytes += source.size

            failed = _in_parallel(compare, sources.files, (DSAError, OSError), MAX_FAILED)
        self._outcome.down_s = time.monotonic() - begin
        for source, error in failed:
            self._outcome.wrong.append(f"{source.remote} cannot be read back: {error}")
        self._outcome.given_up = len(failed) >= MAX_FAILED

    # --- words ------------------------------------------------------------------------------------------------------------

    def _say(self, step: str, text: str) -> None:
        if not self._session.json:
            click.echo(f"{step:<13} {text}")

    def _report_left_out(self, sources: Sources) -> None:
        for path, reason in sources.refused[:SHOWN]:
            self._say("left out", f"{ascii(path)[1:-1]}: {reason}")
        if len(sources.refused) > SHOWN:
            self._say("left out", f"and {len(sources.refused) - SHOWN} more that cannot be read")

    def _check_room(self, sources: Sources) -> None:
        needed = parse_redundancy(self._redundancy).stored_bytes(sources.size) + _SPARE_BYTES
        free = shutil.disk_usage(self._directory).free
        if free < needed:
            raise NoSpace(
                f"the demonstration needs {format_size(needed)}; {self._directory.parent} has {format_size(free)} free",
                "free some space, name smaller PATHs, or set TMPDIR to a directory on another disk",
            )

    def _conclude(self, sources: Sources, total_s: float) -> int:
        outcome = self._outcome
        lost = len(outcome.wrong)
        if self._session.json:
            self._session.emit(
                files=len(sources.files),
                bytes=outcome.stored_bytes,
                up_seconds=round(outcome.up_s, 3),
                down_seconds=round(outcome.down_s, 3),
                seconds=round(total_s, 3),
                killed=outcome.killed,
                heal_seconds=None if outcome.heal_s is None else round(outcome.heal_s, 3),
                not_healed=outcome.not_healed,
                identical=outcome.read_files,
                lost=lost,
                changed=outcome.changed,
                unreadable=len(sources.refused),
                symlinks=sources.symlinks,
                special=sources.special,
                directory=str(self._directory) if self._keep else "",
            )
        else:
            self._table(sources, total_s)
            if self._keep:
                click.echo(f"The data is in {self._directory}; 'dsa up --dir {self._directory}' serves it again.")
        if lost:
            more = f", and {lost - SHOWN} more" if lost > SHOWN else ""
            named = "; ".join(outcome.wrong[:SHOWN])
            end = "; the rest was not tried" if outcome.given_up else ""
            raise DSAError(f"{lost} of {counted(len(sources.files), 'file')} not as stored: {named}{more}{end}")
        return 0

    def _healed(self) -> str:
        if self._outcome.heal_s is not None:
            return f"all {self._shards} made anew, {format_duration(self._outcome.heal_s)} after the first kill"
        return f"no: {self._outcome.not_healed}" if self._outcome.not_healed else "nothing was to be healed"

    def _table(self, sources: Sources, total_s: float) -> None:
        outcome = self._outcome
        rows = [
            ("files", f"{len(sources.files):,}"),
            (
                "bytes",
                f"{format_size(outcome.stored_bytes)}, stored with {self._redundancy} on {counted(self._nodes, 'node')}",
            ),
            ("up", _pace(len(sources.files), outcome.stored_bytes, outcome.up_s)),
            ("down", _pace(outcome.read_files, outcome.read_bytes, outcome.down_s)),
            ("killed", " and ".join(outcome.killed) or "nobody"),
            ("healed", self._healed()),
            ("compared", f"{counted(outcome.read_files, 'file')} identical, byte for byte"),
            ("lost", counted(len(outcome.wrong), "file") if outcome.wrong else "nothing"),
            ("time", format_duration(total_s)),
        ]
        skipped = [
            (len(sources.refused), "unreadable"),
            (sources.symlinks, "symbolic links"),
            (sources.special, "special files"),
            (outcome.changed, "changed meanwhile"),
        ]
        if any(count for count, _ in skipped):
            rows.insert(1, ("left out", ", ".join(f"{count:,} {what}" for count, what in skipped if count)))
        click.echo()
        for name, value in rows:
            click.echo(f"  {name:<9} {value}")
        click.echo()


def _pace(files: int, size: int, seconds: float) -> str:
    rate = size / seconds if seconds else 0
    return f"{format_rate(rate)}, {files / seconds if seconds else 0:,.0f} files/s, {format_duration(seconds)}"


def _difference(store: Store, source: Source, on_bytes: Callable[[int], None]) -> str:
    """How the stored bytes differ from the source; "" if they do not. Holds a few chunks at most."""
    position = 0
    with source.local.open("rb") as file:
        for piece in store.iter_bytes(source.remote):
            view = memoryview(piece)
            for start in range(0, len(view), _STEP_BYTES):
                part = view[start : start + _STEP_BYTES]
                if file.read(len(part)) != part:
                    return f"differs between byte {position} and byte {position + len(part)}"
                position += len(part)
            on_bytes(len(view))
        if file.read(1):
            return f"ends after {position} bytes"
    return ""


def _in_parallel(
    work: Callable[[Source], None], sources: list[Source], forgiven: tuple[type[Exception], ...], most: int
) -> list[tuple[Source, Exception]]:
    """Do it for all, some at a time. Returns those that failed in a forgiven way, and stops when there are ``most`` of
    them; any other failure is raised at once."""
    failed: list[tuple[Source, Exception]] = []
    left = iter(sources)
    pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="demo")
    running: dict[Future[None], Source] = {}
    try:
        while len(failed) < most:
            for source in islice(left, IN_FLIGHT * 2 - len(running)):  # not all at once: an interrupt then ends soon
                running[pool.submit(work, source)] = source
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                source = running.pop(future)
                try:
                    future.result()
                except forgiven as error:
                    failed.append((source, error))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # what is under way ends when its store is closed
        raise
    pool.shutdown(cancel_futures=True)
    return failed
