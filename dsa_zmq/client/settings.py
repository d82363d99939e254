"""What a client can be told."""

from __future__ import annotations

from dataclasses import dataclass

from dsa_zmq import __version__
from dsa_zmq.client.slots import BURST_FILES
from dsa_zmq.errors import Invalid
from dsa_zmq.model import limits


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """``hosts``: endpoints of the masters, in the order of preference. Times in seconds, sizes in bytes."""

    hosts: tuple[str, ...]
    name: str = "client"  #: shown in the servers' logs; printable ASCII without a slash
    request_timeout_s: float = limits.REQUEST_TIMEOUT_S
    progress_timeout_s: float = limits.PROGRESS_TIMEOUT_S
    node_dead_s: float = (
        limits.NODE_SILENT_S
    )  #: without any sign of life of a node that is to answer: its shards go elsewhere
    node_timeout_s: float = limits.REQUEST_TIMEOUT_S  #: the same for a node that lives but does not answer
    hedge_s: float = limits.HEDGE_S
    node_credit_bytes: int = limits.NODE_CREDIT_BYTES
    client_credit_bytes: int = limits.CLIENT_CREDIT_BYTES
    buffer_bytes: int = 2 * limits.PAGE_BYTES  #: content held for uploads: one page is staged while the next is read
    slots_after: int = BURST_FILES  #: small files begun within a second, after which places are asked ahead; 0: never
    software: str = f"dsa-zmq {__version__}"

    def __post_init__(self) -> None:
        if not self.hosts:
            raise Invalid("a client needs the address of a master", "give one, as in dsa://host:7700")
        times = (self.request_timeout_s, self.progress_timeout_s, self.node_dead_s, self.node_timeout_s, self.hedge_s)
        if min(times) <= 0:
            raise Invalid("the time-outs of a client must be more than 0 seconds")
        if self.slots_after < 0:
            raise Invalid("a number of files must be 0 or more")
        if min(self.node_credit_bytes, self.client_credit_bytes, self.buffer_bytes) < 1:
            raise Invalid("the windows of a client must be at least one byte")
