"""The store for asyncio: the same methods as coroutines.

Each operation runs in one of the store's own threads, which only waits: the work is done by the client's actor, as for the
blocking :class:`dsa_zmq.client.store.Store`. None is taken from the loop's default executor, but to connect and to close.
Cancelling a coroutine gives its operation up; what that did by then is as if the process had ended there.

>>> async with await aio.connect("dsa://localhost") as store:
...     await store.write_bytes("/a", b"hello")
...     async for piece in store.iter_bytes("/a"):
...         print(piece)
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, TypeVar

from dsa_zmq import app
from dsa_zmq.aio_admin import AsyncAdmin
from dsa_zmq.client.cancelling import Scope
from dsa_zmq.client.files import StoreWriter, TextWriter
from dsa_zmq.client.sending import Buffer, Progress, Source
from dsa_zmq.client.store import Store
from dsa_zmq.client.tree import Usage
from dsa_zmq.errors import DSAError, Invalid
from dsa_zmq.model.limits import CONNECT_TIMEOUT_S
from dsa_zmq.model.stat import Stat
from dsa_zmq.protocol.operations import Capacity, HealthReport
from dsa_zmq.protocol.values import NodeInfo, RiskyFile

THREADS = 32  #: operations at once; more wait for a thread

_T = TypeVar("_T")
_END = object()


async def connect(url: str | None = None, timeout: float = CONNECT_TIMEOUT_S, *, threads: int = THREADS) -> AsyncStore:
    """As :func:`dsa_zmq.connect`, without blocking the loop. The caller closes the store, best with ``async with``."""
    return AsyncStore(await asyncio.to_thread(app.connect, url, timeout), threads)


class AsyncStore:
    """A :class:`Store` whose methods are coroutines. It owns the store that it is given, and closes it."""

    def __init__(self, store: Store, threads: int = THREADS) -> None:
        self._store = store
        self.admin = AsyncAdmin(store.admin, self._run)  #: as ``admin`` of :class:`Store`
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dsa-aio")
        self._closed = False

    def __repr__(self) -> str:
        return f"AsyncStore({self._store.url!r})"

    async def __aenter__(self) -> AsyncStore:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; operations under way fail. Idempotent."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._store.close)
        self._pool.shutdown(wait=False)  # what waits for a thread gets one, and hears at once that the store is closed

    async def _run(self, call: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run a blocking call in a thread. If the coroutine is cancelled, so is what the call waits for."""
        if self._closed:
            raise Invalid("the store is closed", "connect again")
        scope = Scope()

        def body() -> _T:
            with scope:
                return call(*args, **kwargs)

        future = asyncio.get_running_loop().run_in_executor(self._pool, body)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            scope.cancel()
            future.add_done_callback(_look_at)
            raise

    # --- whole files -------------------------------------------------------------------------------------------------

    async def put(
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
        """As :meth:`Store.put`. The source is read in a thread."""
        return await self._run(
            self._store.put, src, path, if_absent=if_absent, if_version=if_version, redundancy=redundancy,
            mtime_ns=mtime_ns, mode=mode, degraded=degraded, progress=progress,
        )  # fmt: skip

    async def get(self, path: str, dst: str | os.PathLike[str] | IO[bytes], *, progress: Progress = None) -> Stat:
        """As :meth:`Store.get`. The target is written in a thread."""
        return await self._run(self._store.get, path, dst, progress=progress)

    async def put_many(
        self, items: Iterable[tuple[str | os.PathLike[str] | Buffer, str]], *, degraded: bool = False
    ) -> list[Stat | DSAError]:
        """As :meth:`Store.put_many`."""
        return await self._run(self._store.put_many, items, degraded=degraded)

    async def get_many(self, items: Iterable[tuple[str, str | os.PathLike[str] | IO[bytes]]]) -> list[Stat | DSAError]:
        """As :meth:`Store.get_many`."""
        return await self._run(self._store.get_many, items)

    async def read_bytes(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """As :meth:`Store.read_bytes`."""
        return await self._run(self._store.read_bytes, path, start, stop)

    async def read_text(self, path: str, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As :meth:`Store.read_text`."""
        return await self._run(self._store.read_text, path, encoding, errors)

    async def write_bytes(self, path: str, data: Buffer, **conditions: Any) -> Stat:
        """As :meth:`Store.write_bytes`."""
        return await self._run(self._store.write_bytes, path, data, **conditions)

    async def write_text(self, path: str, text: str, encoding: str = "utf-8", **conditions: Any) -> Stat:
        """As :meth:`Store.write_text`."""
        return await self._run(self._store.write_text, path, text, encoding, **conditions)

    def iter_bytes(self, path: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes | memoryview]:
        """As :meth:`Store.iter_bytes`, for ``async for``."""
        return self._iterate(lambda: self._store.iter_bytes(path, start, stop))

    async def open(
        self,
        path: str,
        mode: str = "rb",
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
        *,
        degraded: bool = False,
    ) -> AsyncFile:
        """As :meth:`Store.open`: an :class:`AsyncFile`, best used with ``async with await store.open(...) as file``."""
        file = await self._run(self._store.open, path, mode, encoding, errors, newline, degraded=degraded)
        return AsyncFile(self, file)

    # --- names -------------------------------------------------------------------------------------------------------

    async def stat(self, path: str) -> Stat:
        """As :meth:`Store.stat`."""
        return await self._run(self._store.stat, path)

    async def exists(self, path: str) -> bool:
        """As :meth:`Store.exists`."""
        return await self._run(self._store.exists, path)

    async def is_file(self, path: str) -> bool:
        """As :meth:`Store.is_file`."""
        return await self._run(self._store.is_file, path)

    async def is_dir(self, path: str) -> bool:
        """As :meth:`Store.is_dir`."""
        return await self._run(self._store.is_dir, path)

    async def ls(self, path: str = "/") -> list[Stat]:
        """As :meth:`Store.ls`."""
        return await self._run(self._store.ls, path)

    def iter_ls(self, path: str = "/") -> AsyncIterator[Stat]:
        """As :meth:`Store.iter_ls`, for ``async for``."""
        return self._iterate(lambda: self._store.iter_ls(path))

    def walk(self, top: str = "/") -> AsyncIterator[tuple[str, list[Stat], list[Stat]]]:
        """As :meth:`Store.walk`, for ``async for``."""
        return self._iterate(lambda: self._store.walk(top))

    async def glob(self, pattern: str) -> list[Stat]:
        """As :meth:`Store.glob`."""
        return await self._run(self._store.glob, pattern)

    async def du(self, path: str = "/") -> Usage:
        """As :meth:`Store.du`."""
        return await self._run(self._store.du, path)

    async def mkdir(
        self, path: str, parents: bool = False, exist_ok: bool = False, mode: int = 0o755, redundancy: str = ""
    ) -> Stat:
        """As :meth:`Store.mkdir`."""
        return await self._run(self._store.mkdir, path, parents, exist_ok, mode, redundancy)

    async def rm(self, path: str, recursive: bool = False, if_version: int | None = None) -> None:
        """As :meth:`Store.rm`."""
        await self._run(self._store.rm, path, recursive, if_version)

    async def mv(self, src: str, dst: str, *, replace: bool = False) -> Stat:
        """As :meth:`Store.mv`."""
        return await self._run(self._store.mv, src, dst, replace=replace)

    async def cp(self, src: str, dst: str, *, replace: bool = False) -> Stat:
        """As :meth:`Store.cp`."""
        return await self._run(self._store.cp, src, dst, replace=replace)

    # --- the cluster -------------------------------------------------------------------------------------------------

    async def nodes(self) -> list[NodeInfo]:
        """As :meth:`Store.nodes`."""
        return await self._run(self._store.nodes)

    async def statfs(self, redundancy: str = "") -> Capacity:
        """As :meth:`Store.statfs`."""
        return await self._run(self._store.statfs, redundancy)

    async def health(self, without: Sequence[str] = ()) -> HealthReport:
        """As :meth:`Store.health`."""
        return await self._run(self._store.health, without)

    def files_at_risk(self, state: str = "degraded") -> AsyncIterator[RiskyFile]:
        """As :meth:`Store.files_at_risk`."""
        return self._iterate(lambda: self._store.files_at_risk(state))

    async def explain(self, path: str, without: Sequence[str] = ()) -> list[str]:
        """As :meth:`Store.explain`."""
        return await self._run(self._store.explain, path, without)

    async def _iterate(self, begin: Callable[[], Iterator[_T]]) -> AsyncIterator[_T]:
        """A blocking iterator, one step at a time in a thread."""
        iterator = await self._run(begin)
        try:
            while True:
                item = await self._run(next, iterator, _END)
                if item is _END:
                    return
                yield item
        finally:
            close: Callable[[], None] | None = getattr(iterator, "close", None)
            if close is not None:
                with suppress(ValueError, RuntimeError):  # a cancelled step still runs in it, and ends it by itself
                    close()


class AsyncFile:
    """A file object of :meth:`AsyncStore.open`. Iterating gives lines, as with any file."""

    def __init__(self, store: AsyncStore, file: io.BufferedReader | StoreWriter | io.TextIOWrapper) -> None:
        self._store = store
        self._file: Any = file

    async def __aenter__(self) -> AsyncFile:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and isinstance(self._file, StoreWriter | TextWriter):
            self._file.discard()
        else:
            await self.close()

    async def read(self, size: int = -1) -> Any:
        """Bytes, or text in a text mode; empty at the end."""
        return await self._store._run(self._file.read, size)

    async def readline(self) -> Any:
        """One line; empty at the end."""
        return await self._store._run(self._file.readline)

    async def write(self, data: Any) -> int:
        """Take bytes, or text in a text mode."""
        written: int = await self._store._run(self._file.write, data)
        return written

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; only when reading."""
        position: int = await self._store._run(self._file.seek, offset, whence)
        return position

    def tell(self) -> int:
        """Where the next read or write happens."""
        position: int = self._file.tell()
        return position

    def __aiter__(self) -> AsyncFile:
        return self

    async def __anext__(self) -> Any:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def close(self) -> None:
        """Close; what was written is published."""
        await self._store._run(self._file.close)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Take note of the outcome that nobody waits for any more, so that the loop does not complain."""
    if not future.cancelled():
        future.exception()
