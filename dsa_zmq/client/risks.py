"""What of the store is at risk: files by state, page by page, and where the shards of one file lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from dsa_zmq.errors import Conflict, IsADirectory, NotFound
from dsa_zmq.model import limits, paths
from dsa_zmq.model.explain import Layout, NodeSeen, explain
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.values import ChunkPlaces, NodeInfo, RiskyFile

MOST_TRIES = 5  #: to see one version of a file whole while others write it

_T = TypeVar("_T")


class Ask(Protocol):
    """Puts one question to the master. Raises DSAError."""

    def __call__(self, operation: op.Operation, kind: type[_T], timeout_s: float = 0) -> _T: ...


def files_at_risk(ask: Ask, state: str) -> Iterator[RiskyFile]:
    """All files whose worst chunk is in this state or a worse one."""
    after = 0
    while True:
        page = ask(op.FilesAtRisk(state, after), op.RiskyFiles, limits.PROGRESS_TIMEOUT_S)
        yield from page.files
        if not page.next:
            return
        after = page.next


def layout_of(ask: Ask, path: str) -> Layout:
    """Where the chunks of a file lie. If it is replaced meanwhile it is looked at again."""
    for _ in range(MOST_TRIES):
        try:
            first = ask(op.Locate(path), op.Located)
        except IsADirectory as error:
            remedy = "name a file in it; 'dsa explain --if-lost NODE' looks at all that is stored"
            raise IsADirectory(error.message, remedy, path) from error
        content = first.attributes.content
        try:
            pages = [first, *(ask(op.Locate(path, content, page), op.Located) for page in range(1, first.page_count))]
            parent = ask(op.Stat(paths.parent(path)), op.Found)
        except NotFound:
            continue
        shown, chunks = first.attributes, [_groups(chunk) for page in pages for chunk in page.chunks]
        wanted = parent.attributes.redundancy
        return Layout(path, shown.size, shown.redundancy, chunks, shown.chunk_bytes, wanted)
    raise Conflict(f"'{path}' is replaced again and again", "try again when it rests", path)


def _groups(chunk: ChunkPlaces) -> tuple[frozenset[int], ...]:
    """The nodes that hold each shard."""
    nodes: dict[int, set[int]] = {}
    for place in chunk.places:
        nodes.setdefault(place.index, set()).add(place.node)
    return tuple(frozenset(group) for group in nodes.values())


def _takes(node: NodeInfo) -> bool:
    """Whether shards that could lie better may go there, as far as a client can tell."""
    reserve = (1 - HealingPace().fill_other) * (node.used + node.free)
    return node.state == "up" and not node.draining and node.free > reserve


def explain_file(ask: Ask, path: str, without: Sequence[str]) -> list[str]:
    """The sentences of :func:`dsa_zmq.model.explain.explain` about a file, as if the nodes of these names were lost."""
    layout = layout_of(ask, path)
    nodes = ask(op.ListNodes(), op.Nodes).nodes
    seen = {node.node: NodeSeen(node.name, node.state, node.zone, node.host, _takes(node)) for node in nodes}
    lost = {node.node for node in nodes if node.name in without}
    if unknown := set(without) - {node.name for node in nodes}:
        raise NotFound(f"there is no node '{min(unknown)}'", "see 'dsa nodes' for their names")
    return explain(layout, seen, lost)
