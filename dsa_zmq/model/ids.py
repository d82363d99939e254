"""Identifiers: 8-byte numbers that are never used twice, so that a late message can only ever hit what it meant.

Chunk, content (= upload), inode and session ids are drawn by the master from (term, counter): the term is durable and
grows with every start, the counter lives in memory. So a new id costs no disk write, and no crash can repeat one.
"""

from __future__ import annotations

from typing import NewType

ChunkId = NewType("ChunkId", int)
ContentId = NewType("ContentId", int)
"""An immutable sequence of chunks. While it is being uploaded this number is the upload id."""
InodeId = NewType("InodeId", int)
SessionId = NewType("SessionId", int)
NodeId = NewType("NodeId", int)
"""Small number given at a store's first registration; one store id, one node id, for ever."""

ROOT_INODE = InodeId(1)

COUNTER_BITS = 40  #: 10^12 ids per start of a master
TERM_BITS = 23  #: 8 million starts; together 63 bits, a signed SQL integer


def id_floor(term: int) -> int:
    """The smallest id of a term: every id of an earlier term is below it."""
    if not 0 < term < 1 << TERM_BITS:
        raise ValueError(f"term {term} is out of range")
    return term << COUNTER_BITS


class IdSource:
    """Hands out ids of one term, in order, never the same twice. One per master process."""

    def __init__(self, term: int) -> None:
        self._next = id_floor(term) + 1
        self._end = id_floor(term) + (1 << COUNTER_BITS)

    def next(self) -> int:
        if self._next >= self._end:
            raise OverflowError("ids of this term are used up; restart the master")
        value = self._next
        self._next += 1
        return value

    @property
    def upcoming(self) -> int:
        """The id that :meth:`next` would return: everything below it was given out or never will be."""
        return self._next


NONCE_BITS = 24  #: of a node's incarnation: of 16 million copies one repeats the original's; leaves 10^11 starts


def next_incarnation(previous: int, nonce: int) -> int:
    """The incarnation of a node's next process: a counter that grows with every start, and random bits below it.

    The counter orders the starts. The nonce tells apart two processes that follow the same start: of a directory and of its
    copy, whose counters are equal. So only :func:`start_of` may be compared by order: of two processes of the same start
    neither is the later one.
    """
    return (start_of(previous) + 1) << NONCE_BITS | (nonce & ((1 << NONCE_BITS) - 1))


def start_of(incarnation: int) -> int:
    """Which start of its node this process is, counted from 1."""
    return incarnation >> NONCE_BITS
