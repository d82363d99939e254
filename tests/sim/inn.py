"""A restore in the simulator, scripted nodes that come to it, and a catalog that is lost, of which they have volumes."""

from __future__ import annotations

import random
from typing import Any

from actors.core import ActorSpec, Address, Context, Message, Token
from actors.sim.disk import SimDisk
from actors.sim.faults import NO_FAULTS, Faults
from actors.sim.runtime import SimHandle, SimRuntime
from actors.testing import Received
from dsa_zmq.errors import Conflict
from dsa_zmq.master.catalog.catalog import CATALOG_FILE
from dsa_zmq.master.restore_events import Event, Failed, Go, Noted, Planned, Restored, Wanted
from dsa_zmq.master.restore_jobs import MADE_FILE
from dsa_zmq.master.restore_service import restore_spec
from dsa_zmq.model.ids import NONCE_BITS
from dsa_zmq.model.volumes import VolumeChain, read_records
from dsa_zmq.protocol.codec import CODEC
from dsa_zmq.protocol.messages import Refused, Register
from dsa_zmq.protocol.values import Failure
from dsa_zmq.protocol.volumes import Claim, Claimed, ReadVolume, VolumeData, VolumeState
from tests.sim.conftest import SECOND, Script
from tests.unit.catalog.conftest import Kit
from tests.unit.catalog.scribe import Scribe, busy, dump

CONTROL = Address("tcp://10.0.0.1:7700")
MS = 1_000_000


def state_of(data: bytes) -> VolumeState:
    """What a node says of these bytes."""
    chain, size = VolumeChain(), 0
    for end, record in read_records(data):
        chain.take(record)
        size = end
    assert chain.head is not None
    return VolumeState(
        chain.head.volume, chain.head.position, chain.begun_ns, chain.parts, chain.complete, chain.whole,
        chain.whole_ns, chain.position, chain.term, chain.wall_ns, chain.hash, size,
    )  # fmt: skip


class Guest(Script):
    """A node: asks to be registered each second, tells what it has, and promises."""

    def __init__(self, inn: Inn, name: str, number: int, *, cluster: bytes, store: bytes = b"") -> None:
        super().__init__({Claim: self._claim, ReadVolume: self._read, Refused: self._refused}, self._come)
        self.inn, self.name, self.number = inn, name, number
        self.volumes: dict[int, bytes] = {}
        self.states: dict[int, VolumeState] = {}  #: instead of what their bytes say
        self.cluster, self.store = cluster, store or name.encode().ljust(16, b".")
        self.version = 2
        self.seen_term, self.seen_master = 5, b"m" * 16
        self.heard_ns: int | None = None  #: when a master gave a sign of life
        self.hears = False  #: one does, all the time
        self.reads = True  #: answer ReadVolume
        self.mute: dict[int, int] = {}  #: by volume: offset from which on they are not answered
        self.claims = True  #: answer Claim
        self.short = 0  #: bytes of an answer, at most
        self.promised: list[int] = []
        self.refusals: list[Failure] = []
        self.handle: SimHandle = inn.sim.spawn(ActorSpec(f"node-{name}", 1 << NONCE_BITS, self, CODEC))
        self.handle.call(lambda ctx: ctx.set_timer("come", 0))

    def hold(self, *volumes: bytes) -> Guest:
        """Have these volumes."""
        for data in volumes:
            self.volumes[state_of(data).volume] = data
        return self

    def _come(self, ctx: Context, token: Token) -> None:
        ctx.set_timer("come", SECOND)
        if self.hears:
            self.heard_ns = self.inn.sim.now_ns
        message = Register(
            number=1, version=self.version, oldest=1, cluster=self.cluster, name=self.name, store_id=self.store,
            incarnation=1 << NONCE_BITS, address=f"tcp://{self.name}:7710", zone="", host=self.name, path="/data",
            disk=self.name, capacity=1, used=0, free=1, seen_term=self.seen_term, seen_master=self.seen_master,
            node=self.number,
        )  # fmt: skip
        ctx.send(CONTROL, message)

    def _claim(self, message: Claim) -> Message | None:
        if not self.claims and not message.only_asks:
            return None
        now = self.inn.sim.now_ns
        heard_ms = -1 if self.heard_ns is None else (now - self.heard_ns) // MS
        states = [self.states.get(volume) or state_of(data) for volume, data in sorted(self.volumes.items())]
        seen = self.seen_term
        if not message.only_asks:
            if message.term < seen or (message.term == seen and message.master != self.seen_master):
                return Refused(message.number, Failure("conflict", f"seen term {seen}", ""))
            self.seen_term, self.seen_master = message.term, message.master
            self.promised.append(message.term)
            self.on_promise()
            states = [self.states.get(volume) or state_of(data) for volume, data in sorted(self.volumes.items())]
        return Claimed(message.number, self.number, self.name, self.store, seen, int(heard_ms), states)

    def on_promise(self) -> None:
        """For tests that let something happen at that moment."""

    def _read(self, message: ReadVolume) -> Any:
        if not self.reads or message.offset >= self.mute.get(message.volume, message.offset + 1):
            return None
        data = self.volumes[message.volume][message.offset : message.offset + message.limit]
        return VolumeData(message.number, message.volume, message.offset), [data[: self.short] if self.short else data]

    def _refused(self, message: Refused) -> None:
        self.refusals.append(message.failure)

    def _answer(self, ctx: Context, got: Received) -> None:
        super()._answer(ctx, got)


class Inn:
    """The machine on which a master is restored, and who comes there."""

    def __init__(self, seed: int = 1, faults: Faults = NO_FAULTS) -> None:
        self.sim = SimRuntime(seed, faults=faults, keep_events=200)
        self.disk = SimDisk(random.Random(seed))
        self.rng = random.Random(seed)
        self.events: list[Event] = []
        self.guests: dict[str, Guest] = {}
        self.handle: Any = None

    def guest(self, name: str, number: int, cluster: bytes, **options: Any) -> Guest:
        guest = self.guests[name] = Guest(self, name, number, cluster=cluster, **options)
        return guest

    def start(self, source: bytes | None = None, **wanted: Any) -> None:
        """Begin to restore; what went on before ends."""
        if self.handle is not None and self.handle.alive:
            self.handle.stop()
        self.events.clear()
        file = None
        if source is not None:
            self.disk.replace_bytes("backup", source)
            file = self.disk.open("backup", readonly=True)
        options = Wanted(**{"wait_s": 20.0, "quiet_s": 4.0, "settle_s": 2.0, **wanted})
        spec = restore_spec(CONTROL, self.disk, self.rng, options, self.events.append, file)
        self.handle = self.sim.spawn(spec, disks=[self.disk])

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def notes(self) -> str:
        return "\n".join(event.text for event in self.of(Noted))

    def planned(self) -> Planned:
        """Wait for the plan."""
        self.sim.run_until(lambda: self.of(Planned) or self.of(Failed), 120 * SECOND)
        if self.of(Failed):
            raise self.of(Failed)[0].error
        return self.of(Planned)[-1]

    def go(self) -> Restored:
        """Let it go on; wait for its end."""
        self.handle.call(Go())
        self.sim.run_until(lambda: self.of(Restored) or self.of(Failed), 120 * SECOND)
        if self.of(Failed):
            raise self.of(Failed)[0].error
        self.sim.run_until(lambda: not self.handle.alive)
        return self.of(Restored)[0]

    def failure(self) -> Failed:
        """Wait for its end, which is none."""
        self.sim.run_until(lambda: self.of(Failed) or self.of(Planned), 120 * SECOND)
        if self.of(Planned):
            raise Conflict("it was planned")
        self.sim.run_until(lambda: not self.handle.alive)
        return self.of(Failed)[0]


TABLES = ("meta", "drops", "holders", "inventories")


class Lost:
    """A catalog that is lost, and what there is of it."""

    def __init__(self, seed: int = 5) -> None:
        self.kit = Kit(seed, nodes=3)
        self.scribe = Scribe(self.kit, random.Random(seed))
        self.scribe.note()
        self.cluster = self.kit.catalog.cluster
        busy(self.kit, self.scribe, 5)
        self.old = self.scribe.begin(1).complete()
        busy(self.kit, self.scribe, 5)
        self.volume = self.scribe.begin(2)
        busy(self.kit, self.scribe, 5, volume=self.volume)
        self.volume.complete()
        busy(self.kit, self.scribe, 10)

    def inn(self, *names: str, seed: int = 1, faults: Faults | None = None) -> Inn:
        """Where these of the nodes come, each with both volumes."""
        inn = Inn(seed, faults) if faults else Inn(seed)
        for row in self.kit.nodes:
            if row.name in (names or ("n0", "n1", "n2")):
                guest = inn.guest(row.name, row.node, self.cluster, store=row.store_id)
                guest.hold(self.old.data(), self.volume.data(random.Random(row.node)))
        return inn

    def rows(self) -> dict[str, Any]:
        return self.kit.dump(*TABLES)


def restored(inn: Inn) -> dict[str, Any]:
    """The rows of what was published."""
    assert MADE_FILE not in inn.disk.listdir("")
    return {name: rows for name, rows in dump(inn.disk, CATALOG_FILE).items() if name not in TABLES}
