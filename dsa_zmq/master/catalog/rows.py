"""The rows that one batch has seen and changed: between the pure decisions and the database.

A decision reads with :meth:`Rows.get` and its kin and writes with :meth:`Rows.put`. It never touches the database: what it
needs and is not loaded is raised as :class:`Missing`; the batch loads that by set, takes back what the decision had
written, and decides again. So a decision may be run any number of times, and must depend on nothing but rows and request.

Layers, the first that knows a key wins::

    pending   written by this batch, not yet applied to the database
    base      loaded from the database, or applied to it, in this batch
    cache     committed rows that stay in memory; only this process writes, so what is there is true

Everything ends with the batch; only a commit moves rows to the cache. A batch that fails leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import META, TABLES, K, MetaRow, R, Table

CACHE_ROWS = 50_000  #: per table, some 20 MB at most: more directories than are worked in at a time

T = TypeVar("T", bound=tuple[Any, ...])

_UNKNOWN: Any = object()

Change = tuple[str, Any, Any]
"""(table, key, row image or None for a removal)"""


class Scan(Generic[T]):
    """A query for many rows in order, by parameters. It shows the rows as they were before the request that asks."""

    def __init__(
        self, sql: str, row: type[T], tables: tuple[Table[Any, Any], ...], whole: Table[Any, Any] | None = None
    ) -> None:
        self.sql = sql
        self.whole = whole  #: the table whose whole rows these are: they need not be loaded again
        self.make = row._make  # type: ignore[attr-defined]
        self.tables = tables  #: that it reads: a change of one makes its result old


class Missing(Exception):
    """A decision needs rows that are not loaded yet."""

    def __init__(
        self,
        keys: Sequence[tuple[Table[Any, Any], Any]] = (),
        groups: Sequence[tuple[Table[Any, Any], Any]] = (),
        scans: Sequence[tuple[Scan[Any], tuple[Any, ...]]] = (),
    ) -> None:
        super().__init__("rows to load")
        self.keys = keys
        self.groups = groups
        self.scans = scans


class RowCache:
    """Committed rows in memory, the most recently used of each table."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Any, Any]] = {table.name: {} for table in TABLES if table.cached is not None}

    def get(self, table: Table[R, K], key: K) -> R:
        """The row, or ``_UNKNOWN``."""
        rows = self._rows[table.name]
        row = rows.pop(key, _UNKNOWN)
        if row is not _UNKNOWN:
            rows[key] = row  # the order of a dict is that of use
        return row  # type: ignore[no-any-return]

    def follow(self, table: Table[Any, Any], changes: Mapping[Any, Any]) -> None:
        """These rows are committed."""
        if table.cached is None:
            return
        rows = self._rows[table.name]
        for key, row in changes.items():
            rows.pop(key, None)
            if row is not None and table.cached(row):
                rows[key] = row
        if len(rows) > CACHE_ROWS:
            for key in list(islice(rows, len(rows) - CACHE_ROWS)):
                del rows[key]


class Mark(NamedTuple):
    """A moment to which :meth:`Rows.undo` can go back."""

    writes: int
    upcoming: int
    deferred: int


Fold = Callable[["Rows", list[Any]], None]
"""Turns what decisions have deferred into rows, by set: see :meth:`Rows.defer`."""


class Rows:
    """See the module. One for each batch; ``upcoming`` is the next id to draw for inodes, sessions and queue items."""

    def __init__(self, database: Database, cache: RowCache, upcoming: int, fold: Fold | None = None) -> None:
        self.upcoming = upcoming
        self._fold = fold
        self._deferred: list[Any] = []  #: by the decision that is being made
        self._settled: list[Any] = []  #: by those before it
        self.changes: list[Change] = []  #: applied so far, in order
        self._database = database
        self._cache = cache
        self._base: dict[str, dict[Any, Any]] = {table.name: {} for table in TABLES}
        self._pending: dict[str, dict[Any, Any]] = {table.name: {} for table in TABLES}
        self._groups: dict[str, dict[Any, dict[Any, Any]]] = {t.name: {} for t in TABLES if t.grouped}
        self._scans: dict[tuple[Scan[Any], tuple[Any, ...]], list[Any]] = {}
        self._journal: list[tuple[dict[Any, Any], Any, Any]] = []
        self._touched: set[str] = set()

    # --- for decisions --------------------------------------------------------------------------------------------

    def get(self, table: Table[R, K], key: K) -> R | None:
        """The row as this batch sees it, None if there is none."""
        row = self._pending[table.name].get(key, _UNKNOWN)
        if row is _UNKNOWN:
            row = self._base[table.name].get(key, _UNKNOWN)
            if row is _UNKNOWN:
                row = self.peek(table, key)
                if row is _UNKNOWN:
                    raise Missing(keys=((table, key),))
        return row  # type: ignore[no-any-return]

    def get_all(self, table: Table[R, K], keys: Iterable[K]) -> list[R | None]:
        """As :meth:`get` for each key; all that is not loaded is asked for at once."""
        keys = list(keys)
        rows = [self.peek(table, key) for key in keys]
        unknown = [(table, key) for key, row in zip(keys, rows, strict=True) if row is _UNKNOWN]
        if unknown:
            raise Missing(keys=unknown)
        return rows

    def group(self, table: Table[R, Any], first: int) -> list[R]:
        """All rows of a grouped table whose first column is ``first``, by key."""
        return self.group_all(table, (first,))[0]

    def group_all(self, table: Table[R, Any], firsts: Iterable[int]) -> list[list[R]]:
        """As :meth:`group` for each."""
        known = self._groups[table.name]
        firsts = list(firsts)
        unknown = [(table, first) for first in firsts if first not in known]
        if unknown:
            raise Missing(groups=unknown)
        return [[row for _, row in sorted(known[first].items())] for first in firsts]

    def group_view(self, table: Table[R, Any], first: int) -> Mapping[Any, R]:
        """A group as it is kept, by key in no order. Not to be held across a write."""
        group = self._groups[table.name].get(first)
        if group is None:
            raise Missing(groups=((table, first),))
        return group

    def scan(self, scan: Scan[T], *values: Any) -> list[T]:
        """The rows of a query, as before this request."""
        return self.scan_all(scan, [values])[0]

    def scan_all(self, scan: Scan[T], values: Sequence[tuple[Any, ...]]) -> list[list[T]]:
        """As :meth:`scan` for each set of values."""
        self.ask([(scan, each) for each in values])
        return [self._scans[scan, each] for each in values]

    def ask(self, scans: Sequence[tuple[Scan[Any], tuple[Any, ...]]]) -> None:
        """Have the results of several queries loaded together."""
        unknown = [each for each in scans if each not in self._scans]
        if unknown:
            raise Missing(scans=unknown)

    def put(self, table: Table[R, K], row: R) -> None:
        """Insert the row, or replace the one with its key, which then has been read."""
        self._write(table, table.key_of(row), row)

    def delete(self, table: Table[R, K], key: K) -> None:
        """Remove the row, which is there."""
        assert self.get(table, key) is not None, f"{table.name} has no {key}"
        self._write(table, key, None)

    def new_id(self) -> int:
        """An id never used before, for an inode, a session or a queue item."""
        self.upcoming += 1
        return self.upcoming - 1

    def number(self, name: str) -> int:
        """A number in ``meta``."""
        row = self.get(META, name)
        assert row is not None, name
        return row.number

    def set_number(self, name: str, number: int) -> None:
        """Set a number in ``meta`` that was read before."""
        self._write(META, name, MetaRow(name, number))

    def defer(self, item: Any, tables: tuple[Table[Any, Any], ...]) -> None:
        """Leave work for the end of the batch, where it is done once for all requests. What it will change in ``tables`` is
        seen by queries, not by :meth:`get`."""
        self._deferred.append(item)
        self._touched.update(table.name for table in tables)

    def _write(self, table: Table[Any, Any], key: Any, row: Any) -> None:
        pending = self._pending[table.name]
        self._journal.append((pending, key, pending.get(key, _UNKNOWN)))
        pending[key] = row
        if table.grouped:
            group = self._groups[table.name].get(key[0])
            if group is not None:
                self._journal.append((group, key, group.get(key, _UNKNOWN)))
                if row is None:
                    group.pop(key, None)
                else:
                    group[key] = row
        self._touched.add(table.name)

    # --- for the batch --------------------------------------------------------------------------------------------

    def peek(self, table: Table[R, K], key: K) -> R | None:
        """The row, None if there is none, or ``UNKNOWN`` if it is not loaded."""
        row = self._pending[table.name].get(key, _UNKNOWN)
        if row is _UNKNOWN:
            base = self._base[table.name]
            row = base.get(key, _UNKNOWN)
            if row is _UNKNOWN and table.cached is not None:
                row = self._cache.get(table, key)
                if row is not _UNKNOWN:
                    base[key] = row
        return row  # type: ignore[no-any-return]

    def mark(self) -> Mark:
        return Mark(len(self._journal), self.upcoming, len(self._deferred))

    def undo(self, mark: Mark) -> None:
        """Take back everything written since."""
        self.upcoming = mark.upcoming
        del self._deferred[mark.deferred :]
        while len(self._journal) > mark.writes:
            rows, key, before = self._journal.pop()
            if before is _UNKNOWN:
                rows.pop(key, None)
            else:
                rows[key] = before

    def settle(self) -> None:
        """A request is decided: its writes stay, and the scans that they make old are forgotten."""
        self._settled += self._deferred
        self._deferred.clear()
        if self._journal:
            self._journal.clear()
            if self._scans:
                self._scans = {
                    key: rows
                    for key, rows in self._scans.items()
                    if not any(table.name in self._touched for table in key[0].tables)
                }
        self._touched.clear()

    def load(self, table: Table[R, K], keys: Iterable[K]) -> None:
        """Load those of the keys that are not known yet, by set."""
        wanted = dict.fromkeys(key for key in keys if self.peek(table, key) is _UNKNOWN)
        if wanted:
            base = self._base[table.name]
            base.update(wanted)  # None, unless the database says otherwise
            make, key_of = table.make, table.key_of
            for values in self._database.load(table.select, [table.binding(key) for key in wanted]):
                row = make(values)
                base[key_of(row)] = row

    def load_group(self, table: Table[Any, Any], sql: str, bindings: Iterable[Sequence[int]]) -> None:
        """Load groups by a query whose first parameter is the first column."""
        groups = self._groups[table.name]
        wanted = [binding for binding in bindings if binding[0] not in groups]
        if not wanted:
            return
        if self._pending[table.name]:
            self.flush()
        for binding in wanted:
            groups[binding[0]] = {}
        base = self._base[table.name]
        for values in self._database.load(sql, wanted):
            row = table.make(values)
            key = table.key_of(row)
            groups[key[0]][key] = base[key] = row

    def fetch(self, missing: Missing) -> None:
        """Load what a decision asked for."""
        by_table: dict[Table[Any, Any], list[Any]] = {}
        for table, key in missing.keys:
            by_table.setdefault(table, []).append(key)
        for table, keys in by_table.items():
            self.load(table, keys)
        for table, first in missing.groups:
            self.load_group(table, group_sql(table), [(first,)])
        if missing.scans:
            self.flush()
            for scan, values in missing.scans:
                found = [scan.make(row) for row in self._database.execute(scan.sql, values)]
                self._scans[scan, values] = found
                if scan.whole is not None:
                    self._base[scan.whole.name].update((scan.whole.key_of(row), row) for row in found)

    def flush(self) -> None:
        """Apply what is pending to the database, by set, inside the open transaction. No decision is half made now."""
        if self._settled:
            assert self._fold is not None, "who defers has a fold"
            settled, self._settled = self._settled, []
            self._fold(self, settled)
            self._journal.clear()
        for table in TABLES:
            pending = self._pending[table.name]
            if pending:
                self._flush_table(table, pending)
                self._base[table.name].update(pending)
                self._pending[table.name] = {}

    def _flush_table(self, table: Table[Any, Any], pending: dict[Any, Any]) -> None:
        base, width = self._base[table.name], table.width
        inserts, updates, deletes = [], [], []
        for key, row in pending.items():
            before = base.get(key)
            if row == before:
                continue
            if row is None:
                deletes.append(table.binding(key))
            elif before is None:
                inserts.append(row)
            else:
                updates.append((*row[width:], *row[:width]))
            self.changes.append((table.name, key, row))
        # Deletions first: a row that gives a unique value away goes before the one that takes it.
        if deletes:
            self._database.apply(table.delete, deletes)
        if updates:
            self._database.apply(table.update, updates)
        if inserts:
            self._database.apply(table.insert, inserts)

    def committed(self) -> None:
        """The transaction is durable: the cache may show it."""
        for table in TABLES:
            if table.cached is not None:
                self._cache.follow(table, self._base[table.name])


UNKNOWN: Any = _UNKNOWN


def group_sql(table: Table[Any, Any]) -> str:
    """The query for a whole group of a grouped table."""
    first = table.columns.partition(",")[0]
    return f"SELECT {table.columns} FROM {table.name} WHERE {first} = ?"
