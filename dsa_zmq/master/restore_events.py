"""What a restore is told, and what it tells whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsa_zmq.errors import DSAError
from dsa_zmq.master.catalog.rebuild import NO_LIMIT, Preview, Rebuilt
from dsa_zmq.master.restore_plan import Copy, History


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be restored. Times are seconds."""

    at_ns: int = NO_LIMIT  #: a moment of the lost master's clock
    without: tuple[str, ...] = ()  #: names of nodes that will not come
    cluster: str = ""  #: the beginning of its id, if nodes of several come
    wait_s: float = 60.0  #: for nodes
    quiet_s: float = 10.0  #: so long nobody must have heard of a master
    settle_s: float = 2.0  #: more nodes may come, before the copies of those that came are compared
    file_bytes: int = -1  #: of the file that it is restored from; -1: from the nodes' copies
    older: bool = False  #: what there is will do: although a node holds a newer one than the file, or behind damage


class Go:
    """The call that lets a planned restore go on."""


@dataclass(frozen=True, slots=True)
class Came:
    """A node of the cluster is here; the volumes that it has."""

    node: str
    volumes: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What has to be waited for now."""

    why: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that people should know."""

    text: str


@dataclass(frozen=True, slots=True)
class Reads:
    """Bytes of the copies that are read, so far and in all."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be restored. Nothing is promised or changed yet: it goes on when it is told to."""

    preview: Preview
    copies: list[Copy]  #: all that the nodes have
    volumes: list[int]  #: that are used; [] if it is a file
    absent: list[str]  #: nodes that were named as absent, and are
    newest_ns: int  #: moment of the newest change that any copy has
    newest_position: int
    later_term: int = 0  #: of a master that nodes here have obeyed, and of which no copy here has anything; 0: none
    damaged: list[str] = field(default_factory=list)  #: that may have held later changes, behind damage of their copies


@dataclass(frozen=True, slots=True)
class Restored:
    """It is done, and durable."""

    rebuilt: Rebuilt
    term: int
    nodes: list[str]  #: that obey nobody of a lower term any more


@dataclass(frozen=True, slots=True)
class Failed:
    """It has ended without a catalog. ``absent`` are nodes that did not come; the newest change here is of ``moment_ns``."""

    error: DSAError
    absent: tuple[str, ...] = ()
    moment_ns: int = 0
    history: History | None = None  #: the moments that the copies which are here can give
    claimed: tuple[str, ...] = ()  #: nodes that obey nobody of a lower term than ``term`` any more
    term: int = 0


Event = Came | Waiting | Noted | Reads | Planned | Restored | Failed
