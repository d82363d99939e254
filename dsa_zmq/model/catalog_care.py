"""How the copies of the catalog are kept, as an operator says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dsa_zmq.errors import Invalid
from dsa_zmq.model.limits import (
    CATALOG_COPIES,
    CATALOG_HISTORY_S,
    CATALOG_LAG_S,
    CATALOG_LEVELS,
    UNPROTECTED_AFTER_S,
)

MOST_S = 1e9  #: thirty years: whoever writes more means "never", which is no time

_UNITS = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")


@dataclass(frozen=True, slots=True)
class CatalogCare:
    """``[master.catalog]``. Seconds."""

    copies: str = CATALOG_COPIES  #: one of ``CATALOG_LEVELS``: when an answer leaves
    lag_s: float = CATALOG_LAG_S  #: with async: what the copies may lack at most
    history: float = CATALOG_HISTORY_S  #: how far back the catalog can be had; what is removed is kept as long
    unprotected_after_s: float = UNPROTECTED_AFTER_S  #: without enough copies, the master goes on alone after this


def catalog_care(values: Mapping[str, str | float], care: CatalogCare | None = None) -> CatalogCare:
    """The same with what an operator says. Raises Invalid for an unknown name, or a value that makes no sense."""
    care = care or CatalogCare()
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name == "copies":
            if value not in CATALOG_LEVELS:
                raise Invalid(
                    f"copies: '{str(value)[:80]}' is no way to keep copies of the catalog",
                    f"write one of: {', '.join(CATALOG_LEVELS)}",
                )
            changes[name] = value
        elif name in ("lag_s", "unprotected_after_s", "history"):
            changes[name] = parse_duration(str(value))
            if not changes[name] and name != "history":
                raise Invalid(f"{name} must be more than 0", "leave it out, or write more")
        else:
            known = ", ".join(sorted(CatalogCare.__slots__))
            raise Invalid(f"there is no '{name[:80]}' to be set", f"the names are {known}")
    return replace(care, **changes)


def parse_duration(text: str) -> float:
    """Seconds: ``"90"``, ``"90s"``, ``"15 min"``, ``"1h"``, ``"2d"``. Raises Invalid."""
    found = _DURATION.fullmatch(text.lower())
    if found is None or found.group(2) not in _UNITS or float(found.group(1)) * _UNITS[found.group(2)] > MOST_S:
        raise Invalid(f"'{text[:80]}' is not a time", "write a number with a unit, as in 30s, 15min, 1h or 2d")
    return float(found.group(1)) * _UNITS[found.group(2)]
