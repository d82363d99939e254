"""What a catalog that was made anew is, and what makes one for a master of it: values."""

from __future__ import annotations

import msgspec

from dsa_zmq.master.catalog.tables import StoreRow


class Restoration(msgspec.Struct, frozen=True):
    """What makes of a rebuilt catalog one that a master may begin with."""

    term: int  #: above all that were ever obeyed; the master's is above this one
    wall_ns: int
    highest_node: int = 0  #: number of a node that is known from elsewhere: no later one gets it again


class Preview(msgspec.Struct, frozen=True):
    """What has been fed so far would give; fields as in :class:`Rebuilt`."""

    files: int
    content_bytes: int
    position: int
    moment_ns: int
    term: int
    cluster: str  #: hexadecimal
    nodes: list[StoreRow]


class Rebuilt(msgspec.Struct, frozen=True):
    """What came out."""

    files: int
    directories: int  #: the root does not count
    content_bytes: int
    versions: int  #: of all files, closed ones that are still kept included
    position: int  #: of the log's last change in it
    moment_ns: int  #: of that change, by the clock of the master that made it
    term: int  #: of that master
    cluster: bytes
    nodes: list[StoreRow]  #: the membership: those that are not removed
    odd: list[str]  #: what does not agree, in words; empty if all does
