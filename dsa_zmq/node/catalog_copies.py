"""Keeping copies of the catalog for the master: volumes of its records, see :mod:`dsa_zmq.model.records`.

Only the master that has registered this very process may add to them or remove some, and only while nobody has claimed the
node since. Who asks what is there is told if it is this master, or has claimed.

A command to remove names what is to be kept. It may be late: volumes with higher numbers than it names were begun later, and
are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.core import Context, Message
from dsa_zmq.errors import DSAError
from dsa_zmq.node.data_plane import as_failure
from dsa_zmq.node.department import NodeDepartment, NodeOffice, OnDelivery, OnOrder
from dsa_zmq.node.jobs import CARE, READ
from dsa_zmq.node.volume_files import Appended, AppendRecords
from dsa_zmq.node.volume_jobs import COPIES, Checked, CheckSome, ListVolumes, ReadBytes, RemoveVolumes
from dsa_zmq.protocol.messages import Noted
from dsa_zmq.protocol.volumes import (
    AskVolumes,
    KeepVolumes,
    ReadVolume,
    Ship,
    Shipped,
    VolumeData,
    Volumes,
    VolumeState,
)

SECOND = 1_000_000_000
MAX_PENDING_BYTES = 16 << 20  #: of records that wait; the master repeats what is not answered
MAX_EARLY = 16  #: that come while the master's answer to the registration is being made durable
MAX_EARLY_BYTES = 1 << 20
MAX_QUESTIONS = 16  #: under way
MAX_READ_BYTES = 1 << 20  #: in one answer
SHIP_OVERHEAD_BYTES = 1 << 10  #: of memory beside the records


class CatalogCopies(NodeDepartment):
    """See the module."""

    name = "copies"

    def __init__(self, office: NodeOffice) -> None:
        super().__init__(office)
        self._pending = 0  #: bytes of what is being appended
        self._early: list[tuple[Ship, Sequence[memoryview]]] = []  #: of a master that is not obeyed yet
        self._questions = 0
        self._to_check: list[VolumeState] = []
        self._checking = False
        self._appended = 0  #: bytes of records so far
        self._dropped = 0  #: commands that were not looked at
        office.when_scrubbed.append(self._begin_check)

    def orders(self) -> Mapping[type[Message], OnOrder]:
        return {AskVolumes: self._on_ask, ReadVolume: self._on_read, KeepVolumes: self._on_keep}

    def deliveries(self) -> Mapping[type[Message], OnDelivery]:
        return {Ship: self._on_ship}

    # --- what the master ships ----------------------------------------------------------------------------------------

    def _on_ship(self, ctx: Context, message: Ship, payload: Sequence[memoryview]) -> None:
        size = sum(map(len, payload))
        if self._is_early(message, size):
            self._early.append((message, payload))
            return
        if not self._obeys(message.term):
            ctx.log("ship-not-obeyed", term=message.term, seen_term=self.office.identity.seen_term)
            return
        weight = size + SHIP_OVERHEAD_BYTES
        if self._pending and self._pending + weight > MAX_PENDING_BYTES:
            self._dropped += 1
            return
        self._pending += weight
        authority = self.office.authority
        assert authority is not None, "somebody is obeyed"
        job = AppendRecords(message.volume, authority.cluster, tuple(payload))
        ctx.run((self.name, "ship", message.number, weight), COPIES, job)

    def _is_early(self, message: Ship, size: int) -> bool:
        authority = self.office.authority
        known = authority is not None and message.term <= authority.term
        held = sum(len(frame) for _, payload in self._early for frame in payload)
        return not known and len(self._early) < MAX_EARLY and held + size <= MAX_EARLY_BYTES

    def _obeys(self, term: int) -> bool:
        """Stricter than what other commands ask for: no later master either, before it is remembered."""
        authority = self.office.authority
        return self.office.obeys(term) and authority is not None and term == authority.term

    def on_registered(self, ctx: Context) -> None:
        """What the master shipped in the same breath as it registered us."""
        early, self._early = self._early, []
        for message, payload in early:
            if self._obeys(message.term):
                self._on_ship(ctx, message, payload)

    def _on_shipped(self, ctx: Context, number: int, weight: int, result: Appended | DSAError) -> None:
        self._pending -= weight
        if isinstance(result, DSAError):
            ctx.log("ship-failed", reason=str(result))
            return
        failure = None
        if result.error is not None:
            failure = as_failure(result.error)
            ctx.log("records-not-appended", volume=result.state.volume, reason=str(result.error))
        else:
            self._appended += weight - SHIP_OVERHEAD_BYTES
        self.office.tell_master(ctx, Shipped(number, result.state, failure))

    def _on_keep(self, ctx: Context, message: KeepVolumes) -> None:
        if not self._obeys(message.term):
            ctx.log("volumes-not-removed", term=message.term, seen_term=self.office.identity.seen_term)
            return
        ctx.run((self.name, "keep", message.number), COPIES, RemoveVolumes(frozenset(message.volumes)))

    def _on_kept(self, ctx: Context, number: int, result: DSAError | None) -> None:
        if result is not None:
            ctx.log("volumes-not-removed", reason=str(result))
        else:
            self.office.tell_master(ctx, Noted(number))

    # --- questions ----------------------------------------------------------------------------------------------------

    def _may_ask(self) -> bool:
        known = self.office.may_read or self.office.authority is not None
        if not known or self._questions >= MAX_QUESTIONS:
            self._dropped += 1
            return False
        self._questions += 1
        return True

    def _on_ask(self, ctx: Context, message: AskVolumes) -> None:
        if self._may_ask():
            ctx.run((self.name, "ask", message.number), COPIES, ListVolumes())

    def _on_read(self, ctx: Context, message: ReadVolume) -> None:
        if self._may_ask():
            limit = max(0, min(message.limit, MAX_READ_BYTES))
            ctx.run((self.name, "read", message), READ, ReadBytes(message.volume, message.offset, limit))

    def _on_bytes(self, ctx: Context, asked: ReadVolume, result: bytes | DSAError) -> None:
        if isinstance(result, DSAError):
            answer = VolumeData(asked.number, asked.volume, asked.offset, as_failure(result))
            self.office.tell_master(ctx, answer)
        else:
            self.office.tell_master(ctx, VolumeData(asked.number, asked.volume, asked.offset), [result])

    # --- bytes that rot -----------------------------------------------------------------------------------------------

    def _begin_check(self, ctx: Context) -> None:
        """A scrub begins: look through the volumes as well. Opening them has verified everything, too."""
        if not self._checking:
            self._checking = True
            ctx.run((self.name, "list"), COPIES, ListVolumes())

    def _on_list(self, ctx: Context, result: list[VolumeState] | DSAError) -> None:
        self._to_check = [] if isinstance(result, DSAError) else list(reversed(result))
        self._check(ctx, 0)

    def _check(self, ctx: Context, offset: int) -> None:
        if not self._to_check or self.office.status.failure:
            self._checking, self._to_check = False, []
            return
        volume = self._to_check[-1].volume
        ctx.run((self.name, "check", offset), CARE, CheckSome(volume, offset, self.office.pace.step_bytes))

    def _on_checked(self, ctx: Context, offset: int, result: Checked | DSAError) -> None:
        before = self._to_check[-1]
        following = None if isinstance(result, DSAError) else result.next
        if following is None:
            self._to_check.pop()
            if not isinstance(result, DSAError) and result.state.damage and not before.damage:
                ctx.log("volume-damaged", volume=before.volume, reason=result.state.damage)
                self.office.tell_master(ctx, Shipped(0, result.state))
        size = max(0, (following or before.size) - offset)
        ctx.set_timer((self.name, "check", following or 0), int(size / self.office.pace.scrub_bytes_s * SECOND))

    # --- timers and jobs ----------------------------------------------------------------------------------------------

    def on_timer(self, ctx: Context, token: tuple[Any, ...]) -> None:
        self._check(ctx, token[2])

    def on_result(self, ctx: Context, token: tuple[Any, ...], result: Any) -> None:
        match token[1]:
            case "ship":
                self._on_shipped(ctx, token[2], token[3], result)
            case "keep":
                self._on_kept(ctx, token[2], result)
            case "ask":
                self._questions -= 1
                if not isinstance(result, DSAError):
                    self.office.tell_master(ctx, Volumes(token[2], result))
            case "read":
                self._questions -= 1
                self._on_bytes(ctx, token[2], result)
            case "list":
                self._on_list(ctx, result)
            case _:
                self._on_checked(ctx, token[2], result)

    def statistics(self) -> Mapping[str, int]:
        return {
            "volumes": self.office.status.volumes,
            "volume_bytes": self.office.status.volume_bytes,
            "pending_ship_bytes": self._pending,
            "shipped_bytes": self._appended,
            "ships_dropped": self._dropped,
        }

    def check_invariants(self) -> None:
        assert self._pending >= 0, "what was admitted is what ends"
        assert 0 <= self._questions <= MAX_QUESTIONS, "questions are answered once"
        assert self._checking or not self._to_check, "what is to be checked is being checked"
