"""What a wanted shard comes from: whom to ask, and what they gave. Pure.

There are two ways to a shard. Whoever has the very shard gives it as it is, and any one such source is enough: every copy is
the chunk, and a code always makes the same shard of the same bytes. Otherwise it is made from so many different shards
as are needed to read the chunk that the sources are of. The first way is tried to its end before the second is begun,
since it reads the least; within each, sources are asked in the order given, and the next ones only when one has failed.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

import msgspec

from dsa_zmq.errors import ConfigError, DSAError, Invalid, Unavailable
from dsa_zmq.model.limits import MAX_CHUNK_BYTES
from dsa_zmq.model.redundancy import Redundancy, parse_redundancy
from dsa_zmq.node.authority import HASH_BYTES, check_shard
from dsa_zmq.node.making import Order, Part
from dsa_zmq.node.store import ShardKey
from dsa_zmq.protocol.values import FetchOutcome, FetchShard, ShardSource


@dataclass(slots=True)
class Way:
    """Sources of which ``needed`` with different indexes are enough."""

    needed: int
    sources: list[ShardSource]  #: not asked yet, the best first
    makes: bool  #: what they give is not the shard itself; then each names the hash that its bytes must have

    def next(self, asked: Container[int], count: int, closed: Container[int]) -> list[ShardSource]:
        """The next ``count`` sources, or fewer, of other indexes than are ``asked`` already, at nodes not ``closed``."""
        chosen: dict[int, ShardSource] = {}
        for source in self.sources:
            if len(chosen) == count:
                break
            if source.index not in asked and source.index not in chosen and source.node not in closed:
                chosen[source.index] = source
        return list(chosen.values())


@dataclass(slots=True, eq=False)
class Gathering:
    """One shard of a command, from its sources to its outcome."""

    wanted: FetchShard
    hash: bytes = b""  #: BLAKE3-256 that the shard must have; b"" while only its chunk's is known
    ways: list[Way] = field(default_factory=list)  #: not tried to the end, the present one first
    asked: dict[int, ShardSource] = field(default_factory=dict)  #: by index: those that have not failed
    given: dict[int, bytes | memoryview] = field(default_factory=dict)  #: what they gave, by index
    busy: bool = False  #: a job checks, makes or stores it
    blamed: list[int] = field(default_factory=list)
    failure: DSAError | None = None  #: the last
    outcome: FetchOutcome | None = None  #: once it is known

    @property
    def key(self) -> ShardKey:
        return ShardKey(self.wanted.chunk, self.wanted.index)

    @property
    def held(self) -> int:
        """Bytes that its sources have given or will give."""
        return self.ways[0].needed * next(iter(self.asked.values())).length if self.asked else 0

    @property
    def is_ready(self) -> bool:
        """Whether enough has come, and nobody works with it."""
        return not self.busy and bool(self.ways) and len(self.given) == self.ways[0].needed

    def ask(self, closed: Container[int], room: int | None) -> list[ShardSource]:
        """Who is to be asked now, but for nodes that are ``closed``. Nobody, if it is not begun and would hold more than
        ``room`` bytes (None: as many as it takes). Raises DSAError if too few are left."""
        while self.ways:
            way = self.ways[0]
            chosen = way.next(self.asked, way.needed - len(self.asked), closed)
            if len(self.asked) + len(chosen) < way.needed:
                del self.ways[0]
                self.asked.clear()
                self.given.clear()
                continue
            if not self.asked and room is not None and way.needed * chosen[0].length > room:
                return []
            way.sources = [source for source in way.sources if source not in chosen]
            self.asked.update({source.index: source for source in chosen})
            return chosen
        raise self.failure or Unavailable("too few were named, or answer, from whom the shard can be had")

    def take(self, source: ShardSource, data: bytes | memoryview) -> None:
        """It has given these bytes, which are to be verified. What comes too late is not needed any more."""
        if self.asked.get(source.index) is source:
            self.given[source.index] = data

    def blame(self, source: ShardSource, error: DSAError) -> None:
        """It has not answered, or gave damaged bytes."""
        if self.asked.get(source.index) is source:
            del self.asked[source.index]
            self.given.pop(source.index, None)
            self.blamed.append(source.node)
            self.failure = error

    def order(self) -> Order:
        """How to make it from what was given."""
        wanted = self.wanted
        target, origin = _redundancies(wanted)
        parts = [Part(index, self.asked[index].hash, data) for index, data in sorted(self.given.items())]
        return Order(
            self.key, wanted.chunk_length, target, self.hash, wanted.chunk_hash, origin, tuple(parts)
        )  # fmt: skip

    def whole(self) -> bytes | memoryview:
        """Its bytes, if a source gave it as it is."""
        (data,) = self.given.values()
        return data

    def let_go(self) -> None:
        """Nobody is asked any more, and nothing is kept of what was given: it is made, or has its outcome."""
        self.ways.clear()
        self.asked.clear()
        self.given.clear()


def gathering(wanted: FetchShard, no_codes: ConfigError | None) -> Gathering:
    """The ways to this shard. ``no_codes``: why shards of codes cannot be made here. Raises Invalid for what makes no sense,
    and ``no_codes`` if there is no other way."""
    target, origin = _redundancies(wanted)
    _check_shape(wanted, target, origin)
    same: list[ShardSource] = []
    others: list[ShardSource] = []
    for source in wanted.sources:
        is_same = target.alike if origin.alike else origin == target and source.index == wanted.index
        (same if is_same else others).append(source)
    if others and not same and no_codes is not None:
        raise ConfigError(no_codes.message, no_codes.remedy)
    of_chunk = (wanted.hash if target.alike else b"") or wanted.chunk_hash
    of_same = next((source.hash for source in same if source.hash), b"")
    of_shard = wanted.hash or (of_chunk if target.alike else b"") or of_same
    if not {len(of_shard), len(of_chunk)} <= {0, HASH_BYTES} or not (of_shard or of_chunk) or (same and not of_shard):
        raise Invalid(f"hashes of {len(of_shard)} bytes for a shard, and {len(of_chunk)} for its chunk")
    ways = [Way(1, same, makes=False)] if same else []
    if others and no_codes is None:
        hashes = [(of_chunk if origin.alike else b"") or source.hash for source in others]
        ways.append(Way(origin.needed, list(map(_with_hash, others, hashes)), makes=True))
    return Gathering(wanted, of_shard, ways)


def _redundancies(wanted: FetchShard) -> tuple[Redundancy, Redundancy]:
    """That of the shard, and that of its sources."""
    return parse_redundancy(wanted.redundancy), parse_redundancy(wanted.source_redundancy or wanted.redundancy)


def _check_shape(wanted: FetchShard, target: Redundancy, origin: Redundancy) -> None:
    """Invalid unless shard and sources have the indexes and lengths that there are of such a chunk."""
    if not 0 < wanted.chunk_length <= MAX_CHUNK_BYTES:
        raise Invalid(f"there can be no chunk of {wanted.chunk_length} bytes")
    shards: list[tuple[FetchShard | ShardSource, Redundancy]] = [(wanted, target)]
    shards += [(source, origin) for source in wanted.sources]
    for shard, redundancy in shards:
        check_shard(shard.chunk, shard.index, shard.length)
        is_beyond = not redundancy.alike and shard.index >= redundancy.shards
        if is_beyond or shard.length != redundancy.shard_bytes(wanted.chunk_length):
            raise Invalid(
                f"there can be no shard {shard.index} with {shard.length} bytes of a chunk of {wanted.chunk_length} bytes "
                f"with {redundancy.name}"
            )


def _with_hash(source: ShardSource, hash_: bytes) -> ShardSource:
    if len(hash_) != HASH_BYTES:
        raise Invalid(
            f"a hash of {len(hash_)} bytes for shard {source.index} of chunk {source.chunk}, which is a source"
        )
    return source if hash_ == source.hash else msgspec.structs.replace(source, hash=hash_)
