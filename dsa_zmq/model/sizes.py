"""Sizes, rates and durations: as people write them and as they like to read them. Decimal units, as disks are sold."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from dsa_zmq.errors import Invalid

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_FACTORS = {"B": 1} | {
    unit: base**power
    for power, letter in enumerate("KMGTPE", start=1)
    for unit, base in ((f"{letter}B", 1000), (f"{letter}IB", 1024))
}
_MAX_BYTES = (1 << 63) - 1  #: a signed 64-bit number, as the catalog and the disks count

_SIZE = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))? ?([A-Za-z]{0,3}|%)")


def parse_size(text: str, whole: int | None = None) -> int:
    """``"500GB"``, ``"500GiB"``, ``"1.5 TB"``, ``"4096"`` (bytes) or ``"80%"`` (of ``whole`` bytes) as bytes, rounded down.

    Units may be written in small letters. Raises :class:`Invalid` for anything else, and for a share of nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise _malformed(text)
    digits, decimals, unit = match.groups()
    number = Fraction(f"{digits}.{decimals or 0}")
    if unit == "%":
        return _share(text, number, whole)
    factor = _FACTORS.get(unit.upper() or "B")
    if factor is None:
        raise _malformed(text)
    size = number * factor
    if factor == 1 and size.denominator != 1:
        raise Invalid(f"{text!r} is a part of a byte", "write a whole number of bytes, or a unit such as GB")
    if size > _MAX_BYTES:
        raise Invalid(f"{text!r} is more than can be counted", f"write at most {format_size(_MAX_BYTES)}")
    return int(size)


def _share(text: str, number: Fraction, whole: int | None) -> int:
    if whole is None:
        raise Invalid(f"{text!r} is a share, but of nothing known here", "write an amount, as in 500GB")
    if number > 100:
        raise Invalid(f"{text!r} is more than the whole", "write at most 100%")
    return int(number * whole / 100)


def _malformed(text: str) -> Invalid:
    shown = repr(text[:40]) + ("..." if len(text) > 40 else "")
    return Invalid(f"{shown} is not a size", "write a number with a unit, as in 500GB, 500GiB or 80%, or bytes")


def counted(count: int, what: str) -> str:
    """A number of things: ``"1 file"``, ``"2,451 files"``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def format_size(size: int) -> str:
    """Bytes as ``"999 B"`` or ``"5.1 TB"``: one decimal, rounded to the nearest."""
    sign, size = ("-", -size) if size < 0 else ("", size)
    if size < 1000:
        return f"{sign}{size} B"
    power, tenths = 0, size * 10
    while tenths >= 10_000 and power < len(_UNITS) - 1:  # 999,950 B is "1.0 MB", not "1000.0 kB"
        power += 1
        tenths = (size * 10 + 1000**power // 2) // 1000**power  # integers: exact at any size
    return f"{sign}{tenths // 10}.{tenths % 10} {_UNITS[power]}"


def format_rate(bytes_per_second: float) -> str:
    """``"82.1 MB/s"``."""
    if not math.isfinite(bytes_per_second):
        return "unknown"
    return f"{format_size(round(bytes_per_second))}/s"


def format_duration(seconds: float) -> str:
    """``"0.4 s"``, ``"12 s"``, ``"3 min 20 s"``, ``"2 h 05 min"``, ``"3 d 4 h"``; ``"unknown"`` if it has no end."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"
