"""How fast a cluster heals and looks after itself: every time and limit in one place, with its unit and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

from dsa_zmq.errors import ConfigError, Invalid
from dsa_zmq.model.sizes import parse_size

MIB = 1 << 20
MOST = 1 << 40  #: seconds or bytes: whoever writes more means "never", which is no time


@dataclass(frozen=True, slots=True)
class HealingPace:
    """Of the master. Seconds are serving time. Raises ConfigError if a value makes no sense."""

    probe_s: float = 3.0  #: between probes of one node's data port: as long as suspicion takes
    probe_wait_s: float = 1.0  #: for a Pong
    endangered_delay_s: float = (
        10.0  #: from down to repair, without redundancy left: a restart of the process takes less
    )
    degraded_delay_s: float = 300.0  #: the same with redundancy left: a reboot of the host takes less
    spread_delay_s: float = 300.0  #: from the last change of any node's zone or host until shards move apart: people
    #: name zones one node after the other, and half of that is a plan for nothing
    storm_window_s: float = 60.0  #: nodes that go down within this of each other have one cause
    storm_hold_s: float = 300.0  #: how long repair and trims wait then, unless enough of them are back
    start_hold_s: float = 20.0  #: the same after a start or a pause of the master: nodes need time to register
    compare_s: float = 86_400.0  #: between comparisons of one node's inventory that nothing calls for
    differ_s: float = 60.0  #: for which both digests stand still and differ before they are compared
    move_shards: int = 256  #: in one Fetch: one sync for all of them
    move_bytes: int = 8 * MIB  #: in one Fetch, but for a single larger shard
    move_batches: int = 2  #: under way for a node as target, and again as source: one travels while one is written
    node_bytes_s: int = 100 * MIB  #: copied to or from one node: a part of a 10 GbE link, most of a disk
    max_moves: int = 20_000  #: rows of pending moves, some 10 MB of memory; half of them for what heals nothing
    retry_first_s: float = 1.0  #: after a move has failed; doubles
    retry_max_s: float = 60.0
    max_tries: int = 5  #: of one move: then another target is chosen
    fill_repair: float = 0.95  #: of a node's room that repair may use
    fill_other: float = 0.90  #: and what else moves: healing must not make the cluster refuse writes
    trickle_above: float = 0.20  #: a node this far from the mean share of use makes rebalancing begin by itself
    balanced_within: float = 0.05  #: and it ends when none is further than this
    trickle_rate: float = 0.1  #: of node_bytes_s, for what nobody asked for: rebalancing, and spreading over domains

    def __post_init__(self) -> None:
        _check(self)

    def faster(self, speed: float) -> Self:
        """The same with all times divided by ``speed``: limits of space and rate stay as they are."""
        times = {field.name: getattr(self, field.name) / speed for field in fields(self) if field.name.endswith("_s")}
        times.pop("node_bytes_s")
        return replace(self, **times)


@dataclass(frozen=True, slots=True)
class CarePace:
    """Of a node's disk."""

    scrub_bytes_s: int = 10 * MIB  #: a terabyte a day; a spinning disk hardly notices
    scrub_every_s: float = 86_400.0  #: from the beginning of a round to that of the next: a terabyte takes as long
    scrub_save_s: float = 60.0  #: how much of a scrub a restart may repeat
    compact_bytes_s: int = 16 * MIB  #: read plus written
    compact_busy: float = 0.25  #: of that, while puts wait
    dead_share: float = 0.25  #: of a segment's bytes: then rewriting the rest is worth it
    dead_share_full: float = 0.10  #: the same while the store has little room
    step_bytes: int = 1 * MIB  #: read or rewritten at once: what a put may have to wait for
    damage_repeat_s: float = 5.0  #: until the master has noted it

    def __post_init__(self) -> None:
        _check(self)


_Pace = TypeVar("_Pace", bound="HealingPace | CarePace")


def told(pace: _Pace, values: Mapping[str, str | float]) -> _Pace:
    """The same with what an operator says: a number for each name, or a size, as in ``"50MB"``, where bytes are counted.

    Raises Invalid for an unknown name, ConfigError for a value that makes no sense.
    """
    known = {field.name: field.type for field in fields(pace)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise Invalid(f"there is no '{name[:80]}' to be set", f"the names are {', '.join(sorted(known))}")
        try:
            changes[name] = parse_size(str(value)) if known[name] == "int" else float(value)
            if not 0 <= changes[name] <= MOST:  # no timer counts further, nor to what is no number
                raise ValueError
        except ValueError:  # Invalid is one
            expected = "a size, as in 50MB, or a whole number" if known[name] == "int" else "a number up to a trillion"
            raise ConfigError(f"{name}: '{str(value)[:80]}' is not {expected}", "correct it") from None
    return replace(pace, **changes)


def _check(pace: HealingPace | CarePace) -> None:
    for field in fields(pace):
        if not getattr(pace, field.name) > 0:
            what = f"{field.name} must be more than 0, not {getattr(pace, field.name)}"
            raise ConfigError(what, f"leave it out, or write more; usual is {field.default}")
