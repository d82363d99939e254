"""How safe the catalog is, in words for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dsa_zmq.master.desk import Moment
from dsa_zmq.master.gate import ASYNC, OFF, Gate
from dsa_zmq.master.ship_history import ShipHistory
from dsa_zmq.master.shipping import Shipping
from dsa_zmq.model.sizes import counted, format_duration, format_size

SECOND_NS = 1_000_000_000


class Safety(NamedTuple):
    """For health."""

    line: str  #: always: which level, and on which nodes
    notes: list[str]  #: what is wrong, and what would help
    at_risk: bool  #: something is


def safety(ship: Shipping, gate: Gate, history: ShipHistory, at: Moment, few_ns: int, patience_ns: int) -> Safety:
    """``few_ns``: for how long fewer nodes than wanted hold the catalog; that is said after ``patience_ns``."""
    if gate.level == OFF:
        note = (
            "no copies of the catalog are kept on nodes: losing the master's disk loses all names; see --catalog-copies"
        )
        return Safety("off", [note], False)
    names = sorted(ship.nodes[node].name for node in ship.holders())
    line = f"{gate.level}, safe on {_listed(names)}" if names else f"{gate.level}, no node holds a copy yet"
    if gate.level == ASYNC:
        line += f", {gate.lag_ns(at.served_ns) / SECOND_NS:.1f} s behind"
    notes, at_risk = [], False
    if gate.unprotected_ns:
        since = format_duration(max(1, (at.wall_ns - gate.unprotected_ns) // SECOND_NS))
        line = f"unprotected for {since}"
        notes.append(f"the catalog is unprotected for {since}: {why_thin(ship)}; {_remedy(ship)}")
        at_risk = True
    elif len(names) < ship.wanted and few_ns >= patience_ns:
        held = f"the catalog is on {counted(len(names), 'node')}, and should be on {ship.wanted}"
        notes.append(f"{held}: {_missing(ship) or 'another copy is being made'}")
        at_risk = True
    if history.cut_ns:
        ago = format_duration(max(1, (at.wall_ns - history.cut_ns) // SECOND_NS))
        notes.append(f"the catalog's history takes too much room on nodes: it reaches back only {ago}")
    return Safety(line, notes, at_risk)


def why_thin(ship: Shipping) -> str:
    """Why changes are not safe."""
    names = sorted(ship.nodes[node].name for node in ship.holders())
    if len(names) >= ship.enough:
        return f"{_listed(names)} cannot keep up with its changes"
    if not names:
        held = "no node holds a copy"
    else:
        held = f"only {_listed(names)} of the {ship.enough} nodes that have to holds a copy"
    missing = _missing(ship)
    return f"{held}: {missing}" if missing else held


def _missing(ship: Shipping) -> str:
    """What is in the way of each node that could hold a copy and does not."""
    reasons = [each.why_not for each in ship.nodes.values() if each.why_not]
    for volume in ship.volumes():
        for node, copy in volume.copies.items():
            if not ship.nodes[node].why_not and not copy.usable:
                name = ship.nodes[node].name
                getting = f"is being given one ({format_size(volume.snapshot_bytes)} so far)"
                reasons.append(f"'{name}' {(copy.trouble and f'gets none: {copy.trouble}') or getting}")
    return ", ".join(dict.fromkeys(reasons))


def _remedy(ship: Shipping) -> str:
    return "add nodes" if not any(each.why_not for each in ship.nodes.values()) else "bring them back, or add nodes"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
