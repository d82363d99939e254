"""Counting chunks by how many of their shards are there."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from dsa_zmq.master.catalog.facts import Facts
from dsa_zmq.master.catalog.jobs import ChunkCounts, CountChunks
from dsa_zmq.master.catalog.node_rules import ALL_NODES
from dsa_zmq.master.catalog.rows import Rows, Scan
from dsa_zmq.master.catalog.tables import CHUNKS, LIVE_PLACE, PLACES, ChunkRow, PlaceRow
from dsa_zmq.model.holders import safety
from dsa_zmq.model.redundancy import parse_redundancy

MAX_SLICE = 2500  #: chunks: some 10 ms

NEXT_CHUNKS: Scan[ChunkRow] = Scan(
    f"SELECT {CHUNKS.columns} FROM chunks WHERE chunk > ? ORDER BY chunk LIMIT ?", ChunkRow, (CHUNKS,)
)
PLACES_IN: Scan[PlaceRow] = Scan(
    f"SELECT {PLACES.columns} FROM places WHERE chunk > ? AND chunk <= ? ORDER BY chunk, node", PlaceRow, (PLACES,)
)


def count_chunks(rows: Rows, facts: Facts, job: CountChunks) -> ChunkCounts:
    limit = max(1, min(job.limit, MAX_SLICE))
    chunks = rows.scan(NEXT_CHUNKS, job.after, limit)
    counts, sizes = [0] * 4, [0] * 4
    on_removed: Counter[str] = Counter()
    if chunks:
        removed = {row.node: row.name for row in rows.scan(ALL_NODES) if row.removed}
        void = job.unavailable | removed.keys()
        places = rows.scan(PLACES_IN, job.after, chunks[-1].chunk)
        there = {
            chunk: len({place.shard for place in group if place.state == LIVE_PLACE and place.node not in void})
            for chunk, group in groupby(places, key=lambda place: place.chunk)
        }
        for chunk in chunks:
            state = safety(there.get(chunk.chunk, 0), parse_redundancy(chunk.redundancy))
            counts[state] += 1
            sizes[state] += chunk.length
        on_removed.update(removed[place.node] for place in places if place.node in removed)
    return ChunkCounts(chunks[-1].chunk if len(chunks) == limit else 0, counts, sizes, dict(on_removed))
