"""The bytes of one simulated file: what a reader sees, and what of it a power cut may take away.

A file is a table of pages; a page is an immutable ``bytes`` (so that earlier versions cost nothing to keep), an absent
one is a hole. For every page written since the last sync the earlier versions are kept, oldest (the durable one) first.
"""

from __future__ import annotations

import random

PAGE = 4096  #: bytes; the unit of memory and of allocation
SECTOR = 512  #: bytes; the unit that a disk writes whole or not at all
VERSIONS = 4  #: kept per unsynced page: the durable one and the latest; what lies between two of them adds nothing new

ZEROS = bytes(PAGE)


class Inode:
    """A file's content, apart from its names."""

    __slots__ = ("_doomed", "_sizes", "_undo", "bad_sectors", "links", "pages", "reserved_pages", "size")

    def __init__(self) -> None:
        self.size = 0
        self.pages: dict[int, bytes] = {}
        self.reserved_pages = 0  #: pages from the start that occupy space whether written or not
        self.bad_sectors: set[int] = set()  #: sectors that cannot be read until they are written
        self.links = 0  #: names that lead here
        self._undo: dict[int, list[bytes | None]] = {}  # unsynced pages: their earlier versions
        self._doomed: dict[int, bytes | None] = {}  # pages that look written and never will be: their durable version
        self._sizes: list[int] = [0]  # the durable size, and those since

    @property
    def dirty(self) -> bool:
        """Whether a power cut could change anything."""
        return bool(self._undo or self._doomed or len(self._sizes) > 1)

    def occupied_pages(self) -> int:
        """Pages of disk space that the file takes up."""
        return self.reserved_pages + sum(1 for index in self.pages if index >= self.reserved_pages)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes seen by a reader; fewer at the end of the file."""
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        first, last = offset // PAGE, (end - 1) // PAGE
        pages = self.pages
        data = b"".join([pages.get(index, ZEROS) for index in range(first, last + 1)])
        start = offset - first * PAGE
        return data if start == 0 and len(data) == end - offset else data[start : start + end - offset]

    def new_pages(self, offset: int, size: int) -> int:
        """How many more pages a write would occupy."""
        touched = range(offset // PAGE, (offset + size + PAGE - 1) // PAGE)
        return sum(1 for index in touched if index >= self.reserved_pages and index not in self.pages)

    def write(self, offset: int, data: memoryview) -> None:
        """Change the bytes that readers see; nothing is durable yet."""
        done, size = 0, data.nbytes
        while done < size:
            index, start = divmod(offset + done, PAGE)
            count = min(PAGE - start, size - done)
            old = self.pages.get(index)
            piece = data[done : done + count].tobytes()
            if count < PAGE:
                base = old or ZEROS
                piece = base[:start] + piece + base[start + count :]
            self._remember(index, old)
            self.pages[index] = piece
            done += count
        if self.bad_sectors:
            self.bad_sectors.difference_update(range(offset // SECTOR, (offset + size + SECTOR - 1) // SECTOR))
        if offset + size > self.size:
            self._resize(offset + size)

    def _remember(self, index: int, old: bytes | None) -> None:
        versions = self._undo.get(index)
        if versions is None:
            versions = self._undo[index] = [self._doomed.pop(index)] if index in self._doomed else []
        versions.append(old)
        if len(versions) > VERSIONS:
            del versions[1]

    def _resize(self, size: int) -> None:
        self.size = size
        self._sizes.append(size)
        if len(self._sizes) > VERSIONS:
            del self._sizes[1]

    def grow(self, size: int) -> None:
        """Reserve the space of the first ``size`` bytes and be at least so long."""
        self.reserved_pages = max(self.reserved_pages, (size + PAGE - 1) // PAGE)
        if size > self.size:
            self._resize(size)

    def truncate(self, size: int) -> None:
        """Be exactly ``size`` bytes long."""
        if size == self.size:
            return
        if size < self.size:
            kept_pages = (size + PAGE - 1) // PAGE
            for index in [index for index in self.pages if index >= kept_pages]:
                self._remember(index, self.pages.pop(index))
            if size % PAGE and size // PAGE in self.pages:
                last = self.pages[size // PAGE]
                self._remember(size // PAGE, last)
                self.pages[size // PAGE] = last[: size % PAGE].ljust(PAGE, b"\0")
            self.reserved_pages = min(self.reserved_pages, kept_pages)
        self._resize(size)

    def sync(self) -> None:
        """What readers see becomes durable, except for pages that an earlier failed sync has given up."""
        self._undo.clear()
        self._sizes = [self.size]

    def sync_failed(self, draw: random.Random) -> None:
        """A sync that failed leaves every unsynced page in one of three states, and none of them known to be unsynced.

        It was written; or it is lost at once; or readers still see it, but no later sync writes it (the page cache
        calls it clean: https://wiki.postgresql.org/wiki/Fsync_Errors).
        """
        for index, versions in self._undo.items():
            fate = draw.randrange(3)
            if index not in self.pages:
                continue  # truncated away
            if fate == 1:
                self._set(index, versions[0])
            elif fate == 2:
                self._doomed[index] = versions[0]
        self._undo.clear()
        self._sizes = [self.size]

    def _set(self, index: int, page: bytes | None) -> None:
        if page is None:
            self.pages.pop(index, None)
        else:
            self.pages[index] = page

    def power_loss(self, draw: random.Random) -> None:
        """Every unsynced page is lost, kept, or torn sector by sector between its versions; the size likewise.

        Half of the time the whole file shares one fate, since that is what finds mistakes in the order of syncs.
        """
        fate = draw.randrange(4)  # 0: all lost, 1: all kept, otherwise each page for itself
        sizes = self._sizes
        size = sizes[0] if fate == 0 else sizes[-1] if fate == 1 else draw.choice(sizes)
        for index, versions in self._undo.items():
            current = self.pages.get(index)
            # An unsynced page is absent only if a truncation took it; where that is undone, an earlier version is back.
            choices = versions if current is None else [*versions, current]
            if fate == 0:
                self._set(index, choices[0])
            elif fate == 1:
                self._set(index, choices[-1])
            elif draw.random() < 0.5:
                self._set(index, draw.choice(choices))
            else:
                sectors = [(draw.choice(choices) or ZEROS)[at : at + SECTOR] for at in range(0, PAGE, SECTOR)]
                self._set(index, b"".join(sectors))
        for index, page in self._doomed.items():
            self._set(index, page)
        self._undo.clear()
        self._doomed.clear()
        self.size = (max(self.pages, default=-1) + 1) * PAGE
        self.truncate(size)  # what came back behind the end must not show when the file grows again
        self._undo.clear()
        self._sizes = [size]

    def flip_bit(self, offset: int, bit: int) -> None:
        """Change one bit of the medium: in what readers see, and in every version that could come back."""
        index, at = divmod(offset, PAGE)

        def flip(page: bytes | None) -> bytes:
            changed = bytearray(page or ZEROS)
            changed[at] ^= 1 << bit
            return bytes(changed)

        self.pages[index] = flip(self.pages.get(index))
        if index in self._undo:
            self._undo[index] = [flip(version) for version in self._undo[index]]
        if index in self._doomed:
            self._doomed[index] = flip(self._doomed[index])
