"""How a chunk becomes shards, as a name: ``copies=2``. A chunk has one redundancy for life."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from dsa_zmq.errors import Invalid

MAX_COPIES = 16  #: more copies than this is a typing error
DEFAULT = "copies=2"

_COPIES = re.compile(r"copies=([1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class Redundancy:
    """``shards`` are made of each chunk; any ``needed`` of them are enough to read it."""

    shards: int
    needed: int

    @property
    def name(self) -> str:
        return f"copies={self.shards}"

    @property
    def tolerates(self) -> int:
        """How many of its shards may be lost."""
        return self.shards - self.needed

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
        """Payload bytes on all nodes together for ``length`` bytes of content."""
        return self.shards * length

    def shard_bytes(self, length: int) -> int:
        """Payload bytes of each shard of a chunk of that length."""
        return -(-self.stored_bytes(length) // self.shards)


@lru_cache(maxsize=64)  # every request names one, and there are few
def parse_redundancy(text: str) -> Redundancy:
    """``"copies=N"`` to its value; :class:`Invalid` for anything else."""
    match = _COPIES.fullmatch(text)
    if match is None or int(match.group(1)) > MAX_COPIES:
        raise Invalid(f"'{text}' is not a redundancy", f"write copies=N with N from 1 to {MAX_COPIES}, as in copies=2")
    return Redundancy(shards=int(match.group(1)), needed=1)
