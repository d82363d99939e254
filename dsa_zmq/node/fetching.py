"""Fetching shards from other nodes because the master wants them here: repair, drain, conversion.

A command goes through these states, shard by shard::

    checking --good here--------------------------------------------> receipt
       +--> asking a source --bytes--> storing --durable------------> receipt
               ^     |                    +--wrong bytes--> blame the source, and ask the next
               +-----+ no answer, no bytes                          none left: failure

Each number is carried out once: a repeat of what is at work is ignored, of what was answered lately gets that answer again,
and of anything older nothing, so a late message cannot bring back what was dropped since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.core import Address, Context, Message, Peer
from dsa_zmq.errors import Corrupt, DSAError, Invalid, Unavailable
from dsa_zmq.node.authority import HASH_BYTES, Authority, check_shard
from dsa_zmq.node.data_plane import as_failure
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder, OnRequest
from dsa_zmq.node.jobs import READ, WRITE, GetBatch, PutBatch, VerifyBatch, Wanted
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey
from dsa_zmq.protocol.messages import Fetch, Fetched, GetShards, ShardData, ShardGrant
from dsa_zmq.protocol.values import FetchOutcome, FetchShard, ShardSource

MAX_UNDER_WAY = 4  #: commands: twice what a master sends
MAX_SHARDS = 1_000  #: of one command
MAX_BYTES = 16 << 20  #: of one command, and of one question to a source
KEPT_ANSWERS = 8  #: the last of a term: the master repeats a command soon or never
SOURCE_WAIT_NS = 5_000_000_000  #: for an answer of a source: as long as a client waits

Name = tuple[int, int]
"""(term, number) of a command."""


@dataclass(slots=True)
class _Shard:
    """One shard of a command."""

    wanted: FetchShard
    sources: list[ShardSource]  #: not asked yet, the best first
    source: ShardSource | None = None  #: that is asked, or has given the bytes that are being stored
    blamed: list[int] = field(default_factory=list)
    failure: DSAError | None = None  #: the last
    outcome: FetchOutcome | None = None  #: once it is known

    @property
    def key(self) -> ShardKey:
        return ShardKey(self.wanted.chunk, self.wanted.index)


@dataclass(slots=True)
class _Command:
    """One Fetch under way."""

    name: Name
    authority: Authority
    shards: list[_Shard]
    addresses: dict[int, Address]
    jobs: int = 0  #: that are at work
    asking: set[int] = field(default_factory=set)  #: numbers of questions that are out


@dataclass(slots=True)
class _Question:
    """Some shards of a command that one source is asked for."""

    command: Name
    node: int
    address: Address
    shards: list[_Shard]


class Fetching(NodeDepartment):
    """See the module."""

    name = "fetch"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._under_way: dict[Name, _Command] = {}
        self._answered: OrderedDict[Name, Fetched] = OrderedDict()
        self._forgotten: Name = (0, 0)  #: up to here commands are carried out no more
        self._questions: dict[int, _Question] = {}
        self._jobs: dict[int, tuple[Name, list[_Shard]]] = {}
        self._last = 0  #: number of the last question or job
        self._fetched = 0
        self._blamed = 0

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {Fetch: self._on_fetch}

    def requests(self) -> Mapping[type[Message], OnRequest]:
        return {ShardData: self._on_data}

    # --- a command ------------------------------------------------------------------------------------------------

    def _on_fetch(self, ctx: Context, message: Fetch) -> None:
        name, authority = (message.term, message.number), self.office.authority
        if authority is None or not self.office.obeys(message.term):
            ctx.log("fetch-not-obeyed", term=message.term, seen_term=self.office.identity.seen_term)
            return
        if name in self._answered:
            self.office.tell_master(ctx, self._answered[name])
            return
        if name in self._under_way or name <= self._forgotten or len(self._under_way) >= MAX_UNDER_WAY:
            return
        shards = [_Shard(wanted, list(wanted.sources)) for wanted in message.shards]
        addresses = {node.node: Address(node.address) for node in message.nodes}
        command = self._under_way[name] = _Command(name, authority, shards, addresses)
        problem = _problem(message)
        for shard in shards:
            if (error := problem or _refusal(shard.wanted)) is not None:
                shard.outcome = FetchOutcome(shard.wanted.move, failure=as_failure(error))
        self._check(ctx, command)
        self._finish(ctx, command)

    def _check(self, ctx: Context, command: _Command) -> None:
        """What is here already, and good, need not travel."""
        shards = [shard for shard in command.shards if shard.outcome is None]
        if shards:
            wanted = tuple(Wanted(shard.key, shard.wanted.length) for shard in shards)
            self._run(ctx, command, "check", shards, READ, VerifyBatch(wanted))

    def _run(self, ctx: Context, command: _Command, step: str, shards: list[_Shard], lane: str, job: Any) -> None:
        self._last += 1
        self._jobs[self._last] = (command.name, shards)
        command.jobs += 1
        ctx.run((self.name, step, self._last), lane, job)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        _, step, serial = token
        name, shards = self._jobs.pop(serial)
        command = self._under_way[name]
        command.jobs -= 1
        results = [result] * len(shards) if isinstance(result, DSAError) else result
        if step == "read":
            self._take(ctx, command, [(shard, each) for shard, each in zip(shards, results, strict=True)])
        else:
            for shard, each in zip(shards, results, strict=True):
                self._on_stored(command, shard, each, checked=step == "check")
        self._ask(ctx, command)
        self._finish(ctx, command)

    def _on_stored(self, command: _Command, shard: _Shard, result: ShardInfo | DSAError, *, checked: bool) -> None:
        """The shard is here, durable and verified; or it is not."""
        if isinstance(result, ShardInfo) and result.hash == shard.wanted.hash:
            receipt = command.authority.receipt(shard.wanted.move, result)
            shard.outcome = FetchOutcome(shard.wanted.move, receipt=receipt, blamed=shard.blamed)
            self._fetched += not checked
        elif checked:
            shard.source = None  # it is not here, or damaged: others have it
        elif isinstance(result, Corrupt):
            self._blame(shard, result)
        else:
            error = result if isinstance(result, DSAError) else Corrupt("other bytes are here under that number")
            self._fail(shard, error)

    # --- sources --------------------------------------------------------------------------------------------------

    def _ask(self, ctx: Context, command: _Command) -> None:
        """Whoever has no outcome and is not waited for asks its next source; those of one source together."""
        by_node: dict[int, list[_Shard]] = {}
        for shard in command.shards:
            if shard.outcome is None and shard.source is None:
                if not shard.sources:
                    self._fail(shard, shard.failure or Unavailable("nobody was named who has the shard"))
                    continue
                shard.source = shard.sources.pop(0)
                by_node.setdefault(shard.source.node, []).append(shard)
        for node, shards in by_node.items():
            for some in _portions(shards):
                if node == command.authority.node:
                    wanted = tuple(
                        Wanted(ShardKey(shard.source.chunk, shard.source.index), shard.source.length)
                        for shard in some
                        if shard.source is not None
                    )
                    self._run(ctx, command, "read", some, READ, GetBatch(wanted))
                else:
                    self._ask_node(ctx, command, node, some)

    def _ask_node(self, ctx: Context, command: _Command, node: int, shards: list[_Shard]) -> None:
        address = command.addresses.get(node)
        if address is None:
            for shard in shards:
                self._blame(shard, Invalid(f"the master did not say where node {node} is"))
            self._ask(ctx, command)
            return
        self._last += 1
        self._questions[self._last] = _Question(command.name, node, address, shards)
        command.asking.add(self._last)
        grants = [
            ShardGrant(each.chunk, each.index, each.length, each.expires_s, each.mac)
            for shard in shards
            if (each := shard.source) is not None
        ]
        ctx.send(address, GetShards(self._last, grants))
        ctx.set_timer((self.name, self._last), SOURCE_WAIT_NS)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        """A source has not answered."""
        question = self._questions.pop(token[1], None)
        if question is not None:
            error = Unavailable(f"node {question.node} did not answer in time")
            command = self._close(token[1], question)
            self._take(ctx, command, [(shard, error) for shard in question.shards])
            self._ask(ctx, command)
            self._finish(ctx, command)

    def _on_data(self, ctx: Context, sender: Peer, message: ShardData, payload: Sequence[memoryview]) -> None:
        question = self._questions.get(message.number)
        if question is None or question.address != sender.address:
            return
        del self._questions[message.number]
        ctx.cancel_timer((self.name, message.number))
        command = self._close(message.number, question)
        self._take(ctx, command, _match(question, message, payload))
        self._ask(ctx, command)
        self._finish(ctx, command)

    def _close(self, number: int, question: _Question) -> _Command:
        command = self._under_way[question.command]
        command.asking.discard(number)
        return command

    def _take(
        self, ctx: Context, command: _Command, got: Sequence[tuple[_Shard, DSAError | tuple[Any, Any] | memoryview]]
    ) -> None:
        """What a source has given: bytes to be stored together, or an error for a shard."""
        stored, puts = [], []
        for shard, each in got:
            if isinstance(each, DSAError):
                self._blame(shard, each)
                continue
            wanted, data = shard.wanted, each[1] if isinstance(each, tuple) else each
            if len(data) != wanted.length:
                self._blame(shard, Corrupt(f"{wanted.length} bytes were asked for, {len(data)} came"))
                continue
            stored.append(shard)
            puts.append(NewShard(shard.key, wanted.chunk_length, wanted.hash, data))
        if puts:
            self._run(ctx, command, "put", stored, WRITE, PutBatch(tuple(puts)))

    def _blame(self, shard: _Shard, error: DSAError) -> None:
        assert shard.source is not None, "somebody was asked"
        self._blamed += 1
        shard.blamed.append(shard.source.node)
        shard.source, shard.failure = None, error

    def _fail(self, shard: _Shard, error: DSAError) -> None:
        shard.outcome = FetchOutcome(shard.wanted.move, failure=as_failure(error), blamed=shard.blamed)

    # --- the answer -----------------------------------------------------------------------------------------------

    def _finish(self, ctx: Context, command: _Command) -> None:
        if command.jobs or command.asking or any(shard.outcome is None for shard in command.shards):
            return
        outcomes = [shard.outcome for shard in command.shards if shard.outcome is not None]
        del self._under_way[command.name]
        answer = self._answered[command.name] = Fetched(command.name[1], outcomes)
        while len(self._answered) > KEPT_ANSWERS:
            name, _ = self._answered.popitem(last=False)
            self._forgotten = max(self._forgotten, name)
        self.office.tell_master(ctx, answer)

    def statistics(self) -> Mapping[str, int]:
        return {
            "fetches": len(self._under_way),
            "fetch_questions": len(self._questions),
            "shards_fetched": self._fetched,
            "fetch_sources_blamed": self._blamed,
        }

    def check_invariants(self) -> None:
        assert {question.command for question in self._questions.values()} <= set(self._under_way)
        assert {name for name, _ in self._jobs.values()} <= set(self._under_way)
        for name, command in self._under_way.items():
            assert command.jobs == sum(each == name for each, _ in self._jobs.values())
            assert command.jobs or command.asking, "a command waits for something"


def _problem(message: Fetch) -> DSAError | None:
    """Why a whole command makes no sense."""
    size = sum(shard.length for shard in message.shards)
    if len(message.shards) > MAX_SHARDS or size > MAX_BYTES:
        return Invalid(f"{len(message.shards)} shards with {size} bytes are too many for one command")
    if len({(shard.chunk, shard.index) for shard in message.shards}) < len(message.shards):
        return Invalid("a command that names a shard twice")
    return None


def _refusal(wanted: FetchShard) -> DSAError | None:
    try:
        check_shard(wanted.chunk, wanted.index, wanted.length)
        if len(wanted.hash) != HASH_BYTES:
            raise Invalid(f"a hash of {len(wanted.hash)} bytes")
    except DSAError as error:
        return error
    return None


def _portions(shards: Sequence[_Shard]) -> list[list[_Shard]]:
    """As one question may have: its bytes travel in one message, and a source answers for each shard once."""
    portions: list[list[_Shard]] = [[]]
    size = 0
    named: set[tuple[int, int]] = set()
    for shard in shards:
        assert shard.source is not None, "a source was chosen"
        name = (shard.source.chunk, shard.source.index)
        if portions[-1] and (size + shard.source.length > MAX_BYTES or name in named):
            portions.append([])
            size, named = 0, set()
        portions[-1].append(shard)
        size += shard.source.length
        named.add(name)
    return portions


def _match(
    question: _Question, message: ShardData, payload: Sequence[memoryview]
) -> list[tuple[_Shard, DSAError | memoryview]]:
    """The bytes of each shard asked, or why there are none. A source may answer nonsense."""
    frames = iter(payload)
    found: dict[tuple[int, int], DSAError | memoryview] = {}
    for got in message.shards:
        if got.failure is not None:
            found[got.chunk, got.index] = Unavailable(f"node {question.node}: {got.failure.message}")
        elif (frame := next(frames, None)) is not None:
            found[got.chunk, got.index] = frame
    nothing = Unavailable(f"node {question.node} did not answer for the shard")
    return [
        (shard, found.get((shard.source.chunk, shard.source.index), nothing))
        for shard in question.shards
        if shard.source is not None
    ]
