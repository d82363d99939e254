"""What may happen to a cluster. Each scenario is a function over a cluster, and ends in a verdict."""

from __future__ import annotations

from dsa_zmq.sim.campaign import Scenario
from dsa_zmq.sim.scenarios.ahead import AHEAD
from dsa_zmq.sim.scenarios.answers import ANSWER
from dsa_zmq.sim.scenarios.calm import CALM, MEETING
from dsa_zmq.sim.scenarios.codes import CODES
from dsa_zmq.sim.scenarios.counted import COMMIT, COUNT
from dsa_zmq.sim.scenarios.degraded import DEGRADED
from dsa_zmq.sim.scenarios.disks import ROT, SYNC
from dsa_zmq.sim.scenarios.everything import EVERYTHING
from dsa_zmq.sim.scenarios.growing import GROWING
from dsa_zmq.sim.scenarios.held import HELD
from dsa_zmq.sim.scenarios.inventories import INVENTORIES
from dsa_zmq.sim.scenarios.lies import LYING
from dsa_zmq.sim.scenarios.lost_master import LOST_MASTER
from dsa_zmq.sim.scenarios.moving import MOVING
from dsa_zmq.sim.scenarios.noticed import NOTICED
from dsa_zmq.sim.scenarios.removing import REMOVING
from dsa_zmq.sim.scenarios.repair import REPAIR
from dsa_zmq.sim.scenarios.resuming import RESUMING
from dsa_zmq.sim.scenarios.returning import EMPTY, INCARNATION, OLDER, STALE, UNMOUNTED
from dsa_zmq.sim.scenarios.rot import ROTTING
from dsa_zmq.sim.scenarios.space import COMPACTION, FULL, LATE
from dsa_zmq.sim.scenarios.spreading import SPREADING
from dsa_zmq.sim.scenarios.stalled import LINK, MASTER, NODE
from dsa_zmq.sim.scenarios.storm import POWER, STORM
from dsa_zmq.sim.scenarios.trickling import TRICKLE
from dsa_zmq.sim.scenarios.zones import ZONES

SCENARIOS: tuple[Scenario, ...] = (
    CALM, MEETING, STORM, POWER, ANSWER, COMMIT, COUNT, NODE, MASTER, LINK, INCARNATION, OLDER, EMPTY, STALE, LYING, ROT,
    SYNC, UNMOUNTED, AHEAD, COMPACTION, FULL, LATE, *REPAIR, *INVENTORIES,
    *NOTICED, *ROTTING, *GROWING, *SPREADING, *REMOVING, *MOVING, *HELD, *RESUMING, ZONES, EVERYTHING, TRICKLE,
    *CODES, DEGRADED, *LOST_MASTER,
)  # fmt: skip
"""All of them."""
