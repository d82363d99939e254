"""When not to hurry: repair and trims wait while silence may have another cause than deaths. Pure.

Three things hold them, each for a time, and each no longer than until enough nodes have been heard again:

* the master has just started: nodes need time to register;
* the master was away itself (stopped, or starved): connections may have broken meanwhile;
* many nodes went down together (a *storm*): a switch or a power line is the likelier cause, and copying what is left would
  load those that are left.

Reads and writes are never held, and neither is the mending of bad shards: they are no mass event.
"""

from __future__ import annotations

from collections.abc import Callable

from dsa_zmq.master.members import DOWN, Change, Members
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.model.sizes import format_duration

SECOND_NS = 1_000_000_000


def too_many(nodes: int) -> int:
    """More nodes than so many of these, gone together, have not died one by one."""
    return max(1, nodes // 3)


def vanished_together(members: Members, served_ns: int, patience_ns: int) -> bool:
    """Whether many nodes, or all, have fallen silent within so long: it may be the master that is cut off, and then they are
    as well as before. Who asks for nodes is not told that there are too few, but waits."""
    nodes = [state.row.node for state in members]
    lately = range(members.suspect_ns, members.suspect_ns + patience_ns)
    silent = sum(members.silence_ns(node, served_ns) in lately for node in nodes)
    return silent > too_many(len(nodes)) or 0 < silent == len(nodes)


class Haste:
    """Times are serving time in nanoseconds. ``missed_ns`` tells for how long in all the master was away."""

    def __init__(self, members: Members, pace: HealingPace, missed_ns: Callable[[], int]) -> None:
        self._members = members
        self._missed_ns = missed_ns
        self._start_hold_ns = int(pace.start_hold_s * SECOND_NS)
        self._storm_window_ns = int(pace.storm_window_s * SECOND_NS)
        self._storm_hold_ns = int(pace.storm_hold_s * SECOND_NS)
        self._noticed_ns = 0  #: of what was missed
        self._paused_ns: int | None = None  #: when the last pause was noticed
        self._down_before: frozenset[int] = frozenset()  #: nodes that were down by then: nobody waits for them
        self._down_since: dict[int, int] = {}
        self._storm: frozenset[int] = frozenset()  #: nodes that went down together
        self._storm_ns = 0  #: when the last of them did

    def changed(self, change: Change, served_ns: int) -> None:
        """A node's state has changed."""
        if change.after != DOWN:
            self._down_since.pop(change.node, None)
            return
        self._down_since[change.node] = served_ns
        together = frozenset(
            node
            for node, since_ns in self._down_since.items()
            if node in self._members and served_ns - since_ns <= self._storm_window_ns
        )
        if len(together) > too_many(len(self._members)):
            self._storm |= together
            self._storm_ns = served_ns

    def held(self, served_ns: int) -> str:
        """Why repair and trims wait now, and until when, in words; "" if they do not."""
        self._notice_pause(served_ns)
        return self._held_by_start(served_ns) or self._held_by_pause(served_ns) or self._held_by_storm(served_ns)

    def _notice_pause(self, served_ns: int) -> None:
        """A turn that is a little late is no pause: nothing breaks before a node would be suspect."""
        missed_ns = self._missed_ns() - self._noticed_ns
        self._noticed_ns += missed_ns
        if missed_ns >= self._members.suspect_ns:
            self._paused_ns = served_ns
            self._down_before = self._members.down(served_ns)

    def _held_by_start(self, served_ns: int) -> str:
        if served_ns >= self._start_hold_ns or self._members.all_heard(-1):
            return ""
        return (
            "the master has just started: repair waits until all nodes that it knows are heard, "
            f"at most {_shown(self._start_hold_ns)}"
        )

    def _held_by_pause(self, served_ns: int) -> str:
        if self._paused_ns is None:
            return ""
        over = served_ns - self._paused_ns >= self._start_hold_ns
        if over or self._members.all_heard(self._paused_ns, but=self._down_before):
            self._paused_ns = None
            return ""
        return (
            "the master was away itself: repair waits until all nodes are heard that were there before, "
            f"at most {_shown(self._start_hold_ns)}"
        )

    def _held_by_storm(self, served_ns: int) -> str:
        if not self._storm:
            return ""
        gone = sum(node in self._members and node in self._down_since for node in self._storm)
        nodes = len(self._members)
        if gone <= too_many(nodes) or served_ns - self._storm_ns >= self._storm_hold_ns:
            self._storm = frozenset()
            return ""
        missing = gone - too_many(nodes)
        return (
            f"{gone} of {nodes} nodes went down together, which looks like one cause: repair waits until {missing} of them "
            f"{'is' if missing == 1 else 'are'} back, at most {_shown(self._storm_hold_ns)}"
        )

    def __repr__(self) -> str:
        return f"<Haste storm of {len(self._storm)}, paused {self._paused_ns is not None}>"


def _shown(duration_ns: int) -> str:
    return format_duration(max(1, round(duration_ns / SECOND_NS)))
