"""The books of a simulated cluster: what its users asked for, what they heard, and whether all of it can be true."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from dsa_zmq.errors import DSAError
from dsa_zmq.protocol.operations import Found, Listing
from dsa_zmq.protocol.values import Attributes
from dsa_zmq.sim import history
from dsa_zmq.sim.history import NEVER, Operation, Outcome
from dsa_zmq.sim.tree import DIRECTORY, READS, Action, Read

TELLING = frozenset(
    ("not-found", "already-exists", "is-a-directory", "not-a-directory", "not-empty")
)  #: refusals that say something about the tree

EXCUSABLE = frozenset(("conflict", "outdated", "no-space", "too-few-nodes", "overloaded"))
"""Refusals that machines in trouble are an excuse for: a lease ran out, too few nodes were up."""


class Wrong(AssertionError):
    """The cluster has broken a promise."""


class Ledger:
    """All operations of all users. Times are virtual nanoseconds, told by ``now_ns``.

    What is wrong at once (bytes that nobody ever wrote, an error that nothing excuses) is collected in ``violations``,
    since it is found inside of a client's turn; :meth:`judge` raises it.
    """

    def __init__(self, draw: random.Random, now_ns: Callable[[], int]) -> None:
        self._draw = draw
        self._now_ns = now_ns
        self.contents: dict[int, bytes] = {}  #: by size; no two have the same
        self.operations: list[Operation] = []
        self.violations: list[str] = []
        self.excusable = EXCUSABLE  #: a scenario that takes more than was promised adds to it

    def __repr__(self) -> str:
        return f"<Ledger {len(self.operations)} operations, {len(self.contents)} contents>"

    # --- contents -------------------------------------------------------------------------------------------------

    def new_content(self, max_bytes: int, min_bytes: int = 0) -> bytes:
        """Random bytes of a size that no other content of this world has."""
        while (size := self._draw.randint(min_bytes, max_bytes)) in self.contents:
            max_bytes += 1
        return self.add_content(self._draw.randbytes(size))

    def add_content(self, data: bytes) -> bytes:
        """A content that somebody is going to write."""
        assert len(data) not in self.contents, "contents are told apart by their sizes"
        self.contents[len(data)] = data
        return data

    # --- operations -----------------------------------------------------------------------------------------------

    def begin(self, user: str, action: Action) -> Operation:
        operation = Operation(len(self.operations), user, action, self._now_ns())
        self.operations.append(operation)
        return operation

    def answered(self, operation: Operation, result: Any, data: bytes = b"") -> None:
        """The user has heard: a value, or an error. ``data`` is what a read brought."""
        operation.ended_ns = self._now_ns()
        if isinstance(result, DSAError):
            self._failed(operation, result)
            return
        operation.outcome = Outcome.DONE
        if isinstance(operation.action, READS):
            operation.answer = _seen(result)
        if isinstance(operation.action, Read):
            self._check_bytes(operation, operation.action, data)

    def lost(self, operation: Operation) -> None:
        """The user died before it heard anything."""
        if operation.outcome is Outcome.OPEN:
            operation.outcome, operation.ended_ns = Outcome.UNKNOWN, NEVER

    def _failed(self, operation: Operation, error: DSAError) -> None:
        if error.code in TELLING:
            operation.outcome, operation.answer = Outcome.REFUSED, error.code
        elif error.indefinite and error.code != "internal":
            operation.outcome = Outcome.UNKNOWN
        else:
            operation.outcome = Outcome.FAILED
            if error.code not in self.excusable:
                self.violations.append(f"nothing excuses this error: {error.code}: {error}\n{operation}")

    def _check_bytes(self, operation: Operation, action: Read, data: bytes) -> None:
        content = self.contents.get(operation.answer)
        if content is None:
            self.violations.append(f"a file of a size that nobody ever wrote\n{operation}")
        elif data != (wanted := content[action.start : action.stop]):
            at = next(
                (i for i, (a, b) in enumerate(zip(data, wanted, strict=False)) if a != b), min(len(data), len(wanted))
            )
            told = f"{len(data)} bytes, of {len(wanted)}, which differ from byte {at} on"
            self.violations.append(f"a read brought {told}\n{operation}")

    # --- judgement ------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Raise :class:`Wrong` for what was wrong at once, then :class:`~dsa_zmq.sim.history.NotLinearizable`."""
        self.check_now()
        history.check(self.operations)

    def check_now(self) -> None:
        """Raise :class:`Wrong` for what was wrong at once."""
        if self.violations:
            raise Wrong("\n".join(self.violations))

    def paths(self) -> list[str]:
        """All that anybody ever named, sorted."""
        named: set[str] = set()
        for operation in self.operations:
            action = operation.action
            for path in (getattr(action, name, None) for name in ("path", "source", "target")):
                if path:
                    named.add(path)
        return sorted(named)

    def story(self, path: str) -> list[str]:
        """The operations that named this path."""
        return [str(operation) for operation in self.operations if f"'{path}'" in str(operation)]

    def counts(self) -> dict[str, int]:
        """Operations by outcome."""
        return {outcome.value: sum(o.outcome is outcome for o in self.operations) for outcome in Outcome}


def _seen(result: Any) -> Any:
    if isinstance(result, Attributes):
        return _shown(result)
    if isinstance(result, Found):
        return _shown(result.attributes)
    if isinstance(result, Listing):
        return _pairs((entry.name, entry.attributes) for entry in result.entries)
    raise Wrong(f"a read was answered with {result!r}")


def _pairs(entries: Iterable[tuple[str, Attributes]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, _shown(attributes)) for name, attributes in entries))


def _shown(attributes: Attributes) -> int:
    return DIRECTORY if attributes.kind == "dir" else attributes.size
