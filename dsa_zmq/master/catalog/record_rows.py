"""Rows as they come out of records, which anybody may have written: values are of their columns' types, or none is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import msgspec

from dsa_zmq.errors import Corrupt
from dsa_zmq.master.catalog.tables import LOGGED, Table
from dsa_zmq.model.records import Record

Number = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]  #: what a column can hold


class Writing:
    """How rows of one table come out of a record and go into the database."""

    def __init__(self, table: Table[Any, Any]) -> None:
        hints = get_type_hints(table.make.__self__)  # type: ignore[attr-defined]
        kinds = tuple([Number if kind is int else kind for kind in hints.values()])
        self.replace = table.insert.replace("INSERT", "INSERT OR REPLACE", 1)
        self.delete = table.delete
        self.rows: Callable[[Any], list[Any]] = msgspec.msgpack.Decoder(list[tuple[kinds]]).decode  # type: ignore[valid-type]
        self.keys: Callable[[Any], list[Any]] = msgspec.msgpack.Decoder(list[tuple[kinds[: table.width]]]).decode  # type: ignore[misc]


_WRITING = {table.name: Writing(table) for table in LOGGED}
_RUNS = msgspec.msgpack.Decoder(list[tuple[str, msgspec.Raw, msgspec.Raw]])


def runs_of(record: Record) -> list[tuple[Writing, list[Any], list[Any]]]:
    """(table, keys of removed rows, rows) of each run. Corrupt if anything in it is not as it has to be."""
    runs = []
    try:
        for name, rows, keys in _RUNS.decode(record.body()):
            writing = _WRITING.get(name)
            if writing is None:
                raise Corrupt(f"a record has rows of an unknown table '{name[:40]}'", "use another copy of the catalog")
            runs.append((writing, writing.keys(keys), writing.rows(rows)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Corrupt(f"the rows of a record do not decode: {error}", "use another copy of the catalog") from error
    return runs
