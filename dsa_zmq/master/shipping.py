"""Shipping the catalog's log: which nodes hold a copy, what each is sent, and what of it is safe. Pure.

What comes in are turns: records were committed, a node has answered, a job has ended, time has passed. What goes out are
effects, to be taken with :meth:`Shipping.effects` at the end of a turn. Times are serving time in nanoseconds.

There is one *current* volume, and at times a *next* one, whose snapshot is being taken. Records go to the copies of both.
The next becomes the current one when all its copies are usable (who is too slow is left out). When it is begun is said in
:mod:`dsa_zmq.master.ship_pace`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dsa_zmq import __version__
from dsa_zmq.master.catalog.log_jobs import BeginVolume, LogState, ReadLog, Slice, TrimLog, VolumeBegun
from dsa_zmq.master.desk import Moment
from dsa_zmq.master.ship_copy import MESSAGE_BYTES, NO_ROOM, ShipCopy
from dsa_zmq.master.ship_effects import Ask, Effect, Send, Wake
from dsa_zmq.master.ship_pace import ShipPace
from dsa_zmq.master.ship_resume import ShipResume
from dsa_zmq.master.ship_set import ShipNode, choose, enough, wanted
from dsa_zmq.master.ship_trim import BRIDGED_BYTES, ShipTrim
from dsa_zmq.master.ship_volume import ShipVolume
from dsa_zmq.master.ship_window import WINDOW_BYTES, ShipWindow
from dsa_zmq.model.ids import id_floor
from dsa_zmq.model.records import chain_of
from dsa_zmq.protocol.volumes import AskVolumes, Ship, Shipped, Volumes, VolumeState

BRIDGED_NS = 600_000_000_000  #: and for so long
UNPAUSED_BYTES = 1 << 20  #: of a snapshot: so much is read in one go, the rest with pauses
SLICE_PAUSE_NS = 20_000_000  #: between slices, for the catalog's other work; none while there are too few copies


class Shipping:
    """See the module. ``suspect_ns`` is the silence after which nodes are suspect, ``gather_ns`` how long a first volume
    waits for more nodes."""

    def __init__(self, term: int, suspect_ns: int, gather_ns: int, window_bytes: int = WINDOW_BYTES) -> None:
        self.pace = ShipPace(suspect_ns, gather_ns)
        self.window = ShipWindow(window_bytes)
        self.nodes: Mapping[int, ShipNode] = {}
        self.current: ShipVolume | None = None
        self.next: ShipVolume | None = None
        self.is_loaded = False
        self.safe = -1  #: records up to this position are held by enough nodes, in copies that can be used
        self.begun = 0  #: volumes so far
        self.resuming = ShipResume()
        self._beginning: list[int] | None = None  #: nodes of the volume that is being begun
        self._away: dict[int, int] = {}  #: since when a node that has a copy cannot be reached
        self._slice_ns = 0  #: when the next slice is due
        self._promoted = 0  #: what was safe when the current volume became that
        self._number = id_floor(term)  #: of messages; an earlier master's answers are told apart
        self._term = term
        self._trimming = ShipTrim()
        self._early: list[bytes] = []  #: records that came before it was known where the log was
        self._effects: list[Effect] = []

    def effects(self) -> list[Effect]:
        """What this turn has led to."""
        effects, self._effects = self._effects, []
        return effects

    # --- what is so -----------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Of the log's last record."""
        return self.window.position

    @property
    def wanted(self) -> int:
        return wanted(len(self.nodes))

    @property
    def enough(self) -> int:
        return enough(len(self.nodes))

    def volumes(self) -> Iterator[ShipVolume]:
        """Those that are shipped."""
        yield from (volume for volume in (self.current, self.next) if volume is not None)

    def holders(self) -> dict[int, int]:
        """Nodes that hold a usable copy and can be reached, and how far each holds the log."""
        return _positions(copy for copy in self._usable() if not copy.trouble and self._can(copy.node))

    def _usable(self) -> Iterator[ShipCopy]:
        return (copy for volume in self.volumes() for copy in volume.copies.values() if copy.usable)

    def is_thin(self) -> bool:
        """Whether fewer nodes hold the catalog than have to."""
        return len(self.holders()) < self.enough

    def is_settled(self) -> bool:
        """Whether the current volume alone makes safe what was said to be, on nodes in reach, and no other is begun."""
        if self.current is None or self.next is not None or self._beginning is not None:
            return False
        good = [copy for copy in self.current.good() if copy.usable and self._can(copy.node)]
        return 0 < self.enough <= sum(copy.state.position >= self._promoted for copy in good)

    def _can(self, node: int) -> bool:
        known = self.nodes.get(node)
        return known is not None and not known.why_not

    # --- the log --------------------------------------------------------------------------------------------------

    def loaded(self, state: LogState, at: Moment) -> None:
        """The catalog has told where its log ends."""
        self.window.begin(state.position, state.hash, state.first, state.size)
        self.is_loaded, self.resuming.volume = True, state.volume
        self._trimming.begin(state.first, at)
        early, self._early = self._early, []
        self.committed([data for data in early if chain_of(data)[0] > state.position], at)
        self.ask_volumes()
        self._after(at)

    def committed(self, records: Iterable[bytes], at: Moment) -> None:
        """A transaction has left these records."""
        if not self.is_loaded:
            self._early.extend(records)
            return
        size = 0
        for data in records:
            self.window.append(data)
            size += len(data)
        for volume in self.volumes():
            volume.log_bytes += size
            for copy in volume.copies.values():
                self._pump(volume, copy, at.served_ns)
        if not self.nodes:
            self._settle()

    def _pump(self, volume: ShipVolume, copy: ShipCopy, served_ns: int) -> None:
        """Send what may be sent."""
        while copy.may_send() and self._can(copy.node):
            begin = volume.parts_from(0, 0, 1) if not copy.sent_parts else []
            left = MESSAGE_BYTES - sum(map(len, begin))
            records = self._records_for(volume, copy, left)
            left -= sum(map(len, records))
            parts = volume.parts_from(copy.sent_parts + len(begin), left, not (begin or records))
            payload = [*begin, *records, *parts]
            if not payload and (copy.reading or not copy.asking):
                return
            copy.sent_parts += len(begin) + len(parts)
            copy.sent += len(records)
            self._ship(volume, copy, payload, served_ns)

    def _records_for(self, volume: ShipVolume, copy: ShipCopy, limit: int) -> list[bytes]:
        """What of the log comes next there. Older records are asked of the catalog first."""
        if copy.sent >= self.window.position:
            return []
        if copy.sent + 1 >= self.window.first:
            return self.window.take(copy.sent + 1, limit)
        copy.reading = True
        self._effects.append(Ask(("log", volume.volume, copy.node), ReadLog(copy.sent + 1, MESSAGE_BYTES)))
        return []

    def _ship(self, volume: ShipVolume, copy: ShipCopy, payload: Sequence[bytes], served_ns: int) -> None:
        number = self.next_number()
        copy.sending(number, sum(map(len, payload)), served_ns)
        self._effects.append(Send(copy.node, Ship(number, self._term, volume.volume), payload))

    def read_log(self, number: int, node: int, records: Sequence[bytes] | None, at: Moment) -> None:
        """Older records have come from the catalog; None if they could not be read now."""
        volume = next((volume for volume in self.volumes() if volume.volume == number), None)
        copy = volume.copies.get(node) if volume is not None else None
        if volume is None or copy is None:
            return
        copy.reading = False
        if records:
            first, previous, _ = chain_of(records[0])
            if not copy.proved:
                copy.prove(previous)
            if first == copy.sent + 1 and copy.may_send() and self._can(node):
                copy.sent += len(records)
                self._ship(volume, copy, records, at.served_ns)
                self._pump(volume, copy, at.served_ns)
        elif records is not None and copy.sent + 1 < self.window.first:
            copy.trouble = "it was away for too long"
        self._after(at)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def see(self, nodes: Iterable[ShipNode], at: Moment) -> None:
        """These are the nodes, as they are now."""
        self.nodes = {each.node: each for each in nodes}
        for volume in self.volumes():
            for node in [node for node in volume.copies if node not in self.nodes]:
                del volume.copies[node]  # removed, or another store has its name
        self.resuming.keep_only(self.nodes.keys())
        self._away = {node: since_ns for node, since_ns in self._away.items() if node in self.nodes}
        for node, each in self.nodes.items():
            if each.why_not:
                self._away.setdefault(node, at.served_ns)
            else:
                self._away.pop(node, None)
        self._after(at)

    def registered(self, node: int, at: Moment) -> None:
        """This node has registered: what was on its way to it is lost, and it may be another process."""
        for volume in self.volumes():
            if (copy := volume.copies.get(node)) is not None:
                copy.begin_anew()
                self._pump(volume, copy, at.served_ns)
        self.ask_volumes_of(node)

    def ask_volumes(self) -> None:
        """Have all nodes tell what they hold."""
        for node in self.nodes:
            self.ask_volumes_of(node)

    def ask_volumes_of(self, node: int) -> None:
        """Have this one tell it."""
        if self._can(node):
            self._effects.append(Send(node, AskVolumes(self.next_number())))

    def next_number(self) -> int:
        """Of a message to a node."""
        self._number += 1
        return self._number

    def volumes_told(self, node: int, message: Volumes, at: Moment) -> None:
        """A node has told which volumes it holds: one that goes on may be among them."""
        if node not in self.nodes:
            return
        self.resuming.told[node] = message.volumes
        number = self.current.volume if self.current is not None else self.resuming.volume
        found = next((state for state in message.volumes if state.volume == number), None)
        if number and found is not None and self._fits(found):
            self._found(node, found, at)
        self._after(at)

    def _fits(self, state: VolumeState) -> bool:
        """Whether the volume can go on from there, by what is still in the log."""
        within = self.is_loaded and self._trimming.below - 1 <= state.position <= self.position
        return within and state.usable and not state.damage

    def _found(self, node: int, state: VolumeState, at: Moment) -> None:
        """It holds the volume that is shipped, or that an earlier master shipped."""
        if self.current is None:
            self.current = ShipVolume.resumed(state, self.window.bytes_each(self._trimming.below))
            self.resuming.volume = 0
        if node not in self.current.copies:
            copy = self.current.add(node, state)
            copy.judge(state, self.window.hash_at, self.position)
            self._pump(self.current, copy, at.served_ns)

    def shipped(self, node: int, message: Shipped, at: Moment) -> None:
        """A node's word about one of its copies."""
        for volume in self.volumes():
            copy = volume.copies.get(node)
            if copy is None or message.state.volume != volume.volume:
                continue
            if copy.take(message, self.window.hash_at, self.position, at.served_ns):
                if copy.trouble == NO_ROOM:
                    self.pace.avoid(node, at)
                self._pump(volume, copy, at.served_ns)
                if copy.trouble or volume is self.next:
                    self._after(at)
                else:
                    self._settle()

    # --- the snapshot ---------------------------------------------------------------------------------------------

    def volume_begun(self, result: VolumeBegun | None, at: Moment) -> None:
        """The catalog has begun a volume; None if it could not."""
        nodes, self._beginning = self._beginning or [], None
        if result is None:
            return
        self.begun += 1
        self.resuming.volume = 0
        self.next = ShipVolume.new(result, [node for node in nodes if node in self.nodes], at.served_ns)
        for copy in self.next.copies.values():
            self._pump(self.next, copy, at.served_ns)
        self._read_slice(at)
        self._after(at)

    def slice_read(self, volume: int, result: Slice | None, at: Moment) -> None:
        """Parts of the snapshot have come; None if they could not be read: then it is given up."""
        if self.next is None or self.next.volume != volume:
            return
        if result is None:
            self.next = None
            return
        self.next.read(result)
        for copy in self.next.copies.values():
            self._pump(self.next, copy, at.served_ns)
        if self.next.snapshot_bytes < UNPAUSED_BYTES or self.is_thin():
            self._read_slice(at)
        else:
            self._slice_ns = at.served_ns + SLICE_PAUSE_NS
            self._effects.append(Wake(SLICE_PAUSE_NS))

    def _read_slice(self, at: Moment) -> None:
        if self.next is not None and (job := self.next.next_slice(at.wall_ns)) is not None:
            self._effects.append(Ask(("slice", self.next.volume), job))

    # --- time -----------------------------------------------------------------------------------------------------

    def wake(self, at: Moment) -> None:
        """The time of a :class:`Wake` has come."""
        self._read_slice(at)

    def tick(self, at: Moment) -> None:
        """Some time has passed."""
        for volume in self.volumes():
            for copy in volume.copies.values():
                copy.is_late(at.served_ns)
                self._pump(volume, copy, at.served_ns)
        for copy in self.current.good() if self.current is not None else ():
            away_ns = at.served_ns - self._away.get(copy.node, at.served_ns)
            if away_ns >= BRIDGED_NS or self.window.bytes_behind(copy.state.position) > BRIDGED_BYTES:
                copy.trouble = "it was away for too long"
        if self.is_loaded:
            for node in self.resuming.to_ask(self.nodes.keys(), at.served_ns):
                self.ask_volumes_of(node)
            self._after(at)
            self._trim(at)

    def _trim(self, at: Moment) -> None:
        """Have the catalog remove the records that nobody needs any more."""
        if self._beginning is None:
            resumes = bool(self.resuming.volume)
            below = self._trimming.due(self.volumes(), self.window, at, resumes=resumes, begun=self.begun)
            if below:
                self._effects.append(Ask(("trim",), TrimLog(below)))

    def trimmed(self, more: bool) -> None:
        """The catalog has removed some; whether there are more."""
        if (below := self._trimming.done(more)) is not None:
            self._effects.append(Ask(("trim",), TrimLog(below)))

    # --- decisions ------------------------------------------------------------------------------------------------

    def _after(self, at: Moment) -> None:
        """Something about nodes or copies has changed."""
        if not self.is_loaded:
            return
        self._settle()
        self._look_at_next(at)
        if self.next is None and self._beginning is None and self.pace.should_begin(self, at):
            earlier = self.resuming.earlier(self._fits)
            for node, state in earlier.items():
                self._found(node, state, at)
            if not earlier:
                self._begin(at)

    def _settle(self) -> None:
        """How much is safe? It never becomes less: what was held by enough is held by them, wherever they are."""
        needed = self.enough
        if not needed:
            self.safe = max(self.safe, self.position)
            return
        held = _positions(self._usable())
        if len(held) >= needed:
            self.safe = max(self.safe, sorted(held.values())[-needed])

    def _look_at_next(self, at: Moment) -> None:
        """Is the next volume complete? Or will it never be?"""
        volume = self.next
        if volume is None:
            return
        others = any(not each.why_not and node not in volume.copies for node, each in self.nodes.items())
        for node in volume.give_up_slow(at.served_ns, others=others):
            self.pace.avoid(node, at)
        volume.forget_parts()
        good = list(volume.good())
        before = sum(self._can(copy.node) for copy in self.current.good()) if self.current is not None else 0
        if not good or len(good) < min(self.enough, before):
            self.next = None
        elif volume.is_read and all(copy.usable for copy in good):
            self.current, self.next = volume, None
            self.pace.settled(copy.node for copy in good)
            self._settle()
            self._promoted = self.safe
        elif volume.snapshot_bytes < UNPAUSED_BYTES or at.served_ns >= self._slice_ns or self.is_thin():
            self._read_slice(at)

    def _begin(self, at: Moment) -> None:
        candidates = self.pace.candidates(self.nodes.values(), at)
        self._beginning = choose(candidates, self.wanted, self.current.copies if self.current is not None else ())
        self._effects.append(Ask(("begin",), BeginVolume(at.wall_ns, f"dsa-zmq {__version__}")))

    def __repr__(self) -> str:
        return f"<Shipping {self.safe} of {self.position} safe, current {self.current!r}, next {self.next!r}>"

    def check_invariants(self) -> None:
        self.window.check_invariants()
        assert self.safe <= self.position, "nothing is safe that was not committed"
        for volume in self.volumes():
            volume.check_invariants()


def _positions(copies: Iterable[ShipCopy]) -> dict[int, int]:
    """How far the nodes of these hold the log."""
    held: dict[int, int] = {}
    for copy in copies:
        held[copy.node] = max(held.get(copy.node, -1), copy.state.position)
    return held
