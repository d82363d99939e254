"""Where actors meet the real world: the only place that puts them on the ZeroMQ runtime, over real disks and randomness."""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.core import Address, Job, Lane
from dsa_zmq.client.connector import set_connector
from dsa_zmq.client.store import Store
from dsa_zmq.config import MasterOptions, NodeOptions
from dsa_zmq.directory import DataDirectory, open_directory, unusable
from dsa_zmq.errors import ConfigError, DSAError, Invalid, Timeout, Unavailable
from dsa_zmq.faults import Imposed
from dsa_zmq.limited_disk import LimitedDisk
from dsa_zmq.machine import address_towards, disk_id, held_bytes, machine_id
from dsa_zmq.model.addresses import (
    DEFAULT_URL,
    WILDCARDS,
    advertised_endpoint,
    endpoint,
    listen_host,
    master_endpoint,
    parse_url,
    split_endpoint,
)
from dsa_zmq.model.inspection import Inspect
from dsa_zmq.model.limits import CONNECT_TIMEOUT_S, RESERVE_MIN_BYTES, RESERVE_SHARE
from dsa_zmq.model.sizes import format_size, parse_size
from dsa_zmq.model.volumes import DIRECTORY as VOLUMES
from dsa_zmq.reach import LOOK_S, explain_silence

if TYPE_CHECKING:
    from actors.core import ActorSpec
    from actors.disk import OsDisk
    from actors.zmq.reactor import ZmqRuntime
    from dsa_zmq.metrics import MetricsServer

URL_VARIABLE = "DSA_URL"
_KINDS = ("listen", "publish", "subscribe")

log = logging.getLogger("dsa_zmq")
log.addHandler(logging.NullHandler())  # embedded, it is silent unless the program asks


class Server:
    """A running master or node: its actor's handle, and what it has for itself until it ends: files and directory."""

    def __init__(self, role: str, handle: ZmqRuntime, spec: ActorSpec, directory: DataDirectory, disk: OsDisk) -> None:
        self.role = role
        self._handle = handle
        self._spec = spec
        self._directory = directory
        self._disk = disk
        self._lock = threading.Lock()
        self._released = False
        self._metrics: MetricsServer | None = None

    def __repr__(self) -> str:
        return f"<Server {self.role} {self.endpoint('listen')}>"

    def endpoint(self, kind: str) -> str | None:
        """The bound endpoint of ``listen``, ``publish`` or ``subscribe``, or None."""
        return self._handle.endpoint(kind)

    def endpoints(self) -> dict[str, str]:
        """All that are bound, by kind."""
        bound = {kind: str(at) for kind in _KINDS if (at := self.endpoint(kind)) is not None}
        if self._metrics is not None:
            bound["metrics"] = f"http://{self._metrics.host}:{self._metrics.port}"
        return bound

    def statistics(self, timeout_s: float) -> Mapping[str, int] | None:
        """The actor's figures of one turn; None if it does not answer within that time."""
        told: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()
        self._handle.call(Inspect(told.put))
        try:
            return told.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def serve_metrics(self, host: str, port: int) -> None:
        """Serve its figures until it ends. Raises ConfigError."""
        from dsa_zmq.metrics import MetricsServer

        self._metrics = MetricsServer(self.role, host, port, self.statistics)

    def call(self, call: Any) -> None:
        """Hand something to its actor, which knows what it is."""
        self._handle.call(call)

    @property
    def names(self) -> frozenset[str]:
        """All that its peers know it by."""
        return self._handle.names

    @property
    def paused(self) -> bool:
        """It stands still until it is resumed."""
        return self._handle.paused

    def impose(self, imposed: Imposed) -> None:
        """Let faults begin and end, so that these are the ones that hold."""
        self._handle.cut(imposed.deaf_to, imposed.mute_to)
        if isinstance(self._disk, LimitedDisk):
            self._disk.room.limit(imposed.room, imposed.filling)

    def pause(self) -> None:
        """Let it hang: no turns until :meth:`resume`."""
        self._handle.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._handle.resume()

    def stop(self) -> None:
        """Orderly stop. Idempotent."""
        self._handle.stop()
        self._release()

    def kill(self) -> None:
        """Abrupt stop, as near to a killed process as it goes within one. Idempotent."""
        self._handle.kill()
        self._release()

    def join(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; the exit status, or None on timeout."""
        status = self._handle.join(timeout_s)
        if status is not None:
            self._release()
        return status

    def _release(self) -> None:
        with self._lock:
            if not self._released:
                if self._metrics is not None:
                    self._metrics.close()
                _close_lanes(self._spec)
                self._directory.close()
                self._released = True


def start(options: MasterOptions | NodeOptions, imposed: Imposed | None = None) -> Server:
    """Start a server in threads of this process, under the faults that a test imposes. Raises DSAError."""
    if isinstance(options, MasterOptions):
        return start_master(options, imposed=imposed)
    return start_node(options, imposed=imposed)


def start_master(options: MasterOptions, *, take_over: bool = False, imposed: Imposed | None = None) -> Server:
    """Start a master; returns once it listens. Raises DSAError: the directory, a port, the catalog.

    ``take_over``: its catalog was found to be an old copy of another master's, and is to be the cluster's all the same.
    """
    from dsa_zmq.master.secret import load_or_create_secret
    from dsa_zmq.master.service import MasterSettings, master_spec

    control, hints, heartbeats = options.ports()
    host = listen_host(options.bind)
    care = options.care()
    settings = MasterSettings(
        listen=Address(endpoint(host, control)),
        publish=Address(endpoint(host, hints)),
        subscribe=Address(endpoint(host, heartbeats)),
        default_redundancy=options.redundancy,
        placement=options.placement,
        heartbeat_s=options.heartbeat_s,
        suspect_s=options.suspect_s,
        down_s=options.down_s,
        upload_lease_s=options.upload_lease_s,
        pace=options.pace(),
        catalog_copies=care.copies,
        catalog_lag_s=care.lag_s,
        catalog_history_s=care.history,
        unprotected_after_s=care.unprotected_after_s,
    )
    rng = random.SystemRandom()

    def spec(directory: DataDirectory, disk: OsDisk) -> ActorSpec:
        secret = load_or_create_secret(disk, rng)
        return master_spec(settings, disk, rng, secret, wall_ns=time.time_ns(), take_over=take_over)

    return _with_metrics(serve("master", options.dir, spec, imposed), host, options.metrics)


def start_node(options: NodeOptions, *, imposed: Imposed | None = None) -> Server:
    """Start a node; returns once it listens, and connects to the master by itself. Raises DSAError."""
    from dsa_zmq.node.identity import FILE as IDENTITY_FILE
    from dsa_zmq.node.service import NodeSettings, node_spec

    rng = random.SystemRandom()

    def spec(directory: DataDirectory, disk: OsDisk) -> ActorSpec:
        free, total = disk.free_bytes()
        reserve = max(RESERVE_MIN_BYTES, int(total * RESERVE_SHARE))
        if options.reserve is not None:
            reserve = parse_size(str(options.reserve), whole=total)
        if options.capacity is not None:
            capacity = _at_most(parse_size(str(options.capacity), whole=total), total)
        else:
            capacity = max(0, free + held_bytes(directory.path, but=(VOLUMES,)) - reserve)
        settings = NodeSettings(
            master=Address(master_endpoint(options.master)),
            listen=Address(endpoint(options.listen_host(), options.port)),
            advertise=_advertise(options),
            name=options.name or ("" if disk.exists(IDENTITY_FILE) else options.node_name()),  # it keeps its name
            zone=options.zone,
            host=options.host or machine_id(),
            path=str(directory.path),
            disk=disk_id(directory.path),
            capacity=capacity,
            reserve=reserve,
            segment_bytes=options.segment_bytes,
            pace=options.pace(),
        )
        return node_spec(settings, disk, rng)

    return _with_metrics(serve("node", options.path, spec, imposed), options.listen_host(), options.metrics)


def _at_most(capacity: int, total: int) -> int:
    """More than there is would draw shards to this node, by its share, that it has no room for."""
    if capacity <= total:
        return capacity
    fields = {"capacity": format_size(capacity), "disk": format_size(total), "remedy": "give at most what the disk has"}
    log.warning("capacity-reduced", extra={"event": "capacity-reduced", "fields": fields})
    return total


def connect(url: str | None = None, timeout: float = CONNECT_TIMEOUT_S) -> Store:
    """A store to work with: of the cluster at ``url``, else at ``DSA_URL``, else on this machine at port 7700.

    It says hello first and fails within ``timeout`` seconds: Invalid for a malformed address, Unavailable if nobody or
    something else answers there, Timeout if it does not answer in time, Incompatible if the versions are too far apart.
    The caller closes the store, best with a ``with`` block.
    """
    if url is None:
        url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return _greet(_store(url, {}), url, timeout)


def connect_watched(url: str, timeout: float, watch: Callable[[ZmqRuntime], None]) -> Store:
    """As :func:`connect`; ``watch`` is given each client that the store starts, before it has sent anything."""
    return _greet(Store(lambda: _client(url, watch), url), url, timeout)


def _greet(store: Store, url: str, timeout: float) -> Store:
    if not 0 < timeout < math.inf:
        raise Invalid(f"a timeout of {timeout} s leaves no time to connect", "give some seconds")
    look_s = min(LOOK_S, timeout / 4)  # kept back from the timeout to find out why nobody answers
    try:
        store.hello(timeout - look_s)
    except (Unavailable, Timeout) as error:
        store.close()
        raise explain_silence(parse_url(url), timeout, look_s) from error
    except BaseException:
        store.close()
        raise
    return store


def _store(url: str, options: Mapping[str, Any]) -> Store:
    """A store that connects at its first use; also how an unpickled one comes to life."""
    parse_url(url)  # a malformed one is told here, not at the first use
    return Store(lambda: _client(url), url, options=options)


def _client(url: str, watch: Callable[[ZmqRuntime], None] | None = None) -> ZmqRuntime:
    from dsa_zmq.client.service import client_spec
    from dsa_zmq.client.settings import ClientSettings

    runtime = _run(client_spec(ClientSettings(hosts=parse_url(url)), random.SystemRandom()))
    if watch is not None:
        watch(runtime)
    return runtime


set_connector(_store)


def _advertise(options: NodeOptions) -> Address | None:
    """Where others reach the data port, if that is not simply where it is bound. Port 0: the bound one."""
    if options.advertise:
        return Address(advertised_endpoint(options.advertise, options.port))
    if options.listen_host() in WILDCARDS:
        host, port = split_endpoint(master_endpoint(options.master))
        return Address(endpoint(address_towards(host, port), options.port))
    return None


def _with_metrics(server: Server, host: str, port: int | None) -> Server:
    """Serve its figures at the address that it listens at, if they are asked for; a server that cannot is stopped."""
    if port is not None:
        try:
            server.serve_metrics(host, port)
        except BaseException:
            server.stop()
            raise
    return server


def serve(
    role: str, path: str, make_spec: Callable[[DataDirectory, OsDisk], ActorSpec], imposed: Imposed | None
) -> Server:
    """Lock the directory, open what is in it, start the actor. The directory is free again if that fails."""
    directory = open_directory(path, role)
    spec = None
    try:
        disk = directory.disk if imposed is None else LimitedDisk(directory.path)
        if isinstance(disk, LimitedDisk) and imposed is not None:
            disk.room.limit(imposed.room, imposed.filling)
        spec = make_spec(directory, disk)
        spec = replace(spec, lanes={name: closing_last(lane) for name, lane in spec.lanes.items()})
        return Server(role, _run(spec, imposed), spec, directory, disk)
    except BaseException as error:
        if spec is not None:
            _close_lanes(spec)
        directory.close()
        if isinstance(error, OSError) and not isinstance(error, DSAError):
            raise unusable(directory.path, error) from error
        raise


def closing_last(lane: Lane) -> Lane:
    """The same lane, whose ``on_close`` waits for the batch at work and lets no other begin.

    A killed actor leaves its worker behind in the middle of a batch. Closed under its hands, files would fail it as if the
    disk had; and the directory must not be given to the next process while somebody writes there.
    """
    on_close = lane.on_close
    if on_close is None or lane.workers != 1:
        return lane
    at_work = threading.Lock()
    ended = False

    def handler(jobs: Sequence[Job]) -> Sequence[Any]:
        with at_work:
            return [Unavailable("this server has ended")] * len(jobs) if ended else lane.handler(jobs)

    def close() -> None:
        nonlocal ended
        with at_work:
            ended = True
            on_close()

    return replace(lane, handler=handler, on_close=close)


def _close_lanes(spec: ActorSpec) -> None:
    """Let go of the files behind the lanes. After an orderly stop the runtime has done it; a killed actor's files are
    still open, and locked against the next one. Closing again has no effect."""
    for name, lane in spec.lanes.items():
        if lane.on_close is not None:
            try:
                lane.on_close()
            except Exception:  # said aloud; the others are to be closed all the same
                log.exception("lane %s of %s did not close", name, spec.name)


def _run(spec: ActorSpec, imposed: Imposed | None = None) -> ZmqRuntime:
    from actors.errors import BindError
    from actors.zmq.reactor import ZmqRuntime

    runtime = ZmqRuntime(spec, logger=log)
    if imposed is not None:
        runtime.cut(imposed.deaf_to, imposed.mute_to)
    try:
        return runtime.start()
    except BindError as error:
        raise _bind_error(error) from error


def _bind_error(error: Exception) -> DSAError:
    """In the words of the one who chose the port."""
    number = getattr(error.__cause__, "errno", None)
    at = str(error).removeprefix("cannot bind tcp://").partition(": ")[0]
    if number == errno.EADDRINUSE:
        return ConfigError(f"{at} is in use by another program", "stop that program, or choose another --port")
    if number in (errno.EADDRNOTAVAIL, errno.ENODEV):
        return ConfigError(f"{at} is no address of this machine", "choose another --bind")
    if number in (errno.EACCES, errno.EPERM):
        return ConfigError(f"this user may not listen at {at}", "choose a --port above 1023")
    return ConfigError(str(error), "choose another --bind and --port")


def tune_process() -> None:
    """Settings of the whole process, for programs only."""
    from actors.zmq.memory import tune_malloc

    tune_malloc()
