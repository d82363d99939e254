"""Fetching shards from other nodes because the master wants them here: repair, drain, conversion.

A command goes through these states, shard by shard::

    checking --good here--------------------------------------------------------------> receipt
       +--> asking sources --all that is needed--> (making -->) storing --durable-----> receipt
               ^     |                               |             |
               +-----+ no answer, no bytes           |             |
               +--wrong bytes: blame the source------+-------------+    nobody is left: failure

Which sources, and how many: :mod:`dsa_zmq.node.gathering`. Making (:mod:`dsa_zmq.node.making`) is left out where a source
has the very shard. A command's shards are gathered in portions, since making one may take many times its own bytes.

Each number is carried out once: a repeat of what is at work is ignored, of what was answered lately gets that answer again,
and of anything older nothing, so a late message cannot bring back what was dropped since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.core import Address, Context, Message, Peer
from dsa_zmq.errors import Corrupt, DSAError, Invalid, Unavailable
from dsa_zmq.node.asking import Asked, Question, match, portions
from dsa_zmq.node.authority import Authority
from dsa_zmq.node.data_plane import as_failure
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnOrder, OnRequest
from dsa_zmq.node.gathering import Gathering, gathering
from dsa_zmq.node.jobs import CARE, READ, WRITE, GetBatch, PutBatch, VerifyBatch, Wanted
from dsa_zmq.node.making import Made, MakeShards, Wrong
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey
from dsa_zmq.protocol.messages import Fetch, Fetched, GetShards, ShardData, ShardGrant
from dsa_zmq.protocol.values import FetchOutcome, FetchShard, ShardSource

MAX_UNDER_WAY = 4  #: commands: twice what a master sends
MAX_SHARDS = 1_000  #: of one command
MAX_BYTES = 16 << 20  #: of one command's shards, and of what is gathered for them at a time, or of one larger shard's
KEPT_ANSWERS = 8  #: the last of a term: the master repeats a command soon or never
SOURCE_WAIT_NS = 5_000_000_000  #: for an answer of a source: as long as a client waits

Name = tuple[int, int]
"""(term, number) of a command."""


@dataclass(slots=True)
class _Command:
    """One Fetch under way."""

    name: Name
    authority: Authority
    shards: list[Gathering]
    addresses: dict[int, Address]
    closed: set[int]  #: nodes that are not asked: one that was silent would be so for each portion
    jobs: int = 0  #: that are at work
    asking: set[int] = field(default_factory=set)  #: numbers of questions that are out


class Fetching(NodeDepartment):
    """See the module."""

    name = "fetch"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._under_way: dict[Name, _Command] = {}
        self._answered: OrderedDict[Name, Fetched] = OrderedDict()
        self._forgotten: Name = (0, 0)  #: up to here commands are carried out no more
        self._questions: dict[int, Question] = {}
        self._jobs: dict[int, tuple[Name, list[Gathering]]] = {}
        self._last = 0  #: number of the last question or job
        self._fetched = 0
        self._made = 0
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
        problem = _problem(message)
        shards = [self._begin(wanted, problem) for wanted in message.shards]
        addresses = {node.node: Address(node.address) for node in message.nodes}
        named = {source.node for wanted in message.shards for source in wanted.sources}
        closed = named - addresses.keys() - {authority.node}
        command = self._under_way[name] = _Command(name, authority, shards, addresses, closed)
        self._check(ctx, command)
        self._go_on(ctx, command)

    def _begin(self, wanted: FetchShard, problem: DSAError | None) -> Gathering:
        try:
            shard = gathering(wanted, self.office.no_codes) if problem is None else Gathering(wanted)
        except DSAError as error:
            shard, problem = Gathering(wanted), error
        if problem is not None:
            self._fail(shard, problem)
        return shard

    def _check(self, ctx: Context, command: _Command) -> None:
        """What is here already, and good, need not travel. Whether it is good says its hash alone."""
        shards = [shard for shard in command.shards if shard.outcome is None and shard.hash]
        if shards:
            wanted = tuple(Wanted(shard.key, shard.wanted.length) for shard in shards)
            self._run(ctx, command, "check", shards, READ, VerifyBatch(wanted))

    def _go_on(self, ctx: Context, command: _Command) -> None:
        """After anything that has happened."""
        self._ask(ctx, command)
        self._finish(ctx, command)

    def _run(self, ctx: Context, command: _Command, step: str, shards: list[Gathering], lane: str, job: Any) -> None:
        self._last += 1
        self._jobs[self._last] = (command.name, shards)
        command.jobs += 1
        for shard in shards:
            shard.busy = True
        ctx.run((self.name, step, self._last), lane, job)

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        _, step, serial = token
        if step == "read":
            question = self._questions.pop(serial)
            results = [result] * len(question.asked) if isinstance(result, DSAError) else result
            got = [each if isinstance(each, DSAError) else each[1] for each in results]
            self._answer(ctx, serial, question, got)
            return
        name, shards = self._jobs.pop(serial)
        command = self._under_way[name]
        command.jobs -= 1
        for shard in shards:
            shard.busy = False
        results = [result] * len(shards) if isinstance(result, DSAError) else result
        pairs = list(zip(shards, results, strict=True))
        if step == "make":
            self._on_made(ctx, command, pairs)
        else:
            for shard, each in pairs:
                self._on_stored(command, shard, each, checked=step == "check")
        self._go_on(ctx, command)

    def _on_stored(self, command: _Command, shard: Gathering, result: ShardInfo | DSAError, *, checked: bool) -> None:
        """The shard is here, durable and verified; or it is not."""
        wanted = shard.wanted
        if isinstance(result, ShardInfo) and result.hash == shard.hash:
            receipt = command.authority.receipt(wanted.move, result)
            told = b"" if wanted.hash else result.hash
            shard.outcome = FetchOutcome(wanted.move, receipt=receipt, blamed=shard.blamed, hash=told)
            shard.let_go()
            self._fetched += not checked
        elif checked:
            pass  # it is not here, or damaged: others have it
        elif isinstance(result, Corrupt) and shard.asked:
            (source,) = shard.asked.values()
            self._blame(shard, source, result)
        else:
            error = result if isinstance(result, DSAError) else Corrupt("other bytes are here under that number")
            self._fail(shard, error)

    # --- sources --------------------------------------------------------------------------------------------------

    def _ask(self, ctx: Context, command: _Command) -> None:
        """Whoever can go on asks the sources that it needs next; those at one node together. What is begun goes first, and
        what is not begins as far as there is room."""
        by_node: dict[int, list[Asked]] = {}
        held = sum(shard.held for shard in command.shards)
        idle = [shard for shard in command.shards if shard.outcome is None and not shard.busy]
        for shard in sorted(idle, key=lambda shard: not shard.asked):
            before = shard.held
            try:
                sources = shard.ask(command.closed, MAX_BYTES - held if held else None)
            except DSAError as error:
                self._fail(shard, error)
                sources = []
            held += shard.held - before
            for source in sources:
                by_node.setdefault(source.node, []).append((shard, source))
        for node, asked in by_node.items():
            for some in portions(asked):
                self._question(ctx, command, node, some)

    def _question(self, ctx: Context, command: _Command, node: int, asked: list[Asked]) -> None:
        self._last += 1
        command.asking.add(self._last)
        address = None if node == command.authority.node else command.addresses[node]
        self._questions[self._last] = Question(command.name, node, address, asked)
        sources = [source for _, source in asked]
        if address is None:
            wanted = tuple(Wanted(ShardKey(each.chunk, each.index), each.length) for each in sources)
            ctx.run((self.name, "read", self._last), READ, GetBatch(wanted))
            return
        grants = [ShardGrant(each.chunk, each.index, each.length, each.expires_s, each.mac) for each in sources]
        ctx.send(address, GetShards(self._last, grants))
        ctx.set_timer((self.name, self._last), SOURCE_WAIT_NS)

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        """A source has not answered."""
        question = self._questions.pop(token[1], None)
        if question is not None:
            self._under_way[question.command].closed.add(question.node)
            error = Unavailable(f"node {question.node} did not answer in time")
            self._answer(ctx, token[1], question, [error] * len(question.asked))

    def _on_data(self, ctx: Context, sender: Peer, message: ShardData, payload: Sequence[memoryview]) -> None:
        question = self._questions.get(message.number)
        if question is None or question.address != sender.address:
            return
        del self._questions[message.number]
        ctx.cancel_timer((self.name, message.number))
        self._answer(ctx, message.number, question, match(question, message, payload))

    def _answer(
        self, ctx: Context, number: int, question: Question, got: Sequence[DSAError | bytes | memoryview]
    ) -> None:
        """What a source has given, for each shard that it was asked for: bytes, or why there are none."""
        command = self._under_way[question.command]
        command.asking.discard(number)
        for (shard, source), each in zip(question.asked, got, strict=True):
            if isinstance(each, DSAError):
                self._blame(shard, source, each)
            elif len(each) != source.length:
                self._blame(shard, source, Corrupt(f"{source.length} bytes were asked for, {len(each)} came"))
            else:
                shard.take(source, each)
        ready = [shard for shard in dict.fromkeys(shard for shard, _ in question.asked) if shard.is_ready]
        orders = [shard for shard in ready if shard.ways[0].makes]
        if orders:
            self._run(ctx, command, "make", orders, CARE, MakeShards(tuple(shard.order() for shard in orders)))
        self._put(ctx, command, [(shard, shard.hash, shard.whole()) for shard in ready if not shard.busy])
        self._go_on(ctx, command)

    def _on_made(
        self, ctx: Context, command: _Command, made: Iterable[tuple[Gathering, Made | Wrong | DSAError]]
    ) -> None:
        puts = []
        for shard, each in made:
            if isinstance(each, Made):
                self._made += 1
                shard.let_go()
                puts.append((shard, each.hash, each.data))
            elif isinstance(each, Wrong):
                for index in each.indexes:
                    error = Corrupt(f"shard {index} of chunk {shard.asked[index].chunk} does not match its hash")
                    self._blame(shard, shard.asked[index], error)
            else:
                self._fail(shard, each)
        self._put(ctx, command, puts)

    def _put(
        self, ctx: Context, command: _Command, shards: Sequence[tuple[Gathering, bytes, bytes | memoryview]]
    ) -> None:
        """Store these, which are to have these hashes, together."""
        news = []
        for shard, hash_, data in shards:
            shard.hash = hash_
            news.append(NewShard(shard.key, shard.wanted.chunk_length, hash_, data))
        if news:
            self._run(ctx, command, "put", [shard for shard, _, _ in shards], WRITE, PutBatch(tuple(news)))

    def _blame(self, shard: Gathering, source: ShardSource, error: DSAError) -> None:
        self._blamed += 1
        shard.blame(source, error)

    def _fail(self, shard: Gathering, error: DSAError) -> None:
        shard.outcome = FetchOutcome(shard.wanted.move, failure=as_failure(error), blamed=shard.blamed)
        shard.let_go()

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
            "shards_made": self._made,
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
