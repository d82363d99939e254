"""What an operator may set about a master."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.core import Address
from dsa_zmq.errors import ConfigError
from dsa_zmq.model.limits import (
    CATALOG_COPIES,
    CATALOG_HISTORY_S,
    CATALOG_LAG_S,
    CATALOG_LEVELS,
    DOWN_S,
    HEARTBEAT_S,
    HEARTBEATS_PORT,
    HINTS_PORT,
    MASTER_PORT,
    REPLY_KEEP_S,
    SUSPECT_S,
    UNPROTECTED_AFTER_S,
    UPLOAD_LEASE_S,
)
from dsa_zmq.model.pace import HealingPace
from dsa_zmq.model.placement import DEFAULT_POLICY, POLICIES
from dsa_zmq.model.redundancy import DEFAULT, parse_redundancy

SECOND_NS = 1_000_000_000

_LISTEN = Address(f"tcp://127.0.0.1:{MASTER_PORT}")  # loopback: anything else is for the operator to say
_PUBLISH = Address(f"tcp://127.0.0.1:{HINTS_PORT}")
_SUBSCRIBE = Address(f"tcp://127.0.0.1:{HEARTBEATS_PORT}")

#: Nodes need up to five seconds to connect again after a start of the master, however short the times of liveness are.
LEAST_SETTLE_NS = 6_000_000_000


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """Endpoints, policies and times (seconds). Raises ConfigError or Invalid if they make no sense together."""

    listen: Address = _LISTEN
    publish: Address = _PUBLISH  #: hints, to everybody
    subscribe: Address = _SUBSCRIBE  #: heartbeats, from the nodes
    name: str = "master"
    default_redundancy: str = DEFAULT  #: of the root directory, when the catalog is made
    placement: str = DEFAULT_POLICY
    heartbeat_s: float = HEARTBEAT_S
    suspect_s: float = SUSPECT_S
    down_s: float = DOWN_S
    upload_lease_s: float = UPLOAD_LEASE_S
    gc_interval_s: float = 5.0  #: between rounds that found nothing more to do
    gc_grace_s: float = 30.0  #: what died later than this ago stays for readers that hold its manifest
    gc_rows: int = 250  #: a slice: keeps it within some 10 ms of the catalog worker
    reply_keep_s: float = REPLY_KEEP_S
    pace: HealingPace = field(default_factory=HealingPace)
    catalog_copies: str = CATALOG_COPIES  #: one of ``CATALOG_LEVELS``
    catalog_lag_s: float = CATALOG_LAG_S  #: with "async": an answer waits if the copies lack more than this
    catalog_history_s: float = CATALOG_HISTORY_S  #: how far back the catalog can be had; garbage is kept as long
    unprotected_after_s: float = (
        UNPROTECTED_AFTER_S  #: without enough copies, the master goes on without them after this
    )

    @property
    def kept_s(self) -> float:
        """How long what was removed is kept: for its readers, and for those who restore the catalog as of before."""
        if self.catalog_copies == "off":
            return self.gc_grace_s
        return max(self.gc_grace_s, self.catalog_history_s)

    def __post_init__(self) -> None:
        parse_redundancy(self.default_redundancy)
        if self.placement not in POLICIES:
            raise ConfigError(
                f"'{self.placement}' is not a placement policy", f"use one of: {', '.join(sorted(POLICIES))}"
            )
        if not 0 < self.heartbeat_s < self.suspect_s <= self.down_s:
            raise ConfigError(
                f"heartbeats of {self.heartbeat_s} s do not fit suspicion after {self.suspect_s} s and down after "
                f"{self.down_s} s",
                "make the first shorter than the second, and the second no longer than the third",
            )
        if self.catalog_copies not in CATALOG_LEVELS:
            raise ConfigError(
                f"'{self.catalog_copies}' is no way to keep copies of the catalog",
                f"use one of: {', '.join(CATALOG_LEVELS)}",
            )
        if min(self.catalog_lag_s, self.unprotected_after_s) <= 0 or self.catalog_history_s < 0:
            raise ConfigError("what the catalog's copies may lack must be positive, and its history 0 or more")
        positive = (self.upload_lease_s, self.gc_interval_s, self.reply_keep_s, self.gc_rows)
        if min(positive) <= 0 or self.gc_grace_s < 0:
            raise ConfigError("leases, intervals and slices must be positive, the grace 0 or more")


def nanoseconds(seconds: float) -> int:
    return int(seconds * SECOND_NS)
