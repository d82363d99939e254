"""The public, blocking API of a cluster."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Literal, overload

from dsa_zmq.client import given
from dsa_zmq.client.admin import Admin
from dsa_zmq.client.connection import Connection, HandleFactory
from dsa_zmq.client.connector import reconnect
from dsa_zmq.client.files import StoreWriter, open_kind, open_to_read, open_to_write
from dsa_zmq.client.given import MAX_NUMBER, byte_range, file_path, file_target, number_within, piece, writable
from dsa_zmq.client.many import ManyGets, ManyPuts, Outcome
from dsa_zmq.client.receiving import NO_WINDOW, READER_WINDOW, Receiver, write_all
from dsa_zmq.client.risks import explain_file, files_at_risk
from dsa_zmq.client.sending import Buffer, FeedWriter, Progress, Sender, Source
from dsa_zmq.client.tree import Usage, glob, stat_of, usage, walk
from dsa_zmq.client.wanted import Wanted
from dsa_zmq.errors import AlreadyExists, DSAError, Invalid, IsADirectory, NotADirectory, NotFound
from dsa_zmq.model import limits, paths
from dsa_zmq.model.stat import Stat
from dsa_zmq.protocol import operations as op
from dsa_zmq.protocol.messages import Welcome
from dsa_zmq.protocol.values import NodeInfo, RiskyFile


class Store:
    """A cluster's files. Usable from many threads; pickled or forked, it connects anew at first use.

    Made by ``dsa_zmq.connect``; a context manager that closes the connection.

    >>> with connect("dsa://localhost") as store:
    ...     store.write_bytes("/notes/a.txt", b"hello")
    ...     store.read_bytes("/notes/a.txt")
    b'hello'

    Every error is a :class:`dsa_zmq.errors.DSAError`, and where Python has one for the case also that:
    :class:`FileNotFoundError`, :class:`FileExistsError`, :class:`TimeoutError`, :class:`ConnectionError` and so on.

    ``handle_factory`` starts the client's actor and returns the grip on it. ``options`` must survive pickling; they are
    handed to the registered connector.
    """

    def __init__(
        self,
        handle_factory: HandleFactory,
        url: str,
        *,
        chunk_bytes: int = limits.CHUNK_BYTES,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not limits.MIN_CHUNK_BYTES <= chunk_bytes <= limits.MAX_CHUNK_BYTES:
            span = f"{limits.MIN_CHUNK_BYTES:,} to {limits.MAX_CHUNK_BYTES:,}"
            raise Invalid(f"chunks of {chunk_bytes} bytes are not possible", f"choose {span}")
        self.url = url
        self._options = dict(options or {})
        self._connection = Connection(handle_factory)
        self._sender = Sender(self._connection, chunk_bytes)
        self._receiver = Receiver(self._connection)
        self.admin = Admin(self._connection)  #: plans, tasks, and what else people need who run a cluster

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return reconnect, (self.url, self._options)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._connection.close()

    def hello(self, timeout: float = limits.CONNECT_TIMEOUT_S) -> Welcome:
        """Make sure that a master answers within ``timeout`` seconds; :class:`Unavailable` if not."""
        return self._connection.hello(timeout)

    # --- whole files -------------------------------------------------------------------------------------------------

    def put(
        self,
        src: Source,
        path: str,
        *,
        if_absent: bool = False,
        if_version: int | None = None,
        redundancy: str = "",
        mtime_ns: int | None = None,
        mode: int | None = None,
        degraded: bool = False,
        progress: Progress = None,
    ) -> Stat:
        """Store ``src`` as ``path``: a local file (by its path), an open binary file, bytes, or an iterable of bytes.

        The file appears as a whole when the call returns, or not at all. Missing directories are made. An existing file
        is replaced, unless ``if_absent`` (:class:`AlreadyExists`) or ``if_version`` (:class:`Conflict` when the version
        there is another). A local file's time and mode are kept. ``progress`` is called with byte counts that add up.

        With too few nodes for its redundancy nothing is stored (:class:`TooFewNodes`). ``degraded``: then fewer shards will
        do, as long as one more loss can be survived; ``missing_shards`` of the result says how many are to be made when
        there are nodes for them.

        >>> store.put("results.csv", "/runs/42/results.csv")
        >>> store.put(sys.stdin.buffer, "/logs/today", if_absent=True)
        """
        file_target("put", path)
        path = file_path(path)
        options = {
            "if_absent": if_absent, "if_version": if_version, "redundancy": redundancy, "mtime_ns": mtime_ns, "mode": mode,
            "degraded": degraded,
        }  # fmt: skip
        return stat_of(path, self._sender.send(src, path, progress, **options))

    def get(self, path: str, dst: str | os.PathLike[str] | IO[bytes], *, progress: Progress = None) -> Stat:
        """Fetch a file to a local path, or into an open binary file.

        A local file is replaced only when everything is there and verified, and gets the stored time and mode; after an
        error nothing is left. Its directories are made.

        >>> store.get("/runs/42/results.csv", "results.csv")
        """
        file_target("get", path)
        path = paths.normalize(path)
        if isinstance(dst, str | os.PathLike):
            return stat_of(path, self._receiver.fetch(path, os.fspath(dst), progress))
        writable(dst, path)
        found = self.stat(path)
        for part in self._stream(found, 0, None, progress):
            write_all(dst, part, path)
        return found

    def put_many(
        self, items: Iterable[tuple[str | os.PathLike[str] | Buffer, str]], *, degraded: bool = False
    ) -> list[Stat | DSAError]:
        """Put many ``(source, path)`` pairs, many at once, much faster than one by one. Sources are local files or bytes.

        Returns one outcome each, in order: a Stat, or the error of that one.

        >>> store.put_many((file, f"/set/{file.name}") for file in Path("set").iterdir())
        """
        return [_outcome(each) for each in ManyPuts(self._connection, self._sender, degraded=degraded).run(items)]

    def get_many(self, items: Iterable[tuple[str, str | os.PathLike[str] | IO[bytes]]]) -> list[Stat | DSAError]:
        """Get many ``(path, target)`` pairs, many at once; targets as in :meth:`get`, outcomes as :meth:`put_many`."""
        return [_outcome(each) for each in ManyGets(self._connection, self._receiver).run(items)]

    def iter_put_many(
        self,
        items: Iterable[tuple[str | os.PathLike[str] | Buffer, str]],
        *,
        degraded: bool = False,
        progress: Progress = None,
    ) -> Generator[tuple[int, Stat | DSAError], None, None]:
        """As :meth:`put_many`, for any number of pairs: their numbers and outcomes as they end, in any order. Pairs are
        taken from ``items`` as there is room. Closing the iterator gives up what is under way."""
        puts = ManyPuts(self._connection, self._sender, progress=progress, degraded=degraded)
        for item, outcome in puts.each(items):
            yield item, _outcome(outcome)

    def iter_get_many(
        self, items: Iterable[tuple[str, str | os.PathLike[str] | IO[bytes]]], *, progress: Progress = None
    ) -> Generator[tuple[int, Stat | DSAError], None, None]:
        """As :meth:`get_many`, for any number of pairs; see :meth:`iter_put_many`."""
        for item, outcome in ManyGets(self._connection, self._receiver, progress=progress).each(items):
            yield item, _outcome(outcome)

    def read_bytes(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """The content, or its bytes ``[start, stop)``.

        >>> store.read_bytes("/notes/a.txt", 0, 4)
        b'hell'
        """
        wanted = Wanted(paths.normalize(path), *byte_range(start, stop), window=NO_WINDOW)
        _, parts = self._receiver.read(wanted)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def read_text(self, path: str, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The content as text. Line ends are left as they are."""
        return self.read_bytes(path).decode(encoding, errors)

    def write_bytes(
        self,
        path: str,
        data: Buffer,
        *,
        if_absent: bool = False,
        if_version: int | None = None,
        redundancy: str = "",
        degraded: bool = False,
    ) -> Stat:
        """Make ``data`` the content of ``path``; conditions, and ``degraded``, as :meth:`put`."""
        return self.put(
            piece(data), path, if_absent=if_absent, if_version=if_version, redundancy=redundancy, degraded=degraded
        )

    def write_text(self, path: str, text: str, encoding: str = "utf-8", **conditions: Any) -> Stat:
        """As :meth:`write_bytes`, for text."""
        return self.write_bytes(path, given.text("the content", text).encode(encoding), **conditions)

    def iter_bytes(self, path: str, start: int = 0, stop: int | None = None) -> Iterator[bytes | memoryview]:
        """The bytes ``[start, stop)`` in order, piece by piece; a little is fetched ahead.

        >>> for piece in store.iter_bytes("/big"):
        ...     digest.update(piece)
        """
        wanted = Wanted(paths.normalize(path), *byte_range(start, stop), window=READER_WINDOW)
        yield from self._receiver.stream(wanted)

    def _stream(self, found: Stat, start: int, stop: int | None, progress: Progress) -> Iterator[bytes | memoryview]:
        if found.is_dir:
            raise IsADirectory(f"{found.path} is a directory", path=found.path)
        wanted = Wanted(found.path, start, stop, found.content, found.chunk_bytes, READER_WINDOW)
        return self._receiver.stream(wanted, progress)

    # --- file objects ------------------------------------------------------------------------------------------------

    @overload
    def open(self, path: str, mode: Literal["rb"] = "rb") -> io.BufferedReader: ...
    @overload
    def open(self, path: str, mode: Literal["wb", "xb"], *, degraded: bool = False) -> StoreWriter: ...
    @overload
    def open(
        self,
        path: str,
        mode: Literal["r", "w", "x", "rt", "wt", "xt"],
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
        *,
        degraded: bool = False,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(
        self,
        path: str,
        mode: str,
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
        *,
        degraded: bool = False,
    ) -> io.BufferedReader | StoreWriter | io.TextIOWrapper: ...

    def open(
        self,
        path: str,
        mode: str = "rb",
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
        *,
        degraded: bool = False,
    ) -> io.BufferedReader | StoreWriter | io.TextIOWrapper:
        """A file object: ``rb`` and ``r`` read (seekable), ``wb`` and ``w`` write, ``xb`` and ``x`` write if absent.

        What is read is the content of the moment of opening, whatever happens to the name. What is written appears when the
        file is closed; not at all if the ``with`` block raises, or the object is dropped unclosed. ``degraded`` as for
        :meth:`put`; a closed ``wb`` file has ``missing_shards``.

        >>> with store.open("/report.txt", "w") as file:
        ...     print("done", file=file)
        """
        kind = open_kind(mode)
        if kind.startswith("r"):
            return open_to_read(self._receiver, self.stat(path), kind, encoding, errors, newline)
        path = file_path(path)
        exclusive = kind.startswith("x")
        if exclusive and self.exists(path):
            raise AlreadyExists(f"{path} exists", path=path)  # said now; the commit decides
        feed = FeedWriter(self._connection, self._sender.target(path, None, if_absent=exclusive, degraded=degraded))
        return open_to_write(feed, path, kind, encoding, errors, newline)

    # --- names -------------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Stat:
        """What is known of a file or directory; :class:`NotFound` if there is none."""
        path = paths.normalize(path)
        return stat_of(path, self.admin.ask(op.Stat(path), op.Found).attributes)

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of this name."""
        return self._look(path) is not None

    def is_file(self, path: str) -> bool:
        """Whether it is a file; False if nothing is there."""
        found = self._look(path)
        return found is not None and found.is_file

    def is_dir(self, path: str) -> bool:
        """Whether it is a directory; False if nothing is there."""
        found = self._look(path)
        return found is not None and found.is_dir

    def _look(self, path: str) -> Stat | None:
        try:
            return self.stat(path)
        except (NotFound, NotADirectory):
            return None

    def ls(self, path: str = "/") -> list[Stat]:
        """The entries of a directory, by name in byte order, as of one moment; of a file, the file itself.

        >>> [entry.name for entry in store.ls("/notes")]
        ['a.txt']
        """
        return list(self.iter_ls(path))

    def iter_ls(self, path: str = "/") -> Iterator[Stat]:
        """As :meth:`ls`, page by page: for directories of any size."""
        path = paths.normalize(path)
        after, seq, more = "", 0, True
        while more:
            try:
                page = self.admin.ask(op.ListDirectory(path, after, limits.LIST_PAGE, seq), op.Listing)
            except NotADirectory:
                yield self.stat(path)
                return
            for entry in page.entries:
                yield stat_of(paths.join(path, entry.name), entry.attributes)
            more, seq = page.more and bool(page.entries), page.seq
            after = page.entries[-1].name if page.entries else ""

    def walk(self, top: str = "/") -> Iterator[tuple[str, list[Stat], list[Stat]]]:
        """``(path, directories, files)`` for each directory from ``top`` down; removing from ``directories`` prunes."""
        return walk(self.iter_ls, paths.normalize(top))

    def glob(self, pattern: str) -> list[Stat]:
        """What matches a pattern: ``*``, ``?`` and ``[...]`` within a name, ``**`` for any depth.

        >>> [found.path for found in store.glob("/notes/*.txt")]
        ['/notes/a.txt']
        """
        return list(glob(self.iter_ls, self.stat, pattern))

    def du(self, path: str = "/") -> Usage:
        """Bytes, files and directories below a path."""
        return usage(self.iter_ls, self.stat, paths.normalize(path))

    def mkdir(
        self, path: str, parents: bool = False, exist_ok: bool = False, mode: int = 0o755, redundancy: str = ""
    ) -> Stat:
        """Make a directory. ``redundancy``, as in ``copies=3`` or ``ec=4+2``, is what new files in it get."""
        path = paths.normalize(path)
        mode = number_within("mode", mode, 0o7777)
        operation = op.MakeDirectory(path, bool(parents), bool(exist_ok), mode, given.text("redundancy", redundancy))
        made = self.admin.ask(operation, op.Found)
        return stat_of(path, made.attributes)

    def rm(self, path: str, recursive: bool = False, if_version: int | None = None) -> None:
        """Remove a file or an empty directory; with ``recursive`` a whole tree, at once."""
        version = number_within("if_version", if_version or 0, MAX_NUMBER)
        self.admin.ask(op.Remove(paths.normalize(path), bool(recursive), version), op.Done)

    def mv(self, src: str, dst: str, *, replace: bool = False) -> Stat:
        """Rename, at once, whatever the size. ``dst`` is the new name, and must be free unless ``replace``."""
        dst = paths.normalize(dst)
        return stat_of(dst, self.admin.ask(op.Move(paths.normalize(src), dst, bool(replace)), op.Found).attributes)

    def cp(self, src: str, dst: str, *, replace: bool = False) -> Stat:
        """Copy a file within the store, at once: the bytes are shared until one of both is replaced."""
        dst = paths.normalize(dst)
        return stat_of(dst, self.admin.ask(op.Copy(paths.normalize(src), dst, bool(replace)), op.Found).attributes)

    # --- the cluster -------------------------------------------------------------------------------------------------

    def nodes(self) -> list[NodeInfo]:
        """All nodes, with their state and space."""
        return self.admin.nodes()

    def statfs(self, redundancy: str = "") -> op.Capacity:
        """Space and counts of the whole cluster; ``storable`` for the redundancy given, or the root's."""
        return self.admin.statfs(redundancy)

    def health(self, without: Sequence[str] = ()) -> op.HealthReport:
        """How many chunks are healthy, degraded, endangered, lost; and in plain sentences what would help. As if the nodes
        named in ``without`` were lost now, too."""
        return self.admin.health(without)

    def files_at_risk(self, state: str = "degraded") -> Iterator[RiskyFile]:
        """The files whose worst chunk is ``degraded``, ``endangered`` or ``lost``, or worse than that."""
        return files_at_risk(self.admin.ask, given.text("state", state))

    def explain(self, path: str, without: Sequence[str] = ()) -> list[str]:
        """In plain sentences: where each chunk of a file lies, and what it survives. As if the nodes named in ``without``
        were lost now."""
        return explain_file(self.admin.ask, file_path(path), without)


def _outcome(outcome: Outcome) -> Stat | DSAError:
    return outcome if isinstance(outcome, DSAError) else stat_of(*outcome)
