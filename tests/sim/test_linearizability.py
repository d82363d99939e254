"""The judge of histories: what could have happened is accepted, what could not is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import Corrupt, NotFound, Unavailable
from dsa_zmq.protocol.values import Attributes
from dsa_zmq.sim import history
from dsa_zmq.sim.history import NEVER, NotLinearizable, Operation, Outcome
from dsa_zmq.sim.ledger import Ledger, Wrong
from dsa_zmq.sim.tree import (
    DIRECTORY,
    EMPTY,
    READS,
    Action,
    Copy,
    Failed,
    List,
    Look,
    MakeDirectory,
    Move,
    Put,
    Read,
    Remove,
    apply,
)

DONE, REFUSED, FAILED, UNKNOWN = Outcome.DONE, Outcome.REFUSED, Outcome.FAILED, Outcome.UNKNOWN


def told(*entries: tuple[Action, int, int, Outcome, Any]) -> list[Operation]:
    """A history from (action, begun, ended, outcome, answer)."""
    return [Operation(number, "user", *entry) for number, entry in enumerate(entries)]


def test_a_read_sees_what_was_written_before_it() -> None:
    history.check(told((Put("/f", 5), 0, 1, DONE, None), (Read("/f"), 2, 3, DONE, 5)))
    with pytest.raises(NotLinearizable, match=r"next may come #1, but it would see 5, and was refused \(not-found\)"):
        history.check(told((Put("/f", 5), 0, 1, DONE, None), (Read("/f"), 2, 3, REFUSED, "not-found")))


def test_a_read_beside_a_write_may_see_either() -> None:
    before = [(Put("/f", 5), 0, 1, DONE, None), (Put("/f", 6), 2, 9, DONE, None)]
    for seen in (5, 6):
        history.check(told(*before, (Read("/f"), 3, 4, DONE, seen)))
    with pytest.raises(NotLinearizable):
        history.check(told(*before, (Read("/f"), 3, 4, DONE, 6), (Read("/f"), 5, 6, DONE, 5)))  # not back again


def test_a_lost_write_is_noticed_even_if_nobody_looked_in_between() -> None:
    entries = [(Put("/f", 5), 0, 1, DONE, None), (Put("/f", 6), 2, 3, DONE, None), (Look("/f"), 4, 5, DONE, 5)]
    with pytest.raises(NotLinearizable):
        history.check(told(*entries))


def test_an_unknown_write_may_have_happened_late_or_never() -> None:
    entries = [
        (Put("/f", 5), 0, 1, DONE, None),
        (Put("/f", 6), 2, NEVER, UNKNOWN, None),
        (Read("/f"), 3, 4, DONE, 5),
    ]
    history.check(told(*entries, (Read("/f"), 5, 6, DONE, 5)))
    history.check(told(*entries, (Read("/f"), 5, 6, DONE, 6)))
    with pytest.raises(NotLinearizable):
        history.check(told(*entries, (Read("/f"), 5, 6, DONE, 6), (Read("/f"), 7, 8, DONE, 5)))


def test_a_failed_write_never_happened() -> None:
    entries = [(Put("/f", 5), 0, 1, FAILED, None), (Read("/f"), 2, 3, REFUSED, "not-found")]
    history.check(told(*entries))
    with pytest.raises(NotLinearizable):
        history.check(told(entries[0], (Read("/f"), 2, 3, DONE, 5)))


def test_what_was_removed_is_not_back() -> None:
    entries = [(Put("/f", 5), 0, 1, DONE, None), (Remove("/f"), 2, 3, DONE, None)]
    history.check(told(*entries, (List("/"), 4, 5, DONE, ())))
    with pytest.raises(NotLinearizable):
        history.check(told(*entries, (List("/"), 4, 5, DONE, (("f", 5),))))


def test_a_move_is_seen_at_both_names_at_once() -> None:
    entries = [(Put("/a/f", 5), 0, 1, DONE, None), (Move("/a", "/b"), 2, 9, DONE, None)]
    both_gone = [(Look("/b/f"), 3, 4, REFUSED, "not-found"), (Look("/a/f"), 5, 6, REFUSED, "not-found")]
    history.check(told(*entries, *both_gone, (Look("/b/f"), 7, 8, DONE, 5)))
    with pytest.raises(NotLinearizable):
        history.check(told(*entries, (Look("/b/f"), 3, 4, DONE, 5), (Look("/a/f"), 5, 6, DONE, 5)))


def test_many_reads_beside_each_other_do_not_slow_the_search() -> None:
    entries: list[tuple[Action, int, int, Outcome, Any]] = [(Put("/f", 5), 0, 1, DONE, None)]
    entries += [(Read("/f"), 2, 100, DONE, 5) for _ in range(200)]
    history.check(told(*entries, (Read("/f"), 2, 100, REFUSED, "not-found"), (Remove("/f"), 50, 60, DONE, None)))
    with pytest.raises(NotLinearizable):
        history.check(told(*entries, (Read("/f"), 2, 100, DONE, 6)))


PATHS = st.sampled_from(("/a", "/b", "/a/x", "/a/y", "/b/x"))
ACTIONS = st.one_of(
    st.builds(Put, PATHS, st.integers(0, 99), st.booleans()),
    st.builds(Remove, PATHS, st.booleans()),
    st.builds(Move, PATHS, PATHS, st.booleans()),
    st.builds(Copy, PATHS, PATHS, st.booleans()),
    st.builds(MakeDirectory, PATHS),
    st.builds(Look, PATHS),
    st.builds(Read, PATHS),
    st.builds(List, PATHS),
)


@given(st.lists(ACTIONS, max_size=30), st.randoms(use_true_random=False))
def test_whatever_one_tree_did_is_accepted_however_long_the_answers_took(
    actions: list[Action], draw: random.Random
) -> None:
    tree, entries = EMPTY, []
    for number, action in enumerate(actions):
        outcome, answer = DONE, None
        try:
            answer, tree = apply(tree, action)
        except Failed as failed:
            if failed.code == "conflict":
                continue
            outcome, answer = REFUSED, failed.code
        if outcome is DONE and draw.random() < 0.2 and not isinstance(action, READS):
            outcome = UNKNOWN
        begun, ended = 10 * number - draw.randrange(15), 10 * number + 1 + draw.randrange(15)
        entries.append((action, begun, NEVER if outcome is UNKNOWN else ended, outcome, answer))
    order = history.check(told(*entries))
    assert len(order) >= sum(entry[3] is not UNKNOWN for entry in entries)


class TestLedger:
    """What is wrong at once."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        return Ledger(random.Random(1), lambda: 7)

    def read(self, ledger: Ledger, data: bytes) -> None:
        ledger.answered(ledger.begin("user", Read("/f")), Attributes("file", 1, len(data)), data)

    def test_contents_are_told_apart_by_their_sizes(self, ledger: Ledger) -> None:
        assert len({len(ledger.new_content(20)) for _ in range(60)}) == 60

    def test_bytes_that_nobody_wrote_are_wrong(self, ledger: Ledger) -> None:
        data = ledger.new_content(5000, 4000)
        self.read(ledger, data)
        ledger.check_now()
        self.read(ledger, data[:100] + bytes([data[100] ^ 1]) + data[101:])
        with pytest.raises(Wrong, match="differ from byte 100 on"):
            ledger.check_now()

    def test_a_part_of_a_content_is_wrong(self, ledger: Ledger) -> None:
        self.read(ledger, ledger.new_content(5000, 4000)[:-1])
        with pytest.raises(Wrong, match="nobody ever wrote"):
            ledger.check_now()

    def test_an_error_that_nothing_excuses_is_wrong(self, ledger: Ledger) -> None:
        ledger.answered(ledger.begin("user", Read("/f")), Unavailable("nobody is there"))
        ledger.answered(ledger.begin("user", Read("/f")), NotFound("it is not there"))
        ledger.check_now()
        ledger.answered(ledger.begin("user", Read("/f")), Corrupt("no good copy is left"))
        with pytest.raises(Wrong, match="nothing excuses"):
            ledger.check_now()

    def test_a_directory_is_no_size(self, ledger: Ledger) -> None:
        operation = ledger.begin("user", Look("/d"))
        ledger.answered(operation, Attributes("dir", 1))
        assert operation.answer == DIRECTORY
