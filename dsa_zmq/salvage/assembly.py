"""A chunk from whatever shards of it can be read; nothing is believed but what has the hash that the catalog has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from blake3 import blake3

from dsa_zmq.errors import ConfigError, Corrupt
from dsa_zmq.model.erasure import join
from dsa_zmq.model.hashes import UNKNOWN_HASH, chunk_hash, shard_hash
from dsa_zmq.model.redundancy import Redundancy
from dsa_zmq.salvage.shard_map import Found, ShardMap

TRIES = 64  #: sets of shards that are joined for one chunk: all those that lack any two of nine


class Wanted(NamedTuple):
    """A chunk as the catalog knows it."""

    chunk: int
    length: int
    hashes: bytes  #: see dsa_zmq.model.hashes
    redundancy: Redundancy


class Lack(NamedTuple):
    """Why a chunk cannot be had."""

    why: str
    present: bool = False  #: there are enough shards of it, but not of good bytes, or what joins them is not installed
    needs_library: bool = False  #: the extra for erasure codes would do


class Assembly:
    """Chunks, made of shards."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def look(self, wanted: Wanted) -> Lack | None:
        """Whether there seem to be enough shards, by their headers: None, or why not."""
        indexes = {found.index for found in self._candidates(wanted)}
        if len(indexes) >= wanted.redundancy.needed or (indexes and wanted.redundancy.alike):
            return None
        return _lack(wanted, len(indexes), damaged=False)

    def make(self, wanted: Wanted) -> bytes | Lack:
        """The chunk's bytes, verified."""
        if wanted.redundancy.alike:
            return self._copy(wanted)
        return self._joined(wanted)

    def _copy(self, wanted: Wanted) -> bytes | Lack:
        expected = chunk_hash(wanted.hashes)
        damaged = False
        for found in self._candidates(wanted):
            if (data := self._shards.read(found, expected)) is not None and len(data) == wanted.length:
                return data
            damaged = True
        return _lack(wanted, 0, damaged=damaged)

    def _joined(self, wanted: Wanted) -> bytes | Lack:
        good, damaged = self._good_shards(wanted)
        if len(good) < wanted.redundancy.needed:
            return _lack(wanted, len(good), damaged=damaged)
        for some in _choices(good, wanted.redundancy.needed):
            try:
                data = join(some, wanted.redundancy, wanted.length)
            except ConfigError as error:
                return Lack(error.message, present=True, needs_library=True)
            except Corrupt:  # a shard of another size
                continue
            if blake3(data).digest() == chunk_hash(wanted.hashes):
                return data
        return Lack("its shards are sound, but do not make the chunk", present=True)

    def _good_shards(self, wanted: Wanted) -> tuple[dict[int, bytes], bool]:
        """Shards by index, those that the catalog vouches for first, those with the chunk's own bytes before parity; and
        whether there were damaged ones.

        Without a surprise as many as are needed are read.
        """
        good: dict[int, bytes] = {}
        damaged = False
        for found in self._candidates(wanted):
            if found.index in good:
                continue
            if (data := self._shards.read(found, found.hash)) is None:
                damaged = True
                continue
            good[found.index] = data
            if len(good) == wanted.redundancy.needed and self._joins(good, wanted):
                break
        return good, damaged

    @staticmethod
    def _joins(good: dict[int, bytes], wanted: Wanted) -> bool:
        """Whether these are known to be enough: the catalog has a hash of each of them."""
        return all(shard_hash(wanted.hashes, index) != UNKNOWN_HASH for index in good)

    def _candidates(self, wanted: Wanted) -> list[Found]:
        """What may be a shard of it, best first."""
        redundancy = wanted.redundancy
        size = redundancy.shard_bytes(wanted.length)
        some = []
        for found in self._shards.find(wanted.chunk):
            if found.length != size or found.index >= redundancy.shards:
                continue
            expected = shard_hash(wanted.hashes, found.index)
            if expected == UNKNOWN_HASH:
                some.append((1, found))
            elif expected == found.hash:
                some.append((0, found))
        return [found for _, found in sorted(some)]


def _choices(good: dict[int, bytes], needed: int) -> Iterator[dict[int, bytes]]:
    """Sets of shards, the likeliest first."""
    for indexes in itertools.islice(itertools.combinations(good, needed), TRIES):
        yield {index: good[index] for index in indexes}


def _lack(wanted: Wanted, good: int, *, damaged: bool) -> Lack:
    needed = wanted.redundancy.needed
    if needed > 1 and good:
        rest = "others are damaged" if damaged else "the others are not in these directories"
        return Lack(f"{good} of {needed} needed shards of a chunk are here, {rest}")
    if damaged:
        return Lack("all shards of a chunk that are here are damaged", present=True)
    return Lack("no shard of a chunk is in these directories")
