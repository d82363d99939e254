"""Where a file lies and what it survives, in plain sentences. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

from dsa_zmq.model.holders import Safety, safety
from dsa_zmq.model.redundancy import SMALL_BYTES, Redundancy, kept_as, parse_redundancy
from dsa_zmq.model.sizes import counted, format_size
from dsa_zmq.model.spread import Spread

SHOWN = 5  #: sets of nodes, or ways to be held, that are named one by one
MOST_TRIED = 100_000  #: combinations: what one file's nodes can be, not what a large cluster could

T = TypeVar("T")

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node as far as an explanation needs it."""

    name: str
    state: str  #: up, suspect, failed, down
    zone: str = ""
    host: str = ""
    takes: bool = False  #: whether shards that could lie better may go there

    @property
    def is_there(self) -> bool:
        """Whether its bytes can be read now."""
        return self.state != "down"


@dataclass(frozen=True, slots=True)
class Layout:
    """A file: for each of its chunks the nodes that hold it, a set for each shard."""

    path: str
    size: int
    redundancy: str
    chunks: Sequence[tuple[frozenset[int], ...]]
    chunk_bytes: int = 0
    wanted: str = ""  #: what new files in its directory get; "": that is not known


def explain(layout: Layout, nodes: Mapping[int, NodeSeen], lost: Collection[int] = ()) -> list[str]:
    """Sentences: how it is stored, where each chunk lies, what it survives. With ``lost``: as if those nodes were lost."""
    if not layout.chunks:
        return [f"{layout.path} has no bytes: only the master knows it, and no node can lose it."]
    redundancy = parse_redundancy(layout.redundancy)
    there = {node for node, seen in nodes.items() if seen.is_there and node not in lost}
    stored = f"{counted(len(layout.chunks), 'chunk')} with {format_size(layout.size)}, stored with {layout.redundancy}"
    ways = _ways(layout.chunks)
    return [
        f"{layout.path}: {stored}{_parts(redundancy)}.",
        *_kept(layout),
        *_where(ways, nodes, lost),
        *_state(ways, redundancy, there),
        *_survives(ways, redundancy, there, nodes),
        *([] if lost else _apart(ways, redundancy, there & nodes.keys(), nodes)),
    ]


def _parts(redundancy: Redundancy) -> str:
    if redundancy.alike:
        return ""
    return f": any {redundancy.needed} of {redundancy.shards} shards are enough to read a chunk"


def _kept(layout: Layout) -> list[str]:
    """Why it is not stored as its directory says, if it is as it should be."""
    wanted, has = layout.wanted, layout.redundancy
    if not wanted or has == wanted or has != kept_as(wanted, layout.size, layout.chunk_bytes):
        return []
    return [
        f"Its directory says {wanted}, but what has at most {SMALL_BYTES >> 10} KiB and fills no chunk is kept as {has}, "
        "which survives as many losses: cut into parts, it would cost more messages and syncs, and save next to nothing."
    ]


Ways = Mapping[tuple[frozenset[int], ...], Sequence[int]]
"""The numbers of the chunks, from 1, that are held in each way."""


def _ways(chunks: Sequence[tuple[frozenset[int], ...]]) -> Ways:
    ways: dict[tuple[frozenset[int], ...], list[int]] = {}
    for number, groups in enumerate(chunks, 1):
        ways.setdefault(tuple(sorted(groups, key=sorted)), []).append(number)
    return ways


# --- where ------------------------------------------------------------------------------------------------------------


def _where(ways: Ways, nodes: Mapping[int, NodeSeen], lost: Collection[int]) -> list[str]:
    lines = []
    for groups, numbers in ways.items():
        held = [_node(node, nodes, lost) for node in sorted(frozenset().union(*groups), key=lambda n: _name(n, nodes))]
        lies = "lies" if len(numbers) == 1 else "lie"
        lines.append(f"{_chunks(numbers)} {lies} on {_and(held) if held else 'no node at all'}.")
    return lines


def _node(node: int, nodes: Mapping[int, NodeSeen], lost: Collection[int]) -> str:
    seen = nodes.get(node)
    state = "lost" if node in lost else "unknown" if seen is None else seen.state
    return _name(node, nodes) + ("" if state == "up" else f" ({state})")


def _chunks(numbers: Sequence[int]) -> str:
    """``Chunk 4``, ``Chunks 1 to 3, 7``."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    if len(parts) > SHOWN:
        parts[SHOWN:] = [f"... ({counted(len(numbers), 'chunk')} in all)"]
    return f"Chunk{'s' if len(numbers) > 1 else ''} {', '.join(parts)}"


# --- how safe ---------------------------------------------------------------------------------------------------------


def _state(ways: Ways, redundancy: Redundancy, there: AbstractSet[int]) -> list[str]:
    counts = [0, 0, 0, 0]
    for groups, numbers in ways.items():
        held = [(node, index) for index, group in enumerate(groups) for node in group & there]
        counts[safety(redundancy.covered(held), redundancy)] += len(numbers)
    total = sum(counts)
    if counts[Safety.LOST]:
        return [f"It cannot be read: of {counts[Safety.LOST]:,} of {counted(total, 'chunk')} too few shards are there."]
    short = counts[Safety.DEGRADED] + counts[Safety.ENDANGERED]
    if not short:
        return []
    has = "has" if short == 1 else "have"
    end = " At least one of them has no redundancy left." if counts[Safety.ENDANGERED] else ""
    return [f"{counted(short, 'chunk')} of {total} {has} fewer shards than {redundancy.name} asks for.{end}"]


def _survives(ways: Ways, redundancy: Redundancy, there: AbstractSet[int], nodes: Mapping[int, NodeSeen]) -> list[str]:
    """What may be lost besides: nodes, and the zones and hosts that are more than a node."""
    present = [tuple(group & there for group in groups if group & there) for groups in ways]
    if any(len(groups) < redundancy.needed for groups in present):
        return []
    lines = [_sentence(present, redundancy.needed, "node", lambda node: _name(node, nodes))]
    labels: tuple[tuple[str, Callable[[NodeSeen], str]], ...] = (("zone", lambda n: n.zone), ("host", lambda n: n.host))
    for kind, label in labels:
        domains = {node: label(nodes[node]) for node in there if node in nodes}
        used = [domains.get(node, "") for node in frozenset().union(*itertools.chain.from_iterable(present))]
        if len(set(used)) == len(used) or not all(used):
            continue  # each node is a domain of its own, or nobody has said what they are
        shared = [tuple(frozenset(domains[node] for node in group) for group in groups) for groups in present]
        lines.append(_sentence(shared, redundancy.needed, kind, _hosts(nodes) if kind == "host" else str))
    return lines


def _hosts(nodes: Mapping[int, NodeSeen]) -> Callable[[str], str]:
    """Hosts by the nodes on them: what tells machines apart is nothing that people know."""
    return lambda host: f"({', '.join(sorted(node.name for node in nodes.values() if node.host == host))})"


def _apart(ways: Ways, redundancy: Redundancy, there: AbstractSet[int], nodes: Mapping[int, NodeSeen]) -> list[str]:
    """Whether it could survive more, as the nodes are now."""
    spread = Spread(nodes, [node for node in there if nodes[node].takes])
    held = {groups: frozenset().union(*groups) & there for groups in ways}
    whole = [groups for groups in ways if len(held[groups]) == redundancy.shards]  # others are made whole first
    apart = sum(len(ways[groups]) for groups in whole if spread.is_wanted(held[groups], redundancy))
    if not apart:
        return []
    shares = "its shards share" if apart == 1 else "shards of each share"
    return [
        f"{counted(apart, 'chunk')} of {sum(map(len, ways.values()))} could be spread better: {shares} a zone or a host"
        " while others have room. That is done in the background, some minutes after zones have changed."
    ]


def _sentence(ways: Iterable[Sequence[frozenset[T]]], needed: int, kind: str, name: Callable[[T], str]) -> str:
    size, fatal = weakest(ways, needed)
    sets = sorted(sorted(name(each) for each in chosen) for chosen in fatal)
    named = [_and(names) for names in sets[:SHOWN]]
    more = f", and {len(sets) - SHOWN:,} more such sets" if len(sets) > SHOWN else ""
    if size == 1:
        return f"It does not survive the loss of {kind} {f', nor of {kind} '.join(named)}{more}."
    any_of = f"any {_WORDS[size - 1] if size <= len(_WORDS) else size - 1} {kind}{'s' if size > 2 else ''}"
    return f"It survives the loss of {any_of}; not of {' together, nor of '.join(named)} together{more}."


def weakest(ways: Iterable[Sequence[frozenset[T]]], needed: int) -> tuple[int, set[frozenset[T]]]:
    """The smallest sets whose loss is final: their size, and the sets.

    ``ways``: for chunks that can be read, the holders of each shard. A chunk is gone once fewer than ``needed`` of its
    shards have a holder left.
    """
    best = 0
    found: set[frozenset[T]] = set()
    for groups in dict.fromkeys(tuple(groups) for groups in ways):
        excess = len(groups) - needed + 1  #: shards that must go
        for chosen in itertools.islice(itertools.combinations(groups, excess), MOST_TRIED):
            gone: frozenset[T] = frozenset().union(*chosen)
            # Where two shards share a domain, more than the chosen ones go with it: there are smaller choices, met too.
            if not best or len(gone) < best:
                best, found = len(gone), {gone}
            elif len(gone) == best:
                found.add(gone)
    return best, found


# --- words ------------------------------------------------------------------------------------------------------------


def _name(node: int, nodes: Mapping[int, NodeSeen]) -> str:
    return nodes[node].name if node in nodes else f"node number {node}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
