"""The copies of one chunk during a download: which were asked, which failed, what to do next. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from actors.requests import Backoff
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.tasks import Task
from dsa_zmq.protocol.messages import ShardGrant
from dsa_zmq.protocol.values import ChunkPlaces, Place

DEFINITE = frozenset(("corrupt", "not-found"))  #: a node that answers this has no good copy
MAX_ROUNDS = 2  #: in so many looks at the catalog every copy was bad: it will not get better

_BACKOFF = Backoff()


_NOBODY: Mapping[int, str] = MappingProxyType({})


class Copies:
    """One chunk that was asked for and is not there yet. A *round* is one set of places from the catalog.

    Most chunks come from the first node that is asked: what tells of trouble is made when there is any.
    """

    failed: Mapping[int, str] = _NOBODY  #: node -> error code, in this round
    blame: Mapping[int, str] = _NOBODY  #: node -> its last error code, for people
    spares: tuple[tuple[Task, memoryview | bytes], ...] = ()  #: came while another copy was being verified
    checking: Task | None = None  #: whose bytes are being verified
    due_ns: int = 0  #: resting until then; 0: not resting
    rounds: int = 0  #: in which all copies failed
    bad_rounds: int = 0  #: of those, with nothing but damage

    def __init__(self, row: ChunkPlaces, expires_s: int) -> None:
        self.id = row.chunk
        self.length = row.length
        self.hash = row.hash
        self.places = row.places
        self.expires_s = expires_s
        self.asked: list[int] = []  #: nodes that are to answer

    def next(self, suspicion: Suspicion, now_ns: int) -> tuple[int, int, ShardGrant] | None:
        """Node, shard index and grant of the best copy not asked in this round, which counts as asked now. The first in the
        master's order that is not suspected; a suspected one rather than none."""
        best: Place | None = None
        for place in self.places:
            if place.node in self.failed or place.node in self.asked:
                continue
            if not suspicion.suspects(place.node, now_ns):
                best = place
                break
            best = best or place
        if best is None:
            return None
        self.asked.append(best.node)
        return best.node, best.index, ShardGrant(self.id, best.index, self.length, self.expires_s, best.mac)

    def fail(self, node: int, code: str) -> bool:
        """This copy could not be had. True if nobody else is at work on the chunk."""
        if node in self.asked:
            self.asked.remove(node)
        self.failed = {**self.failed, node: code}
        self.blame = {**self.blame, node: code}
        return not self.asked and self.checking is None

    def rest(self, now_ns: int) -> None:
        """All copies have failed: wait before the catalog is asked again."""
        told = self.failed if self.places else self.blame  # what was found damaged is soon no place any more
        if all(code in DEFINITE for code in told.values()):
            self.bad_rounds += 1
        self.rest_again(now_ns)

    def rest_again(self, now_ns: int) -> None:
        """The catalog could not be asked."""
        self.rounds += 1
        self.due_ns = now_ns + _BACKOFF.delay_ns(self.rounds)

    def renew(self, row: ChunkPlaces, expires_s: int) -> None:
        """The catalog was asked again: a new round."""
        self.places, self.expires_s, self.due_ns = row.places, expires_s, 0
        self.failed = _NOBODY

    @property
    def hopeless(self) -> bool:
        """Every copy is damaged or missing, for good; or the catalog knows of none. Nodes that are down are named by it."""
        return self.bad_rounds >= MAX_ROUNDS

    @property
    def denied(self) -> bool:
        """Fresh grants were refused too."""
        return self.rounds >= MAX_ROUNDS and set(self.failed.values()) == {"denied"}

    def story(self, node_name: Callable[[int], str]) -> str:
        """What happened, for people: ``n1: corrupt, n2: unavailable``. Every node that may have it is named."""
        told = {place.node: "not asked" for place in self.places}
        told |= dict.fromkeys(self.asked, "no answer") | dict(self.blame)
        return (
            ", ".join(f"{node_name(node)}: {code}" for node, code in sorted(told.items()))
            or "no node is known to have one"
        )
