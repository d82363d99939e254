"""The shards of one chunk on their way to a download: a pure machine inside :class:`~dsa_zmq.client.download.Download`.

Any ``needed`` shards make the chunk; of copies that is one, which is the chunk. So many are asked for at once, at the first
nodes in the master's order that are not suspected: of a code those with the chunk's own bytes. If only some of its bytes are
wanted, the shards that have them are enough, and only those are asked for, as long as each of them seems to be in reach. For
each that fails or is late another one is asked: the same shard from another node that has it, too, before one that has to be
decoded. Each is verified by itself as it comes; what comes beyond what is needed is dropped.

    asked --bytes--> checking --good--> the chunk, of copies; of a code kept, until enough of them are joined, or until
                                        those are there that have the bytes which are wanted
    asked --late--> still asked, and another with it
    asked, checking --failed, damaged--> another is asked
    nobody at work, and nobody left to ask: resting --new places--> asked
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from actors.requests import Backoff
from dsa_zmq.client.effects import Carry, Effect, Join, Release, Verify
from dsa_zmq.client.suspicion import Suspicion
from dsa_zmq.client.tasks import Read, Task
from dsa_zmq.model.hashes import chunk_hash, shard_hash
from dsa_zmq.model.redundancy import Redundancy
from dsa_zmq.protocol.messages import ShardGrant
from dsa_zmq.protocol.values import ChunkPlaces, Place

DEFINITE = frozenset(("corrupt", "not-found"))  #: a node that answers this has no good shard
MAX_ROUNDS = 2  #: in so many looks at the catalog too many shards were bad: it will not get better

_BACKOFF = Backoff()

Bytes = memoryview | bytes

_NOBODY: Mapping[int, str] = MappingProxyType({})
_NONE: Mapping[int, tuple[int, Bytes]] = MappingProxyType({})


class Gathering:
    """One chunk that was asked for and is not there yet. A *round* is one set of places from the catalog; what was good in
    an earlier one stays. No node has two shards of a chunk.

    Most chunks come from the first nodes that are asked: what tells of trouble is made when there is any.
    """

    failed: Mapping[int, str] = _NOBODY  #: node -> error code, in this round
    blame: Mapping[int, str] = _NOBODY  #: node -> its last error code, for people
    late: frozenset[int] = frozenset()  #: of those asked; others are asked with them
    checking: tuple[int, ...] = ()  #: indexes of the shards whose bytes are being verified
    good: Mapping[int, tuple[int, Bytes]] = _NONE  #: of a code: index -> (node, verified bytes)
    spares: tuple[tuple[Task, Bytes], ...] = ()  #: came while enough others were being verified
    joining: bool = False  #: enough are good
    due_ns: int = 0  #: resting until then; 0: not resting
    rounds: int = 0  #: in which too few came
    bad_rounds: int = 0  #: of those, with nothing but damage where one failed

    def __init__(
        self,
        owner: int,
        index: int,
        row: ChunkPlaces,
        redundancy: Redundancy,
        expires_s: int,
        offset: int = -1,
        within: tuple[int, int] | None = None,
    ) -> None:
        """``index`` is the chunk's in its file; ``offset`` where its bytes are to be written, if they are; ``within`` which
        of its bytes are wanted, if not all."""
        self._owner = owner
        self._index = index
        self._offset = offset
        self._redundancy = redundancy
        self._chunk = row.chunk
        self._hashes = row.hash
        self.length = row.length
        self.needed = redundancy.needed
        self.shard_bytes = redundancy.shard_bytes(row.length)
        self.places = row.places
        self.expires_s = expires_s
        self.asked: dict[int, int] = {}  #: nodes that are to answer -> shard index
        self._own: range | None = None  #: shards of a code with all that is wanted, if they are fewer
        if within is not None and self.needed > 1:
            own = range(within[0] // self.shard_bytes, -(-within[1] // self.shard_bytes))
            self._own = own if len(own) < self.needed else None

    @property
    def at_work(self) -> bool:
        """Whether an answer or a result is to come."""
        return bool(self.asked or self.checking or self.joining)

    # --- asking ------------------------------------------------------------------------------------------------------

    def go_on(self, suspicion: Suspicion, now_ns: int) -> list[Effect]:
        """Verify what came as a spare, and ask for as many shards as are needed beyond those that are at work in time."""
        effects: list[Effect] = self._use_spares() if self.spares else []
        size = self.shard_bytes
        for place in self._next(suspicion, now_ns):
            self.asked[place.node] = place.index
            grant = ShardGrant(self._chunk, place.index, size, self.expires_s, place.mac)
            effects.append(Carry(Read(self._owner, (self._index, place.index), place.node, size, grant)))
        return effects

    def _next(self, suspicion: Suspicion, now_ns: int) -> list[Place]:
        """Whom to ask for what is missing: the first in the master's order who were not asked in this round and are not
        suspected; suspected ones rather than none."""
        chosen: list[Place] = []
        here: set[int] = (
            set()
        )  #: shards that are there or come in time, or are asked for now; of copies none counts as that
        short = 1 - len(self.checking) - len(self.asked) + len(self.late)
        if self.needed > 1:
            here |= {*self.good, *self.checking, *(at for node, at in self.asked.items() if node not in self.late)}
            short = self.needed - len(here)
        if short <= 0:
            return chosen
        missing = None if self._own is None else [index for index in self._own if index not in here]
        if missing == []:
            return chosen
        suspected: list[Place] = []
        for place in self.places:
            if place.node in self.failed or place.node in self.asked or place.index in here:
                continue
            if suspicion.suspects(place.node, now_ns):
                suspected.append(place)
                continue
            chosen.append(place)
            if len(chosen) == short:
                break
            here.add(place.index)
        for place in suspected:
            if len(chosen) < short and place.index not in here:
                chosen.append(place)
                here.add(place.index)
        if missing is not None:
            with_bytes = [place for place in chosen if place.index in missing]
            return with_bytes if len(with_bytes) == len(missing) else chosen
        return chosen

    # --- what comes --------------------------------------------------------------------------------------------------

    def is_late(self, node: int) -> None:
        """It may still be the first to answer."""
        if node in self.asked:
            self.late |= {node}

    def fail(self, node: int, code: str) -> None:
        """This node's shard could not be had."""
        self._answered(node)
        self.failed = {**self.failed, node: code}
        self.blame = {**self.blame, node: code}

    def came(self, task: Task, data: Bytes) -> list[Effect]:
        """The bytes of a shard, as many as it has."""
        self._answered(task.node)
        index = task.slot[1]
        if self.joining or (self.needed > 1 and (index in self.good or index in self.checking)):
            return [Release(task)]
        if len(self.good) + len(self.checking) < self.needed:
            self.checking = (*self.checking, index)
            # A copy is the chunk: it is written as soon as it is known to be good.
            offset = self._offset if self.needed == 1 else -1
            return [Verify(task, data, shard_hash(self._hashes, index), offset)]
        self.spares = (*self.spares, (task, data))
        return []

    def checked(self, task: Task) -> None:
        """Its bytes are verified, whatever came out."""
        of = task.slot[1]
        self.checking = () if self.checking == (of,) else tuple([index for index in self.checking if index != of])

    def keep(self, task: Task, data: Bytes) -> list[Effect]:
        """A shard of a code is good. When there are enough of them, they are joined; until then there is nothing to do."""
        self.good = {**self.good, task.slot[1]: (task.node, data)}
        self.blame = {node: code for node, code in self.blame.items() if node != task.node}
        if len(self.good) < self.needed or self.has_own:
            return []
        self.joining = True
        shards = {index: part for index, (_, part) in sorted(self.good.items())}
        join = Join(self._index, shards, self._redundancy, self.length, chunk_hash(self._hashes), self._offset)
        return [*self.drop_spares(), join]

    @property
    def has_own(self) -> bool:
        """Whether all bytes that are wanted, and fewer than the whole chunk, are here as they are."""
        return self._own is not None and all(index in self.good for index in self._own)

    def own(self) -> tuple[int, list[Bytes]]:
        """Where in the chunk they begin, and they."""
        assert self._own is not None
        size = self.shard_bytes
        return self._own.start * size, [self.good[index][1][: self.length - index * size] for index in self._own]

    def misjoined(self) -> None:
        """Each of the shards has its hash, but together they do not make the chunk. Then its own parts are right, as they
        have the hashes that were made with its own, and parity is not that of this chunk."""
        self.joining = False
        for index in [index for index in self.good if index >= self.needed]:
            self.fail(self.good[index][0], "corrupt")
        self.good = {index: kept for index, kept in self.good.items() if index < self.needed}

    def drop_spares(self) -> list[Effect]:
        """They are not needed any more."""
        dropped: list[Effect] = [Release(task) for task, _ in self.spares]
        self.spares = ()
        return dropped

    def _answered(self, node: int) -> None:
        self.asked.pop(node, None)
        if self.late:
            self.late -= {node}

    def _use_spares(self) -> list[Effect]:
        spares, self.spares = self.spares, ()
        return [effect for task, data in reversed(spares) for effect in self.came(task, data)]

    # --- when too few came -------------------------------------------------------------------------------------------

    def rest(self, now_ns: int) -> None:
        """Nobody is left to ask: wait before the catalog is asked again."""
        told = self.failed if self.places else self.blame  # what was found damaged is soon no place any more
        perhaps = [node for node, code in told.items() if code not in DEFINITE]
        if len(self.good) + len(perhaps) < self.needed:
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
        """Too many shards are damaged or missing, for good; or the catalog knows of too few. Nodes that are down are named
        by it."""
        return self.bad_rounds >= MAX_ROUNDS

    @property
    def denied(self) -> bool:
        """Fresh grants were refused too."""
        return self.rounds >= MAX_ROUNDS and set(self.failed.values()) == {"denied"}

    def story(self, node_name: Callable[[int], str]) -> str:
        """What happened, for people: ``n1: corrupt, n2: unavailable``; of a code ``3 of 4 needed shards; n1: corrupt``.
        Every node that may have a shard is named, but those whose shards are here."""
        told = {place.node: "not asked" for place in self.places}
        told |= dict.fromkeys(self.asked, "no answer") | dict(self.blame)
        here = {node for node, _ in self.good.values()}
        others = ", ".join(f"{node_name(node)}: {code}" for node, code in sorted(told.items()) if node not in here)
        if self.needed == 1:
            return others or "no node is known to have one"
        return f"{len(here)} of {self.needed} needed shards; {others or 'no other node is known to have one'}"
