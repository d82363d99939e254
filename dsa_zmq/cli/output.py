"""What commands print on stdout: names that may hold anything, tables, times, and the fields of an entry."""

from __future__ import annotations

import datetime
import json
import os
import stat as bits
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dsa_zmq.model.stat import Stat

_GAP = "  "


def is_terminal() -> bool:
    """Somebody reads stdout, rather than a program."""
    return sys.stdout.isatty()


def in_colour(text: str, colour: str) -> str:
    """The same in a colour where a person reads it, unless they do not want any (https://no-color.org)."""
    if not colour or not is_terminal() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=colour)


def shown(text: str) -> str:
    """For people: on one line, and nothing in it that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def name_as_printed(name: str) -> str:
    """As it is for a program, harmless for a terminal."""
    return shown(name) if is_terminal() else name


def line(text: str = "") -> None:
    """One line on stdout, whatever its encoding can express."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def emit(**fields: object) -> None:
    """One JSON object on a line of its own; plain ASCII where stdout is not UTF-8."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(fields, ensure_ascii=not is_unicode) + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> list[str]:
    """Lines of a table; the columns named in ``right`` are aligned at their right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return [
        _GAP.join(
            cell.rjust(width) if title in right else cell.ljust(width)
            for title, cell, width in zip(header, row, widths, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]


def columns(names: Sequence[str], width: int) -> list[str]:
    """Lines that show the names in columns, read downwards, as many as fit into ``width`` cells."""
    from rich.cells import cell_len

    sizes = [cell_len(name) for name in names]
    for count in range(max(1, min(len(names), width // (1 + len(_GAP)))), 0, -1):
        height = -(-len(names) // count)
        tops = range(0, len(names), height)
        widths = [max(sizes[top : top + height]) for top in tops]
        if count == 1 or sum(widths) + len(_GAP) * (len(widths) - 1) <= width:
            break
    lines = []
    for row in range(height):
        cells = [
            (names[at], sizes[at], widths[column])
            for column, top in enumerate(tops)
            if (at := top + row) < min(top + height, len(names))
        ]
        lines.append(_GAP.join(name + " " * (wide - size) for name, size, wide in cells).rstrip(" "))
    return lines


def mode_text(entry: Stat) -> str:
    """``drwxr-xr-x``."""
    return bits.filemode((bits.S_IFDIR if entry.is_dir else bits.S_IFREG) | entry.mode)


def local_time(mtime_ns: int) -> str:
    """``2027-05-01 12:30`` in this machine's time zone; ``?`` for a moment that no calendar has."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(mtime_ns // 1_000_000_000))
    except (OverflowError, OSError, ValueError):
        return "?"


def iso_time(mtime_ns: int) -> str | None:
    """``2027-05-01T10:30:00.250000+00:00``; None for a moment that no calendar has."""
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    try:
        return (epoch + datetime.timedelta(microseconds=mtime_ns // 1000)).isoformat()
    except OverflowError:
        return None


def fields_of(entry: Stat) -> dict[str, object]:
    """An entry as JSON fields."""
    fields: dict[str, object] = {
        "path": entry.path,
        "kind": entry.kind,
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "mtime": iso_time(entry.mtime_ns),
        "mtime_ns": entry.mtime_ns,
        "redundancy": entry.redundancy,
        "inode": entry.inode,
    }
    if entry.is_file:
        fields |= {
            "version": entry.version,
            "content": entry.content,
            "chunk_bytes": entry.chunk_bytes,
            "chunks": entry.chunk_count,
        }
    return fields
