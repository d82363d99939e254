"""Rounds of probes: one node is asked for by others, one after another, until it is known whether it can be reached. Pure.

A round ends well with the first prober that reaches the node. It ends badly when :data:`PROBERS` have tried in vain, or
nobody is left to try: one prober alone may be the one that is cut off. What a prober does not tell within its time says
nothing of the node, and something of the prober.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dsa_zmq.protocol.values import NodeAddress, ProbeOutcome

PROBERS = 3  #: of one round that tell anything: the first, and two more if it failed


@dataclass(frozen=True, slots=True)
class Question:
    """Ask ``prober`` whether it reaches ``target``."""

    number: int
    prober: int
    target: NodeAddress
    sent_ns: int  #: serving time


@dataclass(frozen=True, slots=True)
class Verdict:
    """A round has ended."""

    target: NodeAddress  #: as it was when the round began
    reached: bool
    failed: tuple[int, ...]  #: probers that could not reach it, in the order of their answers
    other: bool  #: one of them has reached another process at this address


@dataclass(slots=True)
class _Round:
    target: NodeAddress
    probers: list[int]  #: still to be asked, the best first
    asked: set[int] = field(default_factory=set)  #: numbers of questions that are out
    failed: list[int] = field(default_factory=list)
    other: bool = False


class Probes:
    """All rounds that go on, at most one for a node. Times are serving time in nanoseconds."""

    def __init__(self, answer_ns: int) -> None:
        self._answer_ns = answer_ns  #: for a prober to answer
        self._rounds: dict[int, _Round] = {}
        self._out: dict[int, Question] = {}
        self._last = 0

    def begin(self, target: NodeAddress, probers: Iterable[int], served_ns: int, at_once: int = 1) -> list[Question]:
        """Find out about this node; ``at_once`` probers are asked together. A round about it that goes on is enough, unless
        it is about an earlier process or address of it."""
        known = self._rounds.get(target.node)
        if known is not None:
            if known.target == target:
                return self._ask(known, at_once - len(known.asked), served_ns)
            self.forget(target.node)
        fresh = _Round(target, [prober for prober in probers if prober != target.node])
        if not fresh.probers:
            return []
        self._rounds[target.node] = fresh
        return self._ask(fresh, at_once, served_ns)

    def answered(
        self, prober: int, number: int, outcomes: Iterable[ProbeOutcome], served_ns: int
    ) -> tuple[list[Question], Verdict | None]:
        """A prober has answered. What nobody asked it counts for nothing."""
        question = self._out.get(number)
        if question is None or question.prober != prober:
            return [], None
        del self._out[number]
        target = question.target
        round_ = self._rounds[target.node]
        round_.asked.discard(number)
        incarnations = [outcome.incarnation for outcome in outcomes if outcome.node == target.node]
        if target.incarnation in incarnations:
            return [], self._end(round_, True)
        if incarnations:
            round_.failed.append(prober)
            round_.other = round_.other or any(incarnations)
        return self._go_on(round_, served_ns)

    def expire(self, served_ns: int) -> tuple[list[Question], list[Verdict], list[Question]]:
        """What to ask instead of probers that had their time; rounds that end by it; and the questions without an answer."""
        late = [question for question in self._out.values() if served_ns - question.sent_ns >= self._answer_ns]
        questions: list[Question] = []
        verdicts: list[Verdict] = []
        for question in late:
            del self._out[question.number]
            self._rounds[question.target.node].asked.discard(question.number)
        for node in dict.fromkeys(question.target.node for question in late):
            more, verdict = self._go_on(self._rounds[node], served_ns)
            questions += more
            if verdict is not None:
                verdicts.append(verdict)
        return questions, verdicts, late

    def forget(self, node: int) -> None:
        """The node has gone, or is another process now."""
        round_ = self._rounds.pop(node, None)
        if round_ is not None:
            for number in round_.asked:
                del self._out[number]

    def keep_only(self, exists: Callable[[int], bool]) -> None:
        """Forget the rounds about all other nodes."""
        for node in [node for node in self._rounds if not exists(node)]:
            self.forget(node)

    def _go_on(self, round_: _Round, served_ns: int) -> tuple[list[Question], Verdict | None]:
        """After a prober failed: two others together, so that it takes two waits at most; or the end."""
        still = PROBERS - len(round_.failed) - len(round_.asked)
        questions = self._ask(round_, still, served_ns)
        if round_.asked:
            return questions, None
        return questions, self._end(round_, False)

    def _ask(self, round_: _Round, count: int, served_ns: int) -> list[Question]:
        questions = []
        for _ in range(min(count, len(round_.probers))):
            self._last += 1
            question = Question(self._last, round_.probers.pop(0), round_.target, served_ns)
            self._out[question.number] = question
            round_.asked.add(question.number)
            questions.append(question)
        return questions

    def _end(self, round_: _Round, reached: bool) -> Verdict:
        self.forget(round_.target.node)
        return Verdict(round_.target, reached, tuple(round_.failed), round_.other)

    def __contains__(self, node: int) -> bool:
        return node in self._rounds

    def __len__(self) -> int:
        return len(self._rounds)

    def __repr__(self) -> str:
        return f"<Probes about {sorted(self._rounds)}, {len(self._out)} out>"

    def check_invariants(self) -> None:
        numbers = {number for round_ in self._rounds.values() for number in round_.asked}
        assert numbers == set(self._out), "each question that is out belongs to a round"
        for node, round_ in self._rounds.items():
            assert round_.asked, "somebody is asked as long as a round goes on"
            assert round_.target.node == node
            assert node not in round_.probers, "nobody vouches for itself"
