"""Having nodes verify all they hold, now, because somebody asked for it.

An order has a number that no other one ever has: nodes remember the last one that they have begun, so it can be repeated,
also by the next master. A node has finished when it has noted the order, and no scrub goes on by its heartbeats since: not
by the first of them, which may have been under way. Until its heartbeats can tell, it is shown as just begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from actors.core import Context, Message, Peer
from dsa_zmq.master.department import Department, OnMessage
from dsa_zmq.master.office import Office
from dsa_zmq.protocol.messages import Heartbeat, Noted, Scrub

REPEAT_NS = 2_000_000_000  #: of what is not noted
BEATS = 2  #: without a scrub, after the first one since the order was noted


@dataclass(slots=True)
class _Order:
    """What one node was told."""

    told_ns: int
    noted: bool = False
    seen: int = 0  #: heartbeats since it was noted
    beats: int = 0  #: in a row that no scrub goes on, since it was noted
    last: Heartbeat | None = None

    @property
    def is_news(self) -> bool:
        """Whether the node's heartbeats may still be of before."""
        return self.seen <= BEATS


class Scrubs(Department):
    """See the module. Others find it as ``office.scrubs``."""

    name = "scrubs"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._orders: dict[int, dict[int, _Order]] = {}  #: by number and node: not finished yet
        office.scrubs = self

    def messages(self) -> Mapping[type[Message], OnMessage]:
        return {Noted: self._on_noted}

    def begin(self, ctx: Context, number: int, nodes: Iterable[int]) -> None:
        """Tell these nodes. Nothing if they were told by this number already: what has begun goes on."""
        orders = self._orders.setdefault(number, {})
        served_ns = self.office.at(ctx).served_ns
        for node in nodes:
            if node not in orders:
                orders[node] = _Order(served_ns)
                self._tell(ctx, node, number)
                self._show(node)

    def left(self, number: int) -> list[int]:
        """The nodes that have not finished. Those that are away are waited for."""
        return sorted(self._orders.get(number, ()))

    def end(self, number: int) -> None:
        """Nobody waits for it any more. What nodes have begun they finish."""
        for node in self._orders.pop(number, {}):
            self._show(node)

    def _tell(self, ctx: Context, node: int, number: int) -> None:
        self.office.tell(ctx, node, Scrub(number, self.office.term))

    def _on_noted(self, ctx: Context, sender: Peer, message: Noted) -> None:
        order = self._orders.get(message.number, {}).get(self.office.node_of(sender.address))
        if order is not None:
            order.noted = True

    def on_tick(self, ctx: Context, served_ns: int) -> None:
        for number, orders in self._orders.items():
            for node, order in list(orders.items()):
                if self.office.members.get(node) is None:
                    del orders[node]  # it was removed, or has another store now: nobody is left to verify anything
                elif order.noted:
                    self._look(node, order)
                    if order.beats >= BEATS:
                        del orders[node]
                    self._show(node)
                elif served_ns - order.told_ns >= REPEAT_NS:
                    order.told_ns = served_ns
                    self._tell(ctx, node, number)

    def _look(self, node: int, order: _Order) -> None:
        state = self.office.members.get(node)
        if state is not None and state.said is not None and state.said is not order.last:
            order.beats = 0 if state.said.scrub_permille else order.beats + (order.last is not None)
            order.last = state.said
            order.seen += 1

    def _show(self, node: int) -> None:
        state = self.office.members.get(node)
        if state is not None:
            found = (orders.get(node) for orders in self._orders.values())
            state.is_told_to_scrub = any(order is not None and order.is_news for order in found)

    def statistics(self) -> Mapping[str, int]:
        return {"scrubs": sum(map(len, self._orders.values()))}
