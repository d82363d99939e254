"""What nodes tell that they hold, and which volume goes on when a master has started. Pure.

The catalog names the volume that was begun last. It goes on if its snapshot is complete on a node. If it is on none, the
former master ended while it was being made, and had shipped an earlier one meanwhile: that one goes on, since the log still
has what follows it, until there is another. So a start costs no snapshot, and no moment without copies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from dsa_zmq.master.ship_copy import RETRY_FIRST_NS
from dsa_zmq.protocol.volumes import VolumeState


class ShipResume:
    """See the module. Times are serving time in nanoseconds."""

    def __init__(self) -> None:
        self.volume = 0  #: that was begun last, until one goes on or another is begun; 0: none can go on
        self.told: dict[int, Sequence[VolumeState]] = {}  #: by node: what it held when it told last
        self._asked_ns = 0  #: when nodes were asked again

    def keep_only(self, nodes: Collection[int]) -> None:
        """The others are nodes no more."""
        self.told = {node: states for node, states in self.told.items() if node in nodes}

    def to_ask(self, nodes: Collection[int], served_ns: int) -> list[int]:
        """Those of them that have not told anything yet; not at each tick."""
        silent = [node for node in nodes if node not in self.told]
        if silent and served_ns - self._asked_ns < RETRY_FIRST_NS:
            return []
        self._asked_ns = served_ns
        return silent

    def earlier(self, fits: Callable[[VolumeState], bool]) -> dict[int, VolumeState]:
        """Of the volumes that can go on, the one that most nodes hold, of equals the newest: what each node has of it."""
        found: dict[int, dict[int, VolumeState]] = {}
        for node, states in self.told.items():
            for state in states if self.volume else ():
                if fits(state):
                    found.setdefault(state.volume, {})[node] = state
        return max(found.items(), key=lambda each: (len(each[1]), each[0]), default=(0, {}))[1]

    def __repr__(self) -> str:
        return f"<ShipResume volume {self.volume:#x}, {len(self.told)} nodes have told>"
