"""Where actors meet the real world: the only place that puts them on the ZeroMQ runtime, over real disks and randomness."""

from __future__ import annotations

import errno
import logging
import os
import random
from typing import TYPE_CHECKING

from actors.core import Address, Handle
from actors.errors import BindError
from dsa_zmq.config import MasterOptions, NodeOptions, advertised_endpoint, master_endpoint
from dsa_zmq.directory import DataDirectory, open_directory
from dsa_zmq.errors import ConfigError, DSAError, Timeout, Unavailable
from dsa_zmq.model.addresses import DEFAULT_URL, endpoint, parse_url, split_endpoint
from dsa_zmq.model.limits import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from actors.core import ActorSpec
    from dsa_zmq.client.store import Store

URL_VARIABLE = "DSA_URL"
_KINDS = ("listen", "publish", "subscribe")

logging.getLogger("dsa_zmq").addHandler(logging.NullHandler())  # embedded, it is silent unless the program asks


class Server:
    """A running master or node: its actor's handle, and the directory that it has for itself until it ends."""

    def __init__(self, role: str, handle: Handle, directory: DataDirectory) -> None:
        self.role = role
        self._handle = handle
        self._directory = directory

    def __repr__(self) -> str:
        return f"<Server {self.role} {self.endpoint('listen')}>"

    def endpoint(self, kind: str) -> str | None:
        """The bound endpoint of ``listen``, ``publish`` or ``subscribe``, or None."""
        return self._handle.endpoint(kind)

    def endpoints(self) -> dict[str, str]:
        """All that are bound, by kind."""
        return {kind: at for kind in _KINDS if (at := self.endpoint(kind)) is not None}

    def stop(self) -> None:
        """Orderly stop. Idempotent."""
        self._handle.stop()
        self._directory.close()

    def kill(self) -> None:
        """Abrupt stop, like a killed process. Idempotent."""
        self._handle.kill()
        self._directory.close()

    def join(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; the exit status, or None on timeout."""
        status = self._handle.join(timeout_s)
        if status is not None:
            self._directory.close()
        return status


def start(options: MasterOptions | NodeOptions) -> Server:
    """Start a server in threads of this process. Raises DSAError."""
    return start_master(options) if isinstance(options, MasterOptions) else start_node(options)


def start_master(options: MasterOptions) -> Server:
    """Start a master; returns once it listens. Raises DSAError: the directory, a port, the catalog."""
    from dsa_zmq.master.secret import load_or_create_secret
    from dsa_zmq.master.service import MasterSettings, master_spec

    control, hints, heartbeats = options.ports()
    settings = MasterSettings(
        listen=Address(endpoint(options.listen_host(), control)),
        publish=Address(endpoint(options.listen_host(), hints)),
        subscribe=Address(endpoint(options.listen_host(), heartbeats)),
        default_redundancy=options.redundancy,
        placement=options.placement,
        heartbeat_s=options.heartbeat_s,
        suspect_s=options.suspect_s,
        down_s=options.down_s,
        upload_lease_s=options.upload_lease_s,
    )
    rng = random.SystemRandom()
    with open_directory(options.dir, "master") as directory:
        disk = directory.disk
        spec = master_spec(settings, disk, rng, load_or_create_secret(disk, rng))
        return Server("master", _run(spec), directory.keep())


def _run(spec: ActorSpec) -> Handle:
    from actors.zmq.reactor import ZmqRuntime

    try:
        return ZmqRuntime(spec, logger=logging.getLogger("dsa_zmq")).start()
    except BindError as error:
        raise _bind_error(error) from error


def tune_process() -> None:
    """Settings of the whole process, for programs only."""
    from actors.zmq.memory import tune_malloc

    tune_malloc()
