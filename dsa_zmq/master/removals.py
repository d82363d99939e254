"""Places that were released because others have what they had: sent off once those others were read, or places again.

The catalog's unverified rows of ``drops`` are the list of what is to be done, so nothing is lost with the master.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.core import Context
from dsa_zmq.master.catalog.examine_rules import Released
from dsa_zmq.master.department import Department
from dsa_zmq.master.office import Office


class Removals(Department):
    """See the module. Others find it as ``office.removals``."""

    name = "removals"

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        office.removals = self

    def verify(self, ctx: Context, released: Sequence[Released]) -> None:
        """These were released just now, in a transaction whose result is there: have their keepers read, then send them
        off or restore them. Only makes it sooner: what is not told here is found in the catalog at the next look."""
        raise NotImplementedError
