"""What a download is asked for."""

from __future__ import annotations

import msgspec


class Wanted(msgspec.Struct, frozen=True):
    """Bytes ``[start, stop)`` of a file; ``stop`` None: to its end. ``content`` and ``chunk_bytes`` pin what was found
    earlier under this path (0: look the path up)."""

    path: str
    start: int = 0
    stop: int | None = None
    content: int = 0
    chunk_bytes: int = 0
    window: int = 16 << 20  #: bytes asked for and not yet consumed (reader) or written (file)
    to_file: bool = False  #: out of order into a file, instead of in order to a reader
