"""A simulated disk that loses what was not synced.

:class:`SimDisk` implements :class:`actors.disk.Disk`. Writes are seen at once and are durable after ``datasync``;
creations, renames and removals are durable after ``sync_dir`` of their directory. After :meth:`SimDisk.power_loss` the
seed has decided about everything else: stricter than ext4, as strict as POSIX. After :meth:`SimDisk.process_crash`
(kill -9) nothing is lost, since the page cache outlives the process; only open handles are dead.
"""

from __future__ import annotations

import copy
import errno
import posixpath
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.sim.inode import PAGE, SECTOR, Inode
from actors.sim.names import Names

if TYPE_CHECKING:
    from actors.disk import Disk
    from actors.sim.vfs import SimVFS

TOTAL_BYTES = 1 << 40  #: of a disk without a capacity of its own


@dataclass(frozen=True, slots=True)
class DiskFaults:
    """What a disk does of itself. Probabilities are per call."""

    capacity_bytes: int = TOTAL_BYTES
    read_error: float = 0.0  #: a read raises EIO
    sync_error: float = 0.0  #: a datasync raises EIO, and unsynced bytes are lost or given up


NO_DISK_FAULTS = DiskFaults()


class SimFile:
    """An open file of a :class:`SimDisk`; :class:`actors.disk.DiskFile`."""

    def __init__(self, disk: SimDisk, path: str, inode: Inode, *, readonly: bool) -> None:
        self._disk = disk
        self._path = path
        self._inode: Inode | None = inode
        self._readonly = readonly
        self._generation = disk.generation

    def __repr__(self) -> str:
        return f"<SimFile {self._path}>"

    @property
    def alive(self) -> bool:
        """Whether the handle is open, in a process that still runs."""
        return self._inode is not None and self._generation == self._disk.generation

    def _live(self, *, write: bool = False) -> Inode:
        if self._inode is None or not self.alive or (write and self._readonly):
            raise OSError(errno.EBADF, "the handle is closed, read-only, or of a process that has ended", self._path)
        return self._inode

    def pread(self, size: int, offset: int) -> bytes:
        inode = self._live()
        self._disk.before_read(self._path, inode, size, offset)
        return inode.read(offset, size)

    def pwritev(self, buffers: list[bytes | memoryview], offset: int) -> int:
        inode = self._live(write=True)
        data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers)).cast("B")
        self._disk.write(self._path, inode, offset, data)
        return data.nbytes

    def allocate(self, size: int) -> None:
        inode = self._live(write=True)
        self._disk.grow(self._path, inode, size)

    def truncate(self, size: int) -> None:
        """Be exactly ``size`` bytes long. Not part of the contract of the store's files; SQLite's need it."""
        inode = self._live(write=True)
        self._disk.truncate(self._path, inode, size)

    def datasync(self) -> None:
        self._disk.datasync(self._path, self._live())

    def forget(self, offset: int, size: int) -> None:
        self._live()

    def size(self) -> int:
        return self._live().size

    def close(self) -> None:
        self._inode = None


class SimDisk:
    """One directory tree, in memory. All chance comes from ``draw``.

    May be set at any time: ``readonly``, ``capacity_bytes``, ``failing_syncs`` (how many of the next syncs fail) and
    ``ignore_sync`` (syncs succeed and do nothing; a test that still passes then proves nothing).
    """

    def __init__(self, draw: random.Random, *, faults: DiskFaults = NO_DISK_FAULTS) -> None:
        self.random = draw
        self.faults = faults
        self.capacity_bytes = faults.capacity_bytes
        self.readonly = False
        self.failing_syncs = 0
        self.ignore_sync = False
        self.generation = 0  #: handles of an earlier one are dead
        self.counts: Counter[str] = Counter()  #: calls by name, and ``bytes_written``
        self._names = Names()
        self._used_pages = 0
        self._dies_in: int | None = None
        self._vfs: SimVFS | None = None

    def __repr__(self) -> str:
        return f"<SimDisk {len(self._names.files)} files, {self._used_pages * PAGE} bytes used>"

    # --- the contract ----------------------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False, exclusive: bool = False, readonly: bool = False) -> SimFile:
        if exclusive and self.exists(path):
            raise FileExistsError(errno.EEXIST, "exists already", path)
        if (create or exclusive) and not self.exists(path):
            self._names.check_directory(posixpath.dirname(path))
            self._operation("create", path)
            self._names.link(path, Inode())
        inode = self._names.file(path)
        if self.readonly and not readonly:
            raise OSError(errno.EROFS, "read-only file system", path)
        return SimFile(self, path, inode, readonly=readonly)

    def open_unnamed(self) -> SimFile:
        """A file without a name, for temporary content; it goes with its handle."""
        return SimFile(self, "", Inode(), readonly=False)

    def read_bytes(self, path: str) -> bytes:
        file = self.open(path, readonly=True)
        return file.pread(file.size(), 0)

    def replace_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        temporary = f"{path}.tmp"
        file = self.open(temporary, create=True)
        file.truncate(0)
        if data:
            file.pwritev([data], 0)
        file.datasync()
        file.close()
        self.rename(temporary, path)
        self.sync_dir(posixpath.dirname(path))

    def listdir(self, path: str) -> list[str]:
        self._names.check_directory(path)
        return self._names.children(path)

    def exists(self, path: str) -> bool:
        return path in self._names.files or path in self._names.directories

    def makedirs(self, path: str) -> None:
        parts = path.split("/") if path else []
        for end in range(1, len(parts) + 1):
            directory = "/".join(parts[:end])
            if directory in self._names.files:
                raise FileExistsError(errno.EEXIST, "is a file", directory)
            if directory not in self._names.directories:
                self._operation("mkdir", directory)
                self._names.make_directory(directory)

    def unlink(self, path: str) -> None:
        self._names.file(path)
        self._operation("unlink", path)
        self._give_back(self._names.unlink(path))

    def rename(self, path: str, to: str) -> None:
        inode = self._names.file(path)
        self._operation("rename", to)
        self._give_back(self._names.link(to, inode, instead_of=path))

    def _give_back(self, inode: Inode | None) -> None:
        if inode is not None:
            self._used_pages -= inode.occupied_pages()

    def sync_dir(self, path: str) -> None:
        self._names.check_directory(path)
        self._operation("sync_dir", path)
        if not self.ignore_sync:
            self._names.sync(path)

    def free_bytes(self) -> tuple[int, int]:
        return max(0, self.capacity_bytes - self._used_pages * PAGE), self.capacity_bytes

    def sqlite_path(self, path: str) -> str:
        return f"/{path}"

    @property
    def sqlite_vfs(self) -> str:
        """The name of this disk's SQLite VFS: a new one for each process, gone with the disk."""
        if self._vfs is None:
            from actors.sim.vfs import SimVFS  # apsw is needed by those who use SQLite only

            self._vfs = SimVFS(self)
        return self._vfs.name

    def close(self) -> None:
        """Unregister the VFS. Its connections must be closed before."""
        if self._vfs is not None:
            self._vfs.unregister()
            self._vfs = None

    # --- what files do ---------------------------------------------------------------------------------------------

    def _operation(self, what: str, path: str) -> None:
        """Before every call that changes something: count it, and refuse it if the disk or the process cannot."""
        self.counts[what] += 1
        if self.readonly:
            raise OSError(errno.EROFS, "read-only file system", path)
        if self._dies_in is not None:
            if self._dies_in <= 0:
                raise OSError(errno.EIO, "the process has been killed", path)
            self._dies_in -= 1

    def before_read(self, path: str, inode: Inode, size: int, offset: int) -> None:
        """Count a read, and raise EIO if it fails."""
        self.counts["pread"] += 1
        if inode.bad_sectors and size:
            sectors = range(offset // SECTOR, (offset + size - 1) // SECTOR + 1)
            if not inode.bad_sectors.isdisjoint(sectors):
                raise OSError(errno.EIO, "bad sector", path)
        if self.faults.read_error and self.random.random() < self.faults.read_error:
            raise OSError(errno.EIO, "input/output error", path)

    def write(self, path: str, inode: Inode, offset: int, data: memoryview) -> None:
        """Write all of ``data``, or raise: ENOSPC after what fits, EIO after what a killed process still wrote."""
        try:
            self._operation("pwritev", path)
        except OSError:
            if self._dies_in == 0 and not self.readonly:
                self._dies_in = -1
                data = data[: self.random.randrange(data.nbytes + 1)]
                self._write(inode, offset, data)
            raise
        free_pages = (self.capacity_bytes // PAGE) - self._used_pages
        fitting = data
        while inode.new_pages(offset, fitting.nbytes) > free_pages:
            fitting = fitting[: max(0, fitting.nbytes - PAGE)]
        self._write(inode, offset, fitting)
        if fitting.nbytes < data.nbytes:
            raise OSError(errno.ENOSPC, "no space left on device", path)

    def _write(self, inode: Inode, offset: int, data: memoryview) -> None:
        if not data.nbytes:
            return
        self.counts["bytes_written"] += data.nbytes
        if inode.links:
            self._used_pages += inode.new_pages(offset, data.nbytes)
        inode.write(offset, data)

    def grow(self, path: str, inode: Inode, size: int) -> None:
        """Reserve space, or raise ENOSPC and change nothing."""
        self._operation("allocate", path)
        before = inode.occupied_pages()
        wanted = max(inode.reserved_pages, (size + PAGE - 1) // PAGE)
        more = wanted + sum(1 for index in inode.pages if index >= wanted) - before
        if (self._used_pages + more) * PAGE > self.capacity_bytes:
            raise OSError(errno.ENOSPC, "no space left on device", path)
        inode.grow(size)
        self._used_pages += more if inode.links else 0

    def truncate(self, path: str, inode: Inode, size: int) -> None:
        """Cut or lengthen a file."""
        self._operation("truncate", path)
        before = inode.occupied_pages()
        inode.truncate(size)
        self._used_pages += inode.occupied_pages() - before if inode.links else 0

    def datasync(self, path: str, inode: Inode) -> None:
        """Make a file's bytes and size durable, or raise EIO, after which some of them never will be."""
        self._operation("datasync", path)
        fails = self.failing_syncs > 0
        if fails:
            self.failing_syncs -= 1
        if fails or (self.faults.sync_error and self.random.random() < self.faults.sync_error):
            inode.sync_failed(self.random)
            raise OSError(errno.EIO, "input/output error", path)
        if not self.ignore_sync:
            inode.sync()

    # --- faults by hand --------------------------------------------------------------------------------------------

    def snapshot(self) -> SimDisk:
        """A copy of the disk as it is at this moment, as a crash of its process would leave it; the process goes on."""
        vfs, self._vfs = self._vfs, None
        try:
            taken = copy.deepcopy(self)
        finally:
            self._vfs = vfs
        taken.process_crash()
        return taken

    def process_crash(self) -> None:
        """The process that used this disk is dead, and its handles; the page cache still has every write."""
        self.generation += 1
        self._dies_in = None
        if self._vfs is not None:
            self._vfs.close_connections()
            self._vfs = None

    def power_loss(self) -> None:
        """What was not synced is, as the seed decides, kept, lost or torn; handles are dead."""
        self.process_crash()
        self._names.power_loss(self.random)
        self._used_pages = 0
        for inode in self._names.files.values():
            if inode.dirty:
                inode.power_loss(self.random)
            self._used_pages += inode.occupied_pages()

    def die_after(self, operations: int) -> None:
        """Let so many changing calls still happen, and refuse all later ones, until the process is dead."""
        self._dies_in = operations

    def flip_bit(self, path: str, offset: int, bit: int = 0) -> None:
        """Bit rot: one bit of a file is the other way round, and nobody is told."""
        self._names.file(path).flip_bit(offset, bit)

    def bad_sector(self, path: str, offset: int) -> None:
        """The sector of that byte cannot be read (EIO) until it is written again."""
        self._names.file(path).bad_sectors.add(offset // SECTOR)

    def statistics(self) -> dict[str, int]:
        """Calls by name, bytes written, pages in use."""
        return {**dict(sorted(self.counts.items())), "used_bytes": self._used_pages * PAGE}


if TYPE_CHECKING:
    _checked: type[Disk] = SimDisk
