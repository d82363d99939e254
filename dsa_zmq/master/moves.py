"""Which moves are carried out next: by risk, within the limits of each node. Pure.

A move waits in the queue of its target, or for its next try, or is in a batch under way::

    add --> queued --batches--> under way --done--> gone
              ^                    |
              +---- retry <--failed+--> given up after some tries

A batch goes to one target, which gets its shards from several sources. Each node has a budget of batches and of bytes per
second, as target and as source; bytes that are taken beyond it are a debt that has to be served first. Times are serving
time in nanoseconds.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec

from dsa_zmq.master.catalog.move_rules import PlannedMove
from dsa_zmq.master.move_budget import SECOND_NS, Budget
from dsa_zmq.master.move_sources import choose, readable
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.model.upkeep import Placed, Standing, Why

PASSED_OVER = 1_000  #: moves that a look at a target skips because their sources are busy

Key = tuple[int, int]
"""(chunk, target): there is one move for it at a time."""


@dataclass(slots=True)
class Pending:
    """One move and what has become of it so far."""

    plan: PlannedMove
    tries: int = 0
    batch: int = 0  #: number of the batch that it is in; 0: none
    due_ns: int = 0  #: not before

    @property
    def key(self) -> Key:
        return self.plan.chunk, self.plan.node

    @property
    def rank(self) -> tuple[int, int, int]:
        """The smaller, the sooner."""
        return self.plan.remaining, self.plan.why, self.plan.move

    @property
    def heals(self) -> bool:
        return Why(self.plan.why).heals


@dataclass(slots=True)
class Batch:
    """Moves that travel together to one target."""

    number: int
    target: int
    moves: dict[int, Pending]  #: by move id
    asked: dict[int, list[Placed]]  #: move id -> its sources, best first
    bytes: int  #: that the target reads
    sources: set[int] = field(default_factory=set)  #: that are asked first, over the network


@dataclass(slots=True)
class _Target:
    """A node as target: what waits for it, and how it does."""

    queue: list[tuple[tuple[int, int, int], Key]] = field(default_factory=list)
    moves: int = 0  #: all that are to go there
    pause_ns: int = 0  #: grows with each batch of which nothing arrived
    paused_until_ns: int = 0


class Moves:
    """The table of pending moves. ``hold`` is told how many bytes are promised to a node, or no more."""

    def __init__(self, pace: HealingPace, hold: Callable[[int, int], None]) -> None:
        self._pace = pace
        self._hold = hold
        self._moves: dict[Key, Pending] = {}
        self._targets: dict[int, _Target] = {}
        self._retries: list[tuple[int, Key, int]] = []  #: heap of (when, key, move)
        self._batches: dict[int, Batch] = {}
        self._budget = Budget(pace)
        self.blind: list[Pending] = []  #: nobody could be asked for them: their sources may be others by now
        self._last = 0
        self._others = 0  #: moves that heal nothing
        self._bytes = 0  #: of all that are pending
        self.done_shards = 0
        self.done_bytes = 0
        self.failures = 0

    # --- what happens ---------------------------------------------------------------------------------------------

    def add(self, plans: Iterable[PlannedMove]) -> None:
        """Rows that are in the catalog. One that is known already is brought up to date."""
        for plan in plans:
            known = self._moves.get((plan.chunk, plan.node))
            if known is not None and known.plan.move == plan.move:
                self._update(known, plan)
                continue
            if known is not None:
                self._forget(known)
            pending = self._moves[plan.chunk, plan.node] = Pending(plan)
            self._count(pending, 1)
            self._queue(pending)

    def refresh(self, plans: Iterable[PlannedMove]) -> None:
        """What the catalog says of these now, if they are still known."""
        for plan in plans:
            known = self._moves.get((plan.chunk, plan.node))
            if known is not None and known.plan.move == plan.move:
                self._update(known, plan)

    def rank(self, ranks: Iterable[tuple[int, int, int]]) -> None:
        """(chunk, node, how many more shards may be lost), as it is now."""
        for chunk, node, remaining in ranks:
            known = self._moves.get((chunk, node))
            if known is not None and known.plan.remaining != remaining:
                self._update(known, msgspec.structs.replace(known.plan, remaining=remaining))

    def batches(self, standings: Mapping[int, Standing], now_ns: int, *, held: bool = False) -> Iterator[Batch]:
        """Batches that may leave now, the most urgent first. While healing is ``held``, only what is damaged is mended."""
        while self._retries and self._retries[0][0] <= now_ns:
            _, key, move = heapq.heappop(self._retries)
            pending = self._moves.get(key)
            if pending is not None and pending.plan.move == move and not pending.batch:
                self._queue(pending)
        open_targets = [
            (target.queue[0][0], node)
            for node, target in self._targets.items()
            if target.queue and self._is_open(node, standings, now_ns) and target.paused_until_ns <= now_ns
        ]
        heapq.heapify(open_targets)
        while open_targets:
            _, node = heapq.heappop(open_targets)
            batch = self._fill(node, standings, now_ns, held)
            if batch is not None:
                yield batch
                target = self._targets[node]
                if target.queue and self._is_open(node, standings, now_ns):
                    heapq.heappush(open_targets, (target.queue[0][0], node))

    def done(self, batch: Batch, move: int) -> None:
        """A receipt was applied."""
        pending = batch.moves.get(move)
        if pending is not None:
            self.done_shards += 1
            self.done_bytes += pending.plan.shard_bytes
            self._target(batch.target).pause_ns = 0
            self._forget(pending)

    def gone(self, batch: Batch, move: int) -> None:
        """Its row is not there any more."""
        pending = batch.moves.get(move)
        if pending is not None:
            self._forget(pending)

    def again(self, batch: Batch, move: int) -> None:
        """Its target is another process now: it is to be asked again, at once."""
        pending = batch.moves.get(move)
        if pending is not None and self._is_current(pending):
            pending.batch = pending.due_ns = 0
            self._queue(pending)

    def failed(self, batch: Batch, moves: Iterable[int], now_ns: int) -> list[Pending]:
        """These did not arrive. They are tried again later; those tried often enough are returned: give them up."""
        spent = []
        for move in moves:
            pending = batch.moves.get(move)
            if pending is None or not self._is_current(pending):
                continue
            self.failures += 1
            pending.tries += 1
            pending.batch = 0
            if pending.tries >= self._pace.max_tries:
                spent.append(pending)
                pending.batch = -1  # to nobody until its row is deleted
                continue
            self._retry(pending, now_ns + self._backoff_ns(pending.tries))
        return spent

    def nothing_arrived(self, node: int, now_ns: int) -> None:
        """A whole batch failed: the target is left alone for a while."""
        target = self._target(node)
        first, most = self._pace.retry_first_s * SECOND_NS, self._pace.retry_max_s * SECOND_NS
        target.pause_ns = int(min(most, max(first, 2 * target.pause_ns)))
        target.paused_until_ns = now_ns + target.pause_ns

    def end(self, batch: Batch) -> None:
        """The target has answered, or will not: it may get another batch."""
        if self._batches.pop(batch.number, None) is not None:
            self._budget.end(batch.target, batch.sources)

    def to(self, nodes: Callable[[int], bool]) -> list[Pending]:
        """Moves to such nodes that are not under way: to be given up."""
        found: list[Pending] = []
        meant = {node for node, target in self._targets.items() if target.moves and nodes(node)}
        if not meant:
            return found
        for pending in self._moves.values():
            if pending.batch == 0 and pending.plan.node in meant:
                pending.batch = -1
                found.append(pending)
        return found

    def take(self, unwanted: Callable[[PlannedMove], bool]) -> list[Pending]:
        """Moves like this that are not under way: to be given up."""
        found = [pending for pending in self._moves.values() if pending.batch == 0 and unwanted(pending.plan)]
        for pending in found:
            pending.batch = -1
        return found

    def because(self, why: Why) -> list[Pending]:
        """All moves of this kind."""
        return [pending for pending in self._moves.values() if pending.plan.why == why]

    def given_up(self, moves: Iterable[tuple[int, int, int]]) -> None:
        """Rows (chunk, node, move) that were deleted."""
        for chunk, node, move in moves:
            pending = self._moves.get((chunk, node))
            if pending is not None and pending.plan.move == move:
                self._forget(pending)

    def not_given_up(self, moves: Iterable[tuple[int, int, int]]) -> None:
        """The catalog could not delete them now."""
        for chunk, node, move in moves:
            pending = self._moves.get((chunk, node))
            if pending is not None and pending.plan.move == move and pending.batch < 0:
                pending.batch = pending.due_ns = 0
                self._queue(pending)

    # --- what is so -----------------------------------------------------------------------------------------------

    def under_way(self) -> list[Batch]:
        return list(self._batches.values())

    def wait_ns(self, now_ns: int) -> int | None:
        """How long until something may leave that may not now, as far as time alone decides."""
        times = [self._retries[0][0]] if self._retries else []
        waiting = [target for target in self._targets.values() if target.queue]
        if waiting:
            times += self._budget.due_ns()
            times += [target.paused_until_ns for target in waiting]
        return min((at - now_ns for at in times if at > now_ns), default=None)

    @property
    def room(self) -> tuple[int, int]:
        """How many more may be planned: that heal, and that do not."""
        left = self._pace.max_moves - len(self._moves)
        return max(0, left), max(0, min(left, self._pace.max_moves // 2 - self._others))

    def __len__(self) -> int:
        return len(self._moves)

    def statistics(self) -> dict[str, int]:
        return {
            "moves": len(self._moves),
            "moves_bytes": self._bytes,
            "moves_under_way": sum(len(batch.moves) for batch in self._batches.values()),
            "moves_done": self.done_shards,
            "moves_done_bytes": self.done_bytes,
            "moves_failed": self.failures,
        }

    def __repr__(self) -> str:
        return f"<Moves {len(self._moves)} pending, {len(self._batches)} batches under way, {self.done_shards} done>"

    def check_invariants(self) -> None:
        batches = self._batches.values()
        assert +self._budget.as_target == Counter(batch.target for batch in batches)
        assert +self._budget.as_source == Counter(node for batch in batches for node in batch.sources)
        assert self._others == sum(not pending.heals for pending in self._moves.values())
        assert self._bytes == sum(pending.plan.shard_bytes for pending in self._moves.values())
        assert sum(target.moves for target in self._targets.values()) == len(self._moves)
        for key, pending in self._moves.items():
            assert key == pending.key
            batch = self._batches.get(pending.batch)  # it may have ended, and its receipts are being applied
            assert batch is None or pending.plan.move in batch.moves

    # --- inside ---------------------------------------------------------------------------------------------------

    def _target(self, node: int) -> _Target:
        return self._targets.setdefault(node, _Target())

    def _queue(self, pending: Pending) -> None:
        heapq.heappush(self._target(pending.plan.node).queue, (pending.rank, pending.key))

    def _update(self, pending: Pending, plan: PlannedMove) -> None:
        """The same move as the catalog has it now. Its entry in a queue names its former rank, and is passed over."""
        before, pending.plan = pending.rank, plan
        if not pending.batch and pending.rank != before:
            self._queue(pending)

    def _count(self, pending: Pending, sign: int) -> None:
        plan = pending.plan
        self._others += sign * (not pending.heals)
        self._bytes += sign * plan.shard_bytes
        self._target(plan.node).moves += sign
        self._hold(plan.node, sign * plan.shard_bytes)

    def _retry(self, pending: Pending, due_ns: int) -> None:
        pending.due_ns = due_ns
        heapq.heappush(self._retries, (due_ns, pending.key, pending.plan.move))

    def _forget(self, pending: Pending) -> None:
        if self._moves.get(pending.key) is pending:
            del self._moves[pending.key]
            self._count(pending, -1)

    def _is_current(self, pending: Pending) -> bool:
        return self._moves.get(pending.key) is pending

    def _backoff_ns(self, tries: int) -> int:
        return int(min(self._pace.retry_max_s, self._pace.retry_first_s * 2 ** (tries - 1)) * SECOND_NS)

    def _fill(self, node: int, standings: Mapping[int, Standing], now_ns: int, held: bool) -> Batch | None:
        """The next batch for this target, or None if nothing of its queue can be fetched now."""
        pace, target = self._pace, self._targets[node]
        batch = Batch(self._last + 1, node, {}, {}, 0)
        asked: dict[int, int] = {}  #: bytes, by source
        free = partial(self._budget.may_be_source, now_ns=now_ns)
        passed: list[tuple[tuple[int, int, int], Key]] = []
        while target.queue and len(batch.moves) < pace.move_shards and len(passed) < PASSED_OVER:
            entry = heapq.heappop(target.queue)
            pending = self._moves.get(entry[1])
            if pending is None or pending.rank != entry[0] or pending.batch or pending.due_ns > now_ns:
                continue  # it has ended, is on its way, or has another entry
            if held and pending.plan.why != Why.BAD:
                passed.append(entry)
                continue
            plan = pending.plan
            there, needed = readable(plan, standings)
            size = needed * plan.source_bytes
            if batch.moves and batch.bytes + size > pace.move_bytes:
                passed.append(entry)
                break
            if not needed:
                self._retry(pending, now_ns + int(pace.retry_max_s * SECOND_NS))
                self.blind.append(pending)
                continue
            first = choose(plan, there, needed, standings, asked, self._budget.as_source, free)
            if not first or not self._may_trickle(pending, now_ns):
                passed.append(entry)
                continue
            batch.moves[plan.move] = pending
            pending.batch = batch.number  # now: if its rank was another for a while, it has two entries like this
            batch.asked[plan.move] = [*first, *(place for place in there if place not in first)]
            batch.bytes += size
            for place in first:
                if place.node != node:
                    asked[place.node] = asked.get(place.node, 0) + plan.source_bytes
        for entry in passed:
            heapq.heappush(target.queue, entry)
        if not batch.moves:
            return None
        self._last = batch.number
        self._batches[batch.number] = batch
        batch.sources = set(asked)
        self._budget.begin(node, batch.bytes, asked, now_ns)
        return batch

    def _is_open(self, node: int, standings: Mapping[int, Standing], now_ns: int) -> bool:
        """Whether this node may be the target of one more batch."""
        return standings.get(node) is Standing.KEEPS and self._budget.may_be_target(node, now_ns)

    def _may_trickle(self, pending: Pending, now_ns: int) -> bool:
        """What could only lie better goes at a fraction of the rate, if nobody has asked for it."""
        if not Why(pending.plan.why).can_wait or pending.plan.task:
            return True
        if not self._budget.may_trickle(pending.plan.node, now_ns):
            return False
        self._budget.trickled(pending.plan.node, pending.plan.shard_bytes, now_ns)
        return True
