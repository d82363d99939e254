"""Which copies of the catalog give which moment, and which nodes have to be there before one is used. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from dsa_zmq.errors import Conflict, Corrupt, Incompatible, NotFound, Unavailable
from dsa_zmq.master.catalog.rebuild import NO_LIMIT, Preview
from dsa_zmq.master.ship_set import enough
from dsa_zmq.model.ids import TERM_BITS
from dsa_zmq.model.limits import CATALOG_ENOUGH
from dsa_zmq.protocol.volumes import VolumeState

TERM_MARGIN = 1000
"""Above the highest term that was heard of: a node that is absent may have obeyed a later start of the lost master."""


class Copy(NamedTuple):
    """A volume as one node has it."""

    node: str  #: its name
    state: VolumeState
    store: bytes = b""


class Step(NamedTuple):
    """One volume that is read: of the first the snapshot too, of the others the log only."""

    volume: int
    upto: int  #: position of the log up to which this one is to be believed
    holders: tuple[Copy, ...]  #: those that have it, who has most of it first

    @property
    def best(self) -> VolumeState:
        return self.holders[0].state


class History(NamedTuple):
    """The moments of the catalog that some copies can give, by the clock of the master that made them."""

    first_ns: int
    last_ns: int


def history_of(copies: Iterable[Copy]) -> History | None:
    """From the earliest to the latest moment; None if there is no usable copy."""
    usable = [copy.state for copy in copies if copy.state.usable]
    if not usable:
        return None
    return History(min(state.whole_ns for state in usable), max(_moment(state) for state in usable))


def choose(copies: Sequence[Copy], *, at_ns: int = NO_LIMIT, limits: Mapping[int, int] | None = None) -> list[Step]:
    """What to read, in order. ``limits`` are positions behind which volumes turned out to be of no use.

    Raises NotFound if no copy can be used, Conflict if the moment is outside of what they give.
    """
    held: dict[int, list[Copy]] = {}
    for copy in copies:
        limit = (limits or {}).get(copy.state.volume, NO_LIMIT)
        if copy.state.begun >= 0 and limit >= 0:
            state = msgspec.structs.replace(copy.state, position=min(copy.state.position, limit))
            held.setdefault(copy.state.volume, []).append(copy._replace(state=state))
    if at_ns >= NO_LIMIT:
        usable = [step for step in _steps(held, limits) if step.best.usable]
        if not usable:
            raise NotFound("no node that is here has a usable copy of the catalog", "start the other nodes too")
        return [max(usable, key=lambda step: (step.best.newness, step.best.begun))]  # of equals, the shorter log
    return _as_of(_steps(held, limits), at_ns)


def newest_of(copies: Iterable[Copy]) -> VolumeState:
    """The newest that can be used; of position -1 if there is none."""
    usable = [copy.state for copy in copies if copy.state.usable]
    return max(usable, key=lambda state: state.newness, default=VolumeState(0))


def _steps(held: Mapping[int, Sequence[Copy]], limits: Mapping[int, int] | None) -> list[Step]:
    """Each volume alone, the oldest first."""
    steps = []
    for volume, copies in held.items():
        best_first = sorted(copies, key=lambda copy: (copy.state.usable, copy.state.newness), reverse=True)
        steps.append(Step(volume, (limits or {}).get(volume, NO_LIMIT), tuple(best_first)))
    return sorted(steps, key=lambda step: (step.best.begun_ns, step.volume))


def _as_of(steps: Sequence[Step], at_ns: int) -> list[Step]:
    """Of the snapshots that were whole by then the one whose log, with those of the volumes that were begun until then,
    leads nearest to that moment; of equals, the last. The last of all may not do: its volume may have been given up soon."""
    usable = [step for step in steps if step.best.usable]
    if not usable:
        raise NotFound("no node that is here has a usable copy of the catalog", "start the other nodes too")
    whole = [step for step in usable if step.best.whole_ns <= at_ns]
    if not whole:
        raise Conflict("the copies of the catalog do not reach back to that moment", "name a later one")
    chains = [chain for first in whole if (chain := _chain_from(first, steps, at_ns))]
    if not chains:
        raise Conflict("the copies of the catalog have a gap around that moment", "name an earlier or a later one")
    return max(chains, key=lambda chain: (min(at_ns, _moment(chain[-1].best)), _snapshot_of(chain)))


def _snapshot_of(chain: Sequence[Step]) -> tuple[int, tuple[int, int]]:
    """When it was whole."""
    return chain[0].best.whole_ns, chain[0].best.newness


def _chain_from(first: Step, steps: Sequence[Step], at_ns: int) -> list[Step]:
    """That volume, and those that lead on from it; [] if something is missing between."""
    chain = [first]
    for later in steps[steps.index(first) + 1 :]:
        last, next_one = chain[-1].best, later.best
        if next_one.begun_ns > at_ns:
            break
        if next_one.begun > last.position or _is_fork(last, next_one):
            return []
        if next_one.position > last.position:
            chain.append(later)
    return chain


def doubtful(copies: Iterable[Copy], last: Step, at_ns: int, limits: Mapping[int, int]) -> list[str]:
    """Nodes that may have held later changes than ``last`` gives: their copy of that volume, or of a later one, is damaged.
    None if the moment that is wanted was reached."""
    if last.best.wall_ns >= at_ns and last.volume not in limits:
        return []
    return sorted(
        {
            copy.node
            for copy in copies
            if copy.state.volume >= last.volume
            and copy.state.begun_ns <= at_ns
            and (copy.state.damage or copy.state.position > limits.get(copy.state.volume, NO_LIMIT))
        }
    )


def check_end_is_known(damaged: Collection[str], absent: Collection[str], members: int, position: int) -> None:
    """Corrupt if all of those nodes, that may have held later changes, may together have made such a change safe."""
    if damaged and len({*damaged, *absent}) >= enough(members):
        raise Corrupt(
            f"the copies of the catalog on {', '.join(damaged)} are damaged: changes behind {position} may have been"
            " acknowledged, and cannot be read",
            "'dsa salvage' also uses what lies behind damage; to give that up, and restore what is before it, say --older",
        )


def key_of(steps: Sequence[Step]) -> list[tuple[int, int, int]]:
    """What is read, and how far: two plans with one key give one catalog."""
    return [(step.volume, step.upto, step.best.position) for step in steps]


def _is_fork(before: VolumeState, after: VolumeState) -> bool:
    """The catalog had been restored when ``after`` was begun: what ``before`` has behind that is of another time."""
    return after.term > before.term and after.begun < before.position and _moment(before) <= after.begun_ns


def _moment(state: VolumeState) -> int:
    return max(state.wall_ns, state.whole_ns)


def term_above(term: int) -> int:
    """The term of a claim after that one. Incompatible if no master could come after it."""
    claimed = term + TERM_MARGIN
    if claimed + 1 >= 1 << TERM_BITS:
        raise Incompatible(f"no master can come after term {term}", "look at the nodes: one of them is wrong")
    return claimed


def have_not_come(absent: Collection[str], members: int) -> Unavailable:
    """Why nothing is restored without these."""
    return Unavailable(
        f"{len(absent)} of the {members} nodes have not come: {', '.join(absent)}",
        "start them, or leave them out with " + " ".join(f"--without {name}" for name in absent),
    )


def check_nothing_newer(copies: Iterable[Copy], term: int, position: int, moment_ns: int) -> None:
    """Conflict if a node holds a newer catalog than a file of that term, position and moment."""
    newer = [copy for copy in copies if copy.state.newness > (term, position)]
    if newer:
        best = max(newer, key=lambda copy: copy.state.newness)
        lag_s = max(0, best.state.wall_ns - moment_ns) / 1_000_000_000
        raise Conflict(
            f"node '{best.node}' holds a catalog that is newer by {best.state.position - position} changes"
            f" ({lag_s:.0f} s) than the file",
            "restore it with 'dsa cluster restore --from-nodes'; or give up what is newer with --older",
        )


def check_no_less(read: Preview | None, planned: Preview | None) -> None:
    """Unavailable if what was read at last is less than what was planned."""
    assert planned is not None, "all are claimed for a plan"
    assert read is not None, "and what is claimed for was read"
    if (read.term, read.position) < (planned.term, planned.position):
        raise Unavailable(
            f"what was planned can be read no more: change {read.position} instead of {planned.position}",
            "begin again: the plan says then what there is",
        )


def may_be_lost(absent: Collection[str]) -> bool:
    """Whether something that was acknowledged while enough copies were kept may be on the absent nodes only."""
    return len(absent) >= CATALOG_ENOUGH


def unusable(copies: Iterable[Copy]) -> list[str]:
    """Copies that cannot be used, or not to their end, in words."""
    said = []
    for node, state, _ in copies:
        if state.damage:
            said.append(f"volume {state.volume:x} on {node} is damaged behind change {state.position}: {state.damage}")
        elif not state.usable:
            said.append(f"volume {state.volume:x} on {node} is incomplete")
    return said
