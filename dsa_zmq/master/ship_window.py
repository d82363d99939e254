"""The end of the catalog's log, as the master has it in memory for those who are to have it too. Pure.

Records come in as they are committed and are kept, newest last, up to so many bytes. Older ones are in the catalog. What
bytes lie between two positions is known roughly, from marks that are set every now and then.
"""

from __future__ import annotations

from collections import deque

from dsa_zmq.model.records import chain_of

WINDOW_BYTES = 16 << 20  #: some seconds of the fastest changes there are: who lags more has another worry
MARK_BYTES = 256 << 10  #: between two marks
MAX_MARKS = 4_096  #: 1 GiB of log: who lags by more does not get it from here


def portion(records: deque[bytes], first: int, limit: int, least: int) -> list[bytes]:
    """Neighbours from that one on, at most so many bytes, but ``least`` of them if there are."""
    taken: list[bytes] = []
    for at in range(first, len(records)):  # by number: both ends of a deque are near
        limit -= len(records[at])
        if limit < 0 and len(taken) >= least:
            break
        taken.append(records[at])
    return taken


class ShipWindow:
    """See the module. Positions are those of the log's records."""

    def __init__(self, limit: int = WINDOW_BYTES) -> None:
        self._limit = limit
        self._records: deque[bytes] = deque()
        self._held = 0  #: bytes of them
        self.position = 0  #: of the log's last record
        self.hash = b""  #: of it
        self._total = 0  #: bytes of the log that were counted so far
        self._marks: deque[tuple[int, int]] = deque()  #: (position, total with the record there)

    def begin(self, position: int, digest: bytes, first: int, size: int) -> None:
        """The log ends there; the catalog has its records from ``first`` on, with ``size`` bytes in all."""
        self.position, self.hash, self._total = position, digest, size
        self._marks.extend([(first - 1, 0), (position, size)])

    def append(self, data: bytes) -> None:
        """The log's next record."""
        position, previous, digest = chain_of(data)
        assert (position, previous) == (self.position + 1, self.hash), "the log goes on where it ended"
        self.position, self.hash = position, digest
        self._records.append(data)
        self._held += len(data)
        self._total += len(data)
        while self._held > self._limit and len(self._records) > 1:
            self._held -= len(self._records.popleft())
        if self._total - self._marks[-1][1] >= MARK_BYTES:
            self._marks.append((position, self._total))
            if len(self._marks) > MAX_MARKS:
                self._marks.popleft()

    @property
    def first(self) -> int:
        """The first position whose record is here; one more than ``position`` if none is."""
        return self.position + 1 - len(self._records)

    def take(self, first: int, limit: int) -> list[bytes]:
        """Records from that position on, which has to be here or the next one: at most ``limit`` bytes, but one at least if
        there is one."""
        skipped = first - self.first
        assert skipped >= 0, "it is here"
        return portion(self._records, skipped, limit, 1)

    def hash_at(self, position: int) -> bytes | None:
        """The hash of the record at that position, None if it is not known here."""
        if position == self.position:
            return self.hash
        at = position + 1 - self.first
        return chain_of(self._records[at])[1] if 0 <= at < len(self._records) else None

    def bytes_behind(self, position: int) -> int:
        """Of the records after that position: about, and rather too many."""
        if position >= self.position:
            return 0
        before = 0
        for marked, total in self._marks:
            if marked > position:
                break
            before = total
        return self._total - before

    def bytes_each(self, first: int) -> int:
        """Of a record, about, by those from that position on; at least 1 KiB."""
        return max(1024, self.bytes_behind(first - 1) // max(1, self.position + 1 - first))

    def trim(self, below: int) -> None:
        """Nobody needs what is before that position, or asks for its size."""
        while len(self._marks) > 1 and self._marks[1][0] < below:
            self._marks.popleft()

    def __repr__(self) -> str:
        return f"<ShipWindow {self.first}..{self.position}, {self._held} bytes>"

    def check_invariants(self) -> None:
        assert self._held == sum(map(len, self._records))
        assert self._held <= self._limit or len(self._records) == 1, "memory is bounded"
        assert list(self._marks) == sorted(self._marks)
