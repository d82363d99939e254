"""Writes records of a kit's catalog, as a master would but by other code, and makes catalogs of them."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

import msgspec

from actors.sim.disk import SimDisk
from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog import schema
from dsa_zmq.master.catalog.rebuild import Rebuilder
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import DERIVED, LOGGED, TABLES
from dsa_zmq.model.records import (
    BEGIN,
    CHANGES,
    END,
    NO_HASH,
    ROWS,
    VOLUME_FORMAT,
    VolumeEnd,
    VolumeHead,
    pack_runs,
    seal,
)
from dsa_zmq.protocol.operations import Copy, MakeDirectory, Move, Remove, SetRedundancy

BY_NAME = {table.name: table for table in TABLES}
SECOND = 1_000_000_000


class Scribe:
    """Writes down the changes of a kit's catalog, as a master would: the records of the log, and volumes."""

    def __init__(self, kit: Any, rng: random.Random) -> None:
        self.kit, self.rng = kit, rng
        self.position, self.hash, self.wall_ns = 0, NO_HASH, SECOND
        self.taken = len(kit.changes)
        self.open: list[Volume] = []
        self.as_of: dict[int, dict[str, Any]] = {}  #: by position: the catalog then
        self.walls: dict[int, int] = {}

    def note(self) -> None:
        """What the catalog did since: one transaction."""
        changes = [each for each in self.kit.changes[self.taken :] if BY_NAME[each[0]] not in DERIVED]
        self.taken = len(self.kit.changes)
        if not changes:
            return
        runs: list[Any] = []
        for name, group in groupby(changes, key=lambda change: change[0]):
            last = {key: row for _, key, row in group}
            keys = [BY_NAME[name].binding(key) for key, row in last.items() if row is None]
            runs.append((name, [row for row in last.values() if row is not None], keys))
        pieces = [[run] for run in runs] if self.rng.random() < 0.3 else [runs]
        self.wall_ns += SECOND
        for at, piece in enumerate(pieces):
            self.position += 1
            ends = at == len(pieces) - 1
            record = seal(CHANGES, self.position, self.term, self.wall_ns, self.hash, pack_runs(piece), ends=ends)
            self.hash = record.hash
            for volume in self.open:
                volume.log.append(record)
        self.as_of[self.position] = self.kit.dump("holders", "inventories")
        self.walls[self.position] = self.wall_ns

    @property
    def term(self) -> int:
        return int(self.kit.catalog.term)

    def begin(self, number: int = 1) -> Volume:
        volume = Volume(self, number)
        self.open.append(volume)
        self.as_of.setdefault(self.position, self.kit.dump("holders", "inventories"))
        return volume


class Volume:
    """A snapshot, taken in slices, and the log since it was begun."""

    def __init__(self, scribe: Scribe, number: int) -> None:
        head = VolumeHead(
            VOLUME_FORMAT, scribe.kit.catalog.cluster.hex(), number, schema.NEWEST_FORMAT, scribe.position, "test"
        )
        self.scribe, self.number = scribe, number
        self.parts = [seal(BEGIN, 0, scribe.term, scribe.wall_ns, scribe.hash, msgspec.json.encode(head))]
        self.log: list[Any] = []
        self.rows = 0
        self.table, self.after = 0, None
        self.whole = -1

    def slice(self, limit: int = 7) -> bool:
        """Read the next rows. False: that was all."""
        if self.table == len(LOGGED):
            if self.whole < 0:
                self.whole = self.scribe.position
                self._part(END, msgspec.json.encode(VolumeEnd(self.whole, self.rows)))
            return False
        table = LOGGED[self.table]
        rows = [
            row for row in self.scribe.kit.dump()[table.name] if self.after is None or row[: table.width] > self.after
        ]
        if rows[:limit]:
            self.after = rows[:limit][-1][: table.width]
            self.rows += len(rows[:limit])
            self._part(ROWS, pack_runs([(table.name, rows[:limit], [])]))
        if len(rows) <= limit:
            self.table, self.after = self.table + 1, None
        return True

    def _part(self, kind: int, body: bytes) -> None:
        self.parts.append(seal(kind, len(self.parts), self.scribe.term, self.scribe.wall_ns, self.parts[-1].hash, body))

    def complete(self) -> Volume:
        while self.slice(50):
            pass
        return self

    def data(self, mixed: random.Random | None = None) -> bytes:
        """Its file; ``mixed``: snapshot and log in some mixture."""
        chains = [[each.data for each in self.parts[1:]], [each.data for each in self.log]]
        out = [self.parts[0].data]
        while any(chains):
            chain = (mixed.choice([each for each in chains if each])) if mixed else (chains[0] or chains[1])
            out.append(chain.pop(0))
        return b"".join(out)


def rebuild(data: bytes | list[bytes], disk: SimDisk | None = None, portion: int = 0, **options: Any) -> Any:
    """(disk, Rebuilt) of the volumes."""
    disk = disk or SimDisk(random.Random(1))
    rebuilder = Rebuilder(disk, "made.sqlite", **{k: options.pop(k) for k in ("at_ns", "position") if k in options})
    volumes = [data] if isinstance(data, bytes) else data
    try:
        for at, volume in enumerate(volumes):
            if at:
                rebuilder.next_volume()
            for start in range(0, len(volume), portion or len(volume) or 1):
                rebuilder.feed(volume[start : start + (portion or len(volume))])
        return disk, rebuilder.finish(**options)
    except DSAError:
        rebuilder.abandon()
        raise


def dump(disk: SimDisk, path: str = "made.sqlite") -> dict[str, Any]:
    database = Database(disk, path)
    try:
        return {table.name: sorted(database.execute(f"SELECT {table.columns} FROM {table.name}")) for table in LOGGED}
    finally:
        database.close()


def busy(kit: Any, scribe: Scribe, steps: int, *, volume: Volume | None = None) -> None:
    """Random changes, each noted, with slices between them."""
    rng = scribe.rng
    names = [f"/d{at % 3}/f{at}" for at in range(12)]
    for _ in range(steps):
        name, other = rng.sample(names, 2)
        jobs = rng.choice(
            [
                [kit.request(kit.commit(name, rng.choice([0, 1000, 9000]))), kit.request(kit.commit(other))],
                [kit.request(Remove(name, False))],
                [kit.request(Move(name, other, True, True)), kit.request(kit.commit(name))],
                [kit.request(Copy(name, other, False, False))],
                [kit.request(MakeDirectory(f"/m{rng.randrange(9)}", False, False), done_below=kit.numbers - 3)],
                [kit.request(Remove("/d1", True))],
                [kit.request(SetRedundancy("/d0", rng.choice(["copies=1", "copies=3"])))],
            ]
        )
        kit.run(*jobs)
        scribe.note()
        if rng.random() < 0.2:
            kit.collect(limit=5)
            scribe.note()
        while volume is not None and rng.random() < 0.6:
            volume.slice(rng.randrange(1, 9))
