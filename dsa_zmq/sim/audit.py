"""A look at the disks of a stopped cluster: do the catalog's own numbers add up, and is every shard where it says?

The rules:

* the catalog's file is sound, and a recount of all that it keeps in step agrees (:mod:`dsa_zmq.master.catalog.audit`);
* a chunk has one live place for each of its shards, on different nodes; where shards are alike, as many as are wanted;
* each live place's shard is on its node, with the right bytes;
* once everything is quiet, nothing waits to be let go any more, and no upload is left;
* a node may hold a shard that no place names only if it never was a place, or if it was sent again after its drop; or if
  the catalog was restored lately: then it is kept for days.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from actors.sim.disk import SimDisk
from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog.audit import audit as recount
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import (
    CHUNKS,
    DEAD,
    DEAD_CONTENT_ID,
    DROPS,
    META,
    NODES,
    PLACES,
    RESTORED_NS,
    UPLOADS,
    ChunkRow,
    PlaceRow,
    Table,
)
from dsa_zmq.model.hashes import shard_hash
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.node.disk_store import DiskStore
from dsa_zmq.node.store import ShardKey
from dsa_zmq.sim.ledger import Wrong
from dsa_zmq.sim.machines import NodeMachine

if TYPE_CHECKING:
    from dsa_zmq.sim.cluster import SimCluster

LOADED: tuple[Table[Any, Any], ...] = (CHUNKS, PLACES, DROPS, DEAD, UPLOADS, NODES, META)

PLACES_ON = """
SELECT p.chunk, p.shard FROM places p JOIN nodes n ON n.node = p.node
WHERE n.name = ? AND n.removed = 0 AND p.state = 0 ORDER BY p.chunk
"""

Rows = dict[str, list[Any]]
"""By name of the table."""


@dataclass(slots=True)
class Audit:
    """What was found. ``problems`` is empty for a sound cluster."""

    problems: list[str] = field(default_factory=list)
    chunks: int = 0
    places: int = 0
    orphans: int = 0  #: shards that no place names, excused ones included

    def expect(self, condition: object, problem: str) -> None:
        """Note a problem unless the condition holds."""
        if not condition:
            self.problems.append(problem)


def audit(cluster: SimCluster, nodes: Collection[NodeMachine] | None = None, *, quiet: bool = True) -> Audit:
    """Look at the catalog and at the stores of these nodes (all of them). None of their processes may be running.

    ``quiet``: everything that was to be let go had time for it, and all nodes were up.
    """
    found = Audit()
    rows = _load(cluster.master.disk, found)
    chunks: dict[int, ChunkRow] = {row.chunk: row for row in rows[CHUNKS.name]}
    found.chunks, found.places = len(chunks), len(rows[PLACES.name])
    looked_at = cluster.nodes if nodes is None else nodes
    names = {machine.name for machine in looked_at}
    _check_places(rows, chunks, {row.node for row in rows[NODES.name] if row.name in names and not row.removed}, found)
    if quiet:
        _expect_quiet(rows, found)
    for machine in looked_at:
        _look_at_node(cluster, machine, rows, chunks, found)
    return found


def _load(disk: SimDisk, found: Audit) -> Rows:
    database = Database(disk, CATALOG_FILE)
    try:
        sound = database.execute("PRAGMA integrity_check")
        found.expect(sound == [("ok",)], f"the catalog's file is damaged: {sound[:3]}")
        found.problems += recount(database)
        return {
            table.name: [table.make(row) for row in database.execute(f"SELECT {table.columns} FROM {table.name}")]
            for table in LOADED
        }
    finally:
        database.close()


def _check_places(rows: Rows, chunks: dict[int, ChunkRow], looked_at: Collection[int], found: Audit) -> None:
    """Places on other nodes than these may be there besides: a store that has failed keeps its own."""
    places: dict[int, list[PlaceRow]] = {chunk: [] for chunk in chunks}
    for row in rows[PLACES.name]:
        places.setdefault(row.chunk, []).append(row)
    for chunk, row in chunks.items():
        redundancy = parse_redundancy(row.redundancy)
        everywhere = sorted(place.shard for place in places[chunk])
        here = sorted(place.shard for place in places[chunk] if place.node in looked_at)
        is_right = _are_all(everywhere, redundancy) or _are_all(here, redundancy)
        found.expect(is_right, f"chunk {chunk} has places for shards {everywhere}")


def _are_all(shards: list[int], redundancy: Redundancy) -> bool:
    return len(shards) == redundancy.shards and (redundancy.alike or shards == list(range(redundancy.shards)))


def _expect_quiet(rows: Rows, found: Audit) -> None:
    waiting = [row for row in rows[DEAD.name] if row.kind != DEAD_CONTENT_ID]
    found.expect(not waiting, f"still to be let go: {waiting[:3]}")
    found.expect(not rows[UPLOADS.name], f"uploads that nobody goes on with: {rows[UPLOADS.name][:3]}")
    removed = {row.node for row in rows[NODES.name] if row.removed}
    drops = [row for row in rows[DROPS.name] if row.node not in removed]
    found.expect(not drops, f"still to be dropped: {drops[:3]}")


def _look_at_node(
    cluster: SimCluster, machine: NodeMachine, rows: Rows, chunks: dict[int, ChunkRow], found: Audit
) -> None:
    node = next((row.node for row in rows[NODES.name] if row.name == machine.name and not row.removed), None)
    if node is None:
        found.problems.append(f"the catalog does not know node {machine.name}")
        return
    store = open_store(cluster, machine)
    try:
        restored = any(row.name == RESTORED_NS and row.number for row in rows[META.name])
        named = {(place.chunk, place.shard) for place in rows[PLACES.name] if place.node == node}
        for chunk, shard in sorted(named):
            what = f"shard {shard} of chunk {chunk} on {machine.name}"
            try:
                _, data = store.get(ShardKey(chunk, shard))
            except DSAError as error:
                found.problems.append(f"{what}: {error}")
            else:
                is_right = chunk in chunks and blake3(data).digest() == shard_hash(chunks[chunk].hash, shard)
                found.expect(is_right, f"{what} has wrong bytes")
        for info in store.list(None, 1_000_000):
            chunk, shard = info.key
            if (chunk, shard) not in named:
                found.orphans += 1
                excused = restored or cluster.witness.excuses(node, machine.name, chunk, shard)
                found.expect(excused, f"shard {shard} of chunk {chunk} on {machine.name} was to be dropped")
        found.expect(not store.failure, f"the store of {machine.name} has failed: {store.failure}")
    finally:
        store.close()


def expect_what_is_placed(cluster: SimCluster, nodes: Collection[NodeMachine]) -> None:
    """The disks of these nodes, none of which is running, have all that the catalog names, now: nothing was made anew or
    compared yet. Raises :class:`~dsa_zmq.sim.ledger.Wrong`."""
    with contextlib.closing(Database(cluster.master.disk.snapshot(), CATALOG_FILE)) as database:
        places = {node.name: database.execute(PLACES_ON, (node.name,)) for node in nodes}
    for machine in nodes:
        with contextlib.closing(open_store(cluster, machine)) as store:
            for chunk, shard in places[machine.name]:
                try:
                    store.verify(ShardKey(chunk, shard))
                except DSAError as error:
                    raise Wrong(f"shard {shard} of chunk {chunk} is to be on {machine.name}: {error}") from error


def open_store(cluster: SimCluster, machine: NodeMachine) -> DiskStore:
    """The store of a node that is not running."""
    settings = cluster.node_settings(machine.name)
    return DiskStore(
        machine.disk,
        capacity=settings.capacity,
        reserve=settings.reserve,
        segment_bytes=settings.segment_bytes,
        rng=random.Random(0),  # for new segments, of which there will be none
    )
