"""``python -m bench.space``: bytes on the disks for each byte stored in small files, all copies included.

Blocks that the file system has given out are counted, as ``du`` does. What does not grow with what is stored is shown apart:
segments that lie ready and are not written yet, write-ahead logs, which end at their next checkpoint, and ballast. Exit
status 1 if the rest is more than the budget.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import dsa_zmq
from bench.filling import disk_bytes, files_below, fill
from bench.workloads import SMALL_BYTES
from dsa_zmq.app import tune_process
from dsa_zmq.model.limits import SEGMENT_BYTES

MIB = 1 << 20
BALLAST = "ballast"  #: the name of what nodes and the catalog keep for the day when the disk is full


@dataclass(frozen=True)
class Taken:
    """Bytes of blocks, by what they are for."""

    segments: int  #: written
    ready: int  #: preallocated in segments, and not written yet
    index: int  #: of the nodes
    catalog: int
    logs: int  #: write-ahead logs of indexes and catalog: they grow up to a checkpoint, and are used again then
    ballast: int  #: of nodes and catalog
    other: int  #: locks, identities, what servers print

    @property
    def fixed(self) -> int:
        """What does not grow with what is stored, beyond a limit."""
        return self.ready + self.logs + self.ballast

    @property
    def total(self) -> int:
        return self.segments + self.index + self.catalog + self.other + self.fixed


def written_bytes(path: Path) -> int:
    """What has been written of a preallocated file, in whole blocks; all of it where the file system cannot tell."""
    written = position = 0
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while position < end:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # nothing but holes from here on
                break
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            written += position - start
    return written


def look(directory: Path) -> Taken:
    """A cluster's directory, by purpose."""
    files = files_below(directory)
    segments = [path for path in files if path.suffix == ".seg"]
    index = [path for path in files if path.name == "index.sqlite"]
    catalog = [path for path in files if path.name == "catalog.sqlite"]
    logs = [path for path in files if path.name.endswith(("-wal", "-shm"))]
    ballast = [path for path in files if BALLAST in path.name]
    known = {*segments, *index, *catalog, *logs, *ballast}
    written = sum(map(written_bytes, segments))
    return Taken(
        segments=written,
        ready=max(0, disk_bytes(segments) - written),
        index=disk_bytes(index),
        catalog=disk_bytes(catalog),
        logs=disk_bytes(logs),
        ballast=disk_bytes(ballast),
        other=disk_bytes(path for path in files if path not in known),
    )


def measure(options: argparse.Namespace, scratch: Path) -> tuple[int, Taken, Taken]:
    """Bytes stored; what an empty cluster takes, and what it takes then."""
    directory = scratch / "cluster"
    with (
        dsa_zmq.LocalCluster(
            options.nodes,
            options.redundancy,
            processes=True,
            directory=directory,
            segment_bytes=SEGMENT_BYTES,
            speed=1,
        ) as cluster,
        cluster.connect() as store,
    ):
        empty = look(directory)
        stored = fill(store, "/small", options.files, SMALL_BYTES)
        return stored, empty, look(directory)


def show(stored: int, empty: Taken, taken: Taken) -> str:
    """A small table."""
    lines = [f"{stored / MIB:,.0f} MiB stored in files of {SMALL_BYTES} bytes", f"{'':28}{'MiB':>10}{'per byte':>10}"]
    rows = {
        "segments": taken.segments,
        "index of the nodes": taken.index,
        "catalog": taken.catalog,
        "locks and the like": taken.other,
        "all that grows": taken.total - taken.fixed,
        "ready in segments": taken.ready,
        "write-ahead logs": taken.logs,
        "ballast": taken.ballast,
        "everything": taken.total,
    }
    lines += [f"{name:28}{size / MIB:10,.0f}{size / stored:10.3f}" for name, size in rows.items()]
    return "\n".join([*lines, f"the empty cluster took {empty.total / MIB:,.0f} MiB"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.space", description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--redundancy", default="copies=2")
    parser.add_argument("--files", type=int, default=100_000, help="of 4 KiB")
    parser.add_argument("--budget", type=float, default=3.0, help="bytes on disk for each byte stored")
    parser.add_argument("--quick", action="store_true", help="as little as possible: the figures mean nothing")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    if options.quick:
        options.files = 500
    tune_process()
    scratch = Path(tempfile.mkdtemp(prefix="dsa-space-", dir=options.scratch))
    try:
        stored, empty, taken = measure(options, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(show(stored, empty, taken))
    per_byte = (taken.total - taken.fixed) / stored
    if options.json:
        figures = {"stored_bytes": stored, "per_byte": per_byte, "empty": asdict(empty), "taken": asdict(taken)}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if per_byte <= options.budget else 1


if __name__ == "__main__":
    sys.exit(main())
