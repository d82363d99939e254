"""The segment files of one store: made, opened, borrowed by readers, and unlinked.

Readers' handles are kept in a small cache, since a large disk has more segments than a process may have open files. A
reader borrows a handle; one whose file is unlinked, or that is pushed out of the cache, is closed when its last borrower
gives it back. They are opened read-only, so that a file system that went read-only is still read from.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import OrderedDict

from actors.disk import Disk, DiskFile
from dsa_zmq.node.index import SegmentState
from dsa_zmq.node.segments import FILE_HEADER_BYTES, FileHeader, encode_file_header

DIRECTORY = "segments"
SUFFIX = ".seg"
OPEN_FILES = 128  #: handles kept open: far below the usual limit of 1,024 a process


class Handle:
    """A borrowed file."""

    __slots__ = ("cached", "file", "users")

    def __init__(self, file: DiskFile) -> None:
        self.file = file
        self.users = 0
        self.cached = True


class SegmentFiles:
    """Thread-safe."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._handles: OrderedDict[int, Handle] = OrderedDict()  # the longest unused first

    @staticmethod
    def path(number: int) -> str:
        return f"{DIRECTORY}/{number:08d}{SUFFIX}"

    def numbers(self) -> list[int]:
        """All segments on the disk, in order. Other files in that directory are not ours, and left alone."""
        stems = [name.removesuffix(SUFFIX) for name in self._disk.listdir(DIRECTORY) if name.endswith(SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def create(self, number: int, size: int, rng: random.Random) -> SegmentState:
        """Preallocate a segment. It is durable as a file when this returns; OSError leaves nothing behind."""
        path = self.path(number)
        state = SegmentState(number, rng.getrandbits(64), size, end=FILE_HEADER_BYTES)
        file = self._disk.open(path, exclusive=True)
        try:
            file.allocate(size)
            file.pwritev([encode_file_header(FileHeader(number, state.generation, size))], 0)
            file.datasync()
            self._disk.sync_dir(DIRECTORY)
        except OSError:
            with contextlib.suppress(
                OSError
            ):  # the first error is the one to tell; a leftover is found at the next start
                self._disk.unlink(path)
            raise
        finally:
            file.close()
        return state

    def open_for_writing(self, number: int) -> DiskFile:
        """A handle of the caller's own."""
        return self._disk.open(self.path(number))

    def borrow(self, number: int) -> Handle:
        """The open file of a segment, until :meth:`give_back`. OSError if it cannot be opened."""
        with self._lock:
            handle = self._handles.get(number)
            if handle is None:
                handle = self._handles[number] = Handle(self._disk.open(self.path(number), readonly=True))
                if len(self._handles) > OPEN_FILES:
                    self._let_go(self._handles.popitem(last=False)[1])
            else:
                self._handles.move_to_end(number)
            handle.users += 1
            return handle

    def give_back(self, handle: Handle) -> None:
        with self._lock:
            handle.users -= 1
            if not handle.users and not handle.cached:
                handle.file.close()

    def unlink(self, number: int) -> None:
        """Remove a segment durably. Readers that hold it read on."""
        with self._lock:
            handle = self._handles.pop(number, None)
            if handle is not None:
                self._let_go(handle)
        self._disk.unlink(self.path(number))
        self._disk.sync_dir(DIRECTORY)

    def close(self) -> None:
        with self._lock:
            for handle in self._handles.values():
                self._let_go(handle)
            self._handles.clear()

    @staticmethod
    def _let_go(handle: Handle) -> None:
        handle.cached = False
        if not handle.users:
            handle.file.close()
