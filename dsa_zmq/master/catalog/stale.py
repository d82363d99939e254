"""The mark of a catalog that is an old copy: a small file beside it, which keeps every later master from starting on it.

Each start raises the term, and nodes obey the highest that they have seen. So a master on an old copy that is started again
and again would in the end pass for the newest. It leaves this mark when it learns of another master, before it stops; the
next start looks for the mark before it raises anything, and is refused until an operator has decided.
"""

from __future__ import annotations

import msgspec

from actors.disk import Disk
from dsa_zmq.errors import ConfigError

STALE_FILE = "stale.json"
VERSION = 1  #: of the file's content


class StaleMark(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    version: int = VERSION
    own_term: int  #: of the master that wrote it
    seen_term: int  #: of the other master; the same: two copies of one catalog ran side by side
    node: str  #: by name: who had obeyed the other master
    wall_ns: int  #: when that was heard

    def cause(self) -> str:
        """In a sentence."""
        if self.seen_term == self.own_term:
            return (
                f"node '{self.node}' has obeyed another master of term {self.seen_term}: two masters have run on copies of"
                " one catalog, and this is one of them"
            )
        return (
            f"node '{self.node}' has obeyed a master of term {self.seen_term}, this catalog is of term {self.own_term}:"
            " it is an old copy"
        )


REMEDY = (
    "start the master on the newest copy; if this one is to take over, run 'dsa master --take-over' once: what was stored"
    " since the copy was made may be missing then"
)


def write_mark(disk: Disk, mark: StaleMark) -> None:
    """Make the mark durable; it takes the place of an earlier one. Raises OSError."""
    disk.replace_bytes(STALE_FILE, msgspec.json.encode(mark) + b"\n")


def term_to_exceed(disk: Disk, path: str, *, take_over: bool) -> int:
    """The term above which a master on the catalog in ``path`` has to begin, besides the catalog's own.

    Raises ConfigError if there is a mark, unless the operator lets this catalog ``take_over``; and if there is nothing to
    take over, so that the option cannot stay in a service's command line unnoticed.
    """
    catalog = disk.sqlite_path(path)
    if not disk.exists(STALE_FILE):
        if take_over:
            raise ConfigError(
                f"there is nothing to take over: no other master was heard of by the one with '{catalog}'",
                "leave --take-over out; it is for the one start after a refused one",
                catalog,
            )
        return 0
    try:
        mark = msgspec.json.decode(disk.read_bytes(STALE_FILE), type=StaleMark)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigError(
            f"'{catalog}' has been marked as an old copy of a catalog, and the mark '{STALE_FILE}' is damaged",
            "start the master on the newest copy",
            catalog,
        ) from None
    if not take_over:
        raise ConfigError(f"catalog '{catalog}' must not be used: {mark.cause()}", REMEDY, catalog)
    return max(mark.own_term, mark.seen_term)


def remove_mark(disk: Disk) -> None:
    """The catalog has taken over, durably."""
    disk.unlink(STALE_FILE)
    disk.sync_dir("")
