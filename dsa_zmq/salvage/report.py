"""What became of each file, and of all together; and who is told of it while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Fate(StrEnum):
    """Of one file or directory."""

    WRITTEN = "written"
    SKIPPED = "skipped"  #: it is there already, with this content
    DAMAGED = "damaged"  #: some of its chunks cannot be had
    UNREADABLE = "unreadable"  #: nothing of it can be had
    REFUSED = "refused"  #: it could be read, and not be written


LOST = (Fate.DAMAGED, Fate.UNREADABLE)


class Item(NamedTuple):
    """One of the store's files or directories that is worth a line."""

    path: str  #: in the store
    fate: Fate
    local: str = ""  #: where it is now; "" if nowhere
    why: str = ""  #: it is not whole, or not under its own name
    size: int = 0
    chunks: int = 0
    missing: int = 0  #: of these
    holes: tuple[tuple[int, int], ...] = ()  #: (offset, length) of the zeros in what was written of it


@dataclass
class Totals:
    """Of a run so far."""

    files: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))
    bytes: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))
    directories: int = 0
    renamed: int = 0  #: files and directories under another name than in the store
    partial: int = 0  #: written with holes
    library: int = 0  #: files that cannot be had only because the extra for erasure codes is missing here
    failed_directories: int = 0  #: that could not be made

    def count(self, fate: Fate, size: int) -> None:
        self.files[fate] += 1
        self.bytes[fate] += size

    @property
    def lost(self) -> int:
        """Files that could not be read, or not wholly."""
        return sum(self.files[fate] for fate in LOST)


class Watcher:
    """Is told what goes on; does nothing with it here."""

    def stage(self, text: str) -> None:
        """What is done now."""

    def expect(self, files: int, size: int) -> None:
        """What the catalog has in all."""

    def moved(self, files: int, size: int) -> None:
        """So many more files and bytes are done with."""

    def met(self, item: Item) -> None:
        """Something that is not simply written, or there already."""
