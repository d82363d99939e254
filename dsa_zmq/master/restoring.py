"""A lost master's catalog is made anew, at the master's address: from the copies that nodes hold, or from a file.

::

    gathering --all of the newest membership here, no master heard--> reading --> planned --told to--> claiming --> finishing
        ^ nodes are only asked                                                                          |
        +------------------------- a node has more than was read: it is read again <-------------------+

Nodes ask to be registered, and are *asked* in their turn: what do you hold, and when did you last hear of a master? Which
nodes have to be there is in the copy itself. Only when all is known and wanted is each node *claimed*: from then on it obeys
nobody of a lower term, durably, so a former master that is alive all the same cannot go on. What the nodes hold after that
is final. It is restored only if it is what was read before; else it is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from actors.core import Actor, Channel, Context, Message, Peer, Token
from dsa_zmq.errors import Conflict, DSAError, Invalid, NotFound, Unavailable
from dsa_zmq.master.calls import failure
from dsa_zmq.master.catalog.rebuild import Preview, Rebuilt, Restoration
from dsa_zmq.master.catalog.tables import StoreRow
from dsa_zmq.master.restore_copying import Copying
from dsa_zmq.master.restore_events import Came, Event, Failed, Go, Noted, Planned, Restored, Waiting, Wanted
from dsa_zmq.master.restore_guests import Guest, Guests, why_strange
from dsa_zmq.master.restore_plan import (
    Step,
    check_end_is_known,
    check_no_less,
    check_nothing_newer,
    choose,
    doubtful,
    have_not_come,
    history_of,
    key_of,
    newest_of,
    term_above,
    unusable,
)
from dsa_zmq.protocol.messages import OLDEST_VERSION, PROTOCOL_VERSION, Hello, Refused, Register
from dsa_zmq.protocol.volumes import Claim, Claimed, VolumeData

SECOND = 1_000_000_000
TICK_NS = SECOND // 4
ASK_NS = SECOND  #: a node is asked again after this


class RestoreActor(Actor):
    """See the module. ``tell`` is called with an :data:`Event` within a turn; after Restored or Failed the actor stops."""

    def __init__(self, wanted: Wanted, tell: Callable[[Event], None]) -> None:
        self._wanted = wanted
        self._tell = tell
        self._guests = Guests(int(wanted.quiet_s * SECOND))
        self._state = "gathering"
        self._cluster = wanted.cluster  #: the beginning of its id, as far as it is known
        self._numbers = 0
        self._deadline_ns = 0
        self._came_ns = 0  #: when the last new node came
        self._said = ""
        self._copying = Copying(
            tell,
            self._next_number,
            self._guests.where,
            at_ns=wanted.at_ns,
            file_bytes=wanted.file_bytes,
            damaged_too=wanted.older,
        )
        self._claim: Claim | None = None
        self._planned: Preview | None = None  #: what whoever runs this has agreed to
        self._master = b""
        self.refused: dict[str, str] = {}  #: strangers, by name, and why

    # --- life -----------------------------------------------------------------------------------------------------

    def on_start(self, ctx: Context) -> None:
        self._master = ctx.random.randbytes(16)
        self._deadline_ns = ctx.now_ns() + int(self._wanted.wait_s * SECOND)
        ctx.set_timer("tick", TICK_NS)
        if self._wanted.file_bytes >= 0:
            self._read(ctx, [])

    def on_timer(self, ctx: Context, token: Token) -> None:
        if self._state == "ended":
            return
        ctx.set_timer("tick", TICK_NS)
        try:
            self._step(ctx)
        except DSAError as error:
            self._fail(ctx, error)

    def on_call(self, ctx: Context, call: Any) -> None:
        if isinstance(call, Go) and self._state == "planned":
            try:
                self._begin_claiming(ctx)
            except DSAError as error:
                self._fail(ctx, error)

    def on_message(self, ctx: Context, sender: Peer, message: Message, payload: Sequence[memoryview]) -> None:
        if sender.channel is not Channel.DIRECT or self._state == "ended":
            return
        try:
            match message:
                case Register():
                    self._on_register(ctx, sender, message)
                case Hello():
                    why = Unavailable("a lost master is being restored here", "try again when it has been started")
                    ctx.send(sender.address, Refused(message.number, failure(why)))
                case Claimed():
                    self._on_claimed(message, ctx.now_ns())
                case Refused():
                    self._on_refused(sender, message)
                case VolumeData() if self._state == "reading":
                    self._copying.on_data(ctx, message, payload)
                    self._look_at_copying(ctx)
        except DSAError as error:
            self._fail(ctx, error)

    # --- who comes ------------------------------------------------------------------------------------------------

    def _on_register(self, ctx: Context, sender: Peer, message: Register) -> None:
        if (why := why_strange(message, self._cluster)) is not None:
            self._turn_away(message.name, why.message)
            ctx.send(sender.address, Refused(message.number, failure(why)))
            return
        known = len(self._guests.by_store)
        guest = self._guests.came(sender.address, message)
        if len(self._guests.by_store) > known:
            self._came_ns = ctx.now_ns()
        self._ask(ctx, guest)

    @property
    def _preview(self) -> Preview | None:
        return self._copying.preview

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _ask(self, ctx: Context, guest: Guest) -> None:
        guest.asked_ns = ctx.now_ns()
        if self._claim is not None:
            if not guest.claimed:
                ctx.send(guest.address, self._claim)
            return
        ctx.send(guest.address, self._claim_of(guest.register.cluster, term_above(guest.seen_term), only_asks=True))

    def _claim_of(self, cluster: bytes, term: int, *, only_asks: bool = False) -> Claim:
        number = self._next_number()
        return Claim(number, PROTOCOL_VERSION, OLDEST_VERSION, cluster, term, self._master, only_asks)

    def _on_refused(self, sender: Peer, message: Refused) -> None:
        """It does not let itself be asked, or claimed."""
        guest = next((guest for guest in self._guests if guest.address == sender.address), None)
        if guest is None:
            return
        said = message.failure
        if self._claim is not None and message.number == self._claim.number:
            raise Conflict(f"node '{guest.name}' cannot be claimed: {said.message}", said.remedy)
        del self._guests.by_store[guest.register.store_id]
        self._turn_away(guest.name, said.message)

    def _turn_away(self, name: str, why: str) -> None:
        if name not in self.refused:
            self.refused[name] = why
            self._tell(Noted(f"{name}: {why}"))

    def _on_claimed(self, message: Claimed, now_ns: int) -> None:
        guest = self._guests.by_store.get(message.store_id)
        if guest is None:
            return
        news = not guest.has_told
        self._guests.told(message, now_ns)
        if news:
            self._tell(Came(guest.name, len(guest.volumes)))
            for text in unusable([copy for copy in self._guests.copies() if copy.node == guest.name]):
                self._tell(Noted(text))
        if self._claim is not None and message.number == self._claim.number:
            guest.claimed = True

    # --- what there is to do --------------------------------------------------------------------------------------

    def _step(self, ctx: Context) -> None:
        now = ctx.now_ns()
        for guest in self._guests:
            if now >= guest.asked_ns + ASK_NS:
                self._ask(ctx, guest)
        if self._claim is None:
            self._guests.check_no_master_lives(now)
        if self._state == "gathering":
            self._gather(ctx, now)
        elif self._state == "reading":
            self._copying.step(ctx)
            self._look_at_copying(ctx)
        elif self._state == "claiming":
            self._claim_all(ctx, now)

    def _gather(self, ctx: Context, now: int) -> None:
        """Wait for nodes, and read the newest copy of those that are here: it says who has to be."""
        late = now >= self._deadline_ns
        if (guest := self._guests.restless(now)) is not None:
            self._wait_for(guest.name + (" to answer" if not guest.has_told else ": it heard of a master a moment ago"))
            if not guest.has_told and late:
                raise Unavailable(f"node '{guest.name}' does not answer", "look at its log, or stop it")
            return
        if not self._guests.by_store:
            self._wait_for("nodes")
            if late:
                others = f"; others did: {', '.join(sorted(self.refused))}" if self.refused else ""
                raise Unavailable(
                    f"no node of a cluster came here within {self._wanted.wait_s:g} s{others}",
                    "start the nodes; they look for the master where it was",
                )
            return
        if now < self._came_ns + int(self._wanted.settle_s * SECOND):
            return
        self._guests.check_one_cluster()
        if self._wanted.file_bytes < 0:
            try:
                steps = self._choose()
            except (NotFound, Conflict):
                if late:
                    raise
                self._wait_for("nodes with a usable copy of the catalog")
                return
            if self._copying.state != "read" or key_of(steps) != self._copying.key:
                self._read(ctx, steps)
                return
        if absent := self._absent():
            self._wait_for(", ".join(absent))
            if late:
                self._fail_absent(ctx, absent)
            return
        self._plan(ctx)

    def _wait_for(self, why: str) -> None:
        if why != self._said:
            self._said = why
            self._tell(Waiting(why))

    # --- membership -----------------------------------------------------------------------------------------------

    def _members(self) -> list[StoreRow]:
        return self._preview.nodes if self._preview is not None else []

    def _absent(self) -> list[str]:
        """Nodes that are needed and not here."""
        return sorted(row.name for row in self._missing() if row.name not in self._wanted.without)

    def _missing(self) -> list[StoreRow]:
        return [row for row in self._members() if row.store_id not in self._guests.by_store]

    def _fail_absent(self, ctx: Context, absent: Collection[str]) -> None:
        self._fail(ctx, have_not_come(absent, len(self._members())), tuple(absent))

    def _plan(self, ctx: Context) -> None:
        assert self._preview is not None, "it was read"
        names = {row.name for row in self._members()}
        if unknown := sorted(set(self._wanted.without) - names):
            raise Invalid(
                f"there is no node '{unknown[0]}' to leave out", f"the nodes are: {', '.join(sorted(names)) or 'none'}"
            )
        if here := sorted(set(self._wanted.without) - {row.name for row in self._missing()}):
            self._tell(Noted(f"{', '.join(here)} came after all, and counts like the others"))
        copies = self._guests.copies()
        self._check_file()
        damaged = self._check_damage()
        newest = newest_of(copies)
        self._state, self._planned = "planned", self._preview
        planned = Planned(
            self._preview,
            copies,
            [step.volume for step in self._copying.steps],
            sorted(row.name for row in self._missing()),
            max(newest.wall_ns, self._preview.moment_ns),
            max(newest.position, self._preview.position),
            self._guests.term_of_none(self._preview.term),
            damaged,
        )
        self._tell(planned)

    def _check_file(self) -> None:
        if self._wanted.file_bytes >= 0 and not self._wanted.older and self._preview is not None:
            read = self._preview
            check_nothing_newer(self._guests.copies(), read.term, read.position, read.moment_ns)

    def _check_damage(self) -> list[str]:
        """Nodes that may have held more than was read. Corrupt if that may have been acknowledged, and is wanted."""
        copying = self._copying
        if not copying.steps or self._preview is None:
            return []
        damaged = doubtful(self._guests.copies(), copying.steps[-1], self._wanted.at_ns, copying.limits)
        if not self._wanted.older:
            away = [row.name for row in self._missing()]
            check_end_is_known(damaged, away, len(self._members()), self._preview.position)
        return damaged

    # --- reading --------------------------------------------------------------------------------------------------

    def _read(self, ctx: Context, steps: Sequence[Step]) -> None:
        self._state = "reading"
        self._copying.begin(ctx, steps)

    def on_result(self, ctx: Context, token: Token, result: Any) -> None:
        if isinstance(result, Exception) and not isinstance(result, DSAError):
            raise result  # our bug
        if self._state == "ended":
            return
        try:
            rebuilt = self._copying.on_result(ctx, token, result)
            if rebuilt is not None:
                self._done(ctx, rebuilt)
            else:
                self._look_at_copying(ctx)
        except DSAError as error:
            self._fail(ctx, error)

    def _look_at_copying(self, ctx: Context) -> None:
        """Go on when something was read, or cannot be."""
        if self._state != "reading":
            return
        copying = self._copying
        if copying.state == "exhausted":
            if self._claim is None:
                self._state = "gathering"  # somebody who has more may come
            else:
                self._read(ctx, self._choose())
        elif copying.state == "read":
            self._forget_strangers()
            self._state = "gathering" if self._claim is None else "claiming"

    def _choose(self) -> list[Step]:
        return choose(self._guests.copies(), at_ns=self._wanted.at_ns, limits=self._copying.limits)

    def _forget_strangers(self) -> None:
        """It is known only now of which cluster a file is."""
        assert self._preview is not None, "it was read"
        self._cluster = self._preview.cluster
        for name in self._guests.forget_strangers(self._cluster):
            self._turn_away(name, "this node belongs to another cluster")

    # --- claiming -------------------------------------------------------------------------------------------------

    def _begin_claiming(self, ctx: Context) -> None:
        assert self._preview is not None, "it was planned"
        term = term_above(max(self._guests.highest_term, self._preview.term))
        self._state = "claiming"
        self._claim = self._claim_of(bytes.fromhex(self._preview.cluster), term)
        self._deadline_ns = ctx.now_ns() + int(self._wanted.wait_s * SECOND)
        for guest in self._guests:
            self._ask(ctx, guest)

    def _claim_all(self, ctx: Context, now: int) -> None:
        assert self._claim is not None, "that is what claiming means"
        members = {row.store_id for row in self._members()}
        silent = [guest.name for guest in self._guests if not guest.claimed and guest.register.store_id in members]
        if silent and now >= self._deadline_ns:
            what = f"nodes do not answer any more: {', '.join(sorted(silent))}"
            raise Unavailable(what, "look at their logs, then begin again")
        if silent:
            return
        if self._guests.highest_term > self._claim.term:
            raise Conflict("somebody else has claimed these nodes meanwhile", "restore in one place only")
        if absent := self._absent():  # what was read again may name others
            self._fail_absent(ctx, absent)
            return
        if self._wanted.file_bytes >= 0:
            self._check_file()
        else:
            steps = self._choose()
            if key_of(steps) != self._copying.key:
                self._tell(Noted("a node has got more meanwhile: it is read again"))
                self._read(ctx, steps)
                return
        check_no_less(self._preview, self._planned)
        self._check_damage()  # it may have been found since
        self._state = "finishing"
        highest = max([guest.number for guest in self._guests], default=0)
        self._copying.finish(ctx, Restoration(self._claim.term, ctx.wall_ns(), highest))

    def _done(self, ctx: Context, rebuilt: Rebuilt) -> None:
        assert self._claim is not None, "nothing is finished before all are claimed"
        self._state = "ended"
        claimed = sorted(guest.name for guest in self._guests if guest.claimed)
        self._tell(Restored(rebuilt, self._claim.term, claimed))
        ctx.stop(0)

    # --- ends -----------------------------------------------------------------------------------------------------

    def _fail(self, ctx: Context, error: DSAError, absent: tuple[str, ...] = ()) -> None:
        self._state = "ended"
        claimed = tuple(sorted(guest.name for guest in self._guests if guest.claimed))
        moment = self._preview.moment_ns if self._preview is not None else 0
        term = self._claim.term if self._claim is not None else 0
        self._tell(Failed(error, absent, moment, history_of(self._guests.copies()), claimed, term))
        ctx.stop(error.exit_status)
