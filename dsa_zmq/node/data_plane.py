"""Puts, gets and confirmations: from the message to the job, and from its result to the reply.

Every shard of a request gets an outcome of its own, and every request exactly one reply, however absurd it is. What is
received and not yet answered is bounded in bytes; beyond that, requests are answered ``overloaded`` without a look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.core import Address, Context, Job
from actors.limits import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_FRAMES
from dsa_zmq.errors import Corrupt, Denied, DSAError, Invalid, Overloaded, Unavailable
from dsa_zmq.model.limits import MAX_CHUNK_BYTES
from dsa_zmq.model.macs import READ as READ_RIGHT
from dsa_zmq.model.macs import WRITE as WRITE_RIGHT
from dsa_zmq.node.authority import HASH_BYTES, Authority
from dsa_zmq.node.jobs import READ, WRITE, GetBatch, PutBatch, VerifyBatch, Wanted
from dsa_zmq.node.store import NewShard, ShardInfo, ShardKey
from dsa_zmq.protocol.messages import (
    ConfirmShards,
    GetShards,
    GotShard,
    PutDone,
    PutOutcome,
    PutShard,
    PutShards,
    ShardData,
    ShardGrant,
)
from dsa_zmq.protocol.values import Failure

MAX_SHARDS = MAX_PAYLOAD_FRAMES  #: in one request
PENDING_BYTES = 64 << 20  #: default bound on puts, and again on reads, that are under way
SHARD_OVERHEAD_BYTES = (
    1 << 10
)  #: of memory beside a shard's bytes: a million shards of one byte weigh far more than a MiB

Request = PutShards | GetShards | ConfirmShards

_LATER = Unavailable("this node waits for a restored master, and cannot tell whether that one allows it", "try again")
"""Instead of a denial."""


@dataclass(slots=True)
class _Conversation:
    """One request under way. ``refused`` has an entry for each of its shards; None: the job decides."""

    sender: Address
    request: Request
    refused: list[DSAError | None]
    authority: Authority
    lane: str
    weight: int  #: bytes of memory that it holds, or will


@dataclass(slots=True)
class DataPlane:
    """All requests under way. The actor gives it messages and results; it gives them replies."""

    limit_bytes: int = PENDING_BYTES
    authority: Authority | None = None  #: None: not registered yet
    is_claimed: bool = False  #: by who restores a lost master: the next one will give this node another key
    pending: dict[str, int] = field(default_factory=lambda: {WRITE: 0, READ: 0})  #: bytes under way, by lane
    refused: int = 0  #: shards that were refused without asking the store
    when_damaged: list[Callable[[Context], None]] = field(default_factory=list)  #: called when a read has met damage
    _under_way: dict[int, _Conversation] = field(default_factory=dict)
    _last: int = 0

    def __len__(self) -> int:
        return len(self._under_way)

    def on_request(self, ctx: Context, sender: Address, request: Request, payload: Sequence[memoryview]) -> None:
        """Begin, or refuse at once."""
        lane = WRITE if isinstance(request, PutShards) else READ
        weight = _weight(request, payload)
        problem = self._problem(request, payload, lane, weight)
        authority = self.authority
        if problem is not None or authority is None:
            error = problem or Unavailable("this node is not registered with its master yet", "try again")
            self.refused += len(request.shards)
            _reply(ctx, sender, request, [error] * len(request.shards), None)
            return
        now_s = ctx.wall_ns() // 1_000_000_000
        if isinstance(request, PutShards):
            refused = [_put_refusal(authority, *one, now_s) for one in zip(request.shards, payload, strict=True)]
        else:
            right = READ_RIGHT if isinstance(request, GetShards) else WRITE_RIGHT
            refused = [_refusal(authority, right, shard, now_s) for shard in request.shards]
        if self.is_claimed:
            refused = [_LATER if isinstance(error, Denied) else error for error in refused]
        accepted = [position for position, error in enumerate(refused) if error is None]
        self.refused += len(refused) - len(accepted)
        if not accepted:
            _reply(ctx, sender, request, refused, authority)
            return
        self._last += 1
        self._under_way[self._last] = _Conversation(sender, request, refused, authority, lane, weight)
        self.pending[lane] += weight
        ctx.run(self._last, lane, _job(request, payload, accepted))

    def on_result(self, ctx: Context, serial: int, results: Sequence[Any]) -> None:
        """The store has answered for those shards that were not refused, in order."""
        talk = self._under_way.pop(serial)
        self.pending[talk.lane] -= talk.weight
        if len(results) < len(talk.refused):
            answers = iter(results)
            results = [next(answers) if error is None else error for error in talk.refused]
        _reply(ctx, talk.sender, talk.request, results, talk.authority)
        if talk.lane == READ and Corrupt in map(type, results):
            for call in self.when_damaged:
                call(ctx)

    def _problem(self, request: Request, payload: Sequence[memoryview], lane: str, weight: int) -> DSAError | None:
        """Why the whole request is not looked at."""
        count = len(request.shards)
        if not 0 < count <= MAX_SHARDS:
            return Invalid(f"a request for {count} shards", f"ask for 1 to {MAX_SHARDS} at once")
        if count > 1 and len({(shard.chunk, shard.index) for shard in request.shards}) < count:
            return Invalid("a request that names a shard twice", "name each once")
        if len(payload) != (count if lane == WRITE else 0):
            return Invalid(f"a request for {count} shards with {len(payload)} payload frames")
        if isinstance(request, GetShards) and (size := weight - SHARD_OVERHEAD_BYTES * count) > MAX_PAYLOAD_BYTES:
            return Invalid(f"a request for {size} bytes", f"ask for {MAX_PAYLOAD_BYTES} at most at once")
        if self.pending[lane] and self.pending[lane] + weight > self.limit_bytes:
            return Overloaded("this node is busy with other requests", "try again in a moment")
        return None

    def check_invariants(self) -> None:
        for lane, bytes_ in self.pending.items():
            assert bytes_ == sum(talk.weight for talk in self._under_way.values() if talk.lane == lane)


def _weight(request: Request, payload: Sequence[memoryview]) -> int:
    """Bytes of memory until the reply: the shards', and what goes with each. A confirmation reads one after the other."""
    overhead = SHARD_OVERHEAD_BYTES * len(request.shards)
    if isinstance(request, PutShards):
        return overhead + sum(map(len, payload))
    lengths = _lengths(request)
    return overhead + (sum(lengths) if isinstance(request, GetShards) else max(lengths, default=0))


def _lengths(request: Request) -> list[int]:
    """Of the shards that there can be; the others are refused."""
    return [shard.length for shard in request.shards if 0 < shard.length <= MAX_CHUNK_BYTES]


def _put_refusal(authority: Authority, shard: PutShard, frame: memoryview, now_s: int) -> DSAError | None:
    """Why this shard is not stored, whatever the store says."""
    refusal = _refusal(authority, WRITE_RIGHT, shard, now_s)
    if refusal is None and len(shard.hash) != HASH_BYTES:
        refusal = Invalid(f"a hash of {len(shard.hash)} bytes")
    if refusal is None and not 0 < shard.chunk_length <= MAX_CHUNK_BYTES:
        refusal = Invalid(f"there can be no chunk of {shard.chunk_length} bytes")
    if refusal is None and len(frame) != shard.length:
        refusal = Invalid(f"{shard.length} bytes were announced, {len(frame)} came")
    return refusal


def _refusal(authority: Authority, right: bytes, shard: PutShard | ShardGrant, now_s: int) -> DSAError | None:
    """Why this shard of a request is not looked at."""
    try:
        authority.check_grant(right, shard, _granted_length(shard), now_s)
    except DSAError as error:
        return error
    return None


def _granted_length(shard: PutShard | ShardGrant) -> int:
    """What the grant must be for. A grant to write may be for more bytes than come, as places given ahead have to be."""
    if isinstance(shard, PutShard) and shard.granted:
        if not 0 < shard.length <= shard.granted:
            raise Denied(
                f"{shard.length} bytes for shard {shard.index} of chunk {shard.chunk}, granted are 1 to {shard.granted}",
                "ask the master for a grant of that length",
            )
        return shard.granted
    return shard.length


def _job(request: Request, payload: Sequence[memoryview], accepted: Sequence[int]) -> Job:
    if isinstance(request, PutShards):
        puts = [(request.shards[position], payload[position]) for position in accepted]
        return PutBatch(
            tuple([NewShard(ShardKey(s.chunk, s.index), s.chunk_length, s.hash, frame) for s, frame in puts])
        )
    grants = [request.shards[position] for position in accepted]
    wanted = tuple([Wanted(ShardKey(grant.chunk, grant.index), grant.length) for grant in grants])
    return GetBatch(wanted) if isinstance(request, GetShards) else VerifyBatch(wanted)


def _reply(
    ctx: Context, sender: Address, request: Request, outcomes: Sequence[Any], authority: Authority | None
) -> None:
    if isinstance(request, GetShards):
        got = [_got(grant, outcome) for grant, outcome in zip(request.shards, outcomes, strict=True)]
        frames = [outcome[1] for outcome in outcomes if not isinstance(outcome, DSAError)]
        ctx.send(sender, ShardData(request.number, got), frames)
        return
    done = []
    shards: Sequence[PutShard | ShardGrant] = request.shards
    for shard, outcome in zip(shards, outcomes, strict=True):
        if isinstance(outcome, ShardInfo) and authority is not None:
            receipt = authority.receipt(shard.upload, outcome)
            done.append(PutOutcome(shard.chunk, shard.index, receipt=receipt))
        else:
            done.append(PutOutcome(shard.chunk, shard.index, failure=as_failure(outcome)))
    ctx.send(sender, PutDone(request.number, done))


def _got(grant: ShardGrant, outcome: DSAError | tuple[ShardInfo, bytes]) -> GotShard:
    if isinstance(outcome, DSAError):
        return GotShard(grant.chunk, grant.index, failure=as_failure(outcome))
    return GotShard(grant.chunk, grant.index, hash=outcome[0].hash)


def as_failure(error: DSAError) -> Failure:
    """An error as it travels."""
    return Failure(error.code, error.message, error.remedy, error.path)
