"""``python -m bench.rebuild``: how long a lost master's catalog takes to come back from a copy on a node.

The catalog of ``--files`` files of 4 KiB is made by the write layer itself, in batches: half of it before the snapshot,
half as the log behind it. Its volume is rebuilt as a restore does it, audited, and published; then a master's catalog is
opened on it, and a file is located. Beside it, in the same run: the same bytes read and verified, and the same rows put
into the same tables by plain SQL. Exit status 1 if a file takes longer than ``--budget`` says.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.disk import OsDisk
from bench.catalog import BATCH, SECRET, SLICE_BYTES, WALL_NS, Load
from dsa_zmq.app import tune_process
from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog.catalog import CATALOG_FILE, Catalog, migrate
from dsa_zmq.master.catalog.log_jobs import BeginVolume, Committed, Slice, TakeSlice
from dsa_zmq.master.catalog.rebuild import Rebuilt, Restoration
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import LOGGED
from dsa_zmq.master.restore_jobs import Begin, Feed, Finish, Workshop
from dsa_zmq.master.restore_reading import PIECE_BYTES
from dsa_zmq.model.records import read_record
from dsa_zmq.model.volumes import VolumeChain
from dsa_zmq.protocol.operations import Locate


@dataclass(frozen=True)
class Figures:
    """Seconds, unless it says otherwise."""

    files: int
    volume_bytes: int
    read_and_verify: float  #: of the volume's bytes
    insert: float  #: of the rows that are in the catalog in the end
    feed: float  #: the volume into the new catalog
    finish: float  #: tallies, audit, publication
    open: float  #: a master's catalog on it
    first_read: float  #: where the first file is

    @property
    def rebuild(self) -> float:
        return self.feed + self.finish

    @property
    def limit(self) -> float:
        return self.read_and_verify + self.insert

    @property
    def files_per_second(self) -> float:
        return self.files / self.rebuild


def write_volume(load: Load, files: int, path: Path) -> None:
    """Fill the catalog, and write what a node would have of it."""
    with path.open("wb") as out:
        _commit(load, files // 2)
        begun = load.run([BeginVolume(WALL_NS, "bench")])[0]
        out.write(begun.begin)
        first = read_record(begun.begin)
        assert first is not None
        made = Slice([], b"", 1, first.hash)
        while made.cursor or made.part == 1:
            job = TakeSlice(begun.volume, made.cursor, made.part, made.previous, WALL_NS, SLICE_BYTES)
            [made] = load.run([job])
            out.writelines(made.records)
        for records in _commit(load, files - files // 2):
            out.writelines(records)


def _commit(load: Load, files: int) -> list[tuple[bytes, ...]]:
    logged = []
    for start in range(0, files, BATCH):
        jobs = [load.commit() for _ in range(min(BATCH, files - start))]
        first = load.catalog.run(jobs)[0]
        assert isinstance(first, Committed), "the log is kept"
        logged.append(first.records)
    return logged


def pieces(path: Path) -> Iterator[bytes]:
    """The file as it comes from a node."""
    with path.open("rb") as file:
        while data := file.read(PIECE_BYTES):
            yield data


def read_and_verify(path: Path) -> float:
    """What nobody can do without: all bytes, the hash of each record, whether they follow each other."""
    begun = time.perf_counter()
    data, chain, offset = path.read_bytes(), VolumeChain(), 0
    while (record := read_record(data, offset)) is not None:
        chain.take(record)
        offset += len(record.data)
    assert chain.usable, "the volume is whole"
    assert offset == len(data), "and sound"
    return time.perf_counter() - begun


def insert(load: Load, directory: Path) -> float:
    """The rows of the catalog into empty tables, by one statement each and one transaction."""
    rows: dict[str, list[Any]] = {
        table.name: load.catalog._database.execute(f"SELECT {table.columns} FROM {table.name}") for table in LOGGED
    }
    database = Database(OsDisk(directory), "bare.sqlite")
    migrate(database, "bare.sqlite")
    database.begin()
    database.execute("DELETE FROM meta")
    begun = time.perf_counter()
    for table in LOGGED:
        database.apply(table.insert, rows[table.name])
    database.commit()
    spent = time.perf_counter() - begun
    database.close()
    return spent


def rebuild(path: Path, disk: OsDisk) -> tuple[float, float, Rebuilt]:
    """As the lane of a restore does it: seconds until all is fed, and until it is published."""
    workshop = Workshop(disk)
    begun = time.perf_counter()
    workshop.run([Begin()])
    for data in pieces(path):
        [fed] = workshop.run([Feed(data)])
        assert not isinstance(fed, DSAError), fed
        assert fed.unfit is None, fed
    fed_s = time.perf_counter() - begun
    [rebuilt] = workshop.run([Finish(Restoration(1000, WALL_NS))])
    assert isinstance(rebuilt, Rebuilt), rebuilt
    return fed_s, time.perf_counter() - begun - fed_s, rebuilt


def measure(files: int, scratch: Path | None) -> Figures:
    with tempfile.TemporaryDirectory(prefix="dsa-bench-", dir=scratch) as place:
        lost, found, bare = (Path(place) / name for name in ("lost", "found", "bare"))
        for directory in (lost, found, bare):
            directory.mkdir()
        volume = Path(place) / "volume"
        load = Load(str(lost), keeps_log=True)
        write_volume(load, files, volume)
        verified, inserted = read_and_verify(volume), insert(load, bare)
        some = load.any_file()
        load.catalog.close()
        fed, finished, rebuilt = rebuild(volume, OsDisk(found))
        assert (rebuilt.files, rebuilt.odd) == (files, []), rebuilt
        begun = time.perf_counter()
        catalog = Catalog.open(OsDisk(found), rng=load.random, secret=SECRET, path=CATALOG_FILE, keeps_log=True)
        opened = time.perf_counter() - begun
        [located] = catalog.run([load.read(Locate(some))])
        read = time.perf_counter() - begun - opened
        assert located.result.chunks, located
        catalog.close()
        return Figures(files, volume.stat().st_size, verified, inserted, fed, finished, opened, read)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rebuild", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="500 files: only to see that everything works")
    parser.add_argument("--budget", type=float, default=100.0, metavar="US", help="microseconds a file, at most")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    tune_process()
    figures = measure(500 if options.quick else options.files, options.scratch)
    print(f"{figures.files:,} files, a volume of {figures.volume_bytes / 1e6:.1f} MB")
    print(f"{'read and verify it':42} {figures.read_and_verify:8.2f} s")
    print(f"{'insert its rows by plain SQL':42} {figures.insert:8.2f} s")
    print(f"{'feed it to the new catalog':42} {figures.feed:8.2f} s")
    print(f"{'count, audit, publish':42} {figures.finish:8.2f} s")
    print(f"{'open it as a master':42} {figures.open:8.2f} s")
    print(f"{'the first file is found after':42} {figures.first_read * 1000:8.2f} ms more")
    print(f"rebuilt at {figures.files_per_second:,.0f} files/s, {figures.rebuild / figures.limit:.2f} times the limit")
    if options.json:
        more = {"files_per_second": figures.files_per_second, "ratio": figures.rebuild / figures.limit}
        options.json.write_text(json.dumps({**asdict(figures), **more}) + "\n")
    return int(figures.rebuild / figures.files * 1e6 > options.budget)


if __name__ == "__main__":
    sys.exit(main())
