"""Whether an answer of the master can be one to what was asked. Pure.

The machines of a transfer rely on what an honest master says: as many rows as a page has, places on nodes whose addresses
are given with them. An answer that breaks such a rule, of a master that is damaged, of another version or none at all, must
end as an error that says so, and must not break the client, which others use too. Whether what it says is *true* is another
matter: bytes are verified, and places that do not hold a shard are asked in vain.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from dsa_zmq.errors import Invalid
from dsa_zmq.model import limits
from dsa_zmq.model.addresses import split_endpoint
from dsa_zmq.model.chunking import chunk_count
from dsa_zmq.model.hashes import hashes_bytes
from dsa_zmq.model.macs import MAC_BYTES
from dsa_zmq.model.redundancy import MAX_SHARDS, Redundancy, fewest, parse_redundancy
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol import volumes
from dsa_zmq.protocol.values import Attributes, ChunkPlaces, NodeAddress, Place, Receipt

_U64, _I63 = 1 << 64, 1 << 63


def implausible(operation: op.Operation, result: op.Result) -> str:
    """What is wrong with the answer, for people; empty if nothing is. Failures are always plausible."""
    kinds, check = _RULES[type(operation)]
    if not isinstance(result, kinds):
        return f"is {type(result).__name__}"
    return check(operation, result)


def is_receipt(receipt: Receipt) -> bool:
    """Whether a node's receipt can be passed on."""
    return len(receipt.mac) == MAC_BYTES and 0 <= receipt.incarnation < _U64


# --- one rule for each operation ------------------------------------------------------------------------------------


def _nothing(operation: Any, result: Any) -> str:
    return ""


def _found(operation: Any, result: op.Found) -> str:
    return _attributes(result.attributes)


def _located(operation: op.Locate, result: op.Located) -> str:
    found = result.attributes
    if why := _attributes(found):
        return why
    if found.kind == "dir":
        return ""
    if operation.content not in (0, found.content):
        return f"is about content {found.content} instead of {operation.content}"
    per_page = limits.chunks_per_page(found.chunk_bytes) if found.chunk_bytes else 1
    first = operation.page * per_page
    count = max(0, min(per_page, found.chunk_count - first))
    if result.page != operation.page or len(result.chunks) != count:
        return f"has {len(result.chunks)} chunks of page {result.page} instead of {count} of page {operation.page}"
    if not 0 <= result.expires_s < _U64:
        return f"has grants until {result.expires_s}"
    known = _known(result.nodes)
    if known is None:
        return "has an address that is none"
    redundancy = _redundancy(found.redundancy)
    if redundancy is None:
        return _unknown(found.redundancy) if found.size else ""
    last = found.chunk_count - 1
    for index, chunk in enumerate(result.chunks, first):
        length = found.chunk_bytes if index < last else found.size - last * found.chunk_bytes
        if chunk.length != length or not _is_chunk(chunk, redundancy):
            return f"describes chunk {index} as one that there cannot be"
        if not _are_places(chunk.places, known):
            return f"has impossible places of chunk {index}"
    return ""


def _allocated(operation: op.Allocate, result: op.Allocated) -> str:
    known = _known(result.nodes)
    if known is None or not 0 <= result.expires_s < _U64:
        return "has an address or an expiry that is none"
    if not 0 < result.upload < _U64 or operation.upload not in (0, result.upload):
        return f"is about upload {result.upload}"
    if len(result.chunks) != len(operation.lengths):
        return f"has {len(result.chunks)} chunks instead of {len(operation.lengths)}"
    redundancy = _redundancy(result.redundancy)
    if redundancy is None or (operation.upload and result.redundancy != operation.redundancy):
        return _unknown(result.redundancy)
    if len({plan.chunk for plan in result.chunks}) < len(result.chunks):
        return "gives a chunk id twice"
    least = fewest(redundancy, operation.degraded)
    for plan in result.chunks:
        if not 0 < plan.chunk < _I63 or not _are_all_places(plan.places, known, redundancy, least):
            return f"has impossible places of chunk {plan.chunk}"
    return ""


def _slots(operation: op.AllocateSlots, result: op.AllocatedSlots) -> str:
    known = _known(result.nodes)
    if known is None or not 0 <= result.expires_s < _U64 or not 0 <= result.use_within_ms < _U64:
        return "has an address or a time that is none"
    if len(result.slots) > operation.count:
        return f"has {len(result.slots)} slots instead of {operation.count}"
    if (
        not len({slot.upload for slot in result.slots})
        == len({slot.chunk for slot in result.slots})
        == len(result.slots)
    ):
        return "gives a slot twice"
    redundancy = parse_redundancy(operation.redundancy)
    for slot in result.slots:
        if not 0 < slot.upload < _U64 or not 0 < slot.chunk < _I63:
            return f"has an impossible upload {slot.upload} or chunk {slot.chunk}"
        if not _are_all_places(slot.places, known, redundancy, redundancy.shards):
            return f"has impossible places of chunk {slot.chunk}"
    return ""


def _reallocated(operation: op.Reallocate, result: op.Reallocated) -> str:
    known = _known(result.nodes)
    if known is None or not 0 <= result.expires_s < _U64:
        return "has an address or an expiry that is none"
    if [place.index for place in result.places] != [shard.index for shard in operation.shards]:
        return "has places of other shards"
    if any(place.node in held for place, held in zip(result.places, operation.held, strict=True)):
        return "has places that were ruled out"
    return "" if all(_is_place(place, known) for place in result.places) else "has impossible places"


def _staged(operation: op.Stage, result: op.Staged | op.Confirm) -> str:
    if isinstance(result, op.Confirm):
        return _confirm(operation, result)
    same = (result.upload, result.page) == (operation.upload, operation.page)
    return "" if same else f"is about page {result.page} of upload {result.upload}"


def _committed(operation: op.Commit, result: op.Found | op.Confirm) -> str:
    return _confirm(operation, result) if isinstance(result, op.Confirm) else _attributes(result.attributes)


def _confirm(operation: op.Stage | op.Commit, result: op.Confirm) -> str:
    if _known(result.nodes) is None or not 0 <= result.expires_s < _U64 or len(result.grants) != len(result.shards):
        return "has an address, an expiry or a grant that is none"
    held = {(row.chunk, receipt.index, receipt.node) for row in operation.chunks for receipt in row.receipts}
    asked = [(shard.chunk, shard.index, shard.node) for shard in result.shards]
    if not asked or not held.issuperset(asked) or len(set(asked)) < len(asked):
        return "wants receipts of other shards"
    return "" if all(len(mac) == MAC_BYTES for mac in result.grants) else "has a grant that is none"


def _listing(operation: op.ListDirectory, result: op.Listing) -> str:
    names = [operation.after, *(entry.name for entry in result.entries)]
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    if any(later <= earlier for earlier, later in itertools.pairwise(encoded)):
        return "has names out of their order"  # which would make a listing without an end
    return next((why for entry in result.entries if (why := _attributes(entry.attributes))), "")


def _nodes(operation: op.ListNodes, result: op.Nodes) -> str:
    return "" if all(_is_endpoint(node.address) for node in result.nodes) else "has an address that is none"


def _session(operation: op.OpenSession, result: op.SessionOpened) -> str:
    return "" if 0 < result.session < _I63 else f"is session {result.session}"


def _begun(operation: op.BeginTask, result: op.Tasks) -> str:
    return "" if len(result.tasks) == 1 else f"names {len(result.tasks)} tasks instead of one"


_RULES: dict[type, tuple[type | tuple[type, ...], Callable[[Any, Any], str]]] = {
    op.Stat: (op.Found, _found),
    op.ListDirectory: (op.Listing, _listing),
    op.Locate: (op.Located, _located),
    op.Statfs: (op.Capacity, _nothing),
    op.ListNodes: (op.Nodes, _nodes),
    op.Health: (op.HealthReport, _nothing),
    op.Allocate: (op.Allocated, _allocated),
    op.AllocateSlots: (op.AllocatedSlots, _slots),
    op.ReturnSlots: (op.Done, _nothing),
    op.Reallocate: (op.Reallocated, _reallocated),
    op.Renew: (op.Done, _nothing),
    op.FilesAtRisk: (op.RiskyFiles, _nothing),
    volumes.CatalogHistory: (volumes.CatalogCopies, _nothing),
    volumes.ReadCatalog: (volumes.CatalogData, _nothing),
    op.Report: (op.Done, _nothing),
    op.MakeDirectory: (op.Found, _found),
    op.Remove: (op.Done, _nothing),
    op.Move: (op.Found, _found),
    op.Copy: (op.Found, _found),
    op.SetRedundancy: (op.Found, _found),
    op.MakePlan: (op.Planned, _nothing),
    op.ListTasks: (op.Tasks, _nothing),
    op.BeginTask: (op.Tasks, _begun),
    op.EndTask: (op.Done, _nothing),
    op.Stage: ((op.Staged, op.Confirm), _staged),
    op.Commit: ((op.Found, op.Confirm), _committed),
    op.Abort: (op.Done, _nothing),
    op.OpenSession: (op.SessionOpened, _session),
    op.CloseSession: (op.Done, _nothing),
}


# --- parts of answers -----------------------------------------------------------------------------------------------


def _attributes(found: Attributes) -> str:
    if found.kind == "dir":
        return ""
    if found.kind != "file":
        return f"is about a {found.kind[:20]!r}"
    if not 0 <= found.size < _I63 or not 0 <= found.content < _I63 or not -_I63 <= found.mtime_ns < _I63:
        return f"is about a file of {found.size} bytes"
    if not found.size:
        return f"is about {found.chunk_count} chunks of nothing" if found.chunk_count else ""
    if not 0 < found.chunk_bytes <= limits.MAX_CHUNK_BYTES or not found.content:
        return f"is about a file with chunks of {found.chunk_bytes} bytes"
    count = chunk_count(found.size, found.chunk_bytes)
    return "" if count == found.chunk_count else f"is about {found.chunk_count} chunks instead of {count}"


def _redundancy(name: str) -> Redundancy | None:
    """None if there is no such, as far as this software knows."""
    try:
        return parse_redundancy(name)
    except Invalid:
        return None


def _unknown(redundancy: str) -> str:
    return f"is about a file with redundancy {redundancy[:20]!r}"


def _is_chunk(chunk: ChunkPlaces, redundancy: Redundancy) -> bool:
    return 0 < chunk.chunk < _I63 and len(chunk.hash) == hashes_bytes(redundancy)


def _are_all_places(places: Sequence[Place], known: frozenset[int], redundancy: Redundancy, least: int) -> bool:
    """One for each shard of a new chunk, or at least for so many."""
    indexes = {place.index for place in places}
    return least <= len(places) == len(indexes) and max(indexes) < redundancy.shards and _are_places(places, known)


def _are_places(places: Sequence[Place], known: frozenset[int]) -> bool:
    """A node has one shard of a chunk; a shard may be on several nodes, until what is too much is let go."""
    return len({place.node for place in places}) == len(places) and all(_is_place(place, known) for place in places)


def _is_place(place: Place, known: frozenset[int]) -> bool:
    return place.node in known and 0 <= place.index < MAX_SHARDS and len(place.mac) == MAC_BYTES


def _known(nodes: Sequence[NodeAddress]) -> frozenset[int] | None:
    """The nodes that can be reached by what is said of them; None if that is impossible for one."""
    for node in nodes:
        if not _is_endpoint(node.address):
            return None
    return frozenset([node.node for node in nodes])


@functools.lru_cache(maxsize=1000)
def _is_endpoint(address: str) -> bool:
    try:
        return split_endpoint(address)[1] > 0
    except Invalid:
        return False
