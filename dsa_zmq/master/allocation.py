"""Where new shards go: the answers to Allocate, AllocateSlots and Reallocate, made from soft state alone. Pure.

What is given out is a proposal: a node that proves unreachable is replaced by Reallocate, and only receipts make it true.
"""

from __future__ import annotations

from dsa_zmq.errors import Invalid, Outdated, TooFewNodes
from dsa_zmq.master.allocation_form import check_allocate, check_reallocate, check_slots
from dsa_zmq.master.grants import SECOND_NS, Granter, shard_bytes
from dsa_zmq.master.horizon import Horizon
from dsa_zmq.master.members import NodeState
from dsa_zmq.master.uploads import Uploads, UploadState
from dsa_zmq.model.ids import IdSource, id_floor
from dsa_zmq.model.limits import GRANT_S, MAX_SLOTS, SLOT_SIZES
from dsa_zmq.model.placement import DEFAULT_POLICY, Member, place
from dsa_zmq.model.redundancy import Redundancy, fewest, kept_as, parse_redundancy
from dsa_zmq.protocol.operations import Allocate, Allocated, AllocatedSlots, AllocateSlots, Reallocate, Reallocated
from dsa_zmq.protocol.values import ChunkPlan, NodeAddress, Place, UploadSlot

GROUP_BYTES = 64 << 10  #: files up to this size cost messages and syncs, not bytes
GROUP_FILES = 64  #: share their nodes: some times what one client with a handful of threads has under way
GROUP_NS = 10_000_000  #: and are begun within so long
SLOT_ROOM_BYTES = 2 * MAX_SLOTS * SLOT_SIZES[-1]  #: free on a node that is given ahead of need: two blocks at most
SLOT_LIFE = 10  #: slots may be begun for this part of a lease: an upload then still has nearly a whole one


class Allocator:
    """Hands out chunk ids, places and write grants, and reserves the room for them."""

    def __init__(self, policy: str, term: int, granter: Granter, uploads: Uploads, lease_ns: int) -> None:
        self._policy = policy
        self._floor = id_floor(term)
        self._ids = IdSource(term)
        self._granter = granter
        self._uploads = uploads
        self._groups = _Groups()
        self._room: _Room | None = None  #: of the nodes that were up at last
        self._horizon = Horizon(lease_ns + GRANT_S * SECOND_NS, self._floor)
        self._slots_last_ms = lease_ns // SLOT_LIFE // 1_000_000

    def redundancy_of(self, asked: Allocate) -> str | None:
        """The redundancy of the upload that goes on, or None if it begins and the catalog must be asked first.

        An upload of an earlier term of which nothing is known is believed: its pages are checked when they are staged.
        Raises :class:`Invalid` if the request makes no sense, :class:`Outdated` if its upload has ended.
        """
        check_allocate(asked)
        if asked.upload == 0:
            return None
        known = self._uploads.get(asked.upload)
        if known is not None and known.redundancy:
            return known.redundancy
        if known is None:
            self._check_old(asked.upload)
        if not asked.redundancy:
            raise Invalid("an upload that goes on after a restart of the master must name its redundancy")
        return parse_redundancy(asked.redundancy).name

    def allocate(
        self,
        asked: Allocate,
        redundancy: str,
        up: list[NodeState],
        served_ns: int,
        wall_ns: int,
        *,
        degraded: bool = False,
    ) -> Allocated:
        """Ids, places and grants for all the chunks asked, or an error and no change.

        ``redundancy`` is what was asked for, or its directory's; a small file may be kept otherwise, as the answer says.
        ``degraded``: if too few nodes are up, fewer places will do.
        Raises TooFewNodes, NoSpace, :class:`Invalid` or Overloaded.
        """
        is_alone = not asked.upload and not asked.first and len(asked.lengths) == 1
        parsed = parse_redundancy(kept_as(redundancy, asked.lengths[0], asked.chunk_bytes) if is_alone else redundancy)
        self._uploads.check_room(self._uploads.get(asked.upload), len(asked.lengths))
        room = self._room_of(up)
        upload = asked.upload or self._ids.next()  # before its chunks: whatever is older than it is not of it
        least = fewest(parsed, degraded)
        try:
            if not asked.upload and len(asked.lengths) == 1 and asked.lengths[0] <= GROUP_BYTES:
                chosen = [self._choose_small(asked, parsed, room, served_ns, least)]
            else:
                chosen = self._choose(asked, parsed, room, least)
        except TooFewNodes as error:
            raise error if degraded else _or_degraded(error, parsed, len(up)) from None
        name, grant = parsed.name, self._granter.write
        self._uploads.begin(upload, name, served_ns)
        expires_s = self._granter.expires_s(wall_ns)
        plans = []
        for chunk, size, nodes in chosen:
            self._uploads.reserve(upload, chunk, size, nodes)
            places = [
                Place(node, index, grant(room.state(node).row, upload, chunk, index, size, expires_s))
                for index, node in enumerate(nodes)
            ]
            plans.append(ChunkPlan(chunk, places))
        addresses = room.addresses({node for _, _, nodes in chosen for node in nodes})
        return Allocated(upload, name, plans, addresses, expires_s)

    def _choose(self, asked: Allocate, redundancy: Redundancy, room: _Room, least: int) -> list[_Chosen]:
        """New chunks with their nodes."""
        room.count()
        anchor, avoid = asked.anchor, frozenset(asked.avoid)
        chosen = []
        for offset, length in enumerate(asked.lengths):
            chunk = self._ids.next()
            anchor = anchor or chunk
            size = shard_bytes(redundancy.name, length)
            nodes = place(
                self._policy,
                chunk=chunk,
                position=asked.first + offset,
                anchor=anchor,
                members=room.members,
                count=redundancy.shards,
                shard_bytes=size,
                avoid=avoid,
                redundancy=redundancy,
                least=least,
            )
            for node in nodes:
                room.take(node, size)
            chosen.append((chunk, size, nodes))
        return chosen

    def _choose_small(
        self, asked: Allocate, redundancy: Redundancy, room: _Room, served_ns: int, least: int
    ) -> _Chosen:
        """The only chunk of a new file, on the nodes of its group."""
        chunk = self._ids.next()
        size = shard_bytes(redundancy.name, asked.lengths[0])
        seed = self._groups.seed(chunk, served_ns)
        what = (room, redundancy, tuple(asked.avoid), least)
        nodes = self._groups.recall(what, size)
        if nodes is None:
            room.count()
            nodes = place(
                self._policy,
                chunk=seed,
                position=asked.first,
                anchor=asked.anchor or chunk,
                members=room.members,
                count=redundancy.shards,
                shard_bytes=size,
                avoid=frozenset(asked.avoid),
                redundancy=redundancy,
                least=least,
            )
            if self._policy == DEFAULT_POLICY:  # chained placement turns with each file
                self._groups.keep(what, nodes)
        return chunk, size, nodes

    def _room_of(self, up: list[NodeState]) -> _Room:
        """On these nodes, as it was counted last."""
        if self._room is None or self._room.up is not up:
            self._room = _Room(up, self._uploads)
        return self._room

    def allocate_slots(self, asked: AllocateSlots, up: list[NodeState], served_ns: int, wall_ns: int) -> AllocatedSlots:
        """Uploads of one small chunk, for files that are still to come, or an error and no change.

        Only on nodes that have plenty of room, so that what may never be used does not keep out what is there. Runs of them
        share their nodes, as small files that are begun together do. Raises TooFewNodes, NoSpace or :class:`Invalid`.
        """
        redundancy = check_slots(asked)
        room = self._room_of(up)
        room.count()
        size, avoid = shard_bytes(redundancy.name, asked.slot_bytes), frozenset(asked.avoid)
        run = GROUP_FILES if self._policy == DEFAULT_POLICY else 1  # chained placement turns with each file
        expires_s = self._granter.expires_s(wall_ns)
        chosen: list[tuple[int, int, list[int]]] = []
        for number in range(self._uploads.slots_to_give(asked.count)):
            upload, chunk = self._ids.next(), self._ids.next()
            if number % run == 0:
                nodes = place(
                    self._policy,
                    chunk=chunk,
                    position=0,
                    anchor=chunk,
                    members=room.members,
                    count=redundancy.shards,
                    shard_bytes=max(size, SLOT_ROOM_BYTES),
                    avoid=avoid,
                    redundancy=redundancy,
                )
            for node in nodes:
                room.take(node, size)
            chosen.append((upload, chunk, nodes))
        slots = []
        for upload, chunk, nodes in chosen:
            self._uploads.give_ahead(upload, redundancy.name, chunk, size, nodes, served_ns)
            places = [
                Place(node, index, self._granter.write(room.state(node).row, upload, chunk, index, size, expires_s))
                for index, node in enumerate(nodes)
            ]
            slots.append(UploadSlot(upload, chunk, places))
        addresses = room.addresses({node for _, _, nodes in chosen for node in nodes})
        return AllocatedSlots(slots, addresses, expires_s, self._slots_last_ms, redundancy.name)

    def reallocate(self, asked: Reallocate, up: list[NodeState], served_ns: int, wall_ns: int) -> Reallocated:
        """Another node for each shard asked, or an error and no change but a full lease for an upload that is known: a
        client that finds no other node now asks again, and must not lose by its patience what it has sent.

        Only for chunks that this upload was given and has not staged. Those of an earlier term are not known any more and
        are believed. Raises TooFewNodes, NoSpace, :class:`Invalid`, :class:`Outdated` or Overloaded.
        """
        check_reallocate(asked)
        state = self._uploads.get(asked.upload)
        if state is None:
            self._check_old(asked.upload)
        else:
            self._uploads.renew(asked.upload, served_ns)
        room = self._room_of(up)
        room.count()
        expires_s = self._granter.expires_s(wall_ns)
        moved: dict[int, set[int]] = {}
        places = []
        for shard, length, held in zip(asked.shards, asked.lengths, asked.held, strict=True):
            self._check_owned(state, shard.chunk, length)
            taken = moved.setdefault(shard.chunk, set())
            barred = frozenset(held) | taken | {shard.node} | self._others(state, shard.chunk, shard.index)
            (node,) = place(
                self._policy,
                chunk=shard.chunk,
                position=shard.index,
                anchor=shard.chunk,
                members=room.members,
                count=1,
                shard_bytes=length,
                avoid=frozenset(asked.avoid),
                held=barred,
                redundancy=parse_redundancy(state.redundancy) if state is not None and state.redundancy else None,
            )
            room.take(node, length)
            taken.add(node)
            mac = self._granter.write(room.state(node).row, asked.upload, shard.chunk, shard.index, length, expires_s)
            places.append(Place(node, shard.index, mac))
        if state is None:
            self._uploads.begin(asked.upload, "", served_ns)
        for shard, chosen in zip(asked.shards, places, strict=True):
            self._uploads.move(asked.upload, shard.chunk, shard.index, chosen.node)
        return Reallocated(places, room.addresses({chosen.node for chosen in places}), expires_s)

    def renew(self, upload: int, served_ns: int) -> bool:
        """Another full lease. An upload of an earlier term that speaks up in this way is in progress again, else the horizon
        would pass it while its client waits for slow input. False if it has ended. Raises :class:`Overloaded`.
        """
        if not self._uploads.renew(upload, served_ns):
            if not self._may_be_old(upload):
                return False
            self._uploads.begin(upload, "", served_ns)
        return True

    def draw(self, count: int) -> list[int]:
        """So many ids of contents and chunks, in order, for what the cluster itself makes."""
        return [self._ids.next() for _ in range(count)]

    def advance_horizon(self, served_ns: int) -> int:
        """What the catalog may condemn: see :mod:`dsa_zmq.master.horizon`."""
        return self._horizon.advance(served_ns, self._ids.upcoming, self._uploads.oldest())

    def _check_old(self, upload: int) -> None:
        """An unknown upload may be one of an earlier term that was not heard of since; anything else has ended."""
        if not self._may_be_old(upload):
            raise _ended(upload)

    def _may_be_old(self, upload: int) -> bool:
        return max(self._horizon.value, id_floor(1)) <= upload < self._floor

    def _check_owned(self, state: UploadState | None, chunk: int, length: int) -> None:
        if chunk < self._floor:
            return
        outstanding = state.chunks.get(chunk) if state is not None else None
        if outstanding is None or length > outstanding.shard_bytes:
            raise Invalid(
                f"chunk {chunk:#x} is not one that this upload was given and has not staged",
                "allocate new chunks for it",
            )

    def _others(self, state: UploadState | None, chunk: int, index: int) -> set[int]:
        """The nodes of the chunk's other shards, as far as we know."""
        outstanding = state.chunks.get(chunk) if state is not None else None
        if outstanding is None:
            return set()
        return {node for other, node in outstanding.nodes.items() if other != index}


class _Groups:
    """Small files that are begun together get the same nodes, so that their shards travel and are synced together.

    Spread one by one over many nodes, each of them would cost every node a message and a sync. Which nodes a group gets
    is as evenly spread as it is for single chunks.
    """

    def __init__(self) -> None:
        self._seed = 0
        self._files = 0
        self._since_ns = 0
        self._kept: tuple[_GroupKey, list[int]] | None = None

    def seed(self, chunk: int, served_ns: int) -> int:
        """What to place this file's only chunk by: the chunk of the first file of its group."""
        if self._files >= GROUP_FILES or served_ns - self._since_ns > GROUP_NS or not self._seed:
            self._seed, self._files, self._since_ns, self._kept = chunk, 0, served_ns, None
        self._files += 1
        return self._seed

    def keep(self, key: _GroupKey, nodes: list[int]) -> None:
        """What was chosen by the seed of this group."""
        self._kept = (key, nodes)

    def recall(self, key: _GroupKey, size_bytes: int) -> list[int] | None:
        """What would be chosen again by the same seed. Nodes that were passed over and have filled up since change nothing:
        they were not chosen."""
        if self._kept is None or self._kept[0] != key:
            return None
        room, nodes = key[0], self._kept[1]
        return nodes if min(map(room.free, nodes)) >= size_bytes else None


class _Room:
    """The members that are up, with their free space as it shrinks by what one request takes."""

    def __init__(self, up: list[NodeState], uploads: Uploads) -> None:
        self.up = up  #: rows of these do not change: other ones come in another list
        self._uploads = uploads
        self._states = {state.row.node: state for state in up}
        self._members = {}
        self._addresses = {}
        for node, state in self._states.items():
            row = state.row
            self._members[node] = Member(node, row.name, row.capacity, 0, row.zone, row.host)
            self._addresses[node] = NodeAddress(row.node, row.address, row.incarnation, row.name)
        self.members = list(self._members.values())
        self.count()

    def free(self, node: int) -> int:
        """Bytes, as they are before the request that is being answered."""
        return max(0, self._states[node].free - self._uploads.reserved_bytes(node))

    def count(self) -> None:
        """Another request begins."""
        for node, member in self._members.items():
            member.free = self.free(node)

    def take(self, node: int, size_bytes: int) -> None:
        self._members[node].free -= size_bytes

    def state(self, node: int) -> NodeState:
        return self._states[node]

    def addresses(self, nodes: set[int]) -> list[NodeAddress]:
        return [self._addresses[node] for node in sorted(nodes)]


_Chosen = tuple[int, int, list[int]]  #: chunk, bytes of each shard, nodes by shard index
_GroupKey = tuple[_Room, Redundancy, tuple[int, ...], int]
"""Besides the seed: members, for what, whom to avoid, and how few will do."""


def _or_degraded(error: TooFewNodes, redundancy: Redundancy, up: int) -> TooFewNodes:
    """The same refusal; where so many nodes that are up would do for a degraded write, it says so."""
    if not fewest(redundancy, True) <= up < redundancy.shards:
        return error
    until_then = f"with {up} of its {redundancy.shards} shards for now: --degraded (degraded=True)"
    return TooFewNodes(error.message, f"{error.remedy}, or store it {until_then}", error.path)


def _ended(upload: int) -> Outdated:
    return Outdated(f"upload {upload:#x} has ended: committed, given up, or its lease has run out", "upload it again")
