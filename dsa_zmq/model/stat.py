"""What the store tells about one file or directory."""

from __future__ import annotations

import msgspec


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """A file or directory at one moment. Built by keyword from its path and its attributes in the catalog."""

    path: str  #: absolute, normalized
    kind: str  #: "file" or "dir"
    size: int = 0  #: bytes; 0 for a directory
    mtime_ns: int = 0  #: nanoseconds since the epoch, as the writer gave it
    mode: int = 0  #: permission bits
    version: int = 0  #: grows with every new content; 0 for a directory
    redundancy: str = ""  #: of this content; for a directory, what new files in it get
    content: int = 0  #: content id: equal numbers mean equal bytes; 0 for an empty file or a directory
    inode: int = 0  #: stays the same through renames
    chunk_bytes: int = 0
    chunk_count: int = 0
    created_ns: int = 0  #: nanoseconds since the epoch by the master's clock
    missing_shards: int = 0  #: told by a put with ``degraded`` alone: so many could not be made yet

    @property
    def name(self) -> str:
        """The last part of the path; ``""`` for the root."""
        return self.path.rpartition("/")[2]

    @property
    def is_dir(self) -> bool:
        return self.kind == "dir"

    @property
    def is_file(self) -> bool:
        return self.kind == "file"

    @property
    def mtime(self) -> float:
        """Seconds since the epoch, as ``os.path.getmtime`` gives them."""
        return self.mtime_ns / 1e9
