"""Which nodes this client has had trouble with lately: kept per client, not per file, so that the second file does not
have to find out again; and what the master is told of it. Pure.

Suspicion only ever orders choices: a suspected node is asked last, never not at all. It fades by itself, and ends with
the first good answer. The master is told once of each suspicion that begins, and of damaged bytes; it asks others, and the
node, before it believes that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dsa_zmq.protocol.operations import Report
from dsa_zmq.protocol.values import ShardRef

SECOND_NS = 1_000_000_000
FIRST_NS = 10 * SECOND_NS  #: the master's own verdict (suspect, then down) takes about as long
REPORT_NS = SECOND_NS  #: between reports of one node
MAX_DAMAGED = 100  #: shards in one report; more are found again when they are read again
MAX_NS = 120 * SECOND_NS  #: a node that was repaired is tried again within two minutes


class Suspicion:
    """Suspected nodes and until when."""

    def __init__(self) -> None:
        self._until: dict[int, tuple[int, int]] = {}  # node -> (end, length of this suspicion)
        self._silent: set[int] = set()  #: of which the master is still to be told
        self._damaged: dict[int, dict[ShardRef, None]] = {}  #: the same, with the shards
        self._told: dict[int, int] = {}  #: node -> when the master was told last

    def __repr__(self) -> str:
        return f"Suspicion(nodes {sorted(self._until)})"

    def __bool__(self) -> bool:
        """Whether there may be a suspected node."""
        return bool(self._until)

    def accuse(self, node: int, now_ns: int) -> None:
        """It failed or was silent. Each new accusation after the last one ended lasts twice as long."""
        end, length = self._until.get(node, (0, 0))
        if now_ns < end:
            return
        length = min(2 * length, MAX_NS) or FIRST_NS
        self._until[node] = (now_ns + length, length)
        self._silent.add(node)

    def damaged(self, node: int, chunk: int, index: int) -> None:
        """It gave bytes that do not match the chunk's hash."""
        shards = self._damaged.setdefault(node, {})
        if len(shards) < MAX_DAMAGED:
            shards[ShardRef(chunk, index)] = None

    def reports(self, incarnation: Callable[[int], int], now_ns: int) -> list[Report]:
        """What the master is to be told now: at most once per node and second."""
        if not self._silent and not self._damaged:
            return []
        due = [
            n for n in sorted({*self._silent, *self._damaged}) if now_ns - self._told.get(n, -REPORT_NS) >= REPORT_NS
        ]
        told = []
        for node in due:
            silent, shards = node in self._silent, self._damaged.pop(node, {})
            self._silent.discard(node)
            self._told[node] = now_ns
            told.append(Report(node, incarnation(node), silent, list(shards)))
        return told

    def acquit(self, node: int) -> None:
        """It gave a good answer."""
        if self._until:
            self._until.pop(node, None)

    def suspects(self, node: int, now_ns: int) -> bool:
        return bool(self._until) and self._until.get(node, (0, 0))[0] > now_ns

    def nodes(self, now_ns: int) -> list[int]:
        """All suspected nodes: to be avoided by new allocations."""
        return sorted(node for node, (end, _) in self._until.items() if end > now_ns) if self._until else []

    def order(self, nodes: Sequence[int], now_ns: int) -> list[int]:
        """``nodes`` in the order in which they should be asked: as given, suspected ones last."""
        if not self._until:
            return list(nodes)
        return sorted(nodes, key=lambda node: self.suspects(node, now_ns))
