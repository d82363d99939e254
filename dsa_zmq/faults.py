"""What a test may impose on a running server: whom it cannot reach, and how much room its disk has.

The state as a whole is told each time, so that telling it twice, or after a restart, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

VARIABLE = "DSA_FAULTS"  #: what holds from a server process' first moment, as JSON; later ones come over standard input


class Imposed(msgspec.Struct, frozen=True, kw_only=True):
    """Of one server. Peers are given by all they are known by: names and endpoints."""

    number: int = 0  #: grows with each change; told back when it has taken effect
    deaf_to: tuple[str, ...] = ()  #: what these send is thrown away
    mute_to: tuple[str, ...] = ()  #: what is sent to these is thrown away
    room: int | None = None  #: bytes that the disk had left when ``filling`` last changed; None: as it really is
    filling: int = 0

    def line(self) -> bytes:
        """As it is told over standard input."""
        return msgspec.json.encode(self) + b"\n"


def decode(line: bytes | str) -> Imposed:
    """The opposite of :meth:`Imposed.line`."""
    return msgspec.json.decode(line, type=Imposed)


def imposed_by(environment: Mapping[str, str]) -> Imposed | None:
    """What holds from the start; None outside of tests."""
    text = environment.get(VARIABLE)
    return None if text is None else decode(text)
