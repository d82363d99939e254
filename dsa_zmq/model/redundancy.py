"""How a chunk becomes shards, as a name: ``copies=2``, ``ec=4+2``. A chunk has one redundancy for life."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from dsa_zmq.errors import Invalid

MAX_COPIES = 16  #: more copies than this is a typing error
MAX_DATA, MAX_PARITY = 12, 4  #: of a code: beyond, each repair reads more than it saves
MAX_SHARDS = MAX_DATA + MAX_PARITY
DEFAULT = "copies=2"
ALIGNMENT = 16  #: a code's shards are so many bytes, or a multiple: the library pads no further then
SMALL_BYTES = 64 << 10  #: contents up to this cost messages and syncs, not bytes: a code would multiply what costs

_COPIES = re.compile(r"copies=([1-9][0-9]?)", re.ASCII)
_CODE = re.compile(r"ec=([1-9][0-9]?)\+([1-9][0-9]?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Redundancy:
    """``shards`` are made of each chunk; any ``needed`` of them are enough to read it. Copies need one. Of a code the
    first ``needed`` shards are the chunk's bytes, cut into equal parts, the last one filled up with zeros; the others are
    parity."""

    shards: int
    needed: int

    @property
    def name(self) -> str:
        return f"copies={self.shards}" if self.alike else f"ec={self.needed}+{self.tolerates}"

    @property
    def tolerates(self) -> int:
        """How many of its shards may be lost."""
        return self.shards - self.needed

    @property
    def together(self) -> int:
        """How many of its shards may share a zone or a host, if the cluster has enough of them. Copies are to lie apart;
        of a code as many as may be lost."""
        return 1 if self.alike else max(1, self.tolerates)

    @property
    def alike(self) -> bool:
        """Whether each shard is the whole chunk: then any of them, on yet another node, stands in for any other."""
        return self.needed == 1

    def covered(self, held: Iterable[tuple[int, int]]) -> int:
        """How many of the shards are there, by the (node, shard index) pairs of one chunk's live places.

        Of shards that are alike it does not matter which they are: so many nodes are so many shards.
        """
        wanted = [(node, index) for node, index in held if 0 <= index < self.shards]
        if self.alike:
            return min(self.shards, len({node for node, _ in wanted}))
        return len({index for _, index in wanted})

    def stored_bytes(self, length: int) -> int:
        """Payload bytes on all nodes together for a chunk of that length; about, for several chunks."""
        return self.shards * self.shard_bytes(length)

    def shard_bytes(self, length: int) -> int:
        """Payload bytes of each shard of a chunk of that length."""
        if self.alike:
            return length
        return -(-length // (self.needed * ALIGNMENT)) * ALIGNMENT


def fewest(redundancy: Redundancy, degraded: bool) -> int:
    """With how many shards of a chunk a write may be acknowledged: all, or if its writer has said that fewer will do
    (``degraded``), so many that one more loss leaves enough. What can lose none has to be whole."""
    return min(redundancy.shards, redundancy.needed + 1) if degraded else redundancy.shards


def lesser(redundancy: Redundancy, nodes: int) -> str:
    """What could be used on so many nodes, which are too few for ``redundancy``, in words; "" if nothing could."""
    if redundancy.alike or nodes < 3:
        return f"copies={min(nodes, redundancy.tolerates + 1)}" if nodes else ""
    losses = min(nodes // 3, redundancy.tolerates)  # the code costs half as much again, the copies survive as much
    return f"ec={2 * losses}+{losses} or copies={losses + 1}"


@lru_cache(maxsize=64)  # every request names one, and there are few
def parse_redundancy(text: str) -> Redundancy:
    """``"copies=N"`` or ``"ec=K+M"`` to its value; :class:`Invalid` for anything else."""
    if (match := _COPIES.fullmatch(text)) is not None and int(match.group(1)) <= MAX_COPIES:
        return Redundancy(shards=int(match.group(1)), needed=1)
    if (match := _CODE.fullmatch(text)) is not None:
        data, parity = int(match.group(1)), int(match.group(2))
        if 2 <= data <= MAX_DATA and parity <= MAX_PARITY:
            return Redundancy(shards=data + parity, needed=data)
    raise Invalid(
        f"'{text}' is not a redundancy",
        f"write copies=N with N from 1 to {MAX_COPIES}, as in copies=2, or ec=K+M with K from 2 to {MAX_DATA} and "
        f"M from 1 to {MAX_PARITY}, as in ec=4+2",
    )


def kept_as(redundancy: str, length: int, chunk_bytes: int) -> str:
    """The redundancy of a content of ``length`` bytes in chunks of ``chunk_bytes`` where ``redundancy`` is wanted.

    What is small and in one chunk that is not full is kept as copies that survive as many losses as the code: cut into
    parts, each of its few kilobytes would cost a message and a sync on every one of many nodes, and reading it as many
    answers. That a chunk is not full shows as soon as its length is known, also of a stream.
    """
    if not is_small(length, chunk_bytes):
        return redundancy
    wanted = parse_redundancy(redundancy)
    return redundancy if wanted.alike else f"copies={wanted.tolerates + 1}"


def is_small(length: int, chunk_bytes: int) -> bool:
    """Whether a content of ``length`` bytes in chunks of ``chunk_bytes`` is not cut into parts, see :func:`kept_as`."""
    return length <= SMALL_BYTES and length < chunk_bytes
