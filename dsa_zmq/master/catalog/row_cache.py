"""What is known of the database between batches: committed rows, whole groups, and which ids were never used.

Only this process writes, and only a commit is followed here, so what is kept is true. All of it is bounded, and none of it
is needed: what is not kept is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsa_zmq.master.catalog.tables import TABLES, K, R, Table

CACHE_ROWS = 50_000  #: per table, some 20 MB at most: more directories than are worked in at a time
RECENT_IDS = 20_000  #: per table, some 2 MB: more than the calls that can be in flight, whose ids come in any order

UNKNOWN: Any = object()
"""Instead of a row: it is not known whether there is one."""


class RowCache:
    """One for each open catalog.

    Rows are kept in two generations: one that is used moves to the younger, and when that is full it becomes the older one,
    whose rows are forgotten. So a row in steady use costs one look-up and no change.
    """

    def __init__(self) -> None:
        self._young: dict[Table[Any, Any], dict[Any, Any]] = {table: {} for table in TABLES if table.cached is not None}
        self._old: dict[Table[Any, Any], dict[Any, Any]] = {table: {} for table in self._young}
        self._groups: dict[Table[Any, Any], dict[int, dict[Any, Any]]] = {t: {} for t in TABLES if t.kept}
        self._grouped_rows = dict.fromkeys(self._groups, 0)  #: in all groups; a group without rows counts as one
        self._since: dict[Table[Any, Any], int] = {}  #: of a rising table: from this id on ...
        self._used: dict[Table[Any, Any], set[int]] = {}  #: ... exactly these are there, or have been

    # --- rows -----------------------------------------------------------------------------------------------------

    def get(self, table: Table[R, K], key: K) -> R:
        """The row, or ``UNKNOWN``."""
        row = self._young[table].get(key, UNKNOWN)
        if row is UNKNOWN:
            row = self._old[table].pop(key, UNKNOWN)
            if row is not UNKNOWN:
                self._keep(table, key, row)
        return row  # type: ignore[no-any-return]

    def follow(self, table: Table[Any, Any], keys: Iterable[Any], rows: Mapping[Any, Any]) -> None:
        """These rows of a cached table are committed; None, or no row at all, for a key that has none."""
        is_cached = table.cached
        assert is_cached is not None, table
        for key in keys:
            row = rows.get(key)
            if row is not None and is_cached(row):
                self._keep(table, key, row)
            else:
                self._young[table].pop(key, None)
            self._old[table].pop(key, None)

    def _keep(self, table: Table[Any, Any], key: Any, row: Any) -> None:
        young = self._young[table]
        young[key] = row
        if len(young) > CACHE_ROWS // 2:
            self._old[table] = young
            self._young[table] = {}

    # --- groups ---------------------------------------------------------------------------------------------------

    def group(self, table: Table[R, K], first: int) -> dict[K, R] | None:
        """All rows with this first column by key, to be copied before it is changed; None if it is not known."""
        return self._groups[table].get(first)

    def follow_groups(
        self, table: Table[Any, Any], groups: Mapping[int, dict[Any, Any]], changed: Iterable[tuple[Any, ...]]
    ) -> None:
        """These groups of a kept table are as committed. Others, with rows of the keys ``changed``, are not known now."""
        known = self._groups[table]
        for first in {key[0] for key in changed} - groups.keys():
            self._grouped_rows[table] -= _weight(known.pop(first, None))
        for first, group in groups.items():
            self._grouped_rows[table] += _weight(group) - _weight(known.get(first))
            known[first] = group
        if self._grouped_rows[table] > CACHE_ROWS:
            known.clear()
            self._grouped_rows[table] = 0

    # --- ids ------------------------------------------------------------------------------------------------------

    def knows_ids(self, table: Table[Any, Any]) -> bool:
        """Whether :meth:`begin_ids` was called."""
        return table in self._since

    def begin_ids(self, table: Table[Any, Any], since: int) -> None:
        """No id of the table is as large as ``since``."""
        self._since[table] = since
        self._used[table] = set()

    def is_new(self, table: Table[Any, K], key: K) -> bool:
        """Whether this id is certainly in no row: else most look-ups of a put would be of rows that cannot be there."""
        return table in self._since and key >= self._since[table] and key not in self._used[table]  # type: ignore[operator]

    def follow_ids(self, table: Table[Any, Any], keys: Iterable[int]) -> None:
        """Rows of these ids were written, or removed."""
        if table not in self._since:
            return
        since, used = self._since[table], self._used[table]
        used.update([key for key in keys if key >= since])
        if len(used) > RECENT_IDS:
            later = sorted(used)[RECENT_IDS // 2 :]
            self._since[table] = later[0]
            self._used[table] = set(later)


def _weight(group: Mapping[Any, Any] | None) -> int:
    return 0 if group is None else max(1, len(group))
