"""The rows that one batch has seen and changed: between the pure decisions and the database.

A decision reads with :meth:`Rows.get` and its kin and writes with :meth:`Rows.put`. It never touches the database: what it
needs and is not loaded is raised as :class:`Missing`; the batch loads that by set, takes back what the decision had
written, and decides again. So a decision may be run any number of times, and must depend on nothing but rows and request.

What a batch knows, by table and key::

    seen      each row as this batch sees it: loaded from the database, or written by a decision
    written   of the rows written since the last flush, what the database has in their place
    cache     committed rows that stay in memory; only this process writes, so what is there is true

Everything ends with the batch; only a commit moves rows to the cache. A batch that fails leaves no trace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from dsa_zmq.master.catalog.row_cache import UNKNOWN, RowCache
from dsa_zmq.master.catalog.sql import Database
from dsa_zmq.master.catalog.tables import META, TABLES, K, MetaRow, R, Table

T = TypeVar("T", bound=tuple[Any, ...])

Change = tuple[str, Any, Any]
"""(table, key, row image or None for a removal)"""


class Scan(Generic[T]):
    """A query for many rows in order, by parameters. It shows the rows as they were before the request that asks."""

    def __init__(
        self, sql: str, row: type[T], tables: tuple[Table[Any, Any], ...], whole: Table[Any, Any] | None = None
    ) -> None:
        self.sql = sql
        self.whole = whole  #: the table whose whole rows these are: they need not be loaded again
        self.make: Callable[[Any], T] = getattr(row, "_make", row)  # a named tuple, or a bare one
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


Mark = tuple[int, int, int]
"""A moment to which :meth:`Rows.undo` can go back: how many writes there were, the upcoming id, how much was deferred."""

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
        self._seen: defaultdict[Table[Any, Any], dict[Any, Any]] = defaultdict(dict)
        self._written: defaultdict[Table[Any, Any], dict[Any, Any]] = defaultdict(dict)
        self._news: defaultdict[Table[Any, Any], list[Any]] = defaultdict(list)  #: keys that the cache is to follow
        self._numbers: dict[str, int] = {}  #: of ``meta``, as this batch sees them: rows are made of them at the flush
        self._groups: defaultdict[Table[Any, Any], dict[Any, dict[Any, Any]]] = defaultdict(dict)
        self._scans: dict[tuple[Scan[Any], tuple[Any, ...]], list[Any]] = {}
        self._journal: list[tuple[dict[Any, Any], Any, Any]] = []
        self._touched: set[Table[Any, Any]] = set()

    # --- for decisions --------------------------------------------------------------------------------------------

    def get(self, table: Table[R, K], key: K) -> R | None:
        """The row as this batch sees it, None if there is none."""
        row = self._seen[table].get(key, UNKNOWN)
        if row is UNKNOWN:
            row = self.peek(table, key)
            if row is UNKNOWN:
                raise Missing(keys=((table, key),))
        return row  # type: ignore[no-any-return]

    def get_all(self, table: Table[R, K], keys: Iterable[K]) -> list[R | None]:
        """As :meth:`get` for each key; all that is not loaded is asked for at once."""
        keys = list(keys)
        rows = [self.peek(table, key) for key in keys]
        unknown = [(table, key) for key, row in zip(keys, rows, strict=True) if row is UNKNOWN]
        if unknown:
            raise Missing(keys=unknown)
        return rows

    def group(self, table: Table[R, Any], first: int) -> list[R]:
        """All rows of a grouped table whose first column is ``first``, by key."""
        return self.group_all(table, (first,))[0]

    def group_all(self, table: Table[R, Any], firsts: Iterable[int]) -> list[list[R]]:
        """As :meth:`group` for each."""
        known = self._groups[table]
        firsts = list(firsts)
        unknown = [(table, first) for first in firsts if first not in known]
        if unknown:
            raise Missing(groups=unknown)
        return [[row for _, row in sorted(known[first].items())] for first in firsts]

    def group_view(self, table: Table[R, Any], first: int) -> Mapping[Any, R]:
        """A group as it is kept, by key in no order. Not to be held across a write."""
        group = self._groups[table].get(first)
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
        self._write(table, row[0] if table.width == 1 else row[: table.width], row)

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
        number = self._numbers.get(name)
        if number is None:
            row = self.get(META, name)
            assert row is not None, name
            number = self._numbers[name] = row.number
        return number

    def set_number(self, name: str, number: int) -> None:
        """Set a number in ``meta``."""
        self._journal.append((self._numbers, name, self.number(name)))
        self._numbers[name] = number

    def defer(self, item: Any, tables: tuple[Table[Any, Any], ...]) -> None:
        """Leave work for the end of the batch, where it is done once for all requests. What it will change in ``tables`` is
        seen by queries, not by :meth:`get`."""
        self._deferred.append(item)
        if self._scans:
            self._touched.update(tables)

    def _write(self, table: Table[Any, Any], key: Any, row: Any) -> None:
        seen, written = self._seen[table], self._written[table]
        before = seen.get(key, UNKNOWN)
        self._journal.append((seen, key, before))
        seen[key] = row
        written.setdefault(key, None if before is UNKNOWN else before)
        if table.grouped:
            group = self._groups[table].get(key[0])
            if group is not None:
                self._journal.append((group, key, group.get(key, UNKNOWN)))
                if row is None:
                    group.pop(key, None)
                else:
                    group[key] = row
        if self._scans:
            self._touched.add(table)

    # --- for the batch --------------------------------------------------------------------------------------------

    def peek(self, table: Table[R, K], key: K) -> R | None:
        """The row, None if there is none, or ``UNKNOWN`` if it is not loaded."""
        seen = self._seen[table]
        row = seen.get(key, UNKNOWN)
        if row is UNKNOWN:
            if table.cached is not None:
                row = self._cache.get(table, key)
            elif table.rising:
                row = None if self._cache.is_new(table, key) else UNKNOWN
            elif table.grouped:
                group = self._groups[table].get(key[0])  # type: ignore[index]
                row = UNKNOWN if group is None else group.get(key)
            if row is not UNKNOWN:
                seen[key] = row
        return row  # type: ignore[no-any-return]

    def mark(self) -> Mark:
        return len(self._journal), self.upcoming, len(self._deferred)

    def undo(self, mark: Mark) -> None:
        """Take back everything written since."""
        writes, self.upcoming, deferred = mark
        del self._deferred[deferred:]
        while len(self._journal) > writes:
            rows, key, before = self._journal.pop()
            if before is UNKNOWN:
                rows.pop(key, None)
            else:
                rows[key] = before

    def settle(self) -> None:
        """A request is decided: its writes stay, and the scans that they make old are forgotten."""
        if self._deferred:
            self._settled += self._deferred
            self._deferred.clear()
        if self._journal:
            self._journal.clear()
            if self._scans:
                self._scans = {
                    key: rows for key, rows in self._scans.items() if self._touched.isdisjoint(key[0].tables)
                }
        self._touched.clear()

    def load(self, table: Table[R, K], keys: Iterable[K]) -> None:
        """Load those of the keys that are not known yet, by set."""
        peek = self.peek
        self.load_unknown(table, {key: None for key in keys if peek(table, key) is UNKNOWN})

    def load_unknown(self, table: Table[R, K], wanted: dict[K, None]) -> None:
        """Load rows of which nothing is known: as :meth:`peek` has just said."""
        if wanted:
            if table.rising and not self._cache.knows_ids(table):
                self._cache.begin_ids(table, (self._database.execute(table.highest)[0][0] or 0) + 1)
            seen = self._seen[table]
            seen.update(wanted)  # None, unless the database says otherwise
            make, width = table.make, table.width
            bindings: Iterable[Any] = wanted if width > 1 else [(key,) for key in wanted]
            is_cached = table.cached
            for values in self._database.load(table.select, bindings):
                row = make(values)
                key = row[0] if width == 1 else row[:width]
                seen[key] = row
                if is_cached is not None and is_cached(row):
                    self._news[table].append(key)

    def load_groups(self, table: Table[Any, Any], firsts: Iterable[int]) -> None:
        """Load those of the groups that are not known yet, by set."""
        groups = self._groups[table]
        wanted: dict[int, Any] = {}
        for first in firsts:
            if first not in groups:
                kept = self._cache.group(table, first) if table.kept else None
                if kept is not None:
                    groups[first] = kept.copy()  # changed by this batch, which may fail
                else:
                    wanted[first] = None
        if not wanted:
            return
        if self._written[table]:
            self.flush()
        for first in wanted:
            groups[first] = {}
        seen = self._seen[table]
        for values in self._database.load(table.select_group, [(first,) for first in wanted]):
            row = table.make(values)
            key = table.key_of(row)
            groups[key[0]][key] = seen[key] = row

    def fetch(self, missing: Missing) -> None:
        """Load what a decision asked for."""
        by_table: dict[Table[Any, Any], list[Any]] = {}
        for table, key in missing.keys:
            by_table.setdefault(table, []).append(key)
        for table, keys in by_table.items():
            self.load(table, keys)
        for table, first in missing.groups:
            self.load_groups(table, [first])
        if missing.scans:
            self.flush()
            for scan, values in missing.scans:
                found = [scan.make(row) for row in self._database.execute(scan.sql, values)]
                self._scans[scan, values] = found
                if scan.whole is not None:
                    shown = {scan.whole.key_of(row): row for row in found}
                    self._seen[scan.whole].update(shown)
                    if scan.whole.cached is not None:
                        self._news[scan.whole] += shown

    def flush(self) -> None:
        """Apply what was written to the database, by set, inside the open transaction. No decision is half made now."""
        if self._settled:
            assert self._fold is not None, "who defers has a fold"
            settled, self._settled = self._settled, []
            self._fold(self, settled)
            self._journal.clear()
        self._write_numbers()
        if not self._written:
            return
        for table in TABLES:
            written = self._written.get(table)
            if written:
                self._flush_table(table, written)
                if table.cached is not None or table.rising or table.kept:
                    self._news[table] += written
        self._written.clear()

    def _write_numbers(self) -> None:
        seen = self._seen[META]
        for name, number in self._numbers.items():
            before = seen[name]
            if before.number != number:
                seen[name] = MetaRow(name, number)
                self._written[META][name] = before

    def _flush_table(self, table: Table[Any, Any], written: dict[Any, Any]) -> None:
        now, updating = self._seen[table].get, table.updating
        inserts, updates, deletes = [], [], []
        for key, before in written.items():
            row = now(key)  # none, too, if the write was taken back
            if row is before or row == before:
                continue
            if row is None:
                deletes.append(table.binding(key))
            elif before is None:
                inserts.append(row)
            else:
                updates.append(updating(row))
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
        cache = self._cache
        for table, keys in self._news.items():
            if table.cached is not None:
                cache.follow(table, keys, self._seen[table])
            elif table.rising:
                cache.follow_ids(table, keys)
        for table, groups in self._groups.items():
            if table.kept:
                cache.follow_groups(table, groups, self._news[table])
