"""A whole cluster in a simulated world: one master, some nodes, their disks, and users.

Everything that runs is what is shipped: the master over its SQL catalog on a simulated disk, nodes over the segment store,
clients driven by calls. Only time, network, disks and chance are simulated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from actors.core import ActorSpec, Address, Job, Message, Peer
from actors.sim.disk import SimDisk
from actors.sim.faults import MS, NO_FAULTS, SECOND, Faults
from actors.sim.runtime import SimHandle, SimRuntime
from dsa_zmq.client.settings import ClientSettings
from dsa_zmq.client.slots import BURST_FILES
from dsa_zmq.errors import DSAError, LocalError, Unavailable
from dsa_zmq.master.catalog.log_jobs import Committed
from dsa_zmq.master.settings import MasterSettings
from dsa_zmq.model.limits import MIN_CHUNK_BYTES
from dsa_zmq.model.pace import CarePace, HealingPace
from dsa_zmq.node.service import NodeSettings
from dsa_zmq.protocol.operations import ListNodes, Nodes
from dsa_zmq.sim.ledger import Ledger, Wrong
from dsa_zmq.sim.machines import Machine, MasterMachine, NodeMachine, Watched
from dsa_zmq.sim.users import Reply, User
from dsa_zmq.sim.witness import Witness

MASTER_HOST = "10.0.0.1"
NODE_CAPACITY = 64 << 20  #: bytes: more than any scenario writes
SEGMENT_BYTES = 256 << 10  #: small, so that segments are filled, sealed and unlinked
SUPERVISE_NS = 20 * MS  #: how often the supervisor looks for processes that have ended
RESTART_MAX_NS = 500 * MS  #: a dead process is started again within this time
RECOVERY_NS = 30 * SECOND  #: after everything is healed: nodes are up, and every operation has ended


def _quick(faults: Faults) -> Faults:
    """Transport time-outs in proportion to the others of a simulated cluster, which are a tenth of those in life."""
    return replace(faults, heartbeat_ns=800 * MS, reconnect_max_ns=500 * MS)


class SimCluster:
    """See the module. ``settings`` change fields of :class:`MasterSettings`; ``scrambled`` reverses unordered SELECTs;
    ``zones`` and ``capacities`` (bytes; instead of ``capacity``) are those of the nodes, in order."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 4,
        redundancy: str = "copies=2",
        placement: str = "rendezvous",
        faults: Faults = NO_FAULTS,
        chunk_bytes: int = MIN_CHUNK_BYTES,
        keep_events: int = 0,
        scrambled: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
        capacity: int = NODE_CAPACITY,
        care: CarePace | None = None,
        zones: Sequence[str] = (),
        capacities: Sequence[int] = (),
        **settings: Any,
    ) -> None:
        self.seed = seed
        self.chunk_bytes = chunk_bytes
        self.scrambled = scrambled
        self._segment_bytes = segment_bytes
        self._capacity = capacity
        self._capacities = {f"n{number}": each for number, each in enumerate(capacities, 1)}
        self._care = care or replace(CarePace(), damage_repeat_s=0.5, scrub_save_s=1.0)
        self.world = SimRuntime(seed, faults=_quick(faults), keep_events=keep_events)
        self.random = random.Random(f"{seed}:scenario")
        self.ledger = Ledger(random.Random(f"{seed}:contents"), lambda: self.world.now_ns)
        self.witness = Witness()
        self.on_batch: list[Callable[[Machine, str, Sequence[Job], Sequence[Any]], None]] = []
        self.on_message: list[Callable[[Machine | User, Peer, Message], None]] = []
        self.master_settings = replace(
            MasterSettings(
                listen=Address(f"tcp://{MASTER_HOST}:7700"),
                publish=Address(f"tcp://{MASTER_HOST}:7701"),
                subscribe=Address(f"tcp://{MASTER_HOST}:7702"),
                default_redundancy=redundancy,
                placement=placement,
                heartbeat_s=0.1,
                suspect_s=0.4,
                down_s=1.0,
                gc_interval_s=0.5,
                gc_grace_s=1.0,
                catalog_history_s=0.0,
                upload_lease_s=8.0,
                pace=HealingPace().faster(10),
                unprotected_after_s=0.5,
            ),
            **settings,
        )
        self.patience_s = 4.0  #: of clients that start from now on, for one request
        self.advertise: dict[str, Address] = {}  #: by node: where it says it is, if not where it listens
        self.zones = {f"n{number}": zone for number, zone in enumerate(zones, 1)}  #: by node: said at its next start
        self.master = MasterMachine(self, "master")
        self.nodes = [NodeMachine(self, f"n{number}") for number in range(1, nodes + 1)]
        self.users: list[User] = []
        self._restarting: set[str] = set()
        self._supervising = False
        for machine in self.machines:
            machine.start()

    def __repr__(self) -> str:
        return f"<SimCluster seed={self.seed} {self.world!r} {self.ledger!r}>"

    # --- what there is --------------------------------------------------------------------------------------------

    @property
    def machines(self) -> list[Machine]:
        return [self.master, *self.nodes]

    def node_at(self, address: str) -> NodeMachine:
        """The node whose data port has this endpoint."""
        return next(node for node in self.nodes if self.node_settings(node.name).listen == address)

    def node_settings(self, name: str) -> NodeSettings:
        """Of the node with this name."""
        number = int(name[1:])
        return NodeSettings(
            master=self.master_settings.listen,
            listen=Address(f"tcp://10.0.1.{number}:7710"),
            advertise=self.advertise.get(name),
            name=name,
            zone=self.zones.get(name, ""),
            host=f"host-{name}",
            path=f"/srv/{name}",
            disk=f"disk-{name}",
            capacity=self._capacities.get(name, self._capacity),
            reserve=0,
            segment_bytes=self._segment_bytes,
            pace=self._care,
        )

    def client_settings(self, name: str) -> ClientSettings:
        """Patience of some seconds: long enough for a master's restart, short enough for a scenario."""
        return ClientSettings(
            hosts=(str(self.master_settings.listen),),
            name=name,
            request_timeout_s=self.patience_s,
            progress_timeout_s=1.5 * self.patience_s,
            node_timeout_s=1.0,
            hedge_s=0.2,
            slots_after=2 if self.seed % 2 else BURST_FILES,  # so that a few files are enough in every other world
        )

    def add_node(self, zone: str = "") -> NodeMachine:
        """One more node, started."""
        node = NodeMachine(self, f"n{len(self.nodes) + 1}")
        self.zones[node.name] = zone
        self.nodes.append(node)
        node.start()
        return node

    def user(self, name: str = "") -> User:
        """A new user with a client process of its own."""
        user = User(self, name or f"user{len(self.users)}")
        self.users.append(user)
        return user

    def spawn(self, owner: Machine | User, spec: ActorSpec, disks: Sequence[SimDisk] = ()) -> SimHandle:
        """Start a process whose messages and batches are seen."""
        watched = Watched(spec.actor, owner, self)
        if isinstance(owner, Machine):
            owner.watched = watched
        return self.world.spawn(replace(spec, actor=watched), disks=disks)

    # --- what happens ---------------------------------------------------------------------------------------------

    def saw_batch(self, machine: Machine, lane: str, jobs: Sequence[Job], results: Sequence[Any]) -> None:
        """A batch had its effect; nobody has heard of it yet. Results are shown as the jobs gave them."""
        results = [result.result if isinstance(result, Committed) else result for result in results]
        self.witness.saw(machine.name, jobs, results)
        for look in list(self.on_batch):
            look(machine, lane, jobs, results)

    def saw_message(self, owner: Machine | User, sender: Peer, message: Message) -> None:
        """A message was delivered, and dealt with."""
        for look in list(self.on_message):
            look(owner, sender, message)

    def soon(self, call: Callable[[], None], delay_ns: int = 0) -> None:
        """Call in an event of its own."""
        self.world.after(delay_ns, call)

    def run_for(self, seconds: float) -> None:
        self.world.run_for(int(seconds * SECOND))
        self.ledger.check_now()

    def run_until(self, done: Callable[[], object], seconds: float = RECOVERY_NS / SECOND) -> None:
        """Until then, or until something is wrong. Raises Stalled after so many virtual seconds."""
        self.world.run_until(lambda: self.ledger.violations or done(), int(seconds * SECOND))
        self.ledger.check_now()

    def wait(self, *replies: Reply, seconds: float = RECOVERY_NS / SECOND) -> list[Any]:
        """The results, once all are there. They may be errors."""
        self.run_until(lambda: all(reply.done for reply in replies), seconds)
        return [reply.result for reply in replies]

    def must(self, *replies: Reply) -> list[Any]:
        """As :meth:`wait`; an error is wrong."""
        results = self.wait(*replies)
        for reply, result in zip(replies, results, strict=True):
            if isinstance(result, DSAError):
                raise Wrong(f"nothing is broken, and yet: {result}\n{reply!r}")
        return results

    def wait_up(self, nodes: Iterable[NodeMachine] | None = None) -> None:
        """Until the master shows all nodes (or these) as up."""
        wanted = {node.name for node in (self.nodes if nodes is None else nodes)}
        user = self.user("looker")
        deadline_ns = self.world.now_ns + RECOVERY_NS
        while True:
            (shown,) = self.wait(user.ask(ListNodes()))
            if isinstance(shown, Nodes) and wanted <= {node.name for node in shown.nodes if node.state == "up"}:
                break
            if self.world.now_ns > deadline_ns:
                raise Wrong(f"not all of {sorted(wanted)} are up after {RECOVERY_NS / SECOND:g} s: {shown}")
            self.run_for(0.1)
        user.crash()

    # --- faults ---------------------------------------------------------------------------------------------------

    def supervise(self) -> None:
        """From now on processes that have ended are started again, each after a while that the seed decides."""
        if not self._supervising:
            self._supervising = True
            self._look_after()

    def stop_supervising(self) -> None:
        """What ends from now on stays so."""
        self._supervising = False

    def _look_after(self) -> None:
        if not self._supervising:
            return
        for machine in self.machines:
            if machine.kept and not machine.alive and machine.name not in self._restarting:
                self._restarting.add(machine.name)
                self.world.after(self.random.randrange(RESTART_MAX_NS), self._restart, machine)
        self.soon(self._look_after, SUPERVISE_NS)

    def _restart(self, machine: Machine) -> None:
        self._restarting.discard(machine.name)
        if self._supervising and machine.kept and not machine.alive:
            try:
                machine.start()
            except (Unavailable, LocalError):  # the disk failed just now; the next attempt may find it well
                self.world.count("refused-to-start")

    def power_loss(self) -> None:
        """Of every machine at once; users are elsewhere."""
        for machine in self.machines:
            machine.power_loss()

    def partition(self, a: Iterable[Machine | User], b: Iterable[Machine | User], *, one_way: bool = False) -> None:
        """Cut the links between them; with ``one_way`` only those from ``a`` to ``b``."""
        self.world.partition([o.process_name for o in a], [o.process_name for o in b], one_way=one_way)

    def heal(self) -> None:
        """No more faults: the network is whole, everybody goes on, and what has ended is started."""
        self.world.heal()
        self.world.faults = _quick(NO_FAULTS)
        for machine in self.machines:
            if machine.hung:
                machine.crash()
            elif machine.alive:
                machine.resume()
        for user in self.users:
            if user.alive:
                self.world.resume(user.process_name)
        self.supervise()

    def close(self) -> None:
        """Let go of everything. The disks stay readable."""
        self._supervising = False
        owners: list[Machine | User] = [*self.users, *self.machines]
        for owner in owners:
            if owner.alive:
                self.world.crash(owner.process_name)
