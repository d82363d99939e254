"""A chunk from whatever shards of it can be read; nothing is believed but what has the hash that the catalog has."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from blake3 import blake3

from dsa_zmq.errors import ConfigError, Corrupt
from dsa_zmq.model.erasure import check_library, join
from dsa_zmq.model.hashes import UNKNOWN_HASH, chunk_hash, shard_hash
from dsa_zmq.model.redundancy import Redundancy
from dsa_zmq.salvage.shard_map import Found, ShardMap

TRIES = 100  #: sets of shards that are joined for one chunk, at most: enough for any two bad ones among fourteen


class Wanted(NamedTuple):
    """A chunk as the catalog knows it."""

    chunk: int
    length: int
    hashes: bytes  #: see dsa_zmq.model.hashes
    redundancy: Redundancy


class Lack(NamedTuple):
    """Why a chunk cannot be had."""

    why: str
    needs_library: bool = False  #: its shards are here, and what joins them is not installed


UNKNOWN = Lack("the catalog does not know what it is made of")


class Assembly:
    """Chunks, made of shards."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def look(self, wanted: Wanted | None) -> Lack | None:
        """None if enough shards of it seem to be here, by their headers; else what is missing."""
        if wanted is None:
            return UNKNOWN
        needed = wanted.redundancy.needed
        here = {found.index for found in self._candidates(wanted)}
        if not here or (len(here) < needed and not wanted.redundancy.alike):
            return _lack(wanted, len(here), 0)
        if needed > 1 and not here.issuperset(range(needed)):
            return _library_lack()
        return None

    def make(self, wanted: Wanted | None) -> bytes | Lack:
        """The chunk's bytes, verified."""
        if wanted is None:
            return UNKNOWN
        good: dict[int, bytes] = {}
        damaged = tries = 0
        for found in self._candidates(wanted):
            if found.index in good:
                continue
            data = self._shards.read(found)
            if data is None:
                damaged += 1
                continue
            if wanted.redundancy.alike:
                return data  # its hash is the chunk's
            # Those that the catalog vouches for come first: nearly always the first set is the right one.
            for others in itertools.combinations(good, wanted.redundancy.needed - 1):
                made = _joined({index: good[index] for index in others} | {found.index: data}, wanted)
                if not isinstance(made, Lack) or made.needs_library:
                    return made
                tries += 1
                if tries == TRIES:
                    return made
            good[found.index] = data
        if len(good) < wanted.redundancy.needed:
            return _lack(wanted, len(good), damaged)
        return _MISJOINED

    def _candidates(self, wanted: Wanted) -> list[Found]:
        """What may be a shard of it: what the catalog vouches for first, then by index: the chunk's own bytes before
        parity."""
        redundancy = wanted.redundancy
        size = redundancy.shard_bytes(wanted.length)
        some: list[tuple[bool, Found]] = []
        for found in self._shards.find(wanted.chunk):
            if found.length != size or (found.index >= redundancy.shards and not redundancy.alike):
                continue
            expected = shard_hash(wanted.hashes, found.index)
            if found.hash == expected:
                some.append((False, found))
            elif expected == UNKNOWN_HASH and not redundancy.alike:  # made by a node whose word never came
                some.append((True, found))
        return [found for _, found in sorted(some)]


_MISJOINED = Lack("the shards of a chunk that are here do not make it")


def _joined(shards: dict[int, bytes], wanted: Wanted) -> bytes | Lack:
    try:
        data = join(shards, wanted.redundancy, wanted.length)
    except ConfigError as error:
        return Lack(error.message, needs_library=True)
    except Corrupt:
        return _MISJOINED
    return data if blake3(data).digest() == chunk_hash(wanted.hashes) else _MISJOINED


def _library_lack() -> Lack | None:
    try:
        check_library()
    except ConfigError as error:
        return Lack(error.message, needs_library=True)
    return None


def _lack(wanted: Wanted, good: int, damaged: int) -> Lack:
    needed = wanted.redundancy.needed
    if needed > 1 and good:
        rest = "others are damaged" if damaged else "the others are not in these directories"
        return Lack(f"of a chunk {good} of {needed} needed shards are here; {rest}")
    if damaged:
        return Lack("all shards of a chunk that are here are damaged")
    return Lack("no shard of a chunk is in these directories")
