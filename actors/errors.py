"""What the bus itself can refuse. All are errors of the world or of the caller, never of a turn's own logic."""

from __future__ import annotations


class BusError(Exception):
    """Base of the errors of the bus."""


class ProtocolError(BusError):
    """Bytes from outside that are not a message: counted by ``reason`` and logged, the sender is answered nothing."""

    def __init__(self, text: str = "", *, reason: str = "codec") -> None:
        super().__init__(text)
        self.reason = reason  #: one word for the counter; ``codec`` unless the envelope itself was wrong


class MessageTooLarge(BusError):
    """A message or payload above the limits was about to be sent; the receiver would have dropped the connection."""


class BindError(BusError):
    """An endpoint could not be bound: in use, not ours, or malformed."""


class Closed(BusError):
    """The actor has ended; nothing can be handed to it any more."""
