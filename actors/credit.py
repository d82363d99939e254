"""Byte-credit windows: how much may be under way to one peer, and to all of them together.

The sender takes credit before a message leaves and gives it back when the answer has been *processed*, not merely
received; so a slow disk on either side slows the stream down instead of filling memory. Pure: no clock, no I/O.

One item larger than a window is still let through, alone: otherwise a chunk of 16 MiB could never cross a window of 8.
"""

from __future__ import annotations

from collections.abc import Hashable


class Credit:
    """Two windows at once: ``peer_bytes`` for each peer, ``total_bytes`` for all. Sizes are in bytes."""

    def __init__(self, peer_bytes: int, total_bytes: int) -> None:
        if peer_bytes < 1 or total_bytes < 1:
            raise ValueError("a window needs at least one byte")
        self.peer_bytes = peer_bytes
        self.total_bytes = total_bytes
        self._peers: dict[Hashable, int] = {}
        self._total = 0

    def __repr__(self) -> str:
        return f"Credit({self._total} of {self.total_bytes} bytes out, {len(self._peers)} peers)"

    @property
    def total(self) -> int:
        """Bytes under way to all peers."""
        return self._total

    def out(self, peer: Hashable) -> int:
        """Bytes under way to one peer."""
        return self._peers.get(peer, 0)

    def room(self, peer: Hashable, size: int) -> bool:
        """Whether :meth:`take` would succeed."""
        out = self._peers.get(peer, 0)
        return (not out or out + size <= self.peer_bytes) and (
            not self._total or self._total + size <= self.total_bytes
        )

    def take(self, peer: Hashable, size: int) -> bool:
        """Take ``size`` bytes of credit; False, and nothing changed, if either window has no room."""
        if not self.room(peer, size):
            return False
        if size:
            self._peers[peer] = self._peers.get(peer, 0) + size
            self._total += size
        return True

    def give(self, peer: Hashable, size: int) -> None:
        """Give back what was taken. Giving more than is out is a bug of the caller."""
        out = self._peers.get(peer, 0) - size
        assert out >= 0, f"{-out} bytes more came back from {peer!r} than went out"
        if out:
            self._peers[peer] = out
        else:
            self._peers.pop(peer, None)
        self._total -= size

    def check(self) -> None:
        """AssertionError if the books do not balance."""
        assert self._total == sum(self._peers.values())
        assert all(size > 0 for size in self._peers.values())
