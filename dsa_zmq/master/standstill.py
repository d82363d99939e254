"""When a node's inventory is to be compared: its digest and the catalog's stand still, and differ. Pure.

Under load they always differ: a shard is on the node before it is in the catalog. So each has to be the same at two looks
that lie some time apart. A difference that a comparison has not ended is looked at again after twice the time, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Watch:
    digest: int  #: of the node
    look_ns: int  #: serving time of the next look at the catalog
    compared_ns: int
    wait_ns: int
    root: int | None = None  #: of the catalog, at the last look that found it differing
    agreed: bool = False


class Standstill:
    """Of all nodes. Times are serving time in nanoseconds."""

    def __init__(self, differ_ns: int, compare_ns: int) -> None:
        self._differ_ns = differ_ns
        self._compare_ns = compare_ns
        self._watches: dict[int, _Watch] = {}
        self._due: list[int] = []

    def tick(self, digests: Mapping[int, int], served_ns: int) -> tuple[list[int], list[int]]:
        """``digests`` are what the nodes that are there last said. Returns the nodes whose digest in the catalog is to be
        looked at, and those that are to be compared."""
        for node in self._watches.keys() - digests.keys():
            del self._watches[node]
        look, compare = [], [node for node in self._due if node in digests]
        self._due = []
        for node, digest in sorted(digests.items()):
            watch = self._watches.get(node)
            if watch is None:
                due_ns = served_ns + self._differ_ns
                self._watches[node] = _Watch(digest, due_ns, served_ns, self._differ_ns)
            elif watch.digest != digest:
                watch.digest, watch.root, watch.agreed = digest, None, False
                watch.look_ns, watch.wait_ns = served_ns + self._differ_ns, self._differ_ns
            elif served_ns >= watch.compared_ns + self._compare_ns:
                compare.append(node)
                watch.compared_ns = served_ns
            elif not watch.agreed and served_ns >= watch.look_ns:
                look.append(node)
                watch.look_ns = served_ns + watch.wait_ns
        return look, compare

    def looked(self, node: int, digest: int, root: int) -> None:
        """The catalog's digest of a node that had said ``digest``."""
        watch = self._watches.get(node)
        if watch is None or watch.digest != digest:
            return
        watch.agreed = root == digest
        if watch.agreed:
            watch.root = None
        elif watch.root == root:
            watch.root = None
            watch.wait_ns = min(2 * watch.wait_ns, self._compare_ns)
            self._due.append(node)
        else:
            watch.root = root

    def compared(self, node: int, served_ns: int) -> None:
        """A comparison of the node begins."""
        watch = self._watches.get(node)
        if watch is not None:
            watch.compared_ns = served_ns
