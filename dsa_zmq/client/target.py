"""What an upload is to make."""

from __future__ import annotations

import msgspec


class Target(msgspec.Struct, frozen=True):
    """What is to appear in the store. ``length`` is None for a stream."""

    path: str
    chunk_bytes: int
    length: int | None
    mtime_ns: int
    mode: int = 0o644
    redundancy: str = ""
    if_absent: bool = False
    if_version: int = 0
