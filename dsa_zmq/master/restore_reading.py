"""Reading one volume from the nodes that hold it: a window of questions to one of them, their answers in order, another
holder when one is silent or has bytes that cannot be used. Pure.

Holders have the same records, but perhaps in another mixture, so another one is read from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsa_zmq.master.restore_plan import Copy
from dsa_zmq.protocol.volumes import ReadVolume

PIECE_BYTES = 512 << 10  #: asked for at a time
WINDOW = 4  #: pieces that are on their way, or wait for those before them
RESEND_NS = 1_000_000_000
PATIENCE_NS = 6_000_000_000  #: without an answer to one question another holder is tried


@dataclass(slots=True)
class _Question:
    message: ReadVolume
    first_ns: int  #: when it was asked
    again_ns: int
    answer: bytes | None = None


class Reading:
    """See the module. Times are monotonic nanoseconds."""

    def __init__(self, volume: int, holders: Sequence[Copy], number: Callable[[], int]) -> None:
        self.volume = volume
        self.holder: Copy | None = None  #: that is read; None when all have been tried
        self._left = list(holders)
        self._number = number
        self._questions: dict[int, _Question] = {}  #: by offset
        self._asked = 0  #: bytes
        self.got = 0  #: bytes, handed over in order
        self.next_holder()

    def next_holder(self) -> bool:
        """Leave this one, for another one if there is any."""
        self.holder = self._left.pop(0) if self._left else None
        self._questions.clear()
        self._asked = self.got = 0
        return self.holder is not None

    @property
    def size(self) -> int:
        """Bytes that the holder has."""
        return 0 if self.holder is None else self.holder.state.size

    @property
    def is_over(self) -> bool:
        return self.got >= self.size

    def questions(self, now_ns: int) -> list[ReadVolume]:
        """What is to be sent to the holder now."""
        while len(self._questions) < WINDOW and self._asked < self.size:
            limit = min(PIECE_BYTES, self.size - self._asked)
            self._ask(self._asked, limit, now_ns)
            self._asked += limit
        due = [each for each in self._questions.values() if each.answer is None and each.again_ns <= now_ns]
        for each in due:
            each.again_ns = now_ns + RESEND_NS
        return [each.message for each in due]

    def is_silent(self, now_ns: int) -> bool:
        """Whether a question has waited for too long."""
        return any(each.answer is None and now_ns >= each.first_ns + PATIENCE_NS for each in self._questions.values())

    def _ask(self, offset: int, limit: int, now_ns: int) -> None:
        self._questions[offset] = _Question(
            ReadVolume(self._number(), self.volume, offset, limit), first_ns=now_ns, again_ns=now_ns
        )

    def waits_for(self, number: int) -> bool:
        """Whether this question is open."""
        return any(each.message.number == number and each.answer is None for each in self._questions.values())

    def answer(self, number: int, offset: int, data: bytes, now_ns: int) -> list[bytes]:
        """What can be handed over in order now. A short answer is completed; an answer that nobody waits for is ignored."""
        question = self._questions.get(offset)
        if question is None or question.message.number != number or question.answer is not None:
            return []
        if not data or len(data) > question.message.limit:
            return []  # it will be asked again, and then somebody else is
        if len(data) < question.message.limit:
            self._ask(offset + len(data), question.message.limit - len(data), now_ns)
        question.answer = data
        ready = []
        while (first := self._questions.get(self.got)) is not None and first.answer is not None:
            del self._questions[self.got]
            ready.append(first.answer)
            self.got += len(first.answer)
        return ready
