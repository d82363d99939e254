"""The catalog: names, versions, contents, where every shard lies, nodes and sessions. One file, one process, one worker.

:class:`Catalog` opens it and is the handler of the master's catalog lane. See :mod:`dsa_zmq.master.catalog.jobs` for what it
can be asked, :mod:`dsa_zmq.master.catalog.batch` for how it changes.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Sequence
from typing import Any

from actors.core import Job
from actors.disk import Disk
from dsa_zmq.errors import ConfigError, Corrupt, Incompatible, LocalError, NoSpace
from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.audit import audit
from dsa_zmq.master.catalog.ballast import BALLAST_BYTES, Ballast
from dsa_zmq.master.catalog.batch import Batches
from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.jobs import MarkStale
from dsa_zmq.master.catalog.log import Log
from dsa_zmq.master.catalog.places import tally
from dsa_zmq.master.catalog.rows import Change
from dsa_zmq.master.catalog.sql import CatalogBroken, Database, DiskFull, Rejected
from dsa_zmq.master.catalog.stale import StaleMark, remove_mark, term_to_exceed, write_mark
from dsa_zmq.master.catalog.tables import (
    CLUSTER,
    DIRECTORY,
    FORMAT,
    INODES,
    META,
    META_NAMES,
    NEXT_NODE,
    RESTORED_NS,
    TERM,
    VOLUME,
    InodeRow,
    MetaRow,
)
from dsa_zmq.model.ids import ROOT_INODE, id_floor
from dsa_zmq.model.redundancy import DEFAULT, parse_redundancy

__all__ = ["CATALOG_FILE", "Catalog", "CatalogBroken"]

CATALOG_FILE = "catalog.sqlite"
CLUSTER_BYTES = 16
ROOT_MODE = 0o755


class Catalog:
    """An open catalog. :meth:`run` and :meth:`close` are called by one worker at a time; the attributes are constant."""

    def __init__(
        self,
        disk: Disk,
        database: Database,
        ballast: Ballast,
        facts: Facts,
        batches: Batches,
        redundancy: str,
        restored_ns: int,
    ) -> None:
        self._disk = disk
        self._database = database
        self._ballast = ballast
        self._batches = batches
        self.cluster = facts.cluster
        self.term = facts.term
        self.restored_ns = restored_ns  #: when it was made from copies; 0: never
        self.default_redundancy = redundancy  #: of the root directory

    @classmethod
    def open(
        cls,
        disk: Disk,
        *,
        rng: random.Random,
        secret: bytes,
        default_redundancy: str = DEFAULT,
        path: str = CATALOG_FILE,
        wall_ns: int = 0,
        ballast_bytes: int = BALLAST_BYTES,
        follow: Callable[[Sequence[Change]], None] | None = None,
        scrambled: bool = False,
        take_over: bool = False,
        keeps_log: bool = False,
    ) -> Catalog:
        """Open the catalog in ``path``, make it if there is none, and durably begin a new term.

        ``rng`` makes the cluster id of a new catalog; ``secret`` is the master's, from which node keys are derived;
        ``default_redundancy`` goes into a new root directory, ``wall_ns`` there and into the log. ``follow`` gets the row
        changes of each transaction, after its commit. ``take_over``: although another master was heard of, with a term above
        that one's. ``keeps_log``: what changes is kept as records, for copies of the catalog (see ``catalog.log``).
        Raises a DSAError that names the file, the cause and the remedy.
        """
        redundancy = parse_redundancy(default_redundancy).name
        file = disk.sqlite_path(path)  # as errors name it
        above = term_to_exceed(disk, path, take_over=take_over)  # before anything is changed
        ballast = Ballast(disk, f"{path}.ballast", ballast_bytes)
        if ballast.exists() and is_empty(disk, path):  # SQLite would begin a new one there: a cluster without its files
            remedy = "restore the catalog from its backup; the nodes still have all bytes"
            raise Corrupt(f"catalog '{file}' is gone or empty, and this directory had one", remedy, file)
        database = Database(disk, path, scrambled=scrambled)
        try:
            try:
                migrate(database, file)
                root = InodeRow(ROOT_INODE, DIRECTORY, ROOT_MODE, wall_ns, redundancy)
                try:
                    meta, log = _begin_term(database, file, rng, root, above, keeps_log)
                except DiskFull:
                    database.rollback()
                    if not ballast.release():
                        raise
                    meta, log = _begin_term(database, file, rng, root, above, keeps_log)
            except DiskFull as error:
                raise NoSpace(
                    f"no room on the disk of catalog '{file}'", "free some space on that disk", file
                ) from error
            except (CatalogBroken, Rejected) as error:
                raise _unreadable(file, error) from error
            if take_over:
                remove_mark(disk)
            ballast.restore(database.unused_bytes())
            facts = Facts(meta[CLUSTER].body, secret, meta[TERM].number, meta[RESTORED_NS].number != 0)
            shown = database.load(INODES.select, [(ROOT_INODE,)])
            if not shown:
                raise Corrupt(f"catalog '{file}' has no root directory", "restore the catalog from its backup", file)
        except BaseException:
            database.abandon()
            raise
        batches = Batches(database, facts, ballast, id_floor(facts.term) + 1, log, keeps_log, follow)
        redundancy = InodeRow._make(shown[0]).redundancy
        return cls(disk, database, ballast, facts, batches, redundancy, meta[RESTORED_NS].number)

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """Run a batch in one transaction; the results in order, once it is durable.

        Raises :class:`CatalogBroken` when the process has to end; every later call raises it too. A job without an answer
        for errors that found the disk full has the error as its result.

        While the log is kept, each result comes as :class:`~dsa_zmq.master.catalog.log_jobs.Committed`, an error too: it
        may say what it saw. Only :class:`MarkStale` answers bare: it is about no row, and a master that has to stop must not
        wait until copies are safe.
        """
        marks = [job for job in jobs if isinstance(job, MarkStale)]
        if not marks:
            return self._batches.run(jobs)
        marked = iter([self._mark(job) for job in marks])  # first: it must not depend on how the transaction ends
        others = [job for job in jobs if not isinstance(job, MarkStale)]
        results = iter(self._batches.run(others) if others else [])
        return [next(marked if isinstance(job, MarkStale) else results) for job in jobs]

    def _mark(self, job: MarkStale) -> OSError | None:
        mark = StaleMark(own_term=job.own_term, seen_term=job.seen_term, node=job.node, wall_ns=job.wall_ns)
        try:
            try:
                write_mark(self._disk, mark)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._ballast.release():
                    raise
                write_mark(self._disk, mark)
        except OSError as error:
            return error
        return None

    def audit(self) -> list[str]:
        """Recount everything that is kept counted; what does not agree, in words. Reads the whole catalog."""
        return audit(self._database)

    def close(self) -> None:
        """Close the file. The catalog cannot be used any more."""
        self._database.close()

    def abandon(self) -> None:
        """Let go of the file as a killed process would."""
        self._database.abandon()


def migrate(database: Database, path: str) -> None:
    """Bring the file to the newest format, or say why not."""
    if not database.table_exists(META.name):
        if database.execute("SELECT COUNT(*) FROM sqlite_master") != [(0,)]:
            raise ConfigError(f"'{path}' is a database, but not a catalog", "name another directory", path)
        found = 0
    else:
        rows = database.load(META.select, [(FORMAT,)])
        if not rows:
            raise Corrupt(f"catalog '{path}' does not say its format", "restore the catalog from its backup", path)
        found = MetaRow._make(rows[0]).number
    if found > schema.NEWEST_FORMAT:
        raise Incompatible(
            f"catalog '{path}' has format {found}, this build knows formats up to {schema.NEWEST_FORMAT}",
            f"upgrade the master to a build that knows format {found}, such as the last one that ran on it; the way back to"
            " this one is a backup that was made before",
            path,
        )
    if found == schema.NEWEST_FORMAT:
        return
    database.begin()
    for statement in schema.statements(found):
        database.execute(statement)
    new = META_NAMES if not found else [name for name, since in schema.META_SINCE.items() if found < since]
    database.apply(META.insert, [MetaRow(name, 1 if name == NEXT_NODE else 0) for name in new])
    if 0 < found < schema.TALLIED_SINCE:
        tally(database)
    # What nodes hold of the log, if anything, was written by older software: it does not lead to these rows.
    database.apply(META.update, [(schema.NEWEST_FORMAT, b"", FORMAT), (0, b"", VOLUME)])
    database.commit()


def _begin_term(
    database: Database, path: str, rng: random.Random, root: InodeRow, above: int, keeps_log: bool
) -> tuple[dict[str, MetaRow], Log]:
    """Raise the term to more than ``above``; make cluster id and root of a new catalog. Returns the durable ``meta``, and
    the log, which knows of all that. If it is not kept, ``volume`` says so."""
    database.begin()
    meta = {row.name: row for row in map(MetaRow._make, database.load(META.select, [(name,) for name in META_NAMES]))}
    absent = [name for name in META_NAMES if name not in meta]
    if absent:
        raise Corrupt(f"catalog '{path}' has no '{absent[0]}'", "restore the catalog from its backup", path)
    changed = [MetaRow(TERM, max(meta[TERM].number, above) + 1)]
    is_new = not meta[CLUSTER].body
    if is_new:
        changed.append(MetaRow(CLUSTER, 0, rng.randbytes(CLUSTER_BYTES)))
        database.apply(INODES.insert, [root])
    id_floor(changed[0].number)  # ValueError beyond the last term there can be
    if not keeps_log:
        changed.append(MetaRow(VOLUME, 0))
    database.apply(META.update, [(row.number, row.body, row.name) for row in changed])
    meta |= {row.name: row for row in changed}
    log = Log(database, meta[TERM].number)
    log.begin()
    log.hear(root.created_ns)
    if keeps_log:
        is_break = meta[VOLUME].number == 0
        images = [(META.name, row.name, row) for row in (meta.values() if is_break else changed)]
        log.seal([*images, (INODES.name, root.inode, root)] if is_new else images, after_break=is_break and not is_new)
    else:
        log.forget()
    database.commit()
    log.committed()
    return meta, log


def is_empty(disk: Disk, path: str) -> bool:
    """Whether there is no file, or nothing in it."""
    if not disk.exists(path):
        return True
    file = disk.open(path, readonly=True)
    try:
        return file.size() == 0
    finally:
        file.close()


def _unreadable(path: str, error: Exception) -> LocalError | Corrupt:
    cause = error.__cause__ or error
    if type(cause).__name__ in ("CorruptError", "NotADBError", "SQLError"):
        return Corrupt(f"catalog '{path}' is damaged: {cause}", "restore the catalog from its backup", path)
    return LocalError(f"catalog '{path}' cannot be read: {cause}", "check the disk, then start again", path)
