"""What an upload is to make."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """What is to appear in the store. ``length`` is None for a stream."""

    path: str
    chunk_bytes: int
    length: int | None
    mtime_ns: int
    mode: int = 0o644
    redundancy: str = ""
    if_absent: bool = False
    if_version: int = 0
