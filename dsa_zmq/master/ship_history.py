"""Volumes of the catalog that nodes hold, and which of them the history still needs. Pure.

A volume is *needed* while it is the newest that the catalog can be made of, or is shipped; or while there is a moment in
the history that no later volume reaches back to. Beyond a budget of bytes the history is cut, and that is said. After a
restore all volumes that were begun before it are needed for some days: whoever chose the wrong moment can choose again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dsa_zmq.model.limits import CATALOG_HOLDERS
from dsa_zmq.protocol.volumes import HeldVolume, VolumeState

KEPT_AFTER_RESTORE_NS = 7 * 86_400 * 1_000_000_000
LEAST_BUDGET_BYTES = 1 << 30  #: of older volumes on one node
BUDGET_VOLUMES = 8  #: or so many times the newest one


class ShipHistory:
    """See the module."""

    def __init__(self, history_ns: int) -> None:
        self._history_ns = history_ns
        self.restored_ns = 0  #: when the catalog was made from copies; 0: never
        self.cut_ns = 0  #: the budget has cut the history: it reaches back to then; 0: it has not
        self._held: dict[int, dict[int, VolumeState]] = {}  #: by node and number

    def told(self, node: int, volumes: Iterable[VolumeState]) -> None:
        """A node holds these."""
        self._held[node] = {state.volume: state for state in volumes}

    def heard(self, node: int, state: VolumeState) -> None:
        """A node holds so much of this one."""
        if state.begun >= 0:
            self._held.setdefault(node, {})[state.volume] = state

    def keep_only(self, nodes: Collection[int]) -> None:
        """The others are nodes no more."""
        self._held = {node: held for node, held in self._held.items() if node in nodes}

    def needed(self, shipped: Collection[int], wall_ns: int) -> list[int]:
        """Numbers of the volumes that are to be kept; those that are shipped are."""
        usable = self._usable()
        numbers = list(usable)
        since_ns = wall_ns - self._history_ns
        before_ns = self.restored_ns if wall_ns - self.restored_ns < KEPT_AFTER_RESTORE_NS else 0
        kept = {*shipped, *numbers[-1:]}
        budget = max(
            LEAST_BUDGET_BYTES, BUDGET_VOLUMES * max((usable[number].size for number in numbers[-1:]), default=0)
        )
        self.cut_ns = 0
        following = usable[numbers[-1]] if numbers else None
        for number in reversed(numbers[:-1]):
            assert following is not None, "the last of them"
            state, whole_ns = usable[number], following.whole_ns
            if state.position >= following.whole:  # else it was given up, and another one leads up to there
                following = state
            if number in kept:
                continue
            if state.begun_ns >= before_ns:
                if whole_ns <= since_ns or self.cut_ns:
                    continue
                budget -= state.size
                if budget < 0:
                    self.cut_ns = whole_ns
                    continue
            kept.add(number)
        return sorted(kept)

    def surplus(self, needed: Collection[int]) -> list[int]:
        """Nodes that hold others."""
        return [node for node, held in self._held.items() if held.keys() - set(needed)]

    def _usable(self) -> dict[int, VolumeState]:
        """Volumes that the catalog can be made of, the oldest first, each as far as a node holds it."""
        found: dict[int, VolumeState] = {}
        for held in self._held.values():
            for number, state in held.items():
                if state.usable and (number not in found or state.position > found[number].position):
                    found[number] = state
        return dict(sorted(found.items()))

    def volumes(self, names: Mapping[int, str]) -> list[HeldVolume]:
        """All of them, the oldest first, with the names of the nodes that hold each."""
        by_number: dict[int, dict[int, VolumeState]] = {}
        for node, held in self._held.items():
            for number, state in held.items():
                by_number.setdefault(number, {})[node] = state
        return [_held(by_number[number], names) for number in sorted(by_number)]

    def statistics(self) -> dict[str, int]:
        states = [state for held in self._held.values() for state in held.values()]
        return {"volumes_held": len(states), "volumes_held_bytes": sum(state.size for state in states)}

    def __repr__(self) -> str:
        return f"<ShipHistory {len(self._usable())} volumes, at most {CATALOG_HOLDERS} copies of each>"


def _held(states: Mapping[int, VolumeState], names: Mapping[int, str]) -> HeldVolume:
    nodes = sorted(states, key=lambda node: names.get(node, str(node)))
    best = max(states.values(), key=lambda state: (state.usable, not state.damage, state.position))
    return HeldVolume(
        best,
        [names.get(node, str(node)) for node in nodes],
        [states[node].position for node in nodes],
        [states[node].damage for node in nodes],
    )
