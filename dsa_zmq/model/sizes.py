"""Sizes as people write and read them: ``500GB`` (powers of 1000), ``500GiB`` (powers of 1024), plain bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dsa_zmq.errors import Invalid

_UNITS = {"": 1, "b": 1}
_UNITS |= {letter + "b": 1000 ** (power + 1) for power, letter in enumerate("kmgtpe")}
_UNITS |= {letter + "ib": 1024 ** (power + 1) for power, letter in enumerate("kmgtpe")}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_MAX_BYTES = 1 << 62  #: four exbibytes: fits a signed SQL integer with room for sums
_REMEDY = "write it as 500GB, 500GiB or a number of bytes"


def parse_size(text: str) -> int:
    """Bytes. Raises Invalid."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise Invalid(f"'{text[:80]}' is not a size", _REMEDY)
    number = match.group(1)
    size = int(number) * unit if number.isdigit() else int(float(number) * unit)
    if size > _MAX_BYTES:
        raise Invalid(f"'{text[:80]}' is more than any disk holds", _REMEDY)
    return size


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a node offers: a number of bytes, or a share of its disk."""

    size: int = 0  #: bytes; 0 if it is a share
    share: float = 0.0  #: of the whole file system, in (0, 1]

    def on_disk(self, total: int) -> int:
        """Bytes, on a file system of ``total`` bytes."""
        return self.size or int(total * self.share)


def parse_capacity(text: str | int) -> Capacity:
    """A size, or a share of the disk as in ``80%``. Raises Invalid."""
    text = str(text)
    percent = _PERCENT.fullmatch(text.strip())
    if percent:
        share = float(percent.group(1)) / 100
        if not 0 < share <= 1:
            raise Invalid(f"capacity '{text[:80]}' is not a share of a disk", "write 1% to 100%")
        return Capacity(share=share)
    try:
        size = parse_size(text)
    except Invalid as error:
        raise Invalid(f"capacity {error.message}", "write it as 500GB, 500GiB, 80% or a number of bytes") from None
    if size <= 0:
        raise Invalid("capacity 0 leaves no room for a single shard", "give at least some megabytes, as in 10GB")
    return Capacity(size=size)


def format_size(size: float) -> str:
    """For people: three digits, powers of 1000, as in ``5.12 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if abs(size) < 999.5:
            break
        size /= 1000
    else:
        unit = "EB"
    if unit == "B":
        return f"{size:.0f} B"
    return f"{size:.0f} {unit}" if abs(size) >= 99.5 else f"{size:.1f} {unit}" if abs(size) >= 9.95 else f"{size:.2f} {unit}"
